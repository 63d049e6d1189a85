package report

import "time"

// The panels of a figure, from top to bottom.

func (p *plot) throughput() panel {
	most := 0.0
	known := false
	for i := range p.t.Buckets {
		b := &p.t.Buckets[i]
		most = max(most, p.t.perSecond(float64(b.Accepted)), p.t.perSecond(b.Persisted.Value))
		known = known || b.Persisted.Known
	}
	keys := []key{{Class: "accepted", Name: "accepted"}}
	if known {
		keys = append(keys, key{Class: "persisted", Name: "persisted"})
	}
	f, y := p.begin("Messages a second", linear(most), short, keys...)
	p.draw(&f, "persisted", y, func(b *bucket) point {
		return point{p.t.perSecond(b.Persisted.Value), b.Persisted.Known, b.Persisted.Sure}
	})
	p.draw(&f, "accepted", y, func(b *bucket) point { return point{p.t.perSecond(float64(b.Accepted)), true, true} })
	return f
}

func (p *plot) backlog() panel {
	most := 0.0
	known, sure := false, true
	for i := range p.t.Buckets {
		b := p.t.Buckets[i].Backlog
		most, known, sure = max(most, b.Value), known || b.Known, sure && (b.Sure || !b.Known)
	}
	if !known {
		return p.empty("Backlog, records", "No backend has said what its backlog is.")
	}
	var keys []key
	if !sure {
		keys = []key{{Class: "backlog", Name: "exact"}, {Class: "backlog unsure", Name: "at least"}}
	}
	f, y := p.begin("Backlog, records", linear(most), short, keys...)
	p.draw(&f, "backlog", y, func(b *bucket) point { return point{b.Backlog.Value, b.Backlog.Known, b.Backlog.Sure} })
	return f
}

func (p *plot) accepting() panel {
	return p.latency("Until accepted", "No append was accepted.", func(b *bucket) *latencies { return &b.Accept })
}

func (p *plot) showing() panel {
	return p.latency("Until visible", "Nobody was watching when messages became visible.",
		func(b *bucket) *latencies { return &b.Visible })
}

func (p *plot) latency(title, none string, of func(*bucket) *latencies) panel {
	var smallest, largest time.Duration
	known := false
	for i := range p.t.Buckets {
		l := of(&p.t.Buckets[i])
		if l.N == 0 {
			continue
		}
		if !known || l.P50 < smallest {
			smallest = l.P50
		}
		largest, known = max(largest, l.Max), true
	}
	if !known {
		return p.empty(title, none)
	}
	f, y := p.begin(title, logarithmic(smallest, largest), func(v float64) string { return span(time.Duration(v + .5)) },
		key{Class: "p50", Name: "p50"}, key{Class: "p99", Name: "p99"}, key{Class: "max", Name: "max"})
	for _, series := range []struct {
		class string
		value func(*latencies) time.Duration
	}{
		{"max", func(l *latencies) time.Duration { return l.Max }},
		{"p99", func(l *latencies) time.Duration { return l.P99 }},
		{"p50", func(l *latencies) time.Duration { return l.P50 }},
	} {
		p.draw(&f, series.class, y, func(b *bucket) point {
			l := of(b)
			return point{float64(series.value(l)), l.N > 0, true}
		})
	}
	return f
}

// failures draws a bar for each bucket with calls that were not answered with success, one kind upon the other.
func (p *plot) failures() panel {
	most := 0
	for i := range p.t.Buckets {
		b := &p.t.Buckets[i]
		most = max(most, b.Refused+b.Unknown+b.Others)
	}
	if most == 0 {
		return p.empty("Calls without success", "None: every call was answered with success.")
	}
	kinds := []struct {
		key
		value func(*bucket) int
	}{
		{key{Class: "refused", Name: "appends refused"}, func(b *bucket) int { return b.Refused }},
		{key{Class: "unknown", Name: "unknown"}, func(b *bucket) int { return b.Unknown }},
		{key{Class: "others", Name: "other calls"}, func(b *bucket) int { return b.Others }},
	}
	var keys []key
	for _, k := range kinds {
		keys = append(keys, k.key)
	}
	f, y := p.begin("Calls without success", linear(float64(max(most, 2))), short, keys...)
	base := y(0)
	stacked := make([]float64, len(p.t.Buckets))
	for _, k := range kinds {
		var bars path
		for i := range p.t.Buckets {
			n := k.value(&p.t.Buckets[i])
			if n == 0 {
				continue
			}
			height := max(base-y(float64(n)), 2) // one call among thousands must be seen
			stacked[i] += height
			bars.rect(p.x[i], base-stacked[i], max(p.x[i+1]-p.x[i], 1), height)
		}
		if d := bars.String(); d != "" {
			f.Lines = append(f.Lines, line{"bars " + k.Class, d})
		}
	}
	return f
}

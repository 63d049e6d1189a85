package report

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark/verify/check"
)

// A figure is the time line as panels that share one time axis, with the faults as bands. The page's template writes
// its texts, and the page's script the rest.
type figure struct {
	Buckets int        `json:"buckets"`
	Width   float64    `json:"width"`  // of a bucket, in seconds
	Length  float64    `json:"length"` // of the run, in seconds
	Panels  []*panel   `json:"panels"`
	Faults  []faultBar `json:"-"`
}

// faultBar is a fault as a band.
type faultBar struct {
	Number      int
	Name, Title string
	Left, Width string // of the figure's width, in percent
	Open        bool   // it was never healed
}

type panel struct {
	Title  string   `json:"-"`
	Note   string   `json:"-"`    // why there is nothing
	Log    bool     `json:"log"`  // the values are milliseconds, on a logarithmic axis
	Bars   bool     `json:"bars"` // each series stands on the next one
	Series []series `json:"series"`
}

// series has a value for each bucket.
type series struct {
	Class  string  `json:"class"`
	Name   string  `json:"-"` // "" for one that needs no key
	Values []value `json:"values"`
	Skip   []bool  `json:"skip,omitempty"` // what is not drawn
	Dashed bool    `json:"dashed"`
}

// value is a number, or NaN for none.
type value float64

// MarshalJSON implements json.Marshaler.
func (v value) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(v), 'g', 5, 64), nil
}

var _ json.Marshaler = value(0)

var none = value(math.NaN())

// newFigure draws a timeline. faults are the windows of faults, without that of the whole run.
func newFigure(t *timeline, faults []check.Window) *figure {
	f := &figure{
		Buckets: len(t.Buckets), Width: t.Width.Seconds(), Length: t.Length.Seconds(),
		Panels: []*panel{
			t.throughput(), t.backlog(),
			t.latency("Until accepted", "No append was accepted.", func(b *bucket) *latencies { return &b.Accept }),
			t.latency("Until visible", "Nobody was watching when messages became visible.",
				func(b *bucket) *latencies { return &b.Visible }),
			t.failures(),
		},
	}
	whole := t.Width.Seconds() * float64(len(t.Buckets)) / 100
	for i := range faults {
		from, until := windowTimes(&faults[i])
		left, right := min(max(from.Seconds()/whole, 0), 100), min(max(until.Seconds()/whole, 0), 100)
		f.Faults = append(f.Faults, faultBar{
			Number: i + 1, Name: clipped(faults[i].Name, 28), Title: faultTitle(i+1, &faults[i]), Open: !faults[i].Healed,
			Left: fmt.Sprintf("%.3f", left), Width: fmt.Sprintf("%.3f", right-left),
		})
	}
	return f
}

// values returns a value for each bucket.
func (t *timeline) values(of func(*bucket) value) []value {
	values := make([]value, len(t.Buckets))
	for i := range values {
		values[i] = of(&t.Buckets[i])
	}
	return values
}

// levels returns the sure part of a level, and the unsure part as a series of its own. It is nil if nothing is known.
func (t *timeline) levels(class, sure, unsure string, of func(*bucket) (level, value)) []series {
	s := series{Class: class, Name: sure, Skip: make([]bool, len(t.Buckets)), Values: t.values(func(b *bucket) value {
		if l, v := of(b); l.Known {
			return v
		}
		return none
	})}
	dashed := series{Class: class, Name: unsure, Values: s.Values, Skip: make([]bool, len(t.Buckets)), Dashed: true}
	known, guessed := false, false
	for i := range t.Buckets {
		l, _ := of(&t.Buckets[i])
		s.Skip[i], dashed.Skip[i] = !l.Sure, l.Sure
		known, guessed = known || l.Known, guessed || l.Known && !l.Sure
	}
	switch {
	case !known:
		return nil
	case !guessed:
		if unsure != "" { // there is nothing to tell it from
			s.Name = ""
		}
		return []series{s}
	}
	return []series{dashed, s}
}

func (t *timeline) throughput() *panel {
	p := &panel{Title: "Messages a second"}
	p.Series = t.levels("persisted", "persisted", "", func(b *bucket) (level, value) {
		return b.Persisted, value(t.perSecond(b.Persisted.Value))
	})
	p.Series = append(p.Series, series{Class: "accepted", Name: "accepted", Values: t.values(func(b *bucket) value {
		return value(t.perSecond(float64(b.Accepted)))
	})})
	return p
}

func (t *timeline) backlog() *panel {
	p := &panel{Title: "Backlog, records"}
	p.Series = t.levels("backlog", "exact", "at least", func(b *bucket) (level, value) {
		return b.Backlog, value(b.Backlog.Value)
	})
	if p.Series == nil {
		p.Note = "No backend has said what its backlog is."
	}
	return p
}

func (t *timeline) latency(title, nothing string, of func(*bucket) *latencies) *panel {
	p := &panel{Title: title, Log: true, Note: nothing}
	for i := range t.Buckets {
		if of(&t.Buckets[i]).N > 0 {
			p.Note = ""
		}
	}
	if p.Note != "" {
		return p
	}
	for _, s := range []struct {
		name string
		of   func(*latencies) time.Duration
	}{
		{"max", func(l *latencies) time.Duration { return l.Max }},
		{"p99", func(l *latencies) time.Duration { return l.P99 }},
		{"p50", func(l *latencies) time.Duration { return l.P50 }},
	} {
		p.Series = append(p.Series, series{Class: s.name, Name: s.name, Values: t.values(func(b *bucket) value {
			if l := of(b); l.N > 0 {
				return value(s.of(l)) / value(time.Millisecond)
			}
			return none
		})})
	}
	return p
}

// failures has calls that were not answered with success, one kind upon the other.
func (t *timeline) failures() *panel {
	p := &panel{Title: "Calls without success", Bars: true}
	most := value(0)
	kinds := []struct {
		class, name string
		of          func(*bucket) int
	}{
		{"others", "other calls", func(b *bucket) int { return b.Refused + b.Unknown + b.Others }},
		{"unknown", "unknown", func(b *bucket) int { return b.Refused + b.Unknown }},
		{"refused", "appends refused", func(b *bucket) int { return b.Refused }},
	}
	for _, k := range kinds {
		values := t.values(func(b *bucket) value { return value(k.of(b)) })
		for _, v := range values {
			most = max(most, v)
		}
		p.Series = append(p.Series, series{Class: k.class, Name: k.name, Values: values})
	}
	if most == 0 {
		return &panel{Title: p.Title, Note: "None: every call was answered with success."}
	}
	return p
}

// shortRun is how long a run must be for whole seconds to tell times on its axis apart.
const shortRun = 10 * time.Second

// axisTime writes a time on the axis of a run, with fractions if it is a very short one.
func axisTime(at, length time.Duration) string {
	if length < shortRun {
		return fmt.Sprintf("%g s", at.Seconds())
	}
	return timeOf(at)
}

// windowTimes returns when a fault began and ended.
func windowTimes(w *check.Window) (from, until time.Duration) {
	return seconds(w.From), max(seconds(w.Until), seconds(w.From))
}

func clipped(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

func faultTitle(number int, w *check.Window) string {
	from, until := windowTimes(w)
	text := fmt.Sprintf("Fault %d: %s, from %s to %s (%s)", number, w.Name, timeOf(from), timeOf(until), span(until-from))
	if !w.Healed {
		text += ", never healed"
	}
	return text
}

package report

import (
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// A timeline is what happened in a run, by the time: in buckets of one width, so that a second and a day are drawn with
// the same effort. A call counts in the bucket in which it ended.
type timeline struct {
	Length  time.Duration // of the run
	Width   time.Duration // of a bucket
	Buckets []bucket      // at least one, maxBuckets at most

	Accept  latencies // of the whole run
	Visible latencies
}

// bucket is what happened between two times.
type bucket struct {
	From      time.Duration
	Accepted  int       // messages whose append was accepted
	Persisted level     // records that the database took up, of everybody
	Backlog   level     // the largest that was said
	Accept    latencies // of the appends that were accepted, retries included
	Visible   latencies // of the messages that were accepted, from then on until a watching reader saw them
	Refused   int       // appends
	Unknown   int       // appends
	Others    int       // reads, barriers and clears that were not answered with success
}

// level is something that is known by samples.
type level struct {
	Value float64
	Known bool
	Sure  bool // false for a backlog that is at least Value, and a mean over a time without samples
}

// latencies are percentiles, by the nearest rank: each is one of the N values.
type latencies struct {
	N             int
	P50, P99, Max time.Duration
}

const maxBuckets = 300

// widths are those of buckets that people can reckon with.
var widths = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour,
}

// newTimeline computes a history's timeline, in a time that grows with its length.
func newTimeline(h *history.History) *timeline {
	t := &timeline{Length: lengthOf(h)}
	t.Width = widthFor(t.Length)
	t.Buckets = make([]bucket, max(1, (t.Length-1)/t.Width+1))
	for i := range t.Buckets {
		t.Buckets[i].From = time.Duration(i) * t.Width
	}
	t.addAppends(h.Appends)
	t.addVisible(h)
	t.addOthers(h)
	t.addPersisted(h.Samples)
	t.addBacklog(h.Samples)
	return t
}

// lengthOf returns the last time in a history, which need not be that of its end: a run can be broken off.
func lengthOf(h *history.History) time.Duration {
	var last time.Duration
	for i := range h.Appends {
		last = max(last, h.Appends[i].End)
	}
	for i := range h.Reads {
		last = max(last, h.Reads[i].End)
	}
	for i := range h.Barriers {
		last = max(last, h.Barriers[i].End)
	}
	for i := range h.Clears {
		last = max(last, h.Clears[i].End)
	}
	for i := range h.Samples {
		last = max(last, h.Samples[i].At)
	}
	for i := range h.Faults {
		last = max(last, h.Faults[i].End)
	}
	for i := range h.Healths {
		last = max(last, h.Healths[i].At)
	}
	if h.End != nil {
		last = max(last, h.End.At)
	}
	return last
}

func widthFor(length time.Duration) time.Duration {
	for _, width := range widths {
		if (length-1)/width < maxBuckets {
			return width
		}
	}
	hours := (length-1)/(maxBuckets*time.Hour) + 1
	return hours * time.Hour
}

// index returns the bucket of a time. A damaged file may have times that are none.
func (t *timeline) index(at time.Duration) int {
	return int(min(max(at, 0)/t.Width, time.Duration(len(t.Buckets)-1)))
}

// at returns the bucket of a time.
func (t *timeline) at(at time.Duration) *bucket { return &t.Buckets[t.index(at)] }

// perSecond returns the rate of what happened n times in a bucket.
func (t *timeline) perSecond(n float64) float64 { return n / t.Width.Seconds() }

func (t *timeline) addAppends(appends []history.Append) {
	m := newMeasure(len(appends))
	for i := range appends {
		a := &appends[i]
		switch b := t.at(a.End); a.Outcome {
		case history.Done:
			b.Accepted += a.Count
			m.add(t.index(a.End), a.Took())
		case history.Refused:
			b.Refused++
		default:
			b.Unknown++
		}
	}
	by := m.latencies(len(t.Buckets))
	for i := range t.Buckets {
		t.Buckets[i].Accept = by[i]
	}
	t.Accept = m.whole()
}

// addVisible measures from the end of an append until its message was first seen, in the bucket in which the append
// ended. Only a watching reader's eyes count: another may look long after a message could be seen.
func (t *timeline) addVisible(h *history.History) {
	watched := watchedTimes(h)
	m := newMeasure(len(h.Appends))
	for i := range h.Appends {
		a := &h.Appends[i]
		if a.Outcome != history.Done {
			continue
		}
		view, times, index := &h.Logs[a.Log], watched[a.Log], t.index(a.End)
		for number := a.First; number < a.First+uint64(a.Count); number++ {
			message := history.Message{Client: a.Client, Number: number}
			place := view.At(h.PositionOf(message))
			if _, ok := times[place.At]; ok && place.Known && place.Message == message {
				m.add(index, max(0, place.At-a.End))
			}
		}
	}
	by := m.latencies(len(t.Buckets))
	for i := range t.Buckets {
		t.Buckets[i].Visible = by[i]
	}
	t.Visible = m.whole()
}

// shortPoll is how soon a reader must ask again to be one that watches.
const shortPoll = time.Second

// watchedTimes returns, by log, when reads ended of readers that were waiting for whatever comes: tails, and pages whose
// reader had read the log to its end at most shortPoll before.
func watchedTimes(h *history.History) []map[time.Duration]struct{} {
	times := make([]map[time.Duration]struct{}, len(h.Logs))
	for i := range times {
		times[i] = map[time.Duration]struct{}{}
	}
	type reader struct{ client, log int }
	before := map[reader]*history.Read{} // each reader's last page
	for i := range h.Reads {
		r := &h.Reads[i]
		if r.Outcome != history.Done || r.Final != 0 {
			continue
		}
		if r.Tail {
			times[r.Log][r.End] = struct{}{}
			continue
		}
		key := reader{r.Client, r.Log}
		last := before[key]
		before[key] = r
		if last != nil && last.N < last.Limit && r.After == readTo(last) && r.Start-last.End <= shortPoll {
			times[r.Log][r.End] = struct{}{}
		}
	}
	return times
}

// readTo returns the last position that a page has shown.
func readTo(r *history.Read) uint64 {
	if r.N == 0 {
		return r.After
	}
	return r.From + uint64(r.N) - 1
}

func (t *timeline) addOthers(h *history.History) {
	count := func(c *history.Call) {
		if c.Outcome != history.Done {
			t.at(c.End).Others++
		}
	}
	for i := range h.Reads {
		count(&h.Reads[i].Call)
	}
	for i := range h.Barriers {
		count(&h.Barriers[i].Call)
	}
	for i := range h.Clears {
		count(&h.Clears[i].Call)
	}
}

// addPersisted spreads what was persisted between two samples evenly over the time between them. A lower number, from a
// replica that is behind or a database that has lost its last commits, takes nothing back.
func (t *timeline) addPersisted(samples []history.Sample) {
	var last *history.Sample
	failed := false
	for i := range samples {
		s := &samples[i]
		if s.Failed {
			failed = true
			continue
		}
		if last == nil {
			last, failed = s, false
			continue
		}
		if s.At <= last.At || s.Persisted < last.Persisted {
			continue
		}
		t.spread(last.At, s.At, float64(s.Persisted-last.Persisted), !failed)
		last, failed = s, false
	}
}

// spread adds an amount to the buckets from one time to another, by how much of the time each one has.
func (t *timeline) spread(from, till time.Duration, amount float64, sure bool) {
	for i := t.index(from); i <= t.index(till); i++ {
		b := &t.Buckets[i]
		begin, end := max(from, b.From), min(till, b.From+t.Width)
		if end <= begin {
			continue
		}
		p := &b.Persisted
		p.Sure = sure && (p.Sure || !p.Known)
		p.Known = true
		p.Value += amount * float64(end-begin) / float64(till-from)
	}
}

// addBacklog takes the largest backlog of each bucket. One without a sample has that of the bucket before, but not if
// backends were asked and did not answer, and not behind the last sample.
func (t *timeline) addBacklog(samples []history.Sample) {
	failed := make([]bool, len(t.Buckets))
	last := -1
	for i := range samples {
		s := &samples[i]
		index := t.index(s.At)
		if s.Failed {
			failed[index] = true
			continue
		}
		last = max(last, index)
		b := &t.Buckets[index].Backlog
		if value := float64(s.Pending); !b.Known || value > b.Value || value == b.Value && s.Exact {
			*b = level{Value: value, Known: true, Sure: s.Exact}
		}
	}
	for i := 1; i <= last; i++ {
		if b := &t.Buckets[i].Backlog; !b.Known && !failed[i] {
			*b = t.Buckets[i-1].Backlog
		}
	}
}

// measure collects latencies by bucket.
type measure struct {
	buckets []int32
	took    []time.Duration
}

func newMeasure(size int) *measure {
	return &measure{buckets: make([]int32, 0, size), took: make([]time.Duration, 0, size)}
}

func (m *measure) add(bucket int, took time.Duration) {
	m.buckets = append(m.buckets, int32(bucket))
	m.took = append(m.took, took)
}

// latencies returns those of each of n buckets.
func (m *measure) latencies(n int) []latencies {
	ends := make([]int, n+1) // of bucket i at i+1, once all are in place
	for _, bucket := range m.buckets {
		ends[bucket+1]++
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	sorted := make([]time.Duration, len(m.took))
	next := slices.Clone(ends)
	for i, bucket := range m.buckets {
		sorted[next[bucket]] = m.took[i]
		next[bucket]++
	}
	all := make([]latencies, n)
	for i := range all {
		all[i] = latenciesOf(sorted[ends[i]:ends[i+1]])
	}
	return all
}

// whole returns the latencies of all buckets together. It puts the measure's values in order.
func (m *measure) whole() latencies { return latenciesOf(m.took) }

// latenciesOf puts the values in order and returns their percentiles.
func latenciesOf(values []time.Duration) latencies {
	if len(values) == 0 {
		return latencies{}
	}
	slices.Sort(values)
	rank := func(percent int) time.Duration { return values[(len(values)*percent+99)/100-1] }
	return latencies{N: len(values), P50: rank(50), P99: rank(99), Max: values[len(values)-1]}
}

package report

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

const ms = time.Millisecond

// appended is an append of one message of client 0 to log 0.
func appended(number uint64, start, end time.Duration, outcome history.Outcome) history.Line {
	return history.Line{Append: &history.Append{Call: history.Call{Start: start, End: end, Outcome: outcome}, First: number, Count: 1}}
}

// shown is a read that saw client 0's messages from one on, at the same positions.
func shown(r history.Read, end time.Duration, from, count uint64) history.Line {
	r.Start, r.End, r.Outcome = max(r.Start, end-ms), end, history.Done
	if count > 0 {
		r.From = from
	}
	for number := from; number < from+count; number++ {
		r.Seen = append(r.Seen, history.Seen{Message: history.Message{Number: number}}.String())
	}
	return history.Line{Read: &r}
}

func sampled(at time.Duration, pending, persisted uint64) history.Line {
	return history.Line{Sample: &history.Sample{At: at, Pending: pending, Persisted: persisted, Exact: true}}
}

func notAnswered(at time.Duration) history.Line {
	return history.Line{Sample: &history.Sample{At: at, Failed: true}}
}

func inexact(at time.Duration, pending, persisted uint64) history.Line {
	l := sampled(at, pending, persisted)
	l.Sample.Exact = false
	return l
}

// brief is a run of 200 ms, which has four buckets of 50 ms.
var brief = history.Line{End: &history.End{At: 200 * ms}}

func timelineOf(t *testing.T, lines ...history.Line) *timeline {
	t.Helper()
	s := newStory(history.Run{Clients: 2, Logs: []history.Log{{Name: "a"}}})
	for _, l := range lines {
		s.write(l)
	}
	return newTimeline(s.load(t))
}

// column returns one value of each bucket.
func column[T any](t *timeline, value func(*bucket) T) []T {
	var values []T
	for i := range t.Buckets {
		values = append(values, value(&t.Buckets[i]))
	}
	return values
}

func expect[T comparable](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestCallsCountWhereTheyEnded(t *testing.T) {
	t.Parallel()
	many := appended(7, 140*ms, 149*ms, history.Done)
	many.Append.Count = 5
	call := func(outcome history.Outcome, end time.Duration) history.Call {
		return history.Call{Outcome: outcome, Start: end - ms, End: end}
	}
	line := timelineOf(t, appended(1, 0, 49*ms, history.Done), appended(2, 10*ms, 50*ms, history.Done),
		appended(3, 0, 99*ms, history.Refused), appended(4, 0, 100*ms, history.Unknown), appended(5, 0, 110*ms, history.Refused), many,
		history.Line{Read: &history.Read{Call: call(history.Refused, 10*ms)}}, history.Line{Read: &history.Read{Call: call(history.Done, 10*ms)}},
		history.Line{Barrier: &history.Barrier{Call: call(history.Unknown, 20*ms)}},
		history.Line{Clear: &history.Clear{Call: call(history.Refused, 199*ms)}}, brief)
	if line.Width != 50*ms || line.Length != 200*ms {
		t.Errorf("%v in buckets of %v", line.Length, line.Width)
	}
	expect(t, "accepted", column(line, func(b *bucket) int { return b.Accepted }), 1, 1, 5, 0)
	expect(t, "refused", column(line, func(b *bucket) int { return b.Refused }), 0, 1, 1, 0)
	expect(t, "unknown", column(line, func(b *bucket) int { return b.Unknown }), 0, 0, 1, 0)
	expect(t, "others", column(line, func(b *bucket) int { return b.Others }), 2, 0, 0, 1)
	expect(t, "accept", column(line, func(b *bucket) latencies { return b.Accept }),
		latencies{1, 49 * ms, 49 * ms, 49 * ms}, latencies{1, 40 * ms, 40 * ms, 40 * ms}, latencies{1, 9 * ms, 9 * ms, 9 * ms}, latencies{})
	if want := (latencies{3, 40 * ms, 49 * ms, 49 * ms}); line.Accept != want {
		t.Errorf("over the whole run: %v, want %v", line.Accept, want)
	}
	if rate := line.perSecond(5); rate != 100 {
		t.Errorf("5 in 50 ms are %v a second", rate)
	}
}

func TestPercentilesAreOfTheNearestRank(t *testing.T) {
	t.Parallel()
	upTo := func(n int) []time.Duration {
		values := make([]time.Duration, n)
		for i := range values {
			values[i] = time.Duration((i*7)%n + 1) // 1 to n, in another order, as 7 divides none of them
		}
		return values
	}
	for _, c := range []struct{ n, p50, p99 time.Duration }{{1, 1, 1}, {2, 1, 2}, {3, 2, 3}, {100, 50, 99}, {101, 51, 100}, {1000, 500, 990}, {1003, 502, 993}} {
		if got, want := latenciesOf(upTo(int(c.n))), (latencies{int(c.n), c.p50, c.p99, c.n}); got != want {
			t.Errorf("of 1 to %d: %v, want %v", c.n, got, want)
		}
	}
}

func TestVisibleLatencies(t *testing.T) {
	t.Parallel()
	tail := history.Read{Tail: true}
	page := func(after uint64) history.Read {
		return history.Read{Call: history.Call{Client: 1}, After: after, Limit: 10}
	}
	two := []history.Line{appended(1, 0, 20*ms, history.Done), appended(2, 0, 60*ms, history.Done)}
	for _, c := range []struct {
		name  string
		lines []history.Line
		want  [2]time.Duration // in the first two buckets, 0 for none
	}{
		{"a tail shows them", []history.Line{shown(tail, 50*ms, 1, 1), shown(tail, 70*ms, 2, 1)}, [2]time.Duration{30 * ms, 10 * ms}},
		{"a second reader changes nothing", []history.Line{shown(tail, 70*ms, 1, 2), shown(tail, 90*ms, 1, 2)}, [2]time.Duration{50 * ms, 10 * ms}},
		{"a message seen before its answer took no time", []history.Line{shown(tail, 59*ms, 2, 1), shown(tail, 65*ms, 1, 1)}, [2]time.Duration{45 * ms, 1}},
		{"a reader that only looks once proves nothing", []history.Line{shown(page(0), 70*ms, 1, 2)}, [2]time.Duration{}},
		{"a reader that waits at the end of the log sees them", []history.Line{shown(page(0), 10*ms, 1, 0), shown(page(0), 70*ms, 1, 2)},
			[2]time.Duration{50 * ms, 10 * ms}},
		{"a reader that waits goes on where it was", []history.Line{shown(page(0), 30*ms, 1, 1), shown(page(1), 75*ms, 2, 1)}, [2]time.Duration{0, 15 * ms}},
		{"a reader that looks elsewhere does not wait", []history.Line{shown(page(0), 30*ms, 1, 1), shown(page(0), 75*ms, 1, 2)}, [2]time.Duration{}},
		{"a reader that was away for long does not wait", []history.Line{shown(page(0), 10*ms, 1, 0), shown(page(0), 2*time.Second, 1, 2)}, [2]time.Duration{}},
		{"a reader that is behind does not wait",
			[]history.Line{shown(history.Read{Limit: 1}, 25*ms, 1, 1), shown(history.Read{Limit: 1, After: 1}, 75*ms, 2, 1)}, [2]time.Duration{}},
		{"the final readings do not wait",
			[]history.Line{shown(history.Read{Final: 1, Limit: 10}, 65*ms, 1, 0), shown(history.Read{Final: 2, Limit: 10}, 75*ms, 1, 2)}, [2]time.Duration{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			line := timelineOf(t, append(append(slices.Clone(two), c.lines...), brief)...)
			for i := range c.want {
				got := line.Buckets[i].Visible
				if c.want[i] == 1 { // at once
					if got != (latencies{N: 1}) {
						t.Errorf("bucket %d: %v, want one of 0", i, got)
					}
				} else if got.Max != c.want[i] || (got.N == 1) != (c.want[i] > 0) {
					t.Errorf("bucket %d: %v, want %v", i, got, c.want[i])
				}
			}
		})
	}
}

func TestRefusedMessageThatIsSeenHasNoVisibleLatency(t *testing.T) {
	t.Parallel()
	line := timelineOf(t, appended(1, 0, 20*ms, history.Unknown), shown(history.Read{Tail: true}, 50*ms, 1, 1), brief)
	if line.Visible.N != 0 {
		t.Errorf("%v", line.Visible)
	}
}

func TestBacklogIsTheLargestOfABucket(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		lines []history.Line
		want  []level
	}{
		{"no samples", nil, []level{{}, {}, {}, {}}},
		{"one without a sample has that of the one before, up to the last sample",
			[]history.Line{sampled(60*ms, 4, 0), sampled(160*ms, 2, 0)}, []level{{}, {4, true, true}, {4, true, true}, {2, true, true}}},
		{"nothing is known behind the last sample", []history.Line{sampled(10*ms, 4, 0)}, []level{{4, true, true}, {}, {}, {}}},
		{"the largest counts, and says whether it is exact",
			[]history.Line{inexact(10*ms, 9, 0), sampled(20*ms, 4, 0), sampled(60*ms, 7, 0), inexact(70*ms, 5, 0)},
			[]level{{9, true, false}, {7, true, true}, {}, {}}},
		{"a backlog that is exactly what another says at least is exact", []history.Line{inexact(10*ms, 9, 0), sampled(20*ms, 9, 0)},
			[]level{{9, true, true}, {}, {}, {}}},
		{"nothing is known while nobody answers",
			[]history.Line{sampled(10*ms, 4, 0), notAnswered(60 * ms), sampled(160*ms, 2, 0)}, []level{{4, true, true}, {}, {}, {2, true, true}}},
		{"one backend that answers is enough", []history.Line{notAnswered(10 * ms), sampled(20*ms, 4, 0)}, []level{{4, true, true}, {}, {}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			line := timelineOf(t, append(c.lines, brief)...)
			expect(t, "backlog", column(line, func(b *bucket) level { return b.Backlog }), c.want...)
		})
	}
}

func TestPersistedIsSpreadBetweenSamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		lines []history.Line
		want  []level
	}{
		{"one sample says nothing", []history.Line{sampled(60*ms, 0, 100)}, []level{{}, {}, {}, {}}},
		{"what is persisted before the first sample is not the run's",
			[]history.Line{sampled(50*ms, 0, 100), sampled(100*ms, 0, 110)}, []level{{}, {10, true, true}, {}, {}}},
		{"evenly", []history.Line{sampled(25*ms, 0, 0), sampled(125*ms, 0, 100)}, []level{{25, true, true}, {50, true, true}, {25, true, true}, {}}},
		{"a replica that is behind takes nothing back",
			[]history.Line{sampled(0, 0, 0), sampled(50*ms, 0, 50), sampled(75*ms, 0, 40), sampled(100*ms, 0, 60)}, []level{{50, true, true}, {10, true, true}, {}, {}}},
		{"it is not sure while nobody answers",
			[]history.Line{sampled(0, 0, 0), notAnswered(60 * ms), sampled(100*ms, 0, 100), sampled(150*ms, 0, 110)},
			[]level{{50, true, false}, {50, true, false}, {10, true, true}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			line := timelineOf(t, append(c.lines, brief)...)
			got := column(line, func(b *bucket) level {
				b.Persisted.Value = math.Round(b.Persisted.Value*1e6) / 1e6
				return b.Persisted
			})
			expect(t, "persisted", got, c.want...)
		})
	}
}

func TestBucketsForEveryLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		length, width time.Duration
		buckets       int
	}{
		{0, 50 * ms, 1}, {1, 50 * ms, 1}, {50 * ms, 50 * ms, 1}, {50*ms + 1, 50 * ms, 2}, {time.Second, 50 * ms, 20}, {15 * time.Second, 50 * ms, 300},
		{15*time.Second + 1, 100 * ms, 151}, {10 * time.Minute, 2 * time.Second, 300}, {10 * time.Hour, 2 * time.Minute, 300},
		{300 * time.Hour, time.Hour, 300}, {300*time.Hour + 1, 2 * time.Hour, 151}, {600 * time.Hour, 2 * time.Hour, 300},
		{math.MaxInt64, 8541 * time.Hour, 300},
	} {
		line := timelineOf(t, history.Line{End: &history.End{At: c.length}})
		if line.Width != c.width || len(line.Buckets) != c.buckets {
			t.Errorf("a run of %v: %d buckets of %v, want %d of %v", c.length, len(line.Buckets), line.Width, c.buckets, c.width)
		}
	}
}

func TestRunWithoutEndIsAsLongAsItsLastLine(t *testing.T) {
	t.Parallel()
	last := history.Call{Start: 3 * time.Second, End: 4 * time.Second, Outcome: history.Done}
	for _, l := range []history.Line{
		appended(1, 3*time.Second, 4*time.Second, history.Done), {Read: &history.Read{Call: last}}, {Barrier: &history.Barrier{Call: last}},
		{Clear: &history.Clear{Call: last}}, sampled(4*time.Second, 0, 0), {Fault: &history.Fault{End: 4 * time.Second}},
		{Health: &history.Health{At: 4 * time.Second}},
	} {
		if line := timelineOf(t, l); line.Length != 4*time.Second {
			t.Errorf("%+v: %v", l, line.Length)
		}
	}
}

func TestTimesThatAreNoneAreInTheFirstBucket(t *testing.T) {
	t.Parallel()
	line := timelineOf(t, appended(1, -5*time.Second, -time.Second, history.Done), brief)
	expect(t, "accepted", column(line, func(b *bucket) int { return b.Accepted }), 1, 0, 0, 0)
}

// With a rate, an append that had to wait for its turn has taken as long as its client had to wait.
func TestAnAppendTakesFromWhenItWasDue(t *testing.T) {
	t.Parallel()
	a := history.Append{Call: history.Call{Start: 5 * time.Second, End: 7 * time.Second}}
	if took := a.Took(); took != 2*time.Second {
		t.Errorf("without a rate it took %v", took)
	}
	if a.Due = time.Second; a.Took() != 6*time.Second {
		t.Errorf("due a second after the beginning, it took %v", a.Took())
	}
}

// Package peers compares Drainmark's effects with other ways in which a Go program gets messages into a table of its own
// exactly once, on one PostgreSQL server. README.md says what is compared and how.
package peers

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"
)

var (
	records = flag.Int("records", 20_000, "how many records wait in each backlog")
	rounds  = flag.Int("rounds", 3, "how often each contender drains a backlog, in turns")
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // for what libraries say
	os.Exit(m.Run())
}

// contender is one way to get messages into the table.
type contender struct {
	name string
	ours bool
	// open makes what is needed in an empty database. What it opens is closed when the test ends.
	open func(t testing.TB, url string) queue
}

// queue has messages that wait, and something that applies them.
type queue interface {
	// fill returns when one message for each body waits durably.
	fill(t testing.TB, bodies []string)
	// drain begins to apply what waits, and does so until the function is called that it returns.
	drain(t testing.TB) (stop func())
}

var contenders = slices.Concat(drainmarks, watermills, rivers, dboses)

// result is what a run, or several, came to.
type result struct {
	rate      float64 // records a second
	processor float64 // microseconds of processor time for a record, of this process and the server together
}

// run has a contender drain one backlog in a database of its own. The test fails unless the table has each record once.
func run(t testing.TB, s *server, c contender, records int) result {
	t.Helper()
	d := s.database(t)
	q := c.open(t, d.url)
	q.fill(t, bodies(records))
	d.settle(t)
	before, start := s.processorTime(), time.Now()
	stop := q.drain(t)
	d.await(t, records)
	took, used := time.Since(start), s.processorTime()-before
	stop()
	if err := d.check(records); err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return result{float64(records) / took.Seconds(), float64(used.Microseconds()) / float64(records)}
}

// BenchmarkPeers prints what each contender comes to in each round, and then each one's medians, with its rate against
// that of the best peer.
func BenchmarkPeers(b *testing.B) {
	s := start(b)
	results := map[string][]result{}
	for round := range *rounds {
		for _, c := range contenders {
			b.Run(fmt.Sprintf("round %d/%s", round+1, c.name), func(b *testing.B) {
				var r result
				for range b.N {
					r = run(b, s, c, *records)
					results[c.name] = append(results[c.name], r)
				}
				report(b, r)
			})
		}
	}
	best := 0.0
	for _, c := range contenders {
		if !c.ours {
			best = max(best, medians(results[c.name]).rate)
		}
	}
	for _, c := range contenders {
		b.Run("median/"+c.name, func(b *testing.B) {
			m := medians(results[c.name])
			report(b, m)
			b.ReportMetric(m.rate/best, "of-best-peer")
		})
	}
}

func report(b *testing.B, r result) {
	b.ReportMetric(0, "ns/op") // it is left out
	b.ReportMetric(r.rate, "records/s")
	b.ReportMetric(r.processor, "µs-processor/record")
}

// medians returns zeros for no results.
func medians(results []result) result {
	median := func(of func(result) float64) float64 {
		values := make([]float64, 0, len(results))
		for _, r := range results {
			values = append(values, of(r))
		}
		slices.Sort(values)
		if len(values) == 0 {
			return 0
		}
		return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
	}
	return result{median(func(r result) float64 { return r.rate }), median(func(r result) float64 { return r.processor })}
}

// Each contender applies each record once.
func TestContenders(t *testing.T) {
	s := start(t)
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) { run(t, s, c, 1000) })
	}
}

// A table that lacks a record, has one twice or has another one does not pass.
func TestCheck(t *testing.T) {
	s := start(t)
	for name, change := range map[string]string{
		"nothing":      "",
		"one is lost":  "DELETE FROM own WHERE body LIKE '7 %'",
		"one is twice": "INSERT INTO own SELECT * FROM own WHERE body LIKE '7 %'",
		"one is twice and one is lost": "DELETE FROM own WHERE body LIKE '7 %'; " +
			"INSERT INTO own SELECT * FROM own WHERE body LIKE '8 %'",
		"one is another": "UPDATE own SET body = rpad('10', 200) WHERE body LIKE '7 %'",
		"one is cut":     "UPDATE own SET body = rtrim(body) WHERE body LIKE '7 %'",
	} {
		t.Run(name, func(t *testing.T) {
			d := s.database(t)
			d.do(t, "INSERT INTO own SELECT n, rpad(n::text, 200) FROM generate_series(0, 9) n")
			d.do(t, change)
			if err := d.check(10); (err == nil) != (name == "nothing") {
				t.Errorf("%v", err)
			}
		})
	}
}

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/fault"
)

// These are broken besides while a planted fault is looked for.
var (
	killAConsumer = fault.Fault{
		Name: "kill-consumer", Every: 2 * time.Second, For: 1500 * time.Millisecond,
		Run: inTopology("kill -9 $(cat consumer-0.pid)"), Heal: inTopology("./start consumer-0"),
	}
	noConsumers = fault.Fault{
		Name: "no-consumers", Every: 5 * time.Second, For: 3 * time.Second,
		Run: inTopology("kill -9 $(cat consumer-*.pid)"), Heal: inTopology("./start consumer-0 && ./start consumer-1"),
	}
)

// planted is a promise that a program can be built to break, what it takes for that to show, and the promises, one of
// which verify then finds broken. docs/reliability.md has the whole record.
type planted struct {
	name, broker string
	faults       []fault.Fault
	want         []string
	seconds      int
}

// plantedFaults are found within seconds.
var plantedFaults = []planted{
	{"positions-reused", "nats", nil, []string{"P4"}, 2},
	{"trust-stale-replica", "nats", nil, []string{"P6"}, 3},
	{"short-page", "nats", nil, []string{"P4"}, 2},
	{"headers-of-the-first", "nats", nil, []string{"P1"}, 2},
	{"tail-skips", "nats", nil, []string{"P4"}, 3},
	{"trim-one-too-many", "nats", nil, []string{"removal"}, 4},
	{"erasure-leaves-body", "nats", nil, []string{"removal"}, 4},
	{"deletion-restarts-positions", "nats", nil, []string{"removal"}, 8},
	{"trimmed-comes-back", "nats", nil, []string{"removal", "clear"}, 4},
	{"clear-bypasses-queue", "nats", []fault.Fault{noConsumers}, []string{"clear", "P5"}, 8},
	{"forget-idempotency-keys", "nats", []fault.Fault{killAConsumer}, []string{"P2"}, 6},
}

// rounds is how many runs may be needed: what shows only if a process dies at a certain moment may not show in the first.
const rounds = 6

// TestPlantedFaults: what the real code does wrong on purpose, verify finds.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	for _, f := range plantedFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.find(t, 6*time.Second)
		})
	}
}

// find lets verify look for a planted fault until it finds it.
func (f planted) find(t *testing.T, settle time.Duration) {
	o := startSmallTopology(t, f.broker, f.name)
	c := verify.Config{
		Duration: time.Duration(f.seconds) * time.Second, Rate: 300, Timeout: 3 * time.Minute, Settle: settle,
		Faults: fault.Plan{Settle: settle, Faults: f.faults},
	}
	began := time.Now()
	for round := range rounds {
		r := o.verify(c)
		broken := broken(r)
		t.Logf("run %d, after %v: %s, %v, %s", round+1, time.Since(began).Round(100*time.Millisecond), r.Verdict, broken, r.Reason)
		if slices.ContainsFunc(f.want, func(p string) bool { return slices.Contains(broken, p) }) {
			return
		}
		if r.Verdict == check.Inconclusive { // a backend may have noticed the damage first, and reads that log no more
			o = startSmallTopology(t, f.broker, f.name)
		}
	}
	t.Errorf("none of %v is found to be broken in %d runs", f.want, rounds)
}

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is broken besides while a planted fault is looked for: each one --fault.
const (
	killAConsumer = `name = "kill-consumer", every = "2s", for = "1500ms", run = "kill -9 $(cat consumer-0.pid)", heal = "./start consumer-0"`
	noConsumers   = `name = "no-consumers", every = "5s", for = "3s", run = "kill -9 $(cat consumer-*.pid)", heal = "./start consumer-0 && ./start consumer-1"`
)

// planted is a promise that a program can be built to break, what it takes for that to show, and the promises of which
// verify then finds one to be broken. docs/reliability.md has the whole record.
type planted struct {
	name, broker, fault string
	want                []string
	rate, seconds       int // messages a second; 0 for as many as it takes
}

// plantedFaults are found within seconds.
var plantedFaults = []planted{
	{"positions-reused", "nats", "", []string{"P4"}, 300, 2},
	{"trust-stale-replica", "nats", "", []string{"P6"}, 300, 3},
	{"short-page", "nats", "", []string{"P4"}, 300, 2},
	{"tail-skips", "nats", "", []string{"P4"}, 300, 3},
	{"clear-bypasses-queue", "nats", noConsumers, []string{"clear", "P5"}, 300, 8},
	{"forget-idempotency-keys", "nats", killAConsumer, []string{"P2"}, 300, 6},
}

// rounds is how many runs may be needed: what shows only if a process dies at a certain moment may not show in the first.
const rounds = 6

// TestPlantedFaults: what the real code does wrong on purpose, verify finds.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	for _, f := range plantedFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.find(t, "6s")
		})
	}
}

// find lets verify look for a planted fault until it finds it.
func (f planted) find(t *testing.T, settle string) {
	o := startSmallTopology(t, f.broker, f.name)
	arguments := []string{
		"--json", "--duration", fmt.Sprint(f.seconds, "s"), "--rate", fmt.Sprint(f.rate), "--timeout", "3m", "--settle", settle,
	}
	if f.fault != "" {
		plan := filepath.Join(t.TempDir(), "plan")
		text := "settle=" + settle + "\n" + strings.ReplaceAll(f.fault, `="`, `="cd $DRAINMARK_TOPOLOGY && `)
		if err := os.WriteFile(plan, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		arguments = append(arguments, "--plan", plan)
	}
	began, said := time.Now(), ""
	for round := range rounds {
		said, _ = o.verify(4*time.Minute, arguments...)
		var result struct {
			Verdict, Reason string
			Promises        []struct{ Promise, State, Checked string }
		}
		if err := json.Unmarshal([]byte(said), &result); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		var broken []string
		for _, p := range result.Promises {
			if p.State == "broken" {
				broken = append(broken, p.Promise)
			}
		}
		t.Logf("run %d, after %v: %s, %v, %s", round+1, time.Since(began).Round(100*time.Millisecond), result.Verdict, broken, result.Reason)
		if slices.ContainsFunc(f.want, func(p string) bool { return slices.Contains(broken, p) }) {
			return
		}
	}
	t.Errorf("none of %v is found to be broken in %d runs: %s", f.want, rounds, said)
}

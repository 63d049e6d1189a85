//go:build campaign

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/fault"
)

// plantedRecord is which faults are looked for by campaigns, and on which brokers.
var plantedRecord = []struct{ name, broker string }{
	{"acknowledge-before-commit", "rabbitmq"}, // a broker that keeps its log gives back what is acknowledged
	{"answer-before-confirm", "rabbitmq"},
	{"answer-before-confirm", "nats"},
	{"skip-owner-check", "rabbitmq"},
	{"skip-owner-check", "nats"},
	{"lose-last-record", "rabbitmq"},
	{"lose-last-record", "nats"},
	{"barrier-without-epoch-check", "rabbitmq"},
	{"barrier-without-epoch-check", "nats"},
	{"trust-stale-replica", "nats"},
	{"clear-bypasses-queue", "nats"},
	{"forget-idempotency-keys", "nats"},
	{"barrier-of-one-partition", "nats"},
	{"tail-skips", "nats"},
	{"positions-reused", "nats"},
	{"short-page", "nats"},
	{"headers-of-the-first", "nats"},
}

// TestPlantedRecord takes the record of docs/reliability.md: a campaign for each fault, in which verify has to find it.
func TestPlantedRecord(t *testing.T) {
	processLifetime = *campaign + 15*time.Minute
	for _, f := range plantedRecord {
		t.Run(f.name+" on "+f.broker, func(t *testing.T) { findInCampaign(t, f.name, f.broker) })
	}
}

func findInCampaign(t *testing.T, name, broker string) {
	o := startTopology(t, broker, "redis", name)
	begun := time.Now()
	dir := filepath.Join(t.TempDir(), "report")
	if *campaignDir != "" {
		dir = filepath.Join(*campaignDir, name+"-"+broker)
	}
	plan, err := fault.Ready("local")
	if err != nil {
		t.Fatal(err)
	}
	r := o.verify(verify.Config{Duration: *campaign, Rate: *campaignRate, Faults: plan, Dir: dir})
	var found []string
	for _, p := range r.Promises {
		if p.State == check.PromiseBroken {
			found = append(found, fmt.Sprintf("%s (%d, the first at %.0f s)", p.Promise, p.Violations, p.Examples[0].At))
		}
	}
	t.Logf("RECORD %s on %s: %s after %v: %s; %s", name, broker, r.Verdict, time.Since(begun).Round(time.Second), strings.Join(found, ", "), r.Reason)
	if len(found) == 0 {
		t.Error("it was not found")
	}
}

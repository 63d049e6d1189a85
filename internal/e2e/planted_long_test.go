//go:build campaign

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
}

// TestPlantedRecord takes the record of docs/reliability.md: a campaign for each fault, in which verify has to find it.
func TestPlantedRecord(t *testing.T) {
	processLifetime = *campaign + 15*time.Minute
	for _, f := range plantedRecord {
		t.Run(f.name+" on "+f.broker, func(t *testing.T) { findInCampaign(t, f.name, f.broker) })
	}
}

func findInCampaign(t *testing.T, fault, broker string) {
	o := startTopology(t, broker, fault)
	begun := time.Now()
	dir := filepath.Join(t.TempDir(), "report")
	if *campaignDir != "" {
		dir = filepath.Join(*campaignDir, fault+"-"+broker)
	}
	said, _ := o.verify(processLifetime, "--json", "--report", dir, "--duration", campaign.String(), "--rate", fmt.Sprint(*campaignRate), "--plan", "local")
	var result struct {
		Verdict, Reason string
		Promises        []struct {
			Promise, State string
			Violations     int
			Examples       []struct {
				At float64 `json:"at_seconds"`
			}
		}
	}
	if err := json.Unmarshal([]byte(said), &result); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var broken []string
	for _, p := range result.Promises {
		if p.State == "broken" {
			broken = append(broken, fmt.Sprintf("%s (%d, the first at %.0f s)", p.Promise, p.Violations, p.Examples[0].At))
		}
	}
	t.Logf("RECORD %s on %s: %s after %v: %s; %s", fault, broker, result.Verdict, time.Since(begun).Round(time.Second), strings.Join(broken, ", "), result.Reason)
	if len(broken) == 0 {
		t.Error("it was not found")
	}
}

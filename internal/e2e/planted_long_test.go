//go:build campaign

package e2e

import "testing"

// plantedDeeper are found too, but not within the time that every run of the tests has.
var plantedDeeper = []planted{
	{"skip-owner-check", "nats", pauseAConsumer, []string{"P2", "P4", "linearizable"}, 0, 20},
	{"skip-owner-check", "rabbitmq", pauseAConsumer, []string{"P2", "P4", "linearizable"}, 0, 20},
	{"lose-last-record", "rabbitmq", pauseAConsumer, []string{"P1", "linearizable"}, 0, 20},
	{"answer-before-confirm", "rabbitmq", killTheBroker, []string{"P1", "P3"}, 300, 20},
	{"acknowledge-before-commit", "rabbitmq", killAConsumer, []string{"P1"}, 0, 20},
	{"barrier-of-one-partition", "nats", killAConsumer, []string{"P5"}, 0, 20},
	{"barrier-without-epoch-check", "rabbitmq", killAConsumer, []string{"P3", "P5"}, 0, 20},
}

// TestPlantedRecord takes the record of docs/reliability.md.
func TestPlantedRecord(t *testing.T) {
	for _, f := range append(plantedFaults, plantedDeeper...) {
		t.Run(f.name+" on "+f.broker, func(t *testing.T) { f.find(t, "30s") })
	}
}

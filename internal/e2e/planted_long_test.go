//go:build campaign

package e2e

import "testing"

const (
	// For longer than its lease, of half a second.
	pauseAConsumer = `name=pause-consumer every=1500ms for=1s run="kill -STOP $(cat consumer-0.pid)" heal="kill -CONT $(cat consumer-0.pid)"`
	killTheBroker  = `name=kill-broker every=3s for=500ms run="kill -9 $(cat broker.pid)" heal="./start broker"`
)

// plantedDeeper are found too, but not within the time that every run of the tests has.
var plantedDeeper = []planted{
	{"lose-last-record", "nats", pauseAConsumer, []string{"P1", "linearizable"}, 0, 10},
	{"answer-before-confirm", "nats", killTheBroker, []string{"P1", "P3"}, 300, 10},
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

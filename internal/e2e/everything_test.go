package e2e

import (
	"testing"
	"time"
)

// TestEverythingAtOnce kills and pauses processes of every role, the broker, the master and the replicas, for two
// minutes.
func TestEverythingAtOnce(t *testing.T) {
	const lasts, least = 2 * time.Minute, 40
	s := startStack(t, 2)
	o := s.setup(3, 3)
	o.frontend = true
	o.consumerFlags = []string{"--lease", "2s"}
	d := deploy(t, o)
	h := newHistory(true)
	c := startClients(t, h, d.targets(), usualCrowd, 7)
	victims := []*victim{
		programVictim(d.frontend, 1),
		serverVictim("RabbitMQ", s.broker, 3, 4*time.Second, 20*time.Second),
		serverVictim("the master", s.master, 2, 4*time.Second, 5*time.Second),
		serverVictim("replica 0", s.replicas[0], 1, 4*time.Second, 5*time.Second),
		serverVictim("replica 1", s.replicas[1], 1, 4*time.Second, 5*time.Second),
	}
	for i := range 3 {
		victims = append(victims, programVictim(d.backends[i], 2), programVictim(d.consumers[i], 2))
	}
	if n := newSchedule(t, faultSeed(), 1500*time.Millisecond, 40, victims...).run(lasts); n < least {
		t.Errorf("there were only %d faults", n)
	}
	s.await()
	c.stop()
	d.settle(h)
	d.enough(h, 1000)
}

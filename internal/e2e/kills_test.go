package e2e

import (
	"flag"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 0, "seed of the faults; 0 for one made of the time")

// faultSeed returns the seed of a test's faults.
func faultSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return uint64(time.Now().UnixNano())
}

// TestKills kills backends, consumers and the broker at random moments, again and again, while clients append.
func TestKills(t *testing.T) {
	const lasts, least, appends = 30 * time.Second, 16, 300
	s := startStack(t, 1)
	o := s.setup(3, 3)
	o.consumerFlags = []string{"--lease", "1s"}
	d := deploy(t, o)
	h := newHistory(true)
	c := startClients(t, h, d.targets(), usualCrowd, 5)
	var victims []*victim
	for i := range 3 {
		victims = append(victims, programVictim(d.backends[i], 3), programVictim(d.consumers[i], 3))
	}
	// RabbitMQ is killed once at most: it takes long to start, on a busy machine for the rest of the test.
	victims = append(victims, serverVictim("RabbitMQ", s.broker, 2, 2*time.Second, time.Hour))
	faults := newSchedule(t, faultSeed(), time.Second, 0, victims...)
	n := faults.run(lasts)
	s.await()
	for end := time.Now().Add(patience); h.count(accepted, 0, ever) < appends && time.Now().Before(end); {
		n += faults.run(lasts / 6)
	}
	if n < least {
		t.Errorf("there were only %d kills", n)
	}
	c.stop()
	d.settle(h)
	d.enough(h, appends)
}

// TestAPausedConsumer stops a consumer where it stands for longer than its lease, and lets it go on. What it has in
// hand then must not be committed.
func TestAPausedConsumer(t *testing.T) {
	t.Parallel()
	s := startStack(t, 1)
	o := s.setup(1, 2)
	o.consumerFlags = []string{"--lease", "1s", "--commit-records", "20"}
	d := deploy(t, o)
	h := newHistory(true)
	busy := usualCrowd
	busy.writers, busy.pause = 15, 2*time.Millisecond
	c := startClients(t, h, d.targets(), busy, 6)
	slow, other := d.consumers[0], d.consumers[1]
	const fenced, held, times = "drainmark_consumer_fenced_commits_total", "drainmark_consumer_claim_held", 3
	pauses, before := 0, slow.metric(fenced)
	await(t, "commits of the consumer that was paused are fenced", patience, func() bool {
		await(t, "it holds a partition", patience, func() bool { return slow.metric(held) > 0 })
		now := slow.metric(fenced)
		slow.pause()
		pauses++
		await(t, "the other consumer holds all partitions", patience, func() bool { return other.metric(held) == 4 })
		slow.resume()
		await(t, "it has noticed", patience, func() bool { return slow.metric(fenced) > now || other.metric(held) < 4 })
		return slow.metric(fenced) >= before+times
	})
	t.Logf("%v commits were fenced in %d pauses", slow.metric(fenced)-before, pauses)
	c.stop()
	d.settle(h)
	if n := h.count(accepted, 0, ever); n < 300 {
		t.Errorf("only %d appends were accepted: this proves nothing", n)
	}
}

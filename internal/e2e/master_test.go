package e2e

import (
	"testing"
	"time"
)

// TestTheMasterIsDead: for half a minute there is no database to write to. No append is refused, reads go on from the
// replicas, and when the master is back everything is persisted, once. It is not run in parallel with others: besides
// them, something may not be answered in time because the machine is busy.
func TestTheMasterIsDead(t *testing.T) {
	s := startStack(t, 2)
	d := deploy(t, s.setup(2, 2))
	h := newHistory(true)
	c := startClients(t, h, d.targets(), usualCrowd, 3)
	await(t, "clients append and read", patience, func() bool { return h.count(accepted, 0, ever) > 200 })
	s.master.Kill()
	from := h.now()
	down := time.NewTimer(30 * time.Second)
	<-down.C
	to := h.now()
	s.master.Start()
	await(t, "clients append behind it", patience, func() bool { return h.count(accepted, to, ever) > 200 })
	c.stop()
	n := h.count(accepted, from, to)
	t.Logf("%d appends were accepted while the master was dead", n)
	if r, u := h.count(refused, from, to), h.count(unknown, from, to); n < 500 || r+u > 0 {
		t.Errorf("P7: while the master was dead, %d appends were accepted, %d refused and %d of unknown outcome", n, r, u)
	}
	reads := 0
	for _, r := range h.reads {
		if r.at < from || r.at > to {
			continue
		}
		if reads++; r.err != nil {
			t.Errorf("P7: a read failed while the master was dead: %v", r.err)
		}
	}
	if reads < 100 {
		t.Errorf("P7: there were only %d reads while the master was dead", reads)
	}
	d.settle(h)
	d.enough(h, 1000)
}

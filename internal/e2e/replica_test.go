package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/drainmark/drainmark/internal/servers"
)

// TestAReplicaThatIsBehind: a read with a receipt waits for a replica that is behind, or is refused, and is never
// answered from before the write; a backend that has another replica reads from that one.
func TestAReplicaThatIsBehind(t *testing.T) {
	t.Parallel()
	s := startStack(t, 2)
	wire := startProxy(t, s.master.Address())
	lame, well := s.replicas[0], s.replicas[1]
	join := func() { lame.Do("REPLICAOF", servers.Host, wire.port()) }
	join()
	o := s.setup(2, 2)
	o.replicas = [][]string{{lame.URL()}, {lame.URL(), well.URL()}}
	d := deploy(t, o)
	h := newHistory(true)
	c := startClients(t, h, d.targets(), usualCrowd, 4)
	for _, fault := range []struct {
		name       string
		begin, end func()
	}{
		{"the wire is stuck", func() { wire.set(false, true) }, func() { wire.set(false, false) }},
		{"the wire is cut", func() { wire.set(true, false) }, func() { wire.set(false, false) }},
		{"the replica is paused", lame.Pause, lame.Continue},
		{"the replica has another master", func() { lame.Do("REPLICAOF", servers.Host, 1) }, join},
		{"the replica was killed", lame.Kill, func() { lame.Start(); join() }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			d.barrier(d.urls[0])
			fault.begin()
			body := "appended while " + fault.name
			call := &appendCall{log: logNames[0], bodies: []string{body}, sent: h.now(), outcome: accepted, attempts: 1}
			call.receipt = d.appendTo(d.urls[0], call.log, body)
			call.answered = h.now()
			h.addCall(call)
			after := h.frontier(call.log)
			for _, wait := range []int{0, 1} {
				p, code, err := readPage(t.Context(), d.http, d.urls[0], call.log, after-min(after, 500), 1000, call.receipt, wait)
				if code != http.StatusPreconditionFailed && code != http.StatusServiceUnavailable {
					t.Errorf("a read with the receipt, with a wait of %d s: %d %v, up to %d", wait, code, err, p.LastPosition)
				}
			}
			if err := showsWith(t, d, d.urls[1], call); err != nil {
				t.Errorf("the backend with another replica: %v", err)
			}
			fault.end()
			if err := showsWith(t, d, d.urls[0], call); err != nil {
				t.Errorf("when the replica is well again: %v", err)
			}
		})
	}
	c.stop()
	d.settle(h)
	d.enough(h, 300)
}

// showsWith reads with an append's receipt, which it waits for, and returns an error if the append is not shown.
func showsWith(t *testing.T, d *deployment, base string, call *appendCall) error {
	t.Helper()
	for after := uint64(0); ; {
		p, _, err := readPage(t.Context(), d.http, base, call.log, after, 1000, call.receipt, 30)
		if err != nil {
			return err
		}
		for _, m := range p.Messages {
			if m.Body == call.bodies[0] {
				return nil
			}
			after = m.Position
		}
		if len(p.Messages) == 0 {
			return fmt.Errorf("%q is not there up to %d", call.bodies[0], p.LastPosition)
		}
	}
}

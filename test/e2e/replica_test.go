package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
	"github.com/drainmark/drainmark/verify"
)

// TestAReplicaThatIsBehind: a read with a receipt waits for a replica that is behind, or is refused, and is never
// answered from before the write. A backend that has another replica reads from that one.
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
	v := d.startVerify(verify.Config{Rate: 300})
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
			receipt := d.appendTo(d.urls[0], "behind", body)
			for _, wait := range []int{0, 1} {
				p, code, err := readPage(t.Context(), d.http, d.urls[0], "behind", 0, 1000, receipt, wait)
				if code != http.StatusPreconditionFailed && code != http.StatusServiceUnavailable {
					t.Errorf("a read with the receipt, with a wait of %d s: %d %v, up to %d", wait, code, err, p.LastPosition)
				}
			}
			if err := d.showsWith(d.urls[1], receipt, body); err != nil {
				t.Errorf("the backend with another replica: %v", err)
			}
			fault.end()
			if err := d.showsWith(d.urls[0], receipt, body); err != nil {
				t.Errorf("when the replica is well again: %v", err)
			}
		})
	}
	held(t, v.judge(), 300)
}

// showsWith reads with an append's receipt, which it waits for, and returns an error if the append is not shown.
func (d *deployment) showsWith(base, receipt, body string) error {
	p, _, err := readPage(d.t.Context(), d.http, base, "behind", 0, 1000, receipt, 30)
	if err == nil && !slices.ContainsFunc(p.Messages, func(m message) bool { return m.Body == body }) {
		err = fmt.Errorf("%q is not there up to %d", body, p.LastPosition)
	}
	return err
}

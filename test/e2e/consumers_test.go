package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// TestConsumersAreScaledToZeroAndBack: none is wanted only while everything accepted is persisted, whatever dies. Then
// nothing wakes one but the next append.
func TestConsumersAreScaledToZeroAndBack(t *testing.T) {
	t.Parallel()
	// queued is how much is in the broker while no consumer runs.
	type start func(t *testing.T) (url string, queued func(*deployment) int)
	for name, start := range map[string]start{
		"rabbitmq": func(t *testing.T) (string, func(*deployment) int) {
			r := servers.StartRabbitMQ(t, servers.RabbitMQOptions{})
			return r.URL(), func(*deployment) int { return declarer(t, r)() }
		},
		"nats": func(t *testing.T) (string, func(*deployment) int) {
			n := servers.StartNATS(t, servers.NATSOptions{MaxFileStore: 20 << 30})
			return n.URL(), func(d *deployment) int { return readBacklog(t, d).Pending.Records }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, queued := start(t)
			store := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
			d := deploy(t, setup{broker: url, store: store, backends: 3, consumers: 1})
			d.awaitNoneWanted()
			d.consumers[0].stop()
			d.appendTo(d.urls[0], "log", "a", "b")
			d.wantsAConsumer()
			for _, b := range d.backends {
				b.kill()
			}
			for _, b := range d.backends {
				b.start()
			}
			d.awaitAPI()
			d.wantsAConsumer()
			d.consumers[0].start()
			d.awaitNoneWanted()
			if got := d.readAll(d.url, "log", ""); len(got) != 2 {
				t.Errorf("none is wanted, and %d of 2 messages are persisted", len(got))
			}
			d.consumers[0].stop()
			for range 10 {
				for i, url := range d.urls {
					if w := d.wanted(url); w.Wanted != 0 {
						t.Fatalf("backend %d wants %+v though nothing was accepted", i, w)
					}
				}
				time.Sleep(500 * time.Millisecond) // as an autoscaler asks now and then
			}
			if n := queued(d); n != 0 {
				t.Errorf("%d batches or records were published though nothing was accepted", n)
			}
			d.appendTo(d.urls[2], "log", "c")
			d.wantsAConsumer()
		})
	}
}

// wantedConsumers is what the API says of how many are wanted.
type wantedConsumers struct {
	Wanted int
	Known  bool
	Reason string
}

func (d *deployment) wanted(url string) (w wantedConsumers) {
	d.t.Helper()
	a, err := send(d.t.Context(), d.http, request{method: http.MethodGet, url: url + "/v1/consumers"})
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%d %s", a.status, a.body)
	}
	if err == nil {
		err = json.Unmarshal(a.body, &w)
	}
	if err != nil {
		d.t.Fatalf("asking how many consumers are wanted: %v", err)
	}
	return w
}

// wantsAConsumer checks that each backend says so.
func (d *deployment) wantsAConsumer() {
	d.t.Helper()
	for i, url := range d.urls {
		if w := d.wanted(url); w.Wanted != 1 {
			d.t.Errorf("backend %d wants %+v though something is not persisted", i, w)
		}
	}
}

// awaitNoneWanted waits until each backend says so.
func (d *deployment) awaitNoneWanted() {
	d.t.Helper()
	began := time.Now()
	for i, url := range d.urls {
		await(d.t, fmt.Sprintf("backend %d wants no consumer", i), patience, func() bool { return d.wanted(url).Wanted == 0 })
	}
	d.t.Logf("no consumer was wanted %s after everything could be persisted", time.Since(began).Round(time.Millisecond))
}

package frontend

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/httpserve"
)

// deployment is some backends behind a name, of which the oldest is replaced again and again.
type deployment struct {
	t         *testing.T
	names     *nameServer
	addresses []string // of all backends that there will be
	port      string
	listeners []net.Listener
	stops     []context.CancelFunc // of those that have begun
	replicas  int                  // how many there are at once
	serving   sync.WaitGroup
	received  sync.Map // the bodies of appends
	twice     atomic.Int64
}

func newDeployment(t *testing.T, replicas, all int) *deployment {
	t.Helper()
	d := &deployment{t: t, replicas: replicas}
	for i := range all {
		d.addresses = append(d.addresses, fmt.Sprintf("127.0.0.%d", 2+i))
	}
	d.port, d.listeners = listenAt(t, d.addresses...)
	t.Cleanup(d.end)
	for range replicas {
		d.begin()
	}
	d.names = startNames(t, d.addresses[:replicas]...)
	return d
}

// begin starts the next backend. It stops as real ones do.
func (d *deployment) begin() {
	ctx, stop := context.WithCancel(context.Background())
	listener := d.listeners[len(d.stops)]
	d.stops = append(d.stops, stop)
	d.serving.Go(func() {
		err := httpserve.Serve(ctx, listener, httpserve.Config{
			Name: "api", Handler: d, Logger: slog.New(slog.DiscardHandler),
			Stop: httpserve.Stop{Delay: 100 * time.Millisecond, Quiet: 100 * time.Millisecond, Drain: time.Minute},
		})
		if err != nil {
			d.t.Error(err)
		}
	})
}

// replace starts one more backend, lets the name lead to it instead of the oldest, and stops that. It says whether there
// was one more.
func (d *deployment) replace() bool {
	n := len(d.stops)
	if n == len(d.listeners) {
		return false
	}
	d.begin()
	d.names.leads(d.addresses[n+1-d.replicas : n+1]...)
	d.stops[n-d.replicas]()
	return true
}

// end stops all backends.
func (d *deployment) end() {
	for _, stop := range d.stops {
		stop()
	}
	d.serving.Wait()
}

// ServeHTTP notes what was appended.
func (d *deployment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	if r.Method == http.MethodPost {
		if _, again := d.received.LoadOrStore(string(body), true); again {
			d.twice.Add(1)
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// clients append and read until they are told to stop.
type clients struct {
	stop     context.CancelFunc
	running  sync.WaitGroup
	accepted atomic.Int64
	wrong    atomic.Int64
}

func startClients(t *testing.T, s *site) *clients {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &clients{stop: stop}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: time.Minute}
	t.Cleanup(func() {
		stop()
		c.running.Wait()
		client.CloseIdleConnections()
	})
	for i := range 8 {
		c.running.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				c.ask(t, client, s.URL+messages, fmt.Sprint(i, " ", n))
			}
		})
	}
	return c
}

// ask appends, and reads.
func (c *clients) ask(t *testing.T, client *http.Client, url, body string) {
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		r, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		a, err := client.Do(r)
		if err != nil {
			c.wrong.Add(1)
			t.Errorf("%s: %v", method, err)
			return
		}
		said, _ := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if a.StatusCode != http.StatusAccepted {
			c.wrong.Add(1)
			t.Errorf("%s: %s %s", method, a.Status, said)
			return
		}
	}
	c.accepted.Add(1)
}

// await waits until so many more appends and reads have been answered.
func (c *clients) await(t *testing.T, more int64) {
	t.Helper()
	from := c.accepted.Load()
	await(t, "more requests are answered", func() bool { return c.accepted.Load() >= from+more || c.wrong.Load() > 0 })
}

// end ends the clients, and checks that each append was received once.
func (c *clients) end(t *testing.T, d *deployment) {
	t.Helper()
	c.stop()
	c.running.Wait()
	received := int64(0)
	d.received.Range(func(any, any) bool { received++; return true })
	if received != c.accepted.Load() || d.twice.Load() > 0 {
		t.Errorf("%d appends were accepted, and %d were received, %d of them more than once", c.accepted.Load(), received, d.twice.Load())
	}
}

// Backends behind a name are replaced one by one, as a Deployment does it: the new one is in the DNS, and the old one is
// taken out of it and stops. No request is refused, and each append is received once.
func TestBackendsAreReplacedBehindAName(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprint("replicas: ", replicas), func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, replicas, replicas+3)
			s := startSite(t, d.names.named(d.port))
			l := startClients(t, s)
			for l.await(t, 50); d.replace(); {
				l.await(t, 50)
			}
			l.end(t, d)
			await(t, "those that were replaced are forgotten", func() bool { return len(s.frontend.pool.all()) == replicas })
		})
	}
}

package app

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// crowd is many clients that append, each one after the other. One that knows that its request was not received sends it
// again, to the next URL: its connection was refused, or closed before anything was sent (which net/http says in words
// only), or it is told so with 408. Nothing else may go wrong, whoever is stopped in order meanwhile.
type crowd struct {
	t        *testing.T
	urls     []string
	http     *http.Client
	stop     chan struct{}
	running  sync.WaitGroup
	back     atomic.Pointer[chan struct{}] // closed when the process that all clients ask is there again
	accepted atomic.Int64
	refused  atomic.Int64
	told     atomic.Int64
	wrong    atomic.Int64
}

// gather starts the clients. They end with dismiss.
func gather(t *testing.T, urls ...string) *crowd {
	t.Helper()
	c := &crowd{t: t, urls: urls, stop: make(chan struct{}), http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: *crowdSize}, Timeout: time.Minute,
	}}
	c.goes()
	c.returns()
	for i := range *crowdSize {
		c.running.Go(func() { c.client(i) })
	}
	return c
}

func (c *crowd) client(i int) {
	// All together send 200 requests a second at most: more would only starve what else runs on the machine.
	pace := time.NewTicker(time.Duration(*crowdSize) * 5 * time.Millisecond)
	defer pace.Stop()
	for n := i; ; n++ {
		select {
		case <-c.stop:
			return
		case <-pace.C:
		}
		back, prefer := *c.back.Load(), ""
		if i%10 == 0 {
			prefer = "wait=10"
		}
		status, answer, err := c.post(c.urls[n%len(c.urls)], fmt.Sprint(i, " ", n), prefer)
		switch {
		case err == nil && (status == http.StatusAccepted || status == http.StatusCreated):
			c.accepted.Add(1)
		case errors.Is(err, syscall.ECONNREFUSED):
			c.refused.Add(1)
			if len(c.urls) == 1 {
				c.rest(back)
			}
		case err != nil && strings.HasSuffix(err.Error(), "http: server closed idle connection"), status == http.StatusRequestTimeout:
			c.told.Add(1)
		case c.wrong.Add(1) <= 5:
			c.t.Errorf("client %d: %d %s, %v", i, status, answer, err)
		}
	}
}

// goes says that the one process that all clients ask is about to be restarted.
func (c *crowd) goes() {
	back := make(chan struct{})
	c.back.Store(&back)
}

// returns lets those go on that were refused while it was away.
func (c *crowd) returns() { close(*c.back.Load()) }

// rest waits for what closes back.
func (c *crowd) rest(back <-chan struct{}) {
	select {
	case <-back:
	case <-c.stop:
	}
}

// post makes one append. It never sends it twice: the request has no key by which net/http would dare to.
func (c *crowd) post(base, body, prefer string) (status int, answer []byte, err error) {
	r, err := http.NewRequest(http.MethodPost, base+"/v1/logs/guestbook/messages", bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "text/plain")
	if prefer != "" {
		r.Header.Set("Prefer", prefer)
	}
	a, err := c.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	answer, err = io.ReadAll(a.Body)
	return a.StatusCode, answer, err
}

// await waits until so many more appends have been accepted.
func (c *crowd) await(p *program, more int64) {
	c.t.Helper()
	from := c.accepted.Load()
	p.await(fmt.Sprintf("has %d more appends accepted", more), func() bool {
		return c.accepted.Load() >= from+more || c.wrong.Load() > 0
	})
}

// dismiss ends the clients, and checks that each of the messages that were accepted is there.
func (c *crowd) dismiss(p *program) {
	c.t.Helper()
	close(c.stop)
	c.running.Wait()
	c.http.CloseIdleConnections()
	c.t.Logf("%d appends accepted, %d connections refused, %d requests on closed ones", c.accepted.Load(), c.refused.Load(), c.told.Load())
	if n := c.wrong.Load(); n > 0 {
		c.t.Errorf("%d answers went wrong, beside %d accepted appends", n, c.accepted.Load())
		return
	}
	p.barrier()
	if n := int64(len(p.readAll("guestbook").Messages)); n != c.accepted.Load() {
		c.t.Errorf("there are %d messages, and %d were accepted", n, c.accepted.Load())
	}
}

// terminate stops a process as a supervisor does, and waits until it has ended in order.
func (p *program) terminate() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.awaitEnd()
}

var (
	crowdSize = flag.Int("crowd", 20, "how many clients there are in the tests of rolling restarts")
	restarts  = flag.Int("restarts", 1, "how often they restart each process")
)

// between is how many appends are accepted between two of them.
const between = 200

// Backends that are restarted in turn behind a frontend, and the consumer too: every append is accepted.
func TestRollingRestartOfBackends(t *testing.T) {
	t.Parallel()
	d := deployTwo(t)
	f := startFrontend(t, d.backends[:]...)
	c := gather(t, f.api)
	for range *restarts {
		for i := range d.backends {
			c.await(f, between)
			d.backends[i].terminate()
			c.await(f, between)
			d.startBackend(t, i)
		}
		d.consumer.terminate()
		d.startConsumer(t)
	}
	if c.refused.Load() > 0 || c.told.Load() > 0 {
		t.Errorf("the frontend refused %d connections and closed %d", c.refused.Load(), c.told.Load())
	}
	c.dismiss(f)
}

// Frontends that are restarted in turn: a client may be refused a connection, and nothing else happens to it.
func TestRollingRestartOfFrontends(t *testing.T) {
	t.Parallel()
	d := deployTwo(t)
	addresses := []string{address(t), address(t)}
	begin := func(i int) *program {
		return start(t, "frontend", "--listen", addresses[i], "--admin-listen", "127.0.0.1:0",
			"--backend", d.backends[0].api, "--backend", d.backends[1].api)
	}
	frontends := []*program{begin(0), begin(1)}
	c := gather(t, frontends[0].api, frontends[1].api)
	for range *restarts {
		for i := range frontends {
			c.await(frontends[1-i], between)
			frontends[i].terminate()
			c.await(frontends[1-i], between)
			frontends[i] = begin(i)
		}
	}
	c.dismiss(frontends[0])
}

// Clients that ask "up" itself, which is stopped without any delay.
func TestRestartOfUp(t *testing.T) {
	t.Parallel()
	data, listen := t.TempDir(), address(t)
	begin := func() *program {
		return start(t, "up", "--data", data, "--listen", listen, "--admin-listen", "127.0.0.1:0")
	}
	p := begin()
	c := gather(t, p.api)
	for range *restarts {
		c.await(p, between)
		c.goes()
		p.terminate()
		p = begin()
		c.returns()
	}
	c.await(p, between)
	c.dismiss(p)
}

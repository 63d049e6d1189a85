package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/servers"
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
	accepted atomic.Int64
	refused  atomic.Int64
	told     atomic.Int64
	wrong    atomic.Int64
}

// crowdSize is how many clients there are.
const crowdSize = 100

// gather starts the clients. They end with dismiss.
func gather(t *testing.T, urls ...string) *crowd {
	t.Helper()
	c := &crowd{t: t, urls: urls, stop: make(chan struct{}), http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: crowdSize}, Timeout: time.Minute,
	}}
	for i := range crowdSize {
		c.running.Go(func() { c.client(i) })
	}
	return c
}

func (c *crowd) client(i int) {
	for n := i; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		prefer := ""
		if i%10 == 0 {
			prefer = "wait=10"
		}
		status, answer, err := c.post(c.urls[n%len(c.urls)], fmt.Sprint(i, " ", n), prefer)
		switch {
		case err == nil && (status == http.StatusAccepted || status == http.StatusCreated):
			c.accepted.Add(1)
		case errors.Is(err, syscall.ECONNREFUSED):
			c.refused.Add(1)
			<-time.After(10 * time.Millisecond) // a hundred clients that try without a pause leave the machine no time
		case err != nil && strings.HasSuffix(err.Error(), "http: server closed idle connection"), status == http.StatusRequestTimeout:
			c.told.Add(1)
		case c.wrong.Add(1) <= 5:
			c.t.Errorf("client %d: %d %s, %v", i, status, answer, err)
		}
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

// awaitEnd waits until a process that has been told to stop has ended in order.
func (p *program) awaitEnd() {
	p.t.Helper()
	p.await("ends", func() bool {
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	})
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		p.t.Errorf("it ended with exit code %d", code)
	}
}

// address returns a loopback address that stays the same for every start of a process.
func address(t testing.TB) string { return fmt.Sprintf("%s:%d", servers.Host, servers.Port(t)) }

// shortly is the delay in which tests stop what has one by itself.
const shortly = "--shutdown-delay=100ms"

// deployed is what the rolling restarts need of a deployment: one NATS, one file, a consumer and two backends.
type deployed struct {
	broker, store string
	consumer      *program
	backends      [2]*program
	addresses     [2]string
}

func deployTwo(t *testing.T) *deployed {
	t.Helper()
	dir := t.TempDir()
	d := &deployed{broker: "--broker=" + startNATS(t, filepath.Join(dir, "nats")), store: "--store=sqlite:" + filepath.Join(dir, "store.db")}
	d.startConsumer(t)
	for i := range d.backends {
		d.addresses[i] = address(t)
		d.startBackend(t, i)
	}
	return d
}

func (d *deployed) startConsumer(t *testing.T) {
	t.Helper()
	d.consumer = launch(t, "consumer", d.broker, d.store, "--admin-listen", "127.0.0.1:0")
	d.consumer.find("(consumer is running)")
}

func (d *deployed) startBackend(t *testing.T, i int) {
	t.Helper()
	d.backends[i] = start(t, "backend", d.broker, d.store, "--listen", d.addresses[i], "--admin-listen", "127.0.0.1:0", shortly)
}

// restarts is how often each process is restarted, and between how many appends.
const (
	restarts = 4
	between  = 200
)

// Backends that are restarted in turn behind a frontend, and the consumer too: every append is accepted.
func TestRollingRestartOfBackends(t *testing.T) {
	t.Parallel()
	d := deployTwo(t)
	f := startFrontend(t, d.backends[:]...)
	c := gather(t, f.api)
	for range restarts {
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
		return start(t, "frontend", "--listen", addresses[i], "--admin-listen", "127.0.0.1:0", shortly,
			"--backend", d.backends[0].api, "--backend", d.backends[1].api)
	}
	frontends := []*program{begin(0), begin(1)}
	c := gather(t, frontends[0].api, frontends[1].api)
	for range restarts {
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
	for range restarts {
		c.await(p, between)
		p.terminate()
		p = begin()
	}
	c.await(p, between)
	c.dismiss(p)
}

// While a process goes on serving, it says that it is about to stop: at the admin address until the end, and in each
// answer. Streams end in order, and tell the client when to come back.
func TestStoppingIsSaid(t *testing.T) {
	t.Parallel()
	d := deployTwo(t)
	f := startFrontend(t, d.backends[:]...)
	for _, p := range []*program{
		up(t, t.TempDir(), "--shutdown-delay", "2s"),
		start(t, "backend", d.broker, d.store, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--shutdown-delay", "2s"),
		start(t, "frontend", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--backend", f.api, "--shutdown-delay", "2s"),
	} {
		p.findAdmin()
		p.want(http.StatusAccepted, "POST", "/v1/logs/guestbook/messages", "x", "Content-Type", "text/plain")
		streamed := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began, text := followTo(ctx, t, p, streamed)
		<-began
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.await("says that it is stopping", func() bool {
			a, err := p.call("GET", "/readyz", "")
			return err == nil && a.status == http.StatusServiceUnavailable && bytes.Contains(a.body, []byte("stopping"))
		})
		a := p.want(http.StatusAccepted, "POST", "/v1/logs/guestbook/messages", "y", "Content-Type", "text/plain")
		if !a.closes {
			t.Errorf("while it stops, an answer has %v", a.header)
		}
		p.want(http.StatusOK, "GET", "/livez", "")
		if err := <-streamed; err != nil {
			t.Errorf("the stream ended with %v", err)
		}
		if said := text.String(); !bytes.Contains([]byte(said), []byte("retry: ")) {
			t.Errorf("the stream was %q", said)
		}
		p.awaitEnd()
	}
}

// followTo reads an event stream to its end. began is closed when the stream has begun.
func followTo(ctx context.Context, t *testing.T, p *program, ended chan<- error) (began chan struct{}, text *bytes.Buffer) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.api+"/v1/logs/guestbook/events?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	began, text = make(chan struct{}), &bytes.Buffer{}
	go func() {
		defer a.Body.Close()
		first := make([]byte, 1)
		_, err := io.ReadFull(a.Body, first)
		text.Write(first)
		close(began)
		if err == nil {
			_, err = io.Copy(text, a.Body)
		}
		ended <- err
	}()
	return began, text
}

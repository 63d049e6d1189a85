package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/patient"
	"github.com/drainmark/drainmark/test/servers"
)

// awaitEnd waits until a process that has been told to stop has ended in order.
func (p *program) awaitEnd() {
	p.t.Helper()
	p.await("ends", p.hasEnded)
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		p.t.Errorf("it ended with exit code %d", code)
	}
}

func (p *program) hasEnded() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// address returns a loopback address that stays the same for every start of a process.
func address(t testing.TB) string { return fmt.Sprintf("%s:%d", servers.Host, servers.Port(t)) }

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
	d.backends[i] = start(t, "backend", d.broker, d.store, "--listen", d.addresses[i], "--admin-listen", "127.0.0.1:0")
}

// While a process goes on serving, it says that it is about to stop: at the admin address until the end, and in each
// answer. Streams end in order, and tell the client when to come back.
func TestStoppingIsSaid(t *testing.T) {
	t.Parallel()
	d := deployTwo(t)
	f := startFrontend(t, d.backends[:]...)
	for _, role := range [][]string{
		{"up", "--data", t.TempDir()}, {"backend", d.broker, d.store}, {"frontend", "--backend", f.api},
	} {
		patient.Within(t, 2*time.Second, func(delay time.Duration) error {
			return saysThatItStops(t, start(t, append(append(role[:len(role):len(role)], free...), "--shutdown-delay", delay.String())...))
		})
	}
}

// saysThatItStops stops a process that goes on serving for a while, and returns what is wrong meanwhile.
func saysThatItStops(t *testing.T, p *program) (wrong error) {
	t.Helper()
	p.findAdmin()
	p.want(http.StatusAccepted, "POST", "/v1/logs/guestbook/messages", "x", "Content-Type", "text/plain")
	streamed := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	began, text := followTo(ctx, t, p, streamed)
	<-began
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	wrong = p.stillServes()
	if err := <-streamed; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if said := text.String(); !bytes.Contains([]byte(said), []byte("retry: ")) {
		t.Errorf("the stream was %q", said)
	}
	p.awaitFor(2*time.Minute, "ends", p.hasEnded)
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("it ended with exit code %d", code)
	}
	return wrong
}

// stillServes waits until a process says that it is stopping, and returns what is wrong with what it answers then.
func (p *program) stillServes() error {
	for {
		a, err := p.call("GET", "/readyz", "")
		if err != nil {
			return fmt.Errorf("it ends before it says that it is stopping: %w", err)
		}
		if a.status == http.StatusServiceUnavailable && bytes.Contains(a.body, []byte("stopping")) {
			break
		}
	}
	a, err := p.call("POST", "/v1/logs/guestbook/messages", "y", "Content-Type", "text/plain")
	if err != nil || a.status != http.StatusAccepted || !a.closes {
		return fmt.Errorf("while it stops, an append is answered %d %s with %v: %v", a.status, a.body, a.header, err)
	}
	if a, err = p.call("GET", "/livez", ""); err != nil || a.status != http.StatusOK {
		return fmt.Errorf("while it stops, it is said to be alive: %d, %v", a.status, err)
	}
	return nil
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

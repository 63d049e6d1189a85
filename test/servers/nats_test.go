package servers

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func natsClient(t *testing.T, n *NATS) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	t.Cleanup(func() { conn.Close(); <-closed })
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

func natsContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestNATS(t *testing.T) {
	t.Parallel()
	t.Cleanup(Cleanup) // after all of its parts, because nothing else here needs the program
	for name, test := range map[string]func(*testing.T){
		"a killed server has what it confirmed, at the same place":                  natsKeepsWhatItConfirmed,
		"every message is synced, in a directory of the server's own":               natsSyncsEveryMessage,
		"the limits are the server's":                                               natsHasTheLimits,
		"a paused server answers when it goes on, and a stopped one ends by itself": natsPausesAndStops,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func natsKeepsWhatItConfirmed(t *testing.T) {
	n := StartNATS(t, NATSOptions{})
	_, js := natsClient(t, n)
	stream, err := js.CreateStream(natsContext(t), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := js.Publish(natsContext(t), "s", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	n.Kill()
	if n.Running() {
		t.Error("the killed server runs")
	}
	n.Start()
	var info *jetstream.StreamInfo
	for ctx := natsContext(t); ; { // a question may have gone over the connection that had just broken
		attempt, cancel := context.WithTimeout(ctx, patience/10)
		info, err = stream.Info(attempt)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil || info.State.Msgs != 10 {
		t.Errorf("after the kill: %+v, %v", info, err)
	}
}

func natsSyncsEveryMessage(t *testing.T) {
	n := StartNATS(t, NATSOptions{})
	settings, err := os.ReadFile(filepath.Join(n.dir, "nats.conf"))
	if err != nil || !strings.Contains(string(settings), "sync_interval: always") {
		t.Errorf("%s, %v", settings, err)
	}
	if _, err := os.Stat(filepath.Join(n.StoreDir, "jetstream")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(n.Output(), "Server is ready") {
		t.Errorf("the output is not captured: %q", n.Output())
	}
}

func natsHasTheLimits(t *testing.T) {
	n := StartNATS(t, NATSOptions{MaxPayload: 2 << 20, MaxFileStore: 8 << 20})
	conn, js := natsClient(t, n)
	account, err := js.AccountInfo(natsContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.MaxPayload(); got != 2<<20 {
		t.Errorf("the largest message is %d bytes", got)
	}
	c := jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}, MaxBytes: 9 << 20}
	if _, err := js.CreateStream(natsContext(t), c); err == nil {
		t.Errorf("a stream of %d bytes fits into the store: %+v", c.MaxBytes, account)
	}
}

func natsPausesAndStops(t *testing.T) {
	n := StartNATS(t, NATSOptions{})
	n.Pause()
	// The signal may take a moment to reach the server.
	for answers, deadline := true, time.Now().Add(10*time.Second); answers; {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		answers = n.answers(ctx) == nil
		cancel()
		if answers && time.Now().After(deadline) {
			t.Fatal("a paused server answers")
		}
	}
	n.Continue()
	n.Await()
	n.Stop()
	if n.Running() || !strings.Contains(n.Output(), "Server Exiting") {
		t.Errorf("after Stop: %s", n.Output())
	}
}

func TestNATSGreeting(t *testing.T) {
	t.Parallel()
	for greeting, fine := range map[string]bool{
		"INFO {\"jetstream\":true}\r\n": true, "INFO {}\r\n": false, "HTTP/1.1 400\r\n": false, "INFO {\"jetstream\":true}": false,
	} {
		listener, err := net.Listen("tcp", net.JoinHostPort(Host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		said := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				_, _ = conn.Write([]byte(greeting))
				err = conn.Close()
			}
			said <- err
		}()
		n := &NATS{Port: listener.Addr().(*net.TCPAddr).Port}
		if err := n.answers(natsContext(t)); (err == nil) != fine {
			t.Errorf("%q: %v", greeting, err)
		}
		if err := errors.Join(<-said, listener.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestBuiltProgram(t *testing.T) {
	t.Parallel()
	t.Run("a program is built once, and removed", func(t *testing.T) {
		t.Parallel()
		p := &builtProgram{name: "nats-server", module: natsProgram.module}
		var paths [4]string
		var building sync.WaitGroup
		for i := range paths {
			building.Go(func() {
				path, err := p.build()
				if err != nil {
					t.Error(err)
				}
				paths[i] = path
			})
		}
		building.Wait()
		for _, path := range paths {
			if path != paths[0] {
				t.Errorf("built in %s and in %s", path, paths[0])
			}
		}
		if _, err := os.Stat(paths[0]); err != nil {
			t.Error(err)
		}
		p.remove()
		if _, err := os.Stat(filepath.Dir(paths[0])); !os.IsNotExist(err) {
			t.Errorf("after remove: %v", err)
		}
	})
	t.Run("a program that can't be built says why, and leaves nothing", func(t *testing.T) {
		t.Parallel()
		p := &builtProgram{name: "nothing", module: "github.com/drainmark/drainmark/nothing"}
		if _, err := p.build(); err == nil || !strings.Contains(err.Error(), "no required module provides") &&
			!strings.Contains(err.Error(), "nothing") {
			t.Errorf("build: %v", err)
		}
		if p.dir != "" {
			t.Errorf("%s is left", p.dir)
		}
	})
}

package httpserve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain has several tests at once: they wait for the ends of times more than they work.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// started is a server that a test has started.
type started struct {
	address string
	client  *http.Client
	stop    func() error // ends it and returns what Serve returned (the test's cleanup calls it too)
}

// start starts a server on a free port of the loopback address.
func start(t *testing.T, c Config) *started {
	t.Helper()
	return startOn(t, c, func(l net.Listener) net.Listener { return l })
}

// startOn starts one whose listener is another one around the real one.
func startOn(t *testing.T, c Config, around func(net.Listener) net.Listener) *started {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name == "" {
		c.Name = "test"
	}
	if c.TLS == nil && overTLS(t) {
		c.TLS = identity(t).server
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = Serve(ctx, around(listener), c)
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return connect(t, address)
	}}
	s := &started{address: listener.Addr().String(), client: &http.Client{Transport: transport}}
	s.stop = func() error {
		cancel()
		<-ended
		return result
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.stop()
	})
	return s
}

func TestAServerAnswersUntilItIsStopped(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "here")
	})})
	answer, err := s.client.Get("http://" + s.address)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || string(body) != "here" {
		t.Errorf("%q, %v", body, err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if conn, err := connect(t, s.address); err == nil {
		_ = conn.Close()
		t.Error("it is still listened on")
	}
}

// patience is how long a test waits for what must come.
const patience = time.Minute

// dial opens a connection, on which everything must happen within patience.
func (s *started) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := connect(t, s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// connect opens a connection as the test's servers take it.
func connect(t *testing.T, address string) (net.Conn, error) {
	c, err := net.Dial("tcp", address)
	if err == nil && overTLS(t) {
		c = tls.Client(c, identity(t).client())
	}
	return c, err
}

// send writes to a connection.
func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal("sending:", err)
	}
}

// receive reads one answer.
func receive(t *testing.T, from *bufio.Reader) (*http.Response, string) {
	t.Helper()
	answer, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal("reading the answer:", err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal("reading the answer's body:", err)
	}
	_ = answer.Body.Close()
	return answer, string(body)
}

// expectEnd fails unless the connection ends in good order.
func expectEnd(t *testing.T, from io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
		t.Errorf("after the answer: %.200q, %v", rest, err)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain until ", what)
		}
	}
}

// undisturbed runs what must succeed as long as this process does not stand still for so long. If it has, it is run again.
func undisturbed(t *testing.T, most time.Duration, run func() error) {
	t.Helper()
	for range 10 {
		ended, longest := make(chan struct{}), make(chan time.Duration)
		go func() {
			var gap time.Duration
			for last := time.Now(); ; {
				select {
				case <-ended:
					longest <- gap
					return
				case <-t.Context().Done():
					return
				case <-time.After(10 * time.Millisecond):
					now := time.Now()
					gap, last = max(gap, now.Sub(last)), now
				}
			}
		}()
		err := run()
		close(ended)
		stood := <-longest
		switch {
		case err == nil:
			return
		case stood < most:
			t.Error(err)
			return
		}
		t.Logf("run again, because this process stood still for %v: %v", stood, err)
	}
	t.Error("this process stood still each time")
}

// reads is a handler that reads the body, and reports the outcome.
var reads = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write(body)
})

// refuses is a handler that does not read the body.
var refuses = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "refused", http.StatusRequestEntityTooLarge)
})

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) lines(with string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

// expectFew checks that a kind of trouble since a time is in the log as loglimit has it: once, and once more every 10 s.
func (l *logBuffer) expectFew(t *testing.T, with string, since time.Time) {
	t.Helper()
	if n, most := l.lines(with), 1+int(time.Since(since)/(10*time.Second)); n < 1 || n > most {
		t.Errorf("%d lines in the log with %q, and there may be 1 to %d", n, with, most)
	}
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

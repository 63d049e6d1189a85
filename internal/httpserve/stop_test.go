package httpserve

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// wire is a client's connection.
type wire struct {
	net.Conn
	t    *testing.T
	from *bufio.Reader
}

func dial(t *testing.T, address string) *wire {
	t.Helper()
	c, err := connect(t, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if secure, ok := c.(*tls.Conn); ok {
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return &wire{c, t, bufio.NewReader(c)}
}

func (w *wire) ask() {
	w.t.Helper()
	if _, err := io.WriteString(w, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		w.t.Error(err)
	}
}

// answer reads an answer, and says whether it said that the server is stopping.
func (w *wire) answer() (stopping bool) {
	w.t.Helper()
	a, err := http.ReadResponse(w.from, nil)
	if err != nil {
		w.t.Fatalf("there is no answer: %v", err)
	}
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		w.t.Errorf("the answer is not whole: %v", err)
	}
	said := a.Header.Get(StoppingHeader) == "true"
	if said != a.Close {
		w.t.Errorf("%s: %v, and Connection: close: %v", StoppingHeader, said, a.Close)
	}
	return said
}

// farewell reads what a connection is told that is closed, although a request is on its way.
func (w *wire) farewell() {
	w.t.Helper()
	if _, err := w.from.Peek(1); err != nil {
		w.t.Fatalf("there is no farewell: %v", err)
	}
	w.ask()
	a, err := http.ReadResponse(w.from, nil)
	if err != nil {
		w.t.Fatalf("there is no farewell: %v", err)
	}
	body, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusRequestTimeout || a.Header.Get(StoppingHeader) == "" || !a.Close || !json.Valid(body) {
		w.t.Errorf("%d %v %s, %v", a.StatusCode, a.Header, body, err)
	}
	w.ended()
	_ = w.Close()
}

// ended waits for the connection's end, which must be in order.
func (w *wire) ended() {
	w.t.Helper()
	if n, err := w.from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		w.t.Errorf("%d bytes, %v; expected the end", n, err)
	}
}

// stopping is a server that a test stops, and what happens meanwhile.
type stopping struct {
	*started
	left  chan struct{} // closed by Leave
	ended chan error
}

func startStopping(t *testing.T, stop Stop, handler http.HandlerFunc) *stopping {
	t.Helper()
	s := &stopping{left: make(chan struct{}), ended: make(chan error, 1)}
	stop.Leave = func() { close(s.left) }
	s.started = start(t, Config{Handler: handler, Stop: stop})
	return s
}

func (s *stopping) begin() { go func() { s.ended <- s.stop() }() }

func here(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }

// long is longer than any test.
const long = time.Hour

func TestStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"during the delay it serves old and new connections, and says that it stops":     servesDuringTheDelay,
		"a connection that is idle when nothing new is taken any more is still answered": answersIdleConnections,
		"silent connections are closed": closesSilentConnections,
		"a request under way is answered to its end, and the answer says that the server stops": answersRequestsUnderWay,
		"an answer without a body says that the server stops":                                   tellsWithoutABody,
		"what takes too long is cut off, and its handler has ended with the server":             cutsOffWhatTakesTooLong,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func servesDuringTheDelay(t *testing.T) {
	s := startStopping(t, Stop{Delay: 10 * time.Second, Drain: long}, here) // in which a busy machine may stand still
	old := dial(t, s.address)
	old.ask()
	if old.answer() {
		t.Error("it says that it stops too early")
	}
	s.begin()
	for said := false; !said; { // as soon as it knows
		w := dial(t, s.address)
		w.ask()
		said = w.answer()
	}
	old.ask()
	if !old.answer() {
		t.Error("an old connection is not told")
	}
	old.ended()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func answersIdleConnections(t *testing.T) {
	s := startStopping(t, Stop{Quiet: long, Drain: long}, here)
	idle, fresh := dial(t, s.address), dial(t, s.address)
	idle.ask()
	idle.answer()
	s.begin()
	<-s.left
	for _, w := range []*wire{idle, fresh} {
		w.ask()
		if !w.answer() {
			t.Error("an answer does not say that the server stops")
		}
		w.ended()
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func closesSilentConnections(t *testing.T) {
	s := startStopping(t, Stop{Quiet: time.Millisecond, Drain: long}, here)
	idle, fresh := dial(t, s.address), dial(t, s.address)
	idle.ask()
	idle.answer()
	s.begin()
	<-s.left
	for _, w := range []*wire{idle, fresh} {
		w.farewell()
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func answersRequestsUnderWay(t *testing.T) {
	reached := make(chan struct{})
	var s *stopping
	s = startStopping(t, Stop{Drain: long}, func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-s.left
		here(w, r)
	})
	w := dial(t, s.address)
	w.ask()
	<-reached
	s.begin()
	if !w.answer() {
		t.Error("the answer does not say that the server stops")
	}
	w.ended()
	<-s.ended
}

func tellsWithoutABody(t *testing.T) {
	s := startStopping(t, Stop{Quiet: long, Drain: long}, func(http.ResponseWriter, *http.Request) {})
	w := dial(t, s.address)
	s.begin()
	<-s.left
	w.ask()
	if !w.answer() {
		t.Error("it does not")
	}
	<-s.ended
}

func cutsOffWhatTakesTooLong(t *testing.T) {
	reached, handled := make(chan struct{}), make(chan struct{})
	s := startStopping(t, Stop{Drain: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		defer close(handled)
		close(reached)
		<-r.Context().Done()
	})
	w := dial(t, s.address)
	w.ask()
	<-reached
	s.begin()
	<-s.ended
	<-handled
	if _, err := http.ReadResponse(w.from, nil); err == nil {
		t.Error("it was answered")
	}
}

// gated is a listener that accepts nothing until a channel is closed.
type gated struct {
	*net.TCPListener
	gate chan struct{}
}

func (g gated) Accept() (net.Conn, error) {
	<-g.gate
	return g.TCPListener.Accept()
}

// The system resets what waits to be accepted when a listener is closed. It must not come to that.
func TestAConnectionThatWaitsToBeAcceptedIsAnswered(t *testing.T) {
	t.Parallel()
	const most = 2 * time.Second // of the five that accepting the last ones may take
	undisturbed(t, most, func() error { return answersWhoWaits(t) })
}

func answersWhoWaits(t *testing.T) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := gated{l.(*net.TCPListener), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	left, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Serve(ctx, g, Config{
			Name: "test", Handler: http.HandlerFunc(here), Logger: slog.New(slog.DiscardHandler),
			Stop: Stop{Drain: long, Leave: func() { close(left) }},
		})
	}()
	w := dial(t, l.Addr().String())
	w.ask()
	cancel()
	<-left
	for { // until no connection is made
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	close(g.gate)
	answer, err := http.ReadResponse(w.from, nil)
	if err == nil && answer.Header.Get(StoppingHeader) == "" {
		err = errors.New("the answer does not say that the server stops")
	}
	return errors.Join(err, <-ended)
}

// hasArrived says whether there is something to be read from a connection.
func hasArrived(t *testing.T, c net.Conn) (arrived bool) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		arrived = err == nil && n > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return arrived
}

func TestARetiredConnectionReadsWhatHasArrived(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := dial(t, l.Addr().String())
	accepted, err := watchedListener{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	open := &watch{all: map[*watched]struct{}{}}
	open.changed(accepted, http.StateNew)
	if open.retire(long); accepted.(*watched).retired {
		t.Error("it is retired too early")
	}
	open.retire(0)
	client.ask()
	await(t, "the system has delivered it", func() bool { return hasArrived(t, accepted.(*watched).Conn) })
	header := make([]byte, 100)
	if n, err := accepted.Read(header); err != nil || n == 0 {
		t.Errorf("what has arrived is not read: %d bytes, %v", n, err)
	}
	open.changed(accepted, http.StateActive)
	open.retire(0)
	open.changed(accepted, http.StateIdle)
	open.retire(0)
	ended := make(chan error, 1)
	go func() {
		_, err := accepted.Read(header)
		ended <- err
	}()
	client.farewell()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("nothing has arrived, and the read ends with %v", err)
	}
}

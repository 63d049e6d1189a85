package httpserve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// StoppingHeader is on every answer of a server that is stopping: clients that choose between servers go elsewhere.
const StoppingHeader = "Drainmark-Stopping"

// Stop is how a server ends, so that no client meets a connection that is closed on its request:
//
//  1. It goes on serving for Delay. Its answers say that it is stopping, and that their connection is not used again.
//  2. Leave is called.
//  3. It takes no new connections, and accepts those that clients have already made.
//  4. It closes what has been silent for Quiet, after a farewell, and waits for the rest, for at most Drain. With HTTP/2
//     the farewell is a GOAWAY, after which clients know what was not received.
//  5. It cuts off what is left.
//
// http.Server.Shutdown does none of that: it drops a request whose header has just been read, and closes idle
// connections while requests are arriving on them.
type Stop struct {
	Delay time.Duration
	Quiet time.Duration
	Drain time.Duration
	Leave func() // ends what would last for as long as the client likes: event streams, waits. nil for nothing
}

const (
	// cutTime is how long handlers get to notice that their connection was cut off.
	cutTime = time.Second
	// drainTick is how often the connections are looked at while a server ends.
	drainTick = 10 * time.Millisecond
)

// Listen opens an address for a server that is to end as Stop says. It is plain TCP: Go would make it multipath TCP,
// whose sockets take no filter (operation not supported), and without one connections are reset that begin when the
// listener is closed.
func Listen(network, address string) (net.Listener, error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	return plain.Listen(context.Background(), network, address)
}

// stop ends a server in the order that Stop describes.
func (s *server) stop(ctx context.Context, listener net.Listener) {
	ctx, how := context.WithoutCancel(ctx), s.ending
	s.stopping.Store(true)
	if how.Delay > 0 {
		<-time.After(how.Delay)
	}
	if how.Leave != nil {
		how.Leave()
	}
	if how.Drain > 0 {
		refuse(ctx, listener)
	}
	_ = listener.Close() // if it fails, what accepts has ended before
	<-s.served
	s.drain(ctx, how.Drain, how.Quiet)
	s.cut.Store(true)
	s.close()
	s.drain(ctx, cutTime, 0)
}

// drain closes connections that have been quiet for so long, has those with HTTP/2 end after as long, and returns when
// there are none left, or time is over.
func (s *server) drain(ctx context.Context, limit, quiet time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for began := time.Now(); ; {
		if time.Since(began) >= quiet {
			s.leaveStreams()
		}
		if s.watch.retire(quiet) == 0 && s.streaming.Load() == 0 && s.streams.Load() == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// stoppable makes answers say that the server is stopping, if it is when they begin.
func (s *server) stoppable(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		w := &stopWriter{ResponseWriter: to, stopping: &s.stopping}
		handler.ServeHTTP(w, r)
		w.begin() // of an answer that has no body, and no status of its own
	})
}

type stopWriter struct {
	http.ResponseWriter
	stopping *atomic.Bool
	begun    bool
}

func (w *stopWriter) begin() {
	if !w.begun && w.stopping.Load() {
		w.Header().Set("Connection", "close")
		w.Header().Set(StoppingHeader, "true")
	}
	w.begun = true
}

func (w *stopWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *stopWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (w *stopWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *stopWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// watch has a server's connections, to end them at the right moment. Its methods may be called concurrently.
type watch struct {
	mu  sync.Mutex
	all map[*watched]struct{}
}

// watchedListener accepts connections that can be watched.
type watchedListener struct{ net.Listener }

func (l watchedListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watched{Conn: accepted, idle: true, since: time.Now()}, nil
}

// changed is told by net/http what a connection is about.
func (s *watch) changed(of net.Conn, state http.ConnState) {
	c, ok := of.(*watched)
	if !ok {
		return
	}
	switch state {
	case http.StateNew:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all[c] = struct{}{}
	case http.StateActive:
		c.set(false)
	case http.StateIdle:
		c.set(true)
	case http.StateClosed, http.StateHijacked:
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, c)
	}
}

// retire has connections closed that have been quiet for so long, and returns how many there still are.
func (s *watch) retire(quiet time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		c.retire(quiet)
	}
	return len(s.all)
}

// watched is a connection that knows whether a request may be on its way to it.
type watched struct {
	net.Conn

	mu      sync.Mutex
	idle    bool      // no request is under way
	since   time.Time // when that began
	heard   bool      // something has come since
	retired bool
}

func (c *watched) set(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.since, c.heard = idle, time.Now(), false
}

// retire ends the connection's next read, unless something comes or has come.
func (c *watched) retire(quiet time.Duration) {
	if secure, ok := c.Conn.(*secureConn); ok && secure.raw.shaking.Load() {
		return // a request follows
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle && !c.heard && time.Since(c.since) >= quiet {
		c.retired = true
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // a connection that has no deadlines is cut off later
	}
}

// Read reads once more before a retired connection is closed: a request that has arrived meanwhile is answered.
func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n, err, ended := c.read(n, err, p); !ended {
		return n, err
	}
	c.farewell()
	return 0, io.EOF
}

// read notes what was read. ended says that a retired connection has been silent to the last.
func (c *watched) read(n int, err error, p []byte) (_ int, _ error, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		_ = c.Conn.SetReadDeadline(time.Now().Add(headerTime)) // for the rest of the header, if it has begun
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			n, err = readArrived(c.Conn, p)
			ended = err == io.EOF
		}
		c.retired = false
	}
	c.heard = c.heard || n > 0 || ended // it must not be retired twice
	return n, err, ended
}

// readArrived reads what has arrived, and returns io.EOF if that is nothing.
func readArrived(c net.Conn, p []byte) (int, error) {
	if secure, ok := c.(*secureConn); ok {
		return secure.readNow(p)
	}
	return readNow(c, p)
}

// farewellText is what a client reads whose request was sent when its connection was being closed. 408 is the status for
// that (RFC 9110, 15.5.9): the request was not received, and may be repeated. Browsers do that by themselves.
var farewellText = func() string {
	const body = `{"type":"urn:drainmark:problem:unavailable","title":"It is not available now","status":408,` +
		`"detail":"the server is stopping and has not received the request: nothing was done"}` + "\n"
	return fmt.Sprintf("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n%s: true\r\nRetry-After: 1\r\n"+
		"Content-Type: application/problem+json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"+
		"Content-Length: %d\r\n\r\n%s", StoppingHeader, len(body), body)
}()

// farewellTime is how long a client gets to close a connection after the farewell.
const farewellTime = time.Second

// farewell ends this side of the connection, and waits for the other. Without it a client whose request crosses the end
// would see its connection closed or reset, and could not know whether the request was received.
func (c *watched) farewell() {
	end := time.Now().Add(farewellTime)
	_ = c.Conn.SetDeadline(end) // one that has no deadlines has no clients that could be slow
	if _, err := io.WriteString(c.Conn, farewellText); err == nil && c.CloseWrite() == nil {
		drop(c.Conn, maxHeader)
	}
}

// CloseWrite ends this side of the connection.
func (c *watched) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

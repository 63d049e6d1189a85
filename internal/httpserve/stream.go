package httpserve

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Limits of HTTP/2, which comes with TLS. A request takes a place as a connection does, so that a client gets no more by
// sending many over one.
const (
	// MaxStreams is how many requests there may be at once on one connection.
	MaxStreams = 100
	// streamIdleTime is for a connection without a request. Unlike those of HTTP/1.1, these end in good order.
	streamIdleTime = time.Minute
	// These are how many bytes of bodies net/http takes in that no handler has asked for yet.
	streamWindow = 256 << 10
	connWindow   = 512 << 10
	// A client that does not answer a ping is gone.
	pingAfter = 30 * time.Second
	pingTime  = 15 * time.Second
)

// newStreamServer makes the server of connections on which clients want HTTP/2. Their TLS is done already.
func (s *server) newStreamServer(like *http.Server) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: like.Handler, Protocols: protocols, ReadHeaderTimeout: headerTime, IdleTimeout: streamIdleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: like.ErrorLog, ConnContext: withConn,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: MaxStreams, MaxReceiveBufferPerConnection: connWindow, MaxReceiveBufferPerStream: streamWindow,
			MaxReadFrameSize: 16 << 10, SendPingTimeout: pingAfter, PingTimeout: pingTime,
		},
	}
}

// handed is a listener for connections that somebody else has accepted.
type handed struct {
	net.Listener // for its address
	conns        chan net.Conn
	closed       chan struct{}
	once         sync.Once
}

func newHanded(from net.Listener) *handed {
	return &handed{Listener: from, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// stream has a connection served with HTTP/2.
func (s *server) stream(c *conn) {
	s.streaming.Add(1)
	select {
	case s.handed.conns <- c:
	case <-s.handed.closed:
		_ = c.Close()
	}
}

// leaveStreams tells the clients of HTTP/2 to send nothing more on their connections, once no connection can join
// them. Requests under way are answered, and the connections then end. It may be called again, for those that had not
// yet begun.
func (s *server) leaveStreams() {
	if s.handed == nil || s.shaking.Load() > 0 {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.http2.Shutdown(over) // it says so, and does not wait
}

// readFrames takes in what was read. It bounds for how long a frame or a request's header may be incomplete, and returns
// false if there is no room for it.
func (c *conn) readFrames(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	incomplete := c.frames.scan(p)
	switch {
	case incomplete && !c.inFrame:
		_ = c.Conn.SetReadDeadline(time.Now().Add(headerTime))
	case !incomplete && c.inFrame:
		_ = c.Conn.SetReadDeadline(time.Time{})
	}
	c.inFrame = incomplete
	more := c.frames.held - c.held
	c.held += more
	return c.server.headers.Add(more) <= c.server.headerBytes || more <= 0
}

// admitStream counts a request in, unless there are too many.
func (s *server) admitStream() bool {
	if !s.admit() {
		s.metrics.refusedStreams.Inc()
		s.refusing.Log("limit", forConnections, "open", s.open.Load(), "most", s.connections)
		return false
	}
	s.streams.Add(1)
	return true
}

// endStream counts a request out.
func (s *server) endStream() {
	s.streams.Add(-1)
	s.closed()
}

// streamExchange is what a request needs that came by HTTP/2, in one allocation.
type streamExchange struct {
	request http.Request
	body    body
	writer  streamWriter
}

// serveStream serves a request that came by HTTP/2. What is left of its body when the handler returns, the client is
// told not to send, and other requests of the connection have nothing to do with it.
func serveStream(next http.Handler, w http.ResponseWriter, r *http.Request, c *conn, bodyTime time.Duration) {
	if c != nil {
		if !c.server.admitStream() {
			refuseStream(w)
			return
		}
		defer c.server.endStream()
	}
	control := http.NewResponseController(w)
	var e streamExchange
	e.writer = streamWriter{ResponseWriter: w, control: control}
	defer e.writer.bound() // for what net/http still has to write
	if r.ContentLength == 0 {
		next.ServeHTTP(&e.writer, r)
		return
	}
	e.body = body{from: r.Body, control: control, began: time.Now(), limit: bodyTime, length: r.ContentLength}
	e.request = *r // the server's own must not be changed
	e.request.Body = &e.body
	defer e.body.finish(false) // also while somebody still reads
	next.ServeHTTP(&e.writer, &e.request)
}

// refuseStream answers a request for which there is no room.
func refuseStream(w http.ResponseWriter) {
	p := tooMany("all connections of this server are in use: a request over HTTP/2 counts as one")
	body := p.json()
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", "1")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // if it fails there is nobody to tell
}

// streamWriter is the ResponseWriter of a request that came by HTTP/2. It bounds each write, as conn does with
// HTTP/1.1. net/http would end a request whose deadline passes while nothing is written.
type streamWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	due     time.Time // until when writes must be done, if the handler has said so
}

// SetWriteDeadline is for http.ResponseController.
func (w *streamWriter) SetWriteDeadline(t time.Time) error {
	w.due = t
	return nil
}

// bound sets the deadline of a write.
func (w *streamWriter) bound() {
	due := w.due
	if due.IsZero() {
		due = time.Now().Add(writeTime)
	}
	_ = w.control.SetWriteDeadline(due) // what has none is not a connection
}

// unbound takes it back.
func (w *streamWriter) unbound() { _ = w.control.SetWriteDeadline(time.Time{}) }

func (w *streamWriter) Write(p []byte) (int, error) {
	w.bound()
	defer w.unbound()
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (w *streamWriter) FlushError() error {
	w.bound()
	defer w.unbound()
	return w.control.Flush()
}

// Unwrap is for http.ResponseController.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package httpserve

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// writeTime is how long a client may take to accept one write, unless the handler has said another time.
const writeTime = 10 * time.Second

// A connection whose client may still be sending when it is closed is read on for a while after the answer, and input
// is dropped. Closed at once, the client's system would be told to forget the answer too: many clients send all of a
// request before they read. The times are nginx's (lingering_time, lingering_timeout).
const (
	lingerTime    = 30 * time.Second       // at most
	lingerSilence = 5 * time.Second        // without a byte
	lingerLate    = 100 * time.Millisecond // its end is noticed at most, unless this process stands still
	lingerBytes   = 64 << 20
)

// connKey is that of a request's connection in its context.
type connKey struct{}

// conn is one connection of a server. Its methods may be called concurrently.
type conn struct {
	net.Conn
	server  *server
	home    netip.Addr // for which the connection is counted, if it is
	reserve *reserve   // is refilled when the connection is closed, nil for none

	secure *secureConn          // nil without TLS, and with HTTP/2
	begun  bool                 // the handshake was begun; only net/http's goroutine that reads has to do with it
	state  *tls.ConnectionState // nil without TLS; set before the first request
	shook  atomic.Bool          // the handshake is over, or will not be
	moved  atomic.Bool          // HTTP/2 is spoken on it, and another conn has it

	idle    atomic.Bool // there is no request
	deaf    atomic.Bool // nothing more is read from the client by net/http
	lingers atomic.Bool // the client may still be sending when the connection is closed
	timed   atomic.Bool // the handler has said until when writes must be done
	closing atomic.Bool

	mu       sync.Mutex
	inHeader bool // a request's header is read, or waited for
	header   headerScan
	held     int64 // bytes of header that are charged to the server

	frames  *frameScan // nil for HTTP/1.1
	inFrame bool       // a frame, or a request's header, is not complete
}

// endHeader notes that the header was read and the request has a handler now. It says whether the request's length was
// told in two ways, or cannot be known: the header of a chunked request came together with the request before it, which
// no client does that waits for answers.
func (c *conn) endHeader(r *http.Request) (ambiguous bool) {
	if c == nil || c.frames != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetHeader()
	return len(r.TransferEncoding) > 0 && (c.header.length || !c.header.coding)
}

// forgetHeader takes the header back from the server's account. Called with mu held.
func (c *conn) forgetHeader() {
	c.inHeader = false
	c.server.headers.Add(-c.held)
	c.held = 0
}

// readHeader takes in what was read while a header was waited for. It returns false if there is no room for it.
func (c *conn) readHeader(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inHeader {
		return true
	}
	c.header.scan(p)
	c.held += int64(len(p))
	return c.server.headers.Add(int64(len(p))) <= c.server.headerBytes
}

// endReading has net/http read nothing more, so that what follows is never taken for a request. If lingers is set,
// input from the client is dropped for a while when the connection is closed.
func (c *conn) endReading(lingers bool) {
	if c == nil {
		return
	}
	c.lingers.Store(lingers)
	c.deaf.Store(true)
}

// changed is told by net/http what the connection is about.
func (c *conn) changed(state http.ConnState) {
	switch state {
	case http.StateIdle:
		c.mu.Lock()
		c.header, c.inHeader = headerScan{}, true
		c.mu.Unlock()
		c.idle.Store(true)
	case http.StateActive:
		c.idle.Store(false)
	}
}

func (c *conn) Read(p []byte) (int, error) {
	if c.deaf.Load() {
		return 0, net.ErrClosed // io.EOF, net/http would take for the end of the body
	}
	if c.secure != nil && c.begin() != nil {
		return 0, io.EOF // to which net/http says nothing
	}
	n, err := c.Conn.Read(p)
	if c.frames != nil {
		if n > 0 && !c.readFrames(p[:n]) {
			c.server.refused(forHeaders)
			return 0, io.EOF
		}
		return n, err
	}
	if n > 0 && !c.readHeader(p[:n]) {
		c.server.refused(forHeaders)
		_, _ = c.Write(tooMany("the headers of requests under way hold their limit in bytes").raw())
		c.endReading(true)
		return 0, io.EOF // to which net/http says nothing
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if !c.timed.Load() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(writeTime))
	}
	c.mu.Lock()
	if c.inHeader { // net/http refuses the request, and more may be coming
		c.lingers.Store(true)
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// SetWriteDeadline is called by handlers, and by net/http to take back what they said.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.timed.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

// SetReadDeadline gives a connection that waits for a request less time while there are many.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.frames != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.inFrame && t.IsZero() { // by net/http, which sets none itself
			return nil
		}
		return c.Conn.SetReadDeadline(t)
	}
	if c.idle.Load() && c.server.crowded() {
		if soon := time.Now().Add(crowdedIdleTime); t.IsZero() || t.After(soon) {
			t = soon
		}
	}
	return c.Conn.SetReadDeadline(t)
}

// CloseWrite is called by net/http when it has refused a request that may have more to come.
func (c *conn) CloseWrite() error {
	c.lingers.Store(true)
	c.linger()
	return nil
}

// Close closes the connection, after lingering if need be. When it is called again meanwhile, it does so at once.
func (c *conn) Close() error {
	if c.moved.Load() {
		return nil
	}
	if c.closing.Swap(true) {
		return c.Conn.Close()
	}
	c.shaken()
	c.linger()
	c.mu.Lock()
	c.forgetHeader()
	c.mu.Unlock()
	c.server.closed()
	c.server.addresses.leave(c.home)
	err := c.Conn.Close()
	if c.frames != nil {
		c.server.streaming.Add(-1)
	}
	if c.reserve != nil {
		c.reserve.refill()
	}
	return err
}

// linger ends the writing side, and reads and drops input until the client does the same, for a bounded time.
func (c *conn) linger() {
	if !c.lingers.Swap(false) || c.server.cut.Load() {
		return
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.deaf.Store(true)
	end := time.Now().Add(lingerTime)
	buffer := dropBuffers.Get().(*[dropBuffer]byte)
	defer dropBuffers.Put(buffer)
	for left := lingerBytes; left > 0 && !c.server.cut.Load(); {
		next := time.Now().Add(lingerSilence)
		if next.After(end) {
			next = end
		}
		_ = c.Conn.SetReadDeadline(next)
		n, err := c.Conn.Read(buffer[:])
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(next) > lingerLate && time.Now().Before(end) {
			continue // this process has stood still, which says nothing of the client
		}
		if err != nil {
			return
		}
		left -= n
	}
}

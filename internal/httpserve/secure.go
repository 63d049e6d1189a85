package httpserve

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// secureListener puts TLS on the connections of a listener. The handshake comes with the first byte that is read.
type secureListener struct {
	net.Listener
	server *server
}

func (l secureListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw := &cipherConn{Conn: accepted, server: l.server}
	config := l.server.tls()
	return &secureConn{Conn: tls.Server(raw, config), raw: raw, config: config, server: l.server}, nil
}

// secureConn is a connection with TLS.
type secureConn struct {
	*tls.Conn
	raw    *cipherConn
	config *tls.Config
	server *server
}

// handshake does the handshake, for which the caller has set a deadline, and says what came of it.
func (c *secureConn) handshake() (tls.ConnectionState, error) {
	_ = c.raw.SetWriteDeadline(time.Now().Add(headerTime))
	c.raw.counts = true
	err := c.Handshake()
	c.raw.counts = false
	c.raw.shaking.Store(false)
	c.server.headers.Add(-c.raw.held)
	if err != nil {
		c.server.unsecured(c, err)
		return tls.ConnectionState{}, err
	}
	return c.ConnectionState(), nil
}

// onlyHTTP1 has the client choose HTTP/1.1, or nothing, before the handshake.
func (c *secureConn) onlyHTTP1() {
	config := c.config.Clone()
	config.NextProtos = []string{"http/1.1"}
	c.Conn = tls.Server(c.raw, config)
}

// CloseWrite ends this side of the connection, for clients that look at TLS and for those that look at TCP.
func (c *secureConn) CloseWrite() error {
	if err := c.Conn.CloseWrite(); err != nil {
		return err
	}
	half, ok := c.raw.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// Close says goodbye to the client, for which tls.Conn takes up to 5 s, unless nobody is waited for any more.
func (c *secureConn) Close() error {
	if c.server.cut.Load() {
		return c.raw.Close()
	}
	return c.Conn.Close()
}

// readNow is readNow for what is in the connection. It returns nothing, and no error, if that is only a part.
func (c *secureConn) readNow(p []byte) (int, error) {
	c.raw.only, c.raw.heard = true, false
	n, err := c.Read(p)
	c.raw.only = false
	switch {
	case n > 0:
		return n, nil
	case c.raw.heard && errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil
	}
	return 0, io.EOF
}

// cipherConn is what a TLS connection reads from and writes to. Only the goroutine that reads may change its fields.
type cipherConn struct {
	net.Conn
	server *server
	counts bool  // what is read is charged to the server, as headers are: a client's certificates are as large
	held   int64 // bytes that are charged
	only   bool  // only what has arrived is read
	heard  bool  // something had

	shaking atomic.Bool // the handshake has begun, and is not over
}

var errHandshakes = errors.New("the handshakes and headers under way hold their limit in bytes")

func (c *cipherConn) Read(p []byte) (n int, err error) {
	if c.only {
		if n, err = readNow(c.Conn, p); err != nil {
			return 0, os.ErrDeadlineExceeded // after which TLS can go on
		}
	} else {
		n, err = c.Conn.Read(p)
	}
	c.heard = c.heard || n > 0
	if c.counts {
		c.shaking.Store(true)
		c.held += int64(n)
		if c.server.headers.Add(int64(n)) > c.server.headerBytes {
			c.server.refused(forHeaders)
			return 0, errHandshakes
		}
	}
	return n, err
}

// unsecured notes that a handshake has failed. A client that does not speak TLS is told.
func (s *server) unsecured(c *secureConn, err error) {
	if s.stopping.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return // see watched.retire
	}
	s.metrics.unsecured.Inc()
	if !errors.Is(err, io.EOF) { // a look whether somebody listens
		s.handshakes.Log("error", err, "client", c.RemoteAddr().String())
	}
	if plain := (tls.RecordHeaderError{}); errors.As(err, &plain) && plain.Conn != nil {
		c.raw.speakPlainly()
	}
}

// speakPlainly tells a client that does not speak TLS that it should.
func (c *cipherConn) speakPlainly() {
	_ = c.SetDeadline(time.Now().Add(refusalTime))
	_, err := c.Write(refusal{
		"urn:drainmark:problem:invalid", "The request is malformed or out of range", http.StatusBadRequest,
		"this address speaks TLS: use https://",
	}.raw())
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		drop(c.Conn, maxHeader)
	}
}

// begin does the handshake of a connection that has not been read from. A connection on which the client wants HTTP/2
// then goes to the server for that, and this one is over.
func (c *conn) begin() error {
	if c.begun {
		return nil
	}
	c.begun = true
	defer c.shaken()
	state, err := c.secure.handshake()
	if err != nil {
		return err
	}
	c.state = &state
	if state.NegotiatedProtocol != "h2" {
		if w, ok := c.Conn.(*watched); ok {
			w.set(true) // as if it had begun now
		}
		return nil
	}
	c.moved.Store(true)
	c.server.stream(&conn{Conn: c.secure, server: c.server, reserve: c.reserve, state: c.state, begun: true, frames: newFrameScan()})
	return io.EOF // to which net/http says nothing
}

// shaken notes that the connection's handshake is over.
func (c *conn) shaken() {
	if c.secure != nil && !c.shook.Swap(true) {
		c.server.shaking.Add(-1)
	}
}

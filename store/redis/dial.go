package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/drainmark/drainmark/internal/probe"
	"github.com/drainmark/drainmark/store"
)

// The library has one log for the whole process, on the standard error, with the servers' addresses in it. All that it
// says there is also in the errors that it returns.
func init() { logging.Disable() }

// dialTimeout is for how long a connection may take to come about.
const dialTimeout = 5 * time.Second

// credentials are what a server asks for.
type credentials struct{ user, password string }

// lifetime is for how long there are connections. Its end cuts all of them, which ends what is under way on them: the
// library itself looks at a context's deadline, but not at its end. Its methods may be called concurrently.
type lifetime struct {
	ctx    context.Context // has ended when the lifetime has
	cancel context.CancelFunc
	mu     sync.Mutex
	under  sync.WaitGroup // what is under way
}

func newLifetime(ctx context.Context) *lifetime {
	l := &lifetime{}
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l
}

// begin says whether something can still begin, which must then call under.Done at its end.
func (l *lifetime) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.under.Add(1)
	return true
}

// end cuts the connections and returns when nothing is under way.
func (l *lifetime) end() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.under.Wait()
}

// endpoint is a server, or the present master, and how to get in.
type endpoint struct {
	find func(ctx context.Context) (address string, err error) // is asked for every connection
	tls  *tls.Config                                           // nil for none
	who  func() credentials                                    // is asked for every connection
	db   int
}

// fixed returns an endpoint's find for a server that is always the same.
func fixed(address string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return address, nil }
}

// options returns the settings of a client with so many connections, which are cut when the lifetime ends. Nothing is
// ever tried twice: a commit that is done twice would be told that it is fenced. Version 2 of the protocol, and no
// identity, because whatever is sent besides would need a permission of its own. Pipelines have no pool of their own
// because they belong on the connection that the call holds.
func (e endpoint) options(life *lifetime, connections int, timeout time.Duration) *goredis.Options {
	var at atomic.Pointer[string] // where the newest connection leads
	return &goredis.Options{
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx, life, timeout, &at), nil },
		// The endpoint's find has its own limit.
		DialTimeout: sentinelTimeout + dialTimeout,
		OnConnect:   func(ctx context.Context, c *goredis.Conn) error { return e.greet(ctx, c, &at) },
		Protocol:    2, DisableIdentity: true, MaxRetries: -1,
		ReadTimeout: timeout, WriteTimeout: timeout, ContextTimeoutEnabled: true,
		PoolSize: connections, PoolTimeout: timeout, PipelinePoolSize: -1,
	}
}

// dial connects to the server. If it cannot be, the connection that it returns fails with the reason at first use:
// after some errors of its dialer the library would fail every call and go on trying by itself, also after its Close.
func (e endpoint) dial(ctx context.Context, life *lifetime, timeout time.Duration, at *atomic.Pointer[string]) net.Conn {
	if !life.begin() {
		return unconnected{store.ErrClosed}
	}
	defer life.under.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life.ctx, cancel)()
	address, err := e.find(ctx)
	if err != nil {
		return unconnected{&connectError{"looking for the server", err}}
	}
	at.Store(&address)
	limit := min(timeout, dialTimeout)
	limited, cancelLimit := context.WithTimeout(ctx, limit)
	defer cancelLimit()
	c, err := connect(limited, life, address, e.tls)
	if err != nil {
		return unconnected{&connectError{"connecting to " + address, overdue(ctx, err, limit)}}
	}
	return c
}

func connect(ctx context.Context, life *lifetime, address string, t *tls.Config) (net.Conn, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, unwrapDial(err)
	}
	wire := &wire{ctx: life.ctx, address: address}
	wire.keep = context.AfterFunc(life.ctx, func() { _ = raw.Close() })
	if t == nil {
		return &plainConn{raw.(*net.TCPConn), wire}, nil // "tcp" is nothing else
	}
	wire.tls = tlsFor(t, address)
	secure := tls.Client(raw, wire.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		wire.keep()
		_ = raw.Close()
		return nil, fmt.Errorf("TLS: %w", explainTLS(life.ctx, err, address))
	}
	return &secureConn{secure, wire}, nil
}

// wire is what the connections have in common. A lifetime cuts them until they are closed. If the first answer is none of
// a Redis, or does not come, the error of reading says what answers there.
type wire struct {
	keep     func() bool
	ctx      context.Context // the lifetime's
	address  string
	tls      *tls.Config // nil for none
	answered bool        // something of a Redis has come
}

// read takes what reading brought.
func (w *wire) read(b []byte, n int, err error) (int, error) {
	if w.answered {
		return n, err
	}
	if n > 0 {
		if w.answered = speaksRedis(string(b[:n])); w.answered {
			return n, err
		}
		return 0, &connectError{"connecting to " + w.address, wrongPort(string(b[:n]))}
	}
	return n, w.failed(err)
}

// failed returns what is wrong, if that shows, in place of an error before anything has come.
func (w *wire) failed(err error) error {
	if err == nil || w.answered {
		return err
	}
	if wrong := w.explain(err); wrong != nil {
		return &connectError{"connecting to " + w.address, wrong}
	}
	return err
}

// explain says what is wrong with a server that ended the connection before it had answered, or nil.
func (w *wire) explain(err error) error {
	if refused := refusedTLS(err); refused != nil {
		return refused
	}
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case !hungUp:
		return nil
	case w.tls != nil:
		return refusedTLS(w.beforeTLS13())
	}
	return wrongPort(probe.TLS(w.ctx, w.address))
}

// beforeTLS13 has the server judge our certificate before the handshake ends. With TLS 1.3 it hangs up after that, and its
// reason is lost if we have sent something meanwhile.
func (w *wire) beforeTLS13() error {
	ctx, cancel := context.WithTimeout(w.ctx, dialTimeout)
	defer cancel()
	t := w.tls.Clone()
	t.MaxVersion = tls.VersionTLS12
	dialer := tls.Dialer{Config: t}
	c, err := dialer.DialContext(ctx, "tcp", w.address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// plainConn and secureConn are connections without TLS and with it. They are two types because the library looks into
// the socket of an idle connection for whether it is still good, but must not look below TLS.
type plainConn struct {
	*net.TCPConn
	*wire
}

type secureConn struct {
	*tls.Conn
	*wire
}

func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return c.wire.read(b, n, err)
}

func (c *secureConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return c.wire.read(b, n, err)
}

func (c *secureConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.wire.failed(err)
}

func (c *plainConn) Close() error {
	c.keep()
	return c.TCPConn.Close()
}

func (c *secureConn) Close() error {
	c.keep()
	return c.Conn.Close()
}

// unconnected stands for a connection that did not come about: whatever is done on it fails with the reason.
type unconnected struct{ err error }

func (u unconnected) Read([]byte) (int, error)         { return 0, u.err }
func (u unconnected) Write([]byte) (int, error)        { return 0, u.err }
func (u unconnected) SetDeadline(time.Time) error      { return nil }
func (u unconnected) SetReadDeadline(time.Time) error  { return nil }
func (u unconnected) SetWriteDeadline(time.Time) error { return nil }
func (u unconnected) Close() error                     { return nil }
func (u unconnected) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (u unconnected) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// connectError is why there is no connection. The library takes off what errors.Unwrap takes off: here that is nothing.
type connectError struct {
	doing string
	err   error
}

func (e *connectError) Error() string   { return e.doing + ": " + e.err.Error() }
func (e *connectError) Unwrap() []error { return []error{e.err} }

// greet says who we are, and chooses the database. The library would do both by itself, but with a HELLO, which takes
// any password where none is wanted, and which hides why it was refused. An error names the server at, because a
// connection of the library does not say where it leads. If a failover happens just then, it may name the new master.
func (e endpoint) greet(ctx context.Context, c *goredis.Conn, at *atomic.Pointer[string]) error {
	var err error
	switch who := e.who(); {
	case who.password == "":
	case who.user != "":
		err = explainAuth(fromServer(c.AuthACL(ctx, who.user, who.password).Err()))
	default:
		err = explainAuth(fromServer(c.Auth(ctx, who.password).Err()))
	}
	if err == nil && e.db > 0 {
		err = explainSelect(e.db, fromServer(c.Select(ctx, e.db).Err()))
	}
	if err == nil {
		err = ctx.Err() // the library would send what the caller no longer waits for
	}
	if address := at.Load(); err != nil && address != nil {
		return &connectError{"connecting to " + *address, err}
	}
	return err
}

// overdue returns err, or that a limit of our own has passed if that is why: the caller's context has not ended then.
func overdue(ctx context.Context, err error, limit time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%w: no answer within %v", ErrUnreachable, limit)
	}
	return err
}

// tlsFor returns the settings for one server, whose name is the one in its address unless another was given.
func tlsFor(t *tls.Config, address string) *tls.Config {
	if t.ServerName != "" {
		return t
	}
	t = t.Clone()
	t.ServerName, _, _ = net.SplitHostPort(address)
	return t
}

// unwrapDial leaves out what the message says already.
func unwrapDial(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

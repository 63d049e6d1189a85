package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// connection is a NATS connection that is made again for ever, and its state.
type connection struct {
	*nats.Conn
	js      natsjs.JetStream
	api     string // what the subjects of JetStream's API begin with: "$JS.API."
	logger  *slog.Logger
	trouble *loglimit.Limiter // what NATS, or the way to it, reports: of several servers each in turn

	ctx   context.Context // ends with close, because of broker.ErrClosed
	end   context.CancelCauseFunc
	up    chan struct{} // closed when it is connected for the first time
	ended chan struct{} // closed when all its goroutines have ended

	mu        sync.Mutex
	whole     context.Context // ends when the connection of now breaks, because of errInterrupted, and with ctx
	interrupt context.CancelCauseFunc
	reason    error                  // why it is not connected, or nil
	deaf      error                  // why no answer can come over the connection of now, or nil
	questions map[*question]struct{} // that NATS has not answered
}

// Why what waited for NATS does not wait any longer. The outcome is unknown.
var (
	errInterrupted = errors.New("the connection to NATS broke")
	errUnanswered  = errors.New("NATS did not answer in time")
)

const (
	reconnectWait   = 100 * time.Millisecond
	reconnectJitter = 100 * time.Millisecond
	pingInterval    = 10 * time.Second // two without an answer, and the connection counts as broken
	writeTimeout    = 5 * time.Second  // how long a peer may not read
)

// boundedConn is a connection on which every write ends in time. The client library flushes when it closes a connection, and
// a peer that does not read would hold it for ever.
type boundedConn struct{ net.Conn }

func (c boundedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// boundedDialer makes bounded connections.
type boundedDialer struct{ net.Dialer }

func (d boundedDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.Dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return boundedConn{conn}, nil
}

// connect returns at once. It shows later whether there is a connection.
func connect(logger *slog.Logger, servers, api string, options ...nats.Option) (*connection, error) {
	c := &connection{api: api + ".", logger: logger, trouble: loglimit.New(logger, slog.LevelWarn, "NATS reports an error"), up: make(chan struct{}), ended: make(chan struct{}), questions: map[*question]struct{}{}}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.whole, c.interrupt = context.WithCancelCause(c.ctx)
	nc, err := nats.Connect(servers, append([]nats.Option{
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval),
		nats.Timeout(firstConnect),
		nats.FlusherTimeout(writeTimeout),
		nats.SetCustomDialer(boundedDialer{net.Dialer{Timeout: firstConnect}}),
		// A publish without a connection must fail at once, and not be sent some day.
		nats.ReconnectBufSize(-1),
		// A wrong password can be put right on the server.
		nats.IgnoreAuthErrorAbort(),
		nats.ConnectHandler(c.connected),
		nats.ReconnectHandler(c.connected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.failed(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.ended) }),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	c.Conn = nc
	if c.js, err = natsjs.NewWithAPIPrefix(nc, c.api); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *connection) connected(nc *nats.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.up:
		c.logger.Info("connected to NATS again", "server", nc.ConnectedServerName())
	default:
		close(c.up)
	}
	c.reason = nil
}

func (c *connection) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, nats.ErrPermissionViolation) && c.denied(err) {
		return // they tell more
	}
	if err == nil || c.reason != nil && c.reason.Error() == err.Error() {
		return
	}
	c.reason = err
	c.trouble.Log("error", err)
}

func (c *connection) disconnected(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupt(errInterrupted)
	c.whole, c.interrupt = context.WithCancelCause(c.ctx)
	c.reason, c.deaf = err, nil
	if c.ctx.Err() == nil {
		c.logger.Warn("the connection to NATS is lost", "error", err)
	}
}

// now returns the context that lasts as long as the connection of now.
func (c *connection) now() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whole
}

// during returns a context for a question to NATS: it ends with ctx, and also when the time has passed, or when the
// connection of now breaks or is closed.
func (c *connection) during(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	whole := c.now()
	ctx, expire := context.WithTimeoutCause(ctx, timeout, errUnanswered)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(whole, func() { cancel(context.Cause(whole)) })
	return ctx, func() { stop(); cancel(nil); expire() }
}

// because returns err with the reason why the context is over, if that is what ended it.
func because(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil || cause == ctx.Err() || !errors.Is(err, ctx.Err()) {
		return err
	}
	if errors.Is(cause, broker.ErrMisconfigured) {
		return cause
	}
	return fmt.Errorf("%w: %v", cause, err)
}

// down returns nil while there is a connection, and otherwise broker.ErrNotSent with the reason.
func (c *connection) down() error {
	if c.IsConnected() {
		return nil
	}
	reason := c.LastError() // of a handshake, which nothing else tells once there was a connection
	if reason == nil {
		c.mu.Lock()
		reason = c.reason
		c.mu.Unlock()
	}
	if reason == nil {
		return broker.ErrNotSent
	}
	return fmt.Errorf("%w: %w", broker.ErrNotSent, explainConnect(reason))
}

// wait returns when the connection is up for the first time, or an error after that time.
func (c *connection) wait(ctx context.Context, most time.Duration) error {
	if c.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	select {
	case <-c.up:
		return nil
	case <-ctx.Done():
		return c.down()
	}
}

// close ends the connection and waits until its callbacks have ended.
func (c *connection) close() {
	c.end(broker.ErrClosed)
	c.Conn.Close()
	<-c.ended
}

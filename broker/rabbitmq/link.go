package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// link keeps the connection for publishing up: when it has ended, for whatever reason, another is made, with backoff and
// jitter. Each lane declares its queue on it before it publishes, so that a queue that cannot be declared stops no other.
type link struct {
	b *Broker

	mu      sync.Mutex
	current *session      // nil while there is none
	why     error         // why there is none, nil while it is not known yet
	changed chan struct{} // closed at each change
}

// keep makes one connection after the other until the broker is closed.
func (l *link) keep() {
	retry := backoff.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}
	lines := loglimit.New(l.b.config.Logger, slog.LevelWarn, "not connected to RabbitMQ; trying on")
	for l.b.ctx.Err() == nil {
		s, err := l.connect()
		if err == nil {
			l.set(s, nil)
			since := time.Now()
			err = s.watch(l.b.ctx)
			l.b.troubles.Note(s.host)
			if time.Since(since) > retry.Max {
				retry.Reset()
			}
		}
		l.set(nil, err)
		if l.b.ctx.Err() != nil {
			return
		}
		lines.Log("error", err)
		_ = retry.Wait(l.b.ctx)
	}
}

func (l *link) connect() (*session, error) {
	ctx, cancel := context.WithTimeout(l.b.ctx, connectTime*l.b.config.Timeout)
	defer cancel()
	return l.b.connect(ctx, "publishing")
}

// connectTime is how many answers of RabbitMQ may be waited for until a connection has been made, or has declared all
// queues.
const connectTime = 3

// leave cuts a connection over which nothing is confirmed, and has another host tried first: this one may be in the
// minority of a cluster that has come apart.
func (l *link) leave(s *session) {
	l.b.troubles.Note(s.host)
	l.b.config.Logger.Warn("RabbitMQ confirms nothing over this connection; it is cut, and another host is tried first",
		"host", s.host, "hosts", len(l.b.endpoints))
	s.cut()
}

func (l *link) set(s *session, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.why = s, why
	close(l.changed)
	l.changed = make(chan struct{})
}

// get returns the connection, or at once why there is none.
func (l *link) get() (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil || l.current.ended() {
		return nil, fmt.Errorf("%w: %w", broker.ErrNotSent, cmp.Or(l.why, errConnecting))
	}
	return l.current, nil
}

var errConnecting = errors.New("connecting")

// await returns the connection as soon as there is one. It gives up when ctx ends, and at once when somebody has to
// change something first.
func (l *link) await(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		s, why, changed := l.current, l.why, l.changed
		l.mu.Unlock()
		switch {
		case s != nil && !s.ended():
			return s, nil
		case errors.Is(why, broker.ErrMisconfigured):
			return nil, why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, cmp.Or(why, fmt.Errorf("connecting to RabbitMQ: %w", ctx.Err()))
		case <-l.b.ctx.Done():
			return nil, broker.ErrClosed
		}
	}
}

// session is one connection while it lasts.
type session struct {
	conn        *amqp.Connection
	raw         net.Conn
	host        string
	blocked     atomic.Pointer[string] // why RabbitMQ takes no publishes now, or nil
	unconfirmed atomic.Int64           // publishes that were given up since something was confirmed
}

// guard runs f, which talks to RabbitMQ and cannot be interrupted. If ctx ends meanwhile, RabbitMQ does not answer, and
// the connection is cut, which ends f.
func (s *session) guard(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.cut)
	err := f()
	if !stop() {
		return cmp.Or(ctx.Err(), err)
	}
	return err
}

// watch waits until the connection ends or ctx does, and then closes it.
func (s *session) watch(ctx context.Context) error {
	defer s.close()
	closed := s.conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := s.conn.NotifyBlocked(make(chan amqp.Blocking, 16))
	for {
		select {
		case err := <-closed:
			if err == nil {
				return errors.New("the connection was closed")
			}
			return err
		case b, open := <-blocked:
			switch {
			case !open:
				blocked = nil
			case b.Active:
				s.blocked.Store(&b.Reason)
			default:
				s.blocked.Store(nil)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) ended() bool { return s.conn.IsClosed() }

// full is the error of a publish while RabbitMQ takes none, because it is short of memory or disk.
func (s *session) full() error {
	if reason := s.blocked.Load(); reason != nil {
		full := broker.ErrFull
		if strings.Contains(*reason, "disk") {
			full = broker.ErrDiskFull
		}
		return fmt.Errorf("%w: RabbitMQ blocks publishers: %s", full, *reason)
	}
	return nil
}

// cut ends the connection without goodbye.
func (s *session) cut() { _ = s.raw.Close() }

// close ends the connection, within a second. It returns what is not acknowledged to the queues.
func (s *session) close() {
	_ = s.conn.CloseDeadline(time.Now().Add(time.Second))
	s.cut()
}

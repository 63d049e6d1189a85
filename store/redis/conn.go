package redis

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// The protocol is spoken here and not by a client library: a commit needs to be encoded once, sent once and never by
// itself again, to be cut off when its context ends, and to be followed by a WAIT on the same connection. ADR-draft.md
// says more.

// conn is one connection to one server. It is for one goroutine at a time.
type conn struct {
	net     net.Conn
	in      decoder
	broken  bool          // of no use any more
	timeout time.Duration // of a call whose context ends later
}

// credentials are what a server asks for.
type credentials struct{ user, password string }

// dial connects to a server, which must answer to be connected to.
func dial(ctx context.Context, address string, t *tls.Config, who credentials, db int, timeout time.Duration) (*conn, error) {
	limit := min(timeout, dialTimeout)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := open(limited, address, t, timeout)
	if err == nil {
		if err = c.greet(limited, who, db); err != nil {
			c.close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, overdue(ctx, err, limit))
	}
	return c, nil
}

func open(ctx context.Context, address string, t *tls.Config, timeout time.Duration) (*conn, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, unwrapDial(err)
	}
	if t != nil {
		secure := tls.Client(raw, tlsFor(t, address))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, fmt.Errorf("TLS: %w", explainTLS(err))
		}
		raw = secure
	}
	return &conn{net: raw, timeout: timeout, in: decoder{Reader: bufio.NewReaderSize(raw, 32<<10)}}, nil
}

// overdue returns err, or that a limit of our own has passed if that is why: the caller's context has not ended then.
func overdue(ctx context.Context, err error, limit time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%w: no answer within %v", ErrUnreachable, limit)
	}
	return err
}

// dialTimeout is for how long a connection may take to come about.
const dialTimeout = 5 * time.Second

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

// greet says who we are, and chooses the database.
func (c *conn) greet(ctx context.Context, who credentials, db int) error {
	if who.password != "" {
		r := &request{}
		if who.user != "" {
			r.command(3).add("AUTH", who.user, who.password)
		} else {
			r.command(2).add("AUTH", who.password)
		}
		if _, err := c.exchange(ctx, 1, r.buf); err != nil {
			return explainAuth(err)
		}
	}
	if db == 0 {
		return nil
	}
	_, err := c.exchange(ctx, 1, one("SELECT", fmt.Sprint(db)).buf)
	return explain(err)
}

// do sends one command and returns its reply.
func (c *conn) do(ctx context.Context, r *request) (reply, error) {
	replies, err := c.exchange(ctx, 1, r.buf)
	if err != nil {
		return reply{}, err
	}
	return replies[0], nil
}

// exchange sends commands and reads so many replies. The first *serverError among them is returned as the error, with
// all replies read. After any other error the connection is broken. It ends when ctx does.
func (c *conn) exchange(ctx context.Context, count int, parts ...[]byte) ([]reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.net.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		c.broken = true
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	buffers := net.Buffers(parts)
	_, err := buffers.WriteTo(c.net)
	if err != nil {
		c.broken = true
		err = fmt.Errorf("sending: %w", err)
	}
	var replies []reply
	if err == nil {
		replies, err = c.receive(count)
	}
	if !stop() {
		c.broken = true // the deadline is in the past, or is about to be
	}
	if err != nil && codeOf(err) == "" && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return replies, err
}

func (c *conn) receive(count int) ([]reply, error) {
	replies := make([]reply, 0, count)
	var failure error
	for range count {
		r, err := c.in.reply(0)
		if err != nil {
			var failed *serverError
			if !errors.As(err, &failed) {
				c.broken = true
				return nil, fmt.Errorf("waiting for the answer: %w", err)
			}
			if failure == nil {
				failure = err
			}
		}
		replies = append(replies, r)
	}
	return replies, failure
}

// transaction runs n commands, all on one state, and returns their replies.
func (c *conn) transaction(ctx context.Context, n int, commands *request) ([]reply, error) {
	replies, err := c.exchange(ctx, n+2, multi, commands.buf, exec)
	if err != nil {
		return nil, err
	}
	results := replies[n+1].list
	if len(results) != n {
		c.broken = true
		return nil, errMalformed
	}
	return results, nil
}

var multi, exec = one("MULTI").buf, one("EXEC").buf

func (c *conn) close() { _ = c.net.Close() }

package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark/store"
)

// client does calls on one server: the master, or the one that a Reader reads from. The connections are the library's.
// This client adds: a call returns when its context ends, all idle connections go when one turns out to lead to the
// wrong server or nowhere, and close waits for everything. Nothing is ever done twice. Its methods may be called
// concurrently.
type client struct {
	life    *lifetime
	connect func() *goredis.Client
	close   func() // cuts all connections, and returns when all calls have ended (a second call does nothing)

	mu      sync.Mutex
	current *generation
}

// generation is a library's client and the connections that it has. When it has been replaced it is closed by the last
// call that uses it: what is under way may still succeed.
type generation struct {
	*goredis.Client
	users int
}

// newClient makes a client that does so many calls at the same time as o says. Others wait for their turn.
func newClient(e endpoint, o Options) *client {
	c := &client{life: newLifetime(context.Background())}
	c.connect = func() *goredis.Client { return goredis.NewClient(e.options(c.life, o.Connections, o.Timeout)) }
	c.current = &generation{Client: c.connect()}
	c.close = sync.OnceFunc(func() {
		c.life.end()
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.current.Close()
	})
	return c
}

func (c *client) closed() bool { return c.life.ctx.Err() != nil }

func (c *client) take() *generation {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.users++
	return c.current
}

func (c *client) give(g *generation) {
	c.mu.Lock()
	g.users--
	last := g.users == 0 && g != c.current
	c.mu.Unlock()
	if last {
		_ = g.Close()
	}
}

// replace makes all connections of a generation go, so that the next call looks for the server anew.
func (c *client) replace(g *generation) {
	c.mu.Lock()
	old := g == c.current && !c.closed()
	if old {
		c.current = &generation{Client: c.connect()}
	}
	old = old && g.users == 0
	c.mu.Unlock()
	if old {
		_ = g.Close()
	}
}

// forget is replace for the connections that there are now.
func (c *client) forget() {
	c.mu.Lock()
	g := c.current
	c.mu.Unlock()
	c.replace(g)
}

// use runs do with a connection that is its own as long. The error says what was being done. When ctx ends it returns
// at once. do then goes on until the server has answered what was sent to it, or the time for that has passed, and its
// result is thrown away. So do must not write to what its maker goes on using.
func use[T any](ctx context.Context, c *client, doing string, do func(context.Context, conn) (T, error)) (T, error) {
	value, err := attempt(ctx, c, do)
	switch {
	case err == nil:
		return value, nil
	case c.closed() && codeOf(err) == "":
		err = store.ErrClosed
	default:
		err = explain(err)
	}
	var none T
	return none, fmt.Errorf("%s: %w", doing, err)
}

// outcome is what a call brought.
type outcome[T any] struct {
	value T
	err   error
}

func attempt[T any](ctx context.Context, c *client, do func(context.Context, conn) (T, error)) (value T, err error) {
	if err := ctx.Err(); err != nil {
		return value, err
	}
	if !c.life.begin() {
		return value, store.ErrClosed
	}
	g := c.take()
	ended := make(chan outcome[T], 1)
	go func() {
		defer c.life.under.Done()
		defer c.give(g)
		on := g.Conn()
		value, err := do(ctx, conn{on})
		_ = on.Close() // it goes back to the others
		err = endOf(ctx, err)
		c.judge(g, err)
		ended <- outcome[T]{value, err}
	}()
	select {
	case o := <-ended:
		return o.value, o.err
	case <-ctx.Done():
		c.judge(g, ctx.Err())
		return value, ctx.Err()
	}
}

// endOf returns the error of a context that has ended, if that is why a call failed. A connection's deadline can be a
// little earlier than the context's end.
func endOf(ctx context.Context, err error) error {
	if err == nil || codeOf(err) != "" || domestic(err) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return err
}

// judge replaces a generation if a call's error says that its connections are of no use: those that do nothing have
// most likely broken with this one.
func (c *client) judge(g *generation, err error) {
	if err != nil && elsewhere(err) && !domestic(err) {
		c.replace(g)
	}
}

// domestic says whether err is the adapter's own finding, and not one about the connection.
func domestic(err error) bool {
	var refused *store.Refused
	return errors.As(err, &refused) || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrHeld) ||
		errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrMisconfigured) || errors.Is(err, errUnconfirmed) ||
		errors.Is(err, goredis.ErrPoolTimeout)
}

package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/drainmark/drainmark/store"
)

// pool is the connections to one server: the master, or the one that a Reader reads from. Nothing is ever done twice.
// Its methods may be called concurrently.
type pool struct {
	dial  func(ctx context.Context) (*conn, error)
	turns chan struct{} // has something in it for every call under way

	closing context.Context // has ended when the pool has been closed
	cancel  context.CancelFunc
	close   func() // cuts all connections, and returns when all calls have ended; a second call does nothing

	mu         sync.Mutex
	idle       []*conn
	busy       map[*conn]struct{}
	generation int // those from an earlier one are not used again
}

// newPool makes a pool that does so many calls at the same time. Others wait for their turn.
func newPool(size int, dial func(ctx context.Context) (*conn, error)) *pool {
	p := &pool{dial: dial, turns: make(chan struct{}, size), busy: map[*conn]struct{}{}}
	p.closing, p.cancel = context.WithCancel(context.Background())
	p.close = sync.OnceFunc(p.shut)
	return p
}

// use runs do with a connection that is its own as long. The error says what was being done.
func (p *pool) use(ctx context.Context, doing string, do func(*conn) error) error {
	err := p.turn(ctx, do)
	switch {
	case err == nil:
		return nil
	case p.closing.Err() != nil && codeOf(err) == "":
		err = store.ErrClosed
	default:
		err = explain(err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func (p *pool) turn(ctx context.Context, do func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.closing.Err() != nil {
		return store.ErrClosed
	}
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing.Done():
		return store.ErrClosed
	}
	c, generation, err := p.take(ctx)
	if err != nil {
		return err
	}
	err = do(c)
	p.give(c, generation, err)
	return err
}

// take takes an idle connection, or opens one.
func (p *pool) take(ctx context.Context) (*conn, int, error) {
	p.mu.Lock()
	generation := p.generation
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.busy[c] = struct{}{}
		p.mu.Unlock()
		return c, generation, nil
	}
	p.mu.Unlock()
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.closing, cancel)()
	c, err := p.dial(opening)
	if err != nil {
		return nil, 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil {
		c.close()
		return nil, 0, store.ErrClosed
	}
	p.busy[c] = struct{}{}
	return c, generation, nil
}

// give takes a connection back. If it broke, the others that do nothing have most likely broken with it.
func (p *pool) give(c *conn, generation int, err error) {
	if err != nil && elsewhere(err) && !domestic(err) {
		p.reset(generation)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c)
	if c.broken || generation != p.generation || p.closing.Err() != nil {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
}

// domestic says whether err is the adapter's own finding about what a good connection brought.
func domestic(err error) bool {
	var refused *store.Refused
	return errors.As(err, &refused) || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrHeld) ||
		errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrMisconfigured) || errors.Is(err, ErrUnconfirmed)
}

// reset makes all connections of a generation go, so that the next call looks for the server anew.
func (p *pool) reset(generation int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if generation != p.generation {
		return
	}
	p.generation++
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
}

// forget is reset of the connections that there are now.
func (p *pool) forget() {
	p.mu.Lock()
	generation := p.generation
	p.mu.Unlock()
	p.reset(generation)
}

func (p *pool) shut() {
	p.mu.Lock()
	p.cancel()
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
	for c := range p.busy {
		c.close()
	}
	p.mu.Unlock()
	for range cap(p.turns) {
		p.turns <- struct{}{} // when the calls have ended, nobody gets a turn any more
	}
}

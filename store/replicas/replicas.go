// Package replicas makes one store.Reader of several, each a replica of the same store. Replicas lag, die, come back
// with old data and resynchronize. This Reader never answers from an older state than before, and answers as long as
// one replica does. The first of these makes it useful with a single replica too.
//
// One replica at a time is read from, the active one (elect.go). For each partition there is a floor, which is the
// newest state that was shown (floor.go), and every answer is compared with it (read.go). A replica that fails, is slow
// or answers with an older state is left, and the call is repeated on another one (call.go). Each replica is probed all
// the time (member.go), so that it is known who can take over, and who is ahead of the active one.
//
// A store can lose its tail: then no replica will ever show again what was shown. So a floor that nobody has reached
// for GiveUp is lowered.
package replicas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Member is one replica.
type Member struct {
	// Name says which it is, in the log, metrics and errors: a host and port, say. It is unique, and never a URL with
	// a user or password in it.
	Name string
	// Open opens its reader. It is called again, later and later, after an error, and when the reader says that it is
	// closed. Its context lasts for the opening only, and that for GiveUp. The Reader closes what it has opened.
	Open func(ctx context.Context) (store.Reader, error)
}

// Config is what a Reader is made of. Zero durations stand for the defaults.
type Config struct {
	// Members are those that are always there.
	Members []Member
	// Discover, if set, returns those that come and go. It is asked again every DiscoverEvery. A member that it no
	// longer names is closed. While it fails or names nobody, all stay.
	Discover      func(ctx context.Context) ([]Member, error)
	DiscoverEvery time.Duration // 5 s

	ProbeEvery  time.Duration // how often each replica is asked for its state (default 250 ms)
	CallTimeout time.Duration // until a replica that answers no call or probe is left (default 2 s)
	// GiveUp is how long no replica may show all that was shown until an older state is taken (default 10 s). A call
	// waits for a fit replica while its context lasts, but never for longer than GiveUp and two CallTimeouts.
	GiveUp time.Duration

	Logger  *slog.Logger          // none if nil
	Metrics prometheus.Registerer // may be nil
}

func (c Config) withDefaults() Config {
	c.DiscoverEvery = cmp.Or(c.DiscoverEvery, 5*time.Second)
	c.ProbeEvery = cmp.Or(c.ProbeEvery, 250*time.Millisecond)
	c.CallTimeout = cmp.Or(c.CallTimeout, 2*time.Second)
	c.GiveUp = cmp.Or(c.GiveUp, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Reader reads from replicas. See store.Reader.
type Reader struct {
	config   Config
	rules    rules
	logger   *slog.Logger
	metrics  *metrics
	watchers store.Watchers
	active   atomic.Pointer[tenure] // nil while no replica is fit
	floors   floors                 // set before there is an active replica
	ctx      context.Context        // of all that runs
	close    func() error
	running  sync.WaitGroup

	mu         sync.Mutex
	members    []*member
	unfound    error                 // why Discover failed the last time
	deployment *drainmark.Deployment // nil until a replica has told it
	lastActive *member
	unfitSince time.Time // since when there has been no active replica
	moved      chan struct{}
	closed     bool
	failures   []error // of closing replicas
}

var _ store.Reader = (*Reader)(nil)

// Open returns a Reader when one of the members answers. The others are opened meanwhile. It tries until ctx ends, and
// fails early with store.ErrMisconfigured if that is what every member says.
func Open(ctx context.Context, c Config) (*Reader, error) { return open(ctx, c, defaultRules) }

func open(ctx context.Context, c Config, decide rules) (*Reader, error) {
	c = c.withDefaults()
	if len(c.Members) == 0 && c.Discover == nil {
		return nil, store.Misconfigured("there is no replica")
	}
	if err := checkNames(c.Members); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Reader{
		config: c, rules: decide, logger: c.Logger, metrics: newMetrics(), ctx: running,
		moved: make(chan struct{}), unfitSince: time.Now(),
	}
	r.close = sync.OnceValue(func() error { return r.shut(cancel) })
	r.update(c.Members)
	if c.Discover != nil {
		r.running.Go(r.discover)
	}
	if err := r.started(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.metrics.register(c.Metrics)
	return r, nil
}

func checkNames(members []Member) error {
	seen := map[string]bool{}
	for i, m := range members {
		if m.Name == "" || seen[m.Name] {
			return store.Misconfigured("replica %d of %d has no name of its own", i+1, len(members))
		}
		if u, err := url.Parse(m.Name); err == nil && u.User != nil {
			return store.Misconfigured("the name of replica %d of %d has a user or password in it", i+1, len(members))
		}
		seen[m.Name] = true
	}
	return nil
}

// started waits until one member has answered.
func (r *Reader) started(ctx context.Context) error {
	for {
		r.mu.Lock()
		moved := r.moved
		answered := slices.ContainsFunc(r.members, func(m *member) bool { return m.last != nil || errors.Is(m.why, errEmpty) })
		hopeless := r.hopeless()
		r.mu.Unlock()
		if answered {
			return nil
		}
		if hopeless {
			return store.Misconfigured("%s", r.reasons())
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", r.reasons(), ctx.Err())
		}
	}
}

// discover keeps the members as Discover names them, until the Reader is closed.
func (r *Reader) discover() {
	retry := backoff.Backoff{Max: r.config.DiscoverEvery}
	for r.ctx.Err() == nil {
		found, err := r.found()
		if err != nil && r.ctx.Err() == nil {
			r.logger.Warn("discovering replicas failed", "error", err)
		}
		r.mu.Lock()
		r.unfound = err
		r.notify()
		known := len(r.members)
		r.mu.Unlock()
		switch {
		case err == nil:
			r.update(found)
			retry.Reset()
			sleep(r.ctx, r.config.DiscoverEvery, nil)
		case known > 0:
			sleep(r.ctx, r.config.DiscoverEvery, nil)
		default:
			_ = retry.Wait(r.ctx)
		}
	}
}

// found returns the members that there are now.
func (r *Reader) found() ([]Member, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.config.CallTimeout)
	defer cancel()
	found, err := r.config.Discover(ctx)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("none was found")
	}
	found = slices.Concat(r.config.Members, found)
	return found, checkNames(found)
}

// update starts the members that are new, and stops those that are no longer wanted.
func (r *Reader) update(wanted []Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	kept := r.members[:0:0]
	for _, m := range r.members {
		if slices.ContainsFunc(wanted, func(w Member) bool { return w.Name == m.Name }) {
			kept = append(kept, m)
		} else {
			r.remove(m)
		}
	}
	r.members = kept
	for _, w := range wanted {
		if !slices.ContainsFunc(kept, func(m *member) bool { return m.Name == w.Name }) {
			r.members = append(r.members, r.start(w))
		}
	}
	r.settle()
}

// shut ends the Reader.
func (r *Reader) shut(cancel context.CancelFunc) error {
	r.mu.Lock()
	r.closed = true
	r.active.Store(nil)
	r.notify()
	r.mu.Unlock()
	cancel()
	r.running.Wait()
	r.watchers.Close()
	return errors.Join(r.failures...)
}

// notify wakes those who wait for the replicas to change. It needs the lock.
func (r *Reader) notify() {
	close(r.moved)
	r.moved = make(chan struct{})
}

// sleep waits for a time or until it is woken, and returns false when ctx has ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

package verify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// errNotEmpty ends a run whose log is not empty behind the clear: there is nothing that could be judged then.
var errNotEmpty = errors.New("the log is not empty behind its clear")

// probeEvery is how often a barrier is asked for while the clients append.
const probeEvery = time.Second

// runner does one run. history is written by one goroutine at a time, except that each client writes its own appends,
// and mu guards the read-backs.
type runner struct {
	config    Config
	api       *client
	display   *display
	run       string // the run's id, which is in every message
	startedAt time.Time
	history   *history
	mu        sync.Mutex
	before    uint64        // the log's last position before the run
	receipt   string        // of the clear, then of the last barrier: readings carry it
	frontier  atomic.Uint64 // the highest last position that any answer showed: what is sent from now on stands behind

	// What the display shows.
	accepted, gaveUp, retries, resent, read atomic.Int64
}

func newRunner(c Config) *runner {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: it stops the program instead
	return &runner{
		config: c, run: hex.EncodeToString(id[:]), startedAt: time.Now(),
		api:     newClient(c.URL, c.Concurrency+1),
		display: newDisplay(c.Out, c.Interactive),
		history: &history{clients: c.Concurrency, appends: make([]appendCall, c.Messages)},
	}
}

// since returns how long the run has lasted, by the monotonic clock.
func (r *runner) since() time.Duration { return time.Since(r.startedAt) }

func (r *runner) redactedURL() string {
	u, err := url.Parse(r.config.URL)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// steps does the run's six steps.
func (r *runner) steps(ctx context.Context) error {
	steps := []struct {
		name   string
		do     func(context.Context) error
		status func() string
	}{
		{"clear", r.clear, nil},
		{"empty", r.awaitEmpty, nil},
		{"append", r.append, r.appendStatus},
		{"barrier", r.lastBarrier, nil},
		{"read", r.readFirst, r.readStatus},
		{"check", r.readAgain, r.readStatus},
	}
	for i, s := range steps {
		r.display.begin(i+1, len(steps), s.name, s.status)
		err := s.do(ctx)
		r.display.end(err)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// clear is step 1. It puts one message into the log first, so that there is something to clear.
func (r *runner) clear(ctx context.Context) error {
	before, err := r.contact(ctx)
	if err != nil {
		return err
	}
	leaf := singleAppend(r.config.Log, []byte(bodyMagic+r.run+": to be cleared\n"), textType, r.run+"/clear")
	if err := r.retry(ctx, func() error { _, err := r.api.append(ctx, leaf); return err }); err != nil {
		return fmt.Errorf("appending a message to be cleared: %w", err)
	}
	var s status
	err = r.retry(ctx, func() (err error) { s, err = r.api.clear(ctx, r.config.Log); return err })
	if err != nil {
		return fmt.Errorf("clearing the log: %w", err)
	}
	r.receipt, r.before = s.Receipt, before
	return nil
}

// contact returns the log's last position. It is the run's first call, and fails when no answer comes soon.
func (r *runner) contact(ctx context.Context) (uint64, error) {
	within, cancel := context.WithTimeout(ctx, r.config.Contact)
	defer cancel()
	var p page
	err := r.retry(within, func() (err error) {
		p, err = r.api.messages(within, r.config.Log, 0, 1, "", false)
		if statusOf(err) == http.StatusNotFound {
			err = nil // nobody has written to it yet
		}
		return err
	})
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w within %v: %w", ErrUnreachable, r.config.Contact, err)
	}
	return p.LastPosition, err
}

// awaitEmpty is step 2.
func (r *runner) awaitEmpty(ctx context.Context) error {
	if _, err := r.await(ctx, status{Receipt: r.receipt}, r.display.note); err != nil {
		return fmt.Errorf("waiting for the clear: %w", err)
	}
	_, s, err := r.reach(ctx, r.display.note)
	if err != nil {
		return err
	}
	var p page
	err = r.retry(ctx, func() (err error) {
		p, err = r.api.messages(ctx, r.config.Log, 0, 1, s.Receipt, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("looking whether the log is empty: %w", err)
	}
	c := &clearCall{before: r.before, last: p.LastPosition, count: p.Count}
	r.history.cleared = c
	r.frontier.Store(p.LastPosition)
	if len(p.Messages) > 0 {
		c.shown = p.Messages[0].Position
	}
	if c.count > 0 || c.shown > 0 {
		return fmt.Errorf("%w: it holds %d messages; if they are new, somebody else writes to it", errNotEmpty, max(c.count, 1))
	}
	return nil
}

// append is step 3: all clients append, and barriers are asked for meanwhile.
func (r *runner) append(ctx context.Context) error {
	probing, stop := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() { r.probe(probing) })
	clients, writing := errgroup.WithContext(ctx)
	for i := range r.config.Concurrency {
		w := &writer{runner: r, client: i, random: mathrand.New(mathrand.NewPCG(mathrand.Uint64(), uint64(i)))}
		clients.Go(func() error { return w.write(writing) })
	}
	err := clients.Wait()
	stop()
	probe.Wait()
	r.history.resent = int(r.resent.Load())
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// probe asks for one barrier after the other and reads the count each time that one is reached.
func (r *runner) probe(ctx context.Context) {
	for {
		b, _, err := r.reach(ctx, func(string) {})
		if err != nil {
			return // ctx has ended; or the last barrier will say the same
		}
		r.count(ctx, &b)
		r.history.barriers = append(r.history.barriers, b)
		if pause(ctx, probeEvery) != nil {
			return
		}
	}
}

// lastBarrier is step 4, with the one count behind it.
func (r *runner) lastBarrier(ctx context.Context) error {
	b, s, err := r.reach(ctx, r.display.note)
	if err != nil {
		return err
	}
	r.count(ctx, &b)
	r.receipt = s.Receipt
	r.history.barriers, r.history.final = append(r.history.barriers, b), true
	return nil
}

// reach asks for a barrier and waits until it is reached.
func (r *runner) reach(ctx context.Context, note func(string)) (b barrierCall, s status, err error) {
	err = r.retry(ctx, func() (err error) {
		b.asked = r.since()
		s, err = r.api.barrier(ctx)
		return err
	})
	if err == nil {
		s, err = r.await(ctx, s, note)
	}
	b.reached = r.since()
	if err != nil {
		return b, s, fmt.Errorf("waiting for a barrier: %w", err)
	}
	return b, s, nil
}

// count reads the count, once and without a wait, which is what makes a barrier that is reached too early visible.
func (r *runner) count(ctx context.Context, b *barrierCall) {
	p, err := r.api.messages(ctx, r.config.Log, 0, 1, "", false)
	b.counted, b.count = r.since(), p.Count
	if err != nil && statusOf(err) != http.StatusNotFound { // a log that is not there holds nothing
		b.fault = err.Error()
		return
	}
	r.saw(p.LastPosition)
}

// saw raises the frontier.
func (r *runner) saw(position uint64) {
	for {
		known := r.frontier.Load()
		if position <= known || r.frontier.CompareAndSwap(known, position) {
			return
		}
	}
}

// await asks about a receipt until everything is persisted.
func (r *runner) await(ctx context.Context, s status, note func(string)) (status, error) {
	for hurry := (backoff{}); !s.isThrough(); {
		if s.State == "rejected" {
			return s, fmt.Errorf("what was waited for is rejected: %s", s.Reason)
		}
		if s.State != "" {
			note(s.State + " " + s.Reason)
		}
		asked := time.Now()
		err := r.retry(ctx, func() (err error) { s, err = r.api.receipt(ctx, s.Receipt); return err })
		if err != nil {
			return s, fmt.Errorf("asking about a receipt: %w", err)
		}
		if !s.isThrough() && time.Since(asked) < backoffMost { // it did not wait
			if err := hurry.wait(ctx, nil); err != nil {
				return s, err
			}
		}
	}
	note("")
	return s, nil
}

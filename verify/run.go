package verify

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

// errNotEmpty ends a run whose logs are not empty behind their clears: there is nothing that could be judged then.
var errNotEmpty = errors.New("a log is not empty behind its clear")

// waitFor is how long the server is asked to wait in calls that wait.
const waitFor = 10 * time.Second

// runner does one run. Its methods may be called by many goroutines, but for those of the steps.
type runner struct {
	*recorder
	*sender
	config Config

	logs     []*log // first those that are only appended to
	barriers atomic.Int64
	asides   chan struct{} // has something in it for each read back that is under way
	// incomplete is why the run cannot come to a verdict although it does all its steps: a fault that did not happen,
	// or a barrier that is stalled. Accepted messages may be missing all the same, which is found.
	incomplete               error
	held                     client.Receipt // of the clears, then of the last barriers that were reached: the final readings carry it
	unsent                   int            // messages that were due and not sent
	inDoubt                  bool           // of a clear of the first step it is not known whether it comes
	readers                  []int          // the targets that everything is read from in the end
	tails                    tails
	contacted, lettersListed bool // the deployment has answered, and the run's dead letters have been listed and discarded

	// The display shows these.
	read     atomic.Int64
	pending  atomic.Int64 // by the last sample, or -1
	inForce  func() string
	deadline time.Time // of the appending, if it has one
}

// log is one of the run's logs.
type log struct {
	history.Log
	index    int
	before   uint64        // its last position before the run
	accepted atomic.Int64  // messages that were accepted
	frontier atomic.Uint64 // the highest last position that any answer showed: what is sent from now on stands behind
}

func newRunner(c Config, out *history.Writer, t *rows) (*runner, error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: it stops the program instead
	r := &runner{
		recorder: &recorder{id: hex.EncodeToString(id[:]), begun: time.Now(), out: out, rows: t, display: newDisplay(c.Out, c.Interactive, c.Quiet)},
		config:   c, asides: make(chan struct{}, readsBack), inForce: func() string { return "" },
	}
	r.pending.Store(-1)
	run := history.Run{
		Version: history.Version, ID: r.id, StartedAt: r.begun, Seed: c.Seed, Clients: c.Concurrency, Ordered: true, Rate: c.Rate,
		Select: c.Select,
	}
	for _, text := range c.URLs {
		of := c.client(text)
		of.IdleConns = c.Concurrency + 8
		target, err := client.New(of)
		if err != nil {
			return nil, err
		}
		r.targets = append(r.targets, target)
		u, _ := url.Parse(text) // withDefaults has parsed it
		run.Targets = append(run.Targets, u.Redacted())
	}
	for i, l := range c.logs() {
		r.logs = append(r.logs, &log{Log: l, index: i})
		run.Logs = append(run.Logs, l)
	}
	r.sender = &sender{recorder: r.recorder, logs: r.logs, patience: c.Patience, clients: c.Concurrency}
	if c.Workload == Mixed {
		run.Clients += modelClients
	}
	if len(c.Faults.Faults) > 0 {
		run.Plan = c.Faults.String()
	}
	out.Write(history.Line{Run: &run})
	return r, nil
}

// logs returns the logs of a run: first those that are only appended to.
func (c *Config) logs() (all []history.Log) {
	for i := range c.Logs {
		name := c.Log
		if i > 0 {
			name = fmt.Sprintf("%s-%d", c.Log, i+1)
		}
		all = append(all, history.Log{Name: name})
	}
	if c.Workload == Mixed {
		all = append(all, history.Log{Name: c.Log + "-cleared", Clears: true}, history.Log{Name: c.Log + "-model", Clears: true, Model: true})
	}
	return all
}

func (r *runner) close() {
	for _, target := range r.targets {
		target.Close()
	}
}

// random returns the random numbers of one of the run's parts.
func (c *Config) random(part string, index int) *mathrand.Rand {
	sum := c.Seed
	for _, b := range []byte(part) {
		sum = sum*31 + uint64(b)
	}
	return mathrand.New(mathrand.NewPCG(sum, uint64(index)))
}

// steps does the run's six steps.
func (r *runner) steps(ctx context.Context) error {
	defer r.tails.end()
	steps := []struct {
		name   string
		do     func(context.Context) error
		status func() string
	}{
		{"clear", r.clear, nil},
		{"empty", r.awaitEmpty, nil},
		{"append", r.work, r.workStatus},
		{"barrier", r.reach, nil},
		{"read", r.readFirst, r.readStatus},
		{"check", r.readAgain, r.readStatus},
	}
	for i, s := range steps {
		r.display.begin(i+1, len(steps), s.name, s.status)
		err := s.do(ctx)
		if err == nil {
			err = r.out.Err()
		}
		r.display.end(err)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// end writes the history's last line.
func (r *runner) end(failure error) {
	failure = cmp.Or(failure, r.incomplete)
	end := &history.End{At: r.since(), Complete: failure == nil, Unsent: r.unsent}
	if failure != nil {
		end.Reason, end.Unreachable = failure.Error(), errors.Is(failure, ErrUnreachable)
	}
	r.out.Write(history.Line{End: end})
}

// clear is step 1. It puts one message into each log first, so that there is something to clear.
func (r *runner) clear(ctx context.Context) error {
	if err := r.contact(ctx); err != nil {
		return err
	}
	r.contacted = true
	r.discardOld(ctx)
	for _, l := range r.logs {
		err := r.retry(ctx, func(target *client.Client) error {
			p, err := target.Messages(ctx, l.Name, client.ReadOptions{Limit: 1})
			if l.before = max(l.before, p.LastPosition); client.KindOf(err) == client.NotFound {
				return nil // nobody has written to it yet
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("looking where %s ends: %w", l.Name, err)
		}
		leaf := client.Message{Body: []byte("drainmark-verify " + r.id + ": to be cleared\n"), ContentType: history.TextType, Key: r.id + "/clear"}
		err = r.retry(ctx, func(target *client.Client) error { _, err := target.Append(ctx, l.Name, leaf, 0); return err })
		if err != nil {
			return fmt.Errorf("appending a message to be cleared to %s: %w", l.Name, err)
		}
		if err := r.retry(ctx, func(target *client.Client) error { return r.firstClear(ctx, target, l) }); err != nil {
			return fmt.Errorf("clearing %s: %w", l.Name, err)
		}
	}
	return nil
}

// firstClear clears a log once. An attempt whose outcome is unknown may take effect late, behind the run's first
// messages. Its receipt is waited for, and if there is none the checks are told.
func (r *runner) firstClear(ctx context.Context, target *client.Client, l *log) error {
	start := r.since()
	s, err := target.Clear(ctx, l.Name, 0)
	receipt, failed := s.Receipt, (*client.Error)(nil)
	if errors.As(err, &failed) {
		receipt = failed.Receipt
	}
	r.held = client.Merge(r.held, receipt)
	r.inDoubt = r.inDoubt || err != nil && !client.NothingDone(err)
	if err != nil && receipt == "" && !client.NothingDone(err) {
		r.out.Write(history.Line{Clear: &history.Clear{
			Call: history.Call{Start: start, End: r.since(), Outcome: history.Unknown, Status: statusOf(err), Error: err.Error()}, Log: l.index,
		}})
	}
	return err
}

// contact makes the run's first call, and fails when no answer comes soon.
func (r *runner) contact(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, r.config.Contact)
	defer cancel()
	err := r.retry(within, func(target *client.Client) error {
		_, err := target.Messages(within, r.logs[0].Name, client.ReadOptions{Limit: 1})
		if client.KindOf(err) == client.NotFound {
			return nil // nobody has written to it yet
		}
		return err
	})
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w within %v: %w", ErrUnreachable, r.config.Contact, err)
	}
	return err
}

// awaitEmpty is step 2. It asks every target: from here on, all of them show the empty logs.
func (r *runner) awaitEmpty(ctx context.Context) error {
	for i := range r.targets {
		if err := r.await(ctx, i, r.held, r.display.note); err != nil {
			return fmt.Errorf("waiting for the clears: %w", err)
		}
	}
	if r.inDoubt {
		if err := r.passClears(ctx); err != nil {
			return fmt.Errorf("waiting for a barrier behind the clears: %w", err)
		}
	}
	for _, l := range r.logs {
		var p client.Page
		err := r.retry(ctx, func(target *client.Client) (err error) {
			p, err = target.Messages(ctx, l.Name, client.ReadOptions{Limit: 1, Receipts: r.held, Wait: waitFor})
			if client.KindOf(err) == client.NotFound {
				return nil // as if nobody had ever written to it, which the checks hold against it
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("looking whether %s is empty: %w", l.Name, err)
		}
		base := &history.Base{Log: l.index, Base: p.LastPosition, Before: l.before, Count: p.Count}
		if len(p.Messages) > 0 {
			base.Shown = p.Messages[0].Position
		}
		r.out.Write(history.Line{Base: base})
		if base.Count > 0 || base.Shown > 0 {
			return fmt.Errorf("%w: %s holds %d messages; if they are new, somebody else writes to it", errNotEmpty, l.Name, max(p.Count, 1))
		}
		l.Base = p.LastPosition
		l.frontier.Store(p.LastPosition)
	}
	return r.rows.begin(ctx)
}

// passClears waits for a barrier at every target, whose fences stand behind a clear that the backend still tries to
// publish though it has answered that its outcome is unknown. Records that were missing before are none of the run's.
func (r *runner) passClears(ctx context.Context) error {
	for i := range r.targets {
		for b := (backoff{}); ; {
			s, err := r.targets[i].Barrier(ctx, waitFor)
			if err == nil && (s.State == client.Reached || s.Missing > 0) {
				break
			}
			if err != nil && !client.Retryable(err) {
				return err
			}
			r.display.note(string(s.State) + " " + s.Reason)
			if over := b.wait(ctx); over != nil {
				return fmt.Errorf("%w; the last answer: %s %w", over, s.State, err)
			}
		}
	}
	r.display.note("")
	return nil
}

// reach is step 4: a barrier at every target, when all appends have ended, and the tails up to what is there then. The
// targets whose barriers are reached are read from in the end. If there are none, those are that miss only what their
// broker has lost.
func (r *runner) reach(ctx context.Context) error {
	var lossy []int
	for i := range r.targets {
		b, err := r.lastBarrier(ctx, i)
		switch {
		case err != nil:
			return err
		case b.Outcome == history.Done:
			r.readers = append(r.readers, i)
			continue
		case b.Missing > 0:
			lossy = append(lossy, i)
		}
		r.incomplete = cmp.Or(r.incomplete, fmt.Errorf("a barrier is stalled %v after the last append: %s", r.config.Settle, b.Reason))
	}
	if len(r.readers) == 0 {
		r.readers = lossy
	}
	if len(r.readers) == 0 {
		return fmt.Errorf("%w: %w", errStandsStill, r.incomplete)
	}
	return r.tails.catchUp(ctx, r.config.Settle)
}

// lastBarrier asks a target for a barrier until it is reached, or has been stalled for long. A stalled one is asked for
// once more, by fences of its own: if the broker has lost the last thing that it took, only what comes behind shows it.
func (r *runner) lastBarrier(ctx context.Context, target int) (history.Barrier, error) {
	for stalled := 0; ; {
		within, cancel := context.WithTimeoutCause(ctx, r.config.Settle, errStill)
		b, receipt := r.barrier(within, target, r.config.Concurrency, r.display.note)
		cancel()
		if b.Outcome == history.Done {
			r.held = client.Merge(r.held, receipt)
			b.Held = true
		}
		r.out.Write(history.Line{Barrier: &b})
		if ctx.Err() != nil && b.Outcome != history.Done {
			return b, fmt.Errorf("waiting for a barrier: it is %s: %w", b.State, context.Cause(ctx))
		}
		if b.State == string(client.Stalled) {
			stalled++
		}
		if b.Outcome == history.Done || b.Missing > 0 || stalled > 1 {
			return b, nil
		}
	}
}

// errStandsStill ends a run in whose end no target can show what it has.
var errStandsStill = errors.New("the deployment stands still")

// errStill is why waiting for one thing ends before the run's time is over.
var errStill = errors.New("it took too long")

// await asks a target about a receipt until everything is persisted. note is told what it says meanwhile.
func (r *runner) await(ctx context.Context, target int, receipt client.Receipt, note func(string)) error {
	var s client.Status
	for b := (backoff{}); ; {
		asked := time.Now()
		var err error
		s, err = r.targets[target].Status(ctx, receipt, waitFor)
		switch {
		case err == nil && s.State == client.Persisted:
			note("")
			return nil
		case err == nil && s.State == client.Rejected:
			return fmt.Errorf("what was waited for is rejected: %s", s.Reason)
		case err != nil && !client.Retryable(err):
			return fmt.Errorf("asking about a receipt: %w", err)
		}
		note(string(s.State) + " " + s.Reason)
		if time.Since(asked) < backoffMost { // it did not wait
			if over := b.wait(ctx); over != nil {
				return fmt.Errorf("asking about a receipt: %w; the last answer: %s %w", over, s.State, err)
			}
		}
	}
}

// retry makes a call at one target after the other until it succeeds, cannot succeed, or ctx ends.
func (r *runner) retry(ctx context.Context, try func(*client.Client) error) error {
	i := 0
	for b := (backoff{}); ; i++ {
		err := try(r.targets[i%len(r.targets)])
		if err == nil && i > 0 {
			r.display.note("")
		}
		if err == nil || !client.Retryable(err) && client.KindOf(err) != client.NotReached {
			return err
		}
		r.display.note(err.Error())
		if over := b.wait(ctx); over != nil {
			return fmt.Errorf("%w; the last try: %w", over, err)
		}
		r.retries.Add(1)
	}
}

// saw raises a log's frontier.
func (l *log) saw(position uint64) {
	for {
		known := l.frontier.Load()
		if position <= known || l.frontier.CompareAndSwap(known, position) {
			return
		}
	}
}

const (
	backoffLeast = 20 * time.Millisecond
	backoffMost  = time.Second
)

// backoff waits longer each time, up to backoffMost, and never for the same time as others.
type backoff struct{ next time.Duration }

// wait fails with the context's cause when that ends first.
func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(2*b.next, backoffLeast), backoffMost)
	return pause(ctx, b.next/2+mathrand.N(b.next/2+1))
}

// pause waits, or fails with the context's cause when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

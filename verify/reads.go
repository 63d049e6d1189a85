package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// The two final readings have pages of different sizes, so that what happens at a page's end happens somewhere else.
const (
	firstPages  = 1000
	secondPages = 337
)

// readAtRandom reads pages here and there, from any target.
func (r *runner) readAtRandom(ctx context.Context, by int) {
	random := r.config.random("reader", by)
	for ctx.Err() == nil {
		l := r.logs[random.IntN(len(r.logs))]
		read := &history.Read{
			Call: history.Call{Client: by, Target: random.IntN(len(r.targets))}, Log: l.index,
			After: l.Base + random.Uint64N(l.frontier.Load()-l.Base+1), Limit: []int{1, 10, 100, 1000}[random.IntN(4)],
		}
		_, _ = r.readPage(ctx, l, read, client.ReadOptions{}) // the history has it
		if pause(ctx, time.Duration(random.Int64N(int64(readerPause)))) != nil {
			return
		}
	}
}

// followed is how many messages, and for how long, a tail gathers for one line of the history.
const (
	followedMost = 1000
	followedFor  = 20 * time.Millisecond
)

// reopen is how many messages are followed at most before the stream is left, and another one opened where it was.
const reopen = 500

// tails are the followers of the logs, from the third step until they have reached the end of the logs. The zero value
// has none.
type tails struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	all     []*tail
}

// begin lets a client follow each log, the first of them with this number, until end or ctx does.
func (ts *tails) begin(ctx context.Context, r *runner, first int) {
	ctx, ts.stop = context.WithCancel(ctx)
	for i, l := range r.logs {
		t := &tail{recorder: r.recorder, log: l, random: r.config.random("tail", first+i), after: l.Base}
		t.read = history.Read{Call: history.Call{Client: first + i}, Log: l.index, Tail: true}
		ts.all = append(ts.all, t)
		ts.running.Go(func() { t.follow(ctx) })
	}
}

// end ends them, and waits until they are.
func (ts *tails) end() {
	if ts.stop != nil {
		ts.stop()
	}
	ts.running.Wait()
}

// catchUp waits until all followers of a log have reached its end, writes down those that do not because nothing comes
// for long, and ends them all. They may never see the end of a log that is cleared.
func (ts *tails) catchUp(ctx context.Context, stuckAfter time.Duration) error {
	defer ts.end()
	for _, t := range ts.all {
		aim := t.log.frontier.Load()
		at, moved := t.position(), time.Now()
		for b := (backoff{}); !t.log.Clears && at < aim; {
			if time.Since(moved) > stuckAfter {
				t.stuck(at, aim, stuckAfter)
				break
			}
			if err := b.wait(ctx); err != nil {
				return fmt.Errorf("waiting for the events of %s, which are at position %d of %d: %w", t.log.Name, at, aim, err)
			}
			if now := t.position(); now > at {
				at, moved = now, time.Now()
			}
		}
	}
	return nil
}

// follow follows a log, by one target after the other, each time from where it was.
func (t *tail) follow(ctx context.Context) {
	stop := t.flushNowAndThen()
	defer stop()
	for ctx.Err() == nil {
		target, left := t.random.IntN(len(t.targets)), 1+t.random.IntN(reopen)
		for m, err := range t.targets[target].Tail(ctx, t.log.Name, t.position()) {
			if err != nil {
				t.broke(target, err)
				break
			}
			t.add(target, m)
			if left--; left == 0 {
				break
			}
		}
		if left > 0 && pause(ctx, backoffMost/2) != nil { // it broke
			return
		}
	}
}

// tail gathers what somebody who follows a log receives.
type tail struct {
	*recorder
	log    *log
	random *rand.Rand

	mu    sync.Mutex // guards what follows
	after uint64     // the last position received
	read  history.Read
	got   []client.Message
}

func (t *tail) position() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.after
}

func (t *tail) add(target int, m client.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.since()
	// A skip begins a line of its own, which says from where on it went on: a clear may be the reason.
	if len(t.got) >= followedMost || now-t.read.Start > followedFor || target != t.read.Target || m.Position != t.after+1 {
		t.flush(t.read.End)
	}
	t.read.Target = target
	if len(t.got) == 0 {
		t.read.Start, t.read.After = now, t.after
	}
	t.got = append(t.got, m)
	t.after, t.read.End = m.Position, now
	t.log.saw(m.Position)
}

// broke writes down what is wrong with what the tail received, if that is the error.
func (t *tail) broke(target int, err error) {
	if !errors.Is(err, client.ErrPositions) {
		return // connections may break
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush(t.since())
	read := t.read
	read.Target = target
	read.Start, read.End, read.After, read.Outcome, read.Error = t.since(), t.since(), t.after, history.Done, ""
	read.Wrong = err.Error()
	t.suspect("P4: a tail of %s: %v", t.log.Name, err)
	t.out.Write(history.Line{Read: &read})
}

// stuck writes down that the tail does not get to where the log ends.
func (t *tail) stuck(at, aim uint64, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush(t.read.End)
	read := t.read
	read.Start, read.End, read.After, read.Outcome = t.since(), t.since(), at, history.Unknown
	read.Error = fmt.Sprintf("nothing came for %v behind position %d, and the log goes on to %d", after, at, aim)
	t.out.Write(history.Line{Read: &read})
}

// flush writes what was gathered. mu is held.
func (t *tail) flush(end time.Duration) {
	if len(t.got) == 0 {
		return
	}
	read := t.read
	read.End, read.Outcome = end, history.Done
	t.record(&read, t.got)
	t.got = t.got[:0]
}

// flushNowAndThen flushes what no further message comes behind, until it is stopped.
func (t *tail) flushNowAndThen() (stop func()) {
	over := make(chan struct{})
	var flushing sync.WaitGroup
	flushing.Go(func() {
		ticker := time.NewTicker(followedFor)
		defer ticker.Stop()
		for ended := false; !ended; {
			select {
			case <-over:
				ended = true
			case <-ticker.C:
			}
			t.mu.Lock()
			t.flush(t.read.End)
			t.mu.Unlock()
		}
	})
	return func() { close(over); flushing.Wait() }
}

// readFirst is step 5: everything, from the first target, and then the table.
func (r *runner) readFirst(ctx context.Context) error {
	if err := r.readAll(ctx, 1, r.readers[0], firstPages); err != nil {
		return err
	}
	return r.readRows(ctx)
}

// readAgain is step 6: it asks for the outcome of appends whose outcome is not known, reads everything once more, from
// every other target, or the same, and lists the dead letters.
func (r *runner) readAgain(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	for _, target := range r.readers[min(1, len(r.readers)-1):] {
		if err := r.readAll(ctx, 2, target, secondPages); err != nil {
			return err
		}
	}
	return r.listLetters(ctx)
}

// readAll reads all logs from a target. One that does not answer for long is given up, and the run cannot end with the
// verdict that all is well.
func (r *runner) readAll(ctx context.Context, final, target, limit int) error {
	r.read.Store(0)
	for _, l := range r.logs {
		err := r.readLog(ctx, l, final, target, limit)
		if ctx.Err() == nil && errors.Is(err, errStill) {
			r.incomplete = cmp.Or(r.incomplete, err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readLog reads a log from a target, to the position that the first page calls the last.
func (r *runner) readLog(ctx context.Context, l *log, final, target, limit int) error {
	last := uint64(0)
	for after := l.Base; ; {
		read := history.Read{Call: history.Call{Client: r.config.Concurrency, Target: target}, Log: l.index, After: after, Limit: limit, Final: final}
		within, cancel := context.WithTimeoutCause(ctx, r.config.Settle, errStill)
		next := after
		err := r.retry(within, func(*client.Client) (err error) {
			next, err = r.readOn(within, l, &read)
			return err
		})
		if err != nil && context.Cause(within) == errStill {
			err = fmt.Errorf("%w: target %d: %w", errStill, target, err)
		}
		cancel()
		if err != nil {
			return fmt.Errorf("reading %s behind position %d: %w", l.Name, after, err)
		}
		if after == l.Base {
			last = read.Last
		}
		if next >= last || next == after {
			return nil
		}
		after = next
	}
}

// readOn reads one page of a final reading, and returns where the next one begins.
func (r *runner) readOn(ctx context.Context, l *log, read *history.Read) (after uint64, err error) {
	read.Start = r.since()
	p, err := r.targets[read.Target].Messages(ctx, l.Name, client.ReadOptions{
		After: read.After, Limit: read.Limit, Receipts: r.held, Wait: waitFor,
	})
	read.End = r.since()
	if err != nil {
		return read.After, err
	}
	read.Outcome, read.Backend, read.Last, read.Total = history.Done, p.Backend, p.LastPosition, p.Count
	r.record(read, p.Messages)
	r.read.Add(int64(len(p.Messages)))
	if n := len(p.Messages); n > 0 {
		return p.Messages[n-1].Position, nil
	}
	return read.After, nil
}

// readStatus says how far a reading is.
func (r *runner) readStatus() string {
	n := int(r.read.Load())
	return fmt.Sprintf("%s messages read, %s/s", format.Thousands(n), format.Thousands(int(perSecond(n, time.Since(r.display.began)))))
}

// settleWait is how long a replica may be behind that is asked about a receipt, and settlers how many are asked about at
// the same time.
const (
	settleWait = time.Second
	settlers   = 32
)

// settle asks for the outcome of the appends whose outcome is not known, and of those that must be rejected.
func (r *runner) settle(ctx context.Context) error {
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(settlers)
	for _, u := range r.unsettled {
		asking.Go(func() error {
			var s client.Status
			err := r.retry(ctx, func(target *client.Client) (err error) {
				s, err = target.Status(ctx, u.receipt, settleWait)
				return err
			})
			if err != nil {
				return fmt.Errorf("asking about the receipt of client %d's message %d: %w", u.client, u.first, err)
			}
			r.out.Write(history.Line{Settle: &history.Settle{Client: u.client, First: u.first, State: string(s.State)}})
			return nil
		})
	}
	return asking.Wait()
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// A broker that cannot count keeps a flag (broker.Flag), which is up while something that was accepted may not be
// persisted. It lies in the broker because it has to survive all backends. Two rules keep it true:
//
//   - A backend raises it before it publishes. Nobody is told that a record is accepted unless the record was confirmed
//     no later than goodFor after the beginning of a raise that has succeeded.
//   - A backend lowers it when it has seen one raise as the newest for settledAfter, and a barrier that it sent after
//     that is reached. The lowering does nothing if there is a newer raise by then.
//
// So when the flag is down, everything accepted is persisted. Take an accepted record and the raise R that it went by.
// The lowering that took R down was for R or for a later raise T. T was seen after R had begun, and the barrier was
// sent settledAfter later. The record had been confirmed by then. So it stood before the barrier's markers, and is
// persisted.
//
// If somebody removes the flag from the broker, nothing is known (broker.ErrNeverRaised) until it is raised again. The
// same argument holds for that raise: records that went by an older one were confirmed soon after the removal.
//
// A backend may measure goodFor as too long and settledAfter as too short, and not the other way round. A suspended
// machine's monotonic clock stands still, and its wall clock may jump. So the first is what either clock shows, and the
// second is what the monotonic one does.

const (
	raiseAhead   = 2 * time.Second  // a raise is so old when another is begun while batches go on by this one
	raiseAfter   = 3 * time.Second  // a raise is so old at most when a batch begins to be published by it
	goodFor      = 5 * time.Second  // a raise is so old at most when a batch by it is confirmed
	settledAfter = 2 * goodFor      // one raise is seen as the newest for so long before a barrier is sent
	proofPause   = 6 * time.Second  // between two looks at the flag while it may be up, at most
	proofWait    = time.Minute      // how long a barrier is waited for at once
	flagTime     = 10 * time.Second // how long one call to the flag may take
	proofsApart  = time.Minute      // between two attempts to prove something that fail, at most
)

// moment is a time by both clocks.
type moment struct{ monotonic, wall time.Time }

// since is the longer of the times by both clocks.
func (m moment) since(earlier moment) time.Duration {
	return max(m.monotonic.Sub(earlier.monotonic), m.wall.Sub(earlier.wall))
}

// flag is what a backend knows of the broker's flag. It is nil of a broker that counts. Its methods may be called
// concurrently.
type flag struct {
	broker.Flag
	producer drainmark.ProducerID
	wall     func() time.Time
	metrics  *metrics
	raises   shared[struct{}]
	reads    shared[string]
	ahead    chan struct{} // has something in it when it is time to raise again

	mu     sync.Mutex
	begun  moment // when the newest raise that has succeeded began, zero if there is none that counts
	number uint64 // of raises that were begun
	down   bool   // nobody has raised it since it was read last, as far as this backend knows
}

func newFlag(f broker.Flag, b *Backend, producer drainmark.ProducerID) *flag {
	if f == nil {
		return nil
	}
	return &flag{
		Flag: f, producer: producer, wall: b.now, metrics: b.metrics,
		raises: newShared[struct{}](0), reads: newShared[string](backlogEvery), ahead: make(chan struct{}, 1),
	}
}

func (f *flag) now() moment { return moment{time.Now(), f.wall().Round(0)} }

// age is how old the newest raise was at a moment. A flag that this backend has not raised is older than anything.
func (f *flag) age(at moment) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun == (moment{}) {
		return forEver
	}
	return at.since(f.begun)
}

const forEver = time.Duration(1<<63 - 1)

// errNotRaised: a batch was not sent, because the flag could not be raised.
var errNotRaised = errors.New("nothing was sent")

// cover makes sure that a batch may be published by a young raise.
func (f *flag) cover(ctx context.Context) error {
	if f == nil {
		return nil
	}
	switch age := f.age(f.now()); {
	case age > raiseAfter:
		if err := f.raise(ctx, raiseAfter); err != nil {
			return fmt.Errorf("%w: raising the flag: %w", errNotRaised, err)
		}
	case age > raiseAhead:
		select {
		case f.ahead <- struct{}{}:
		default:
		}
	}
	return nil
}

// vouch makes sure that a batch which was confirmed just now went by a raise that was good then.
func (f *flag) vouch(ctx context.Context) error {
	if f == nil {
		return nil
	}
	confirmed := f.now()
	if f.age(confirmed) <= goodFor {
		return nil
	}
	if err := f.raise(ctx, raiseAfter); err != nil {
		return fmt.Errorf("raising the flag: %w", err)
	}
	return nil
}

// raise raises the flag, unless there is a raise that is not older than that. Those who wait for each other share one.
func (f *flag) raise(ctx context.Context, old time.Duration) error {
	_, err := f.raises.ask(ctx, func(ctx context.Context) (struct{}, error) {
		begun := f.now()
		if f.age(begun) <= old {
			return struct{}{}, nil
		}
		f.mu.Lock()
		f.number++
		f.down = false
		text := fmt.Sprintf("%s-%d", f.producer, f.number)
		f.mu.Unlock()
		f.metrics.flagRaises.Inc()
		err := f.Raise(ctx, text)
		if err == nil {
			f.mu.Lock()
			f.begun = begun
			f.mu.Unlock()
		}
		return struct{}{}, err
	})
	return err
}

// read reads the flag. All who ask at about the same time share one answer, which is from after each had asked.
func (f *flag) read(ctx context.Context) (string, error) {
	return f.reads.ask(ctx, func(ctx context.Context) (string, error) {
		f.mu.Lock()
		number := f.number
		f.mu.Unlock()
		text, err := f.Read(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.down = err == nil && text == "" && f.number == number
		if errors.Is(err, broker.ErrNeverRaised) {
			f.begun = moment{} // what this backend raised is gone
		}
		return text, err
	})
}

// isDown says whether nobody has raised the flag since it was read last, as far as this backend knows.
func (f *flag) isDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

// raiseFlagAhead raises the flag again while batches are published by a raise that will soon be too old for more, so
// that they need not wait.
func (b *Backend) raiseFlagAhead(ctx context.Context) {
	for {
		select {
		case <-b.flag.ahead:
		case <-ctx.Done():
			return
		}
		call, cancel := context.WithTimeout(ctx, flagTime)
		_ = b.flag.raise(call, raiseAhead) // if it fails, the next batch tries again and says so
		cancel()
	}
}

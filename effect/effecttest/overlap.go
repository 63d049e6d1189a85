package effecttest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/drainmark/drainmark/effect"
)

// twoPartitions applies the samples in two logs at the same time. The outcome must be that of one behind the other.
func (b *bench) twoPartitions(t tb) {
	one, two := b.good, b.entriesOf(b.other, false)
	w := b.world(t)
	first, second := w.consume(b.log), w.consume(b.other)
	if waiting := b.waiting(); waiting != nil {
		overlap(&first.hook, &second.hook, func(ctx context.Context) (bool, error) { return waiting(ctx, w.at) })
	}
	turns := turnsOf(2)
	other := make(chan error, 1)
	go func() { other <- turns.try(t.Context(), second, two) }()
	err := turns.try(t.Context(), first, one)
	if err = errors.Join(err, <-other); err != nil {
		t.Fatalf("two partitions at the same time: %v", err)
	}
	got := w.state()
	forward := b.sequence(t, one, two)
	lines := got.differences(forward, b.Ignore)
	if len(lines) == 0 || len(got.differences(b.sequence(t, two, one), b.Ignore)) == 0 {
		return
	}
	w.differs("applied in two partitions at the same time, the records give what they give in neither order", lines,
		`Consumers apply different partitions at the same time, in transactions that do not see each other. What is read may have
  changed when it is written: write UPDATE … SET n = n + 1, or lock what you read (SELECT … FOR UPDATE).`)
}

// sequence applies two parts, each of a log of its own, one behind the other.
func (b *bench) sequence(t tb, parts ...[]entry) state {
	w := b.world(t)
	for _, part := range parts {
		w.consume(part[0].record.Log).apply(part)
	}
	return w.state()
}

// turns lets the first commits of consumers happen at the same time, and what comes after them in turn: whoever needs
// further commits, because the first one failed, makes all of them before another one goes on. Otherwise the commits of
// right effects too could mix in more orders than the ones that are looked for.
type turns struct {
	first sync.WaitGroup // those first commits that have not ended
	rest  sync.Mutex     // held by the one that makes its further commits
}

func turnsOf(consumers int) *turns {
	var all turns
	all.first.Add(consumers)
	return &all
}

// try is c.try in its turn. Each of the consumers has to call it, at the same time.
func (all *turns) try(ctx context.Context, c *consumer, entries []entry) error {
	ended := sync.OnceFunc(all.first.Done)
	defer ended()
	commits := 0
	c.turn = func() func() {
		if commits++; commits == 2 {
			all.first.Wait()
			all.rest.Lock()
		}
		return ended
	}
	err := c.try(ctx, entries)
	if commits > 1 {
		all.rest.Unlock()
	}
	return err
}

// overlap has two calls happen at the same time: both begin before either goes on, and neither is committed before the
// other one has ended too, or waits for a lock.
func overlap(a, b *hook, waiting func(context.Context) (bool, error)) {
	begun := map[*hook]chan struct{}{a: make(chan struct{}), b: make(chan struct{})}
	ended := map[*hook]chan struct{}{a: make(chan struct{}), b: make(chan struct{})}
	for own, other := range map[*hook]*hook{a: b, b: a} {
		beginning, ending := true, true // of the first call alone: another one is a retry
		own.before = func(ctx context.Context) {
			if !beginning {
				return
			}
			beginning = false
			close(begun[own])
			select {
			case <-begun[other]:
			case <-ctx.Done():
			}
		}
		own.after = func(ctx context.Context, _ []effect.Record, err error) error {
			if !ending {
				return err
			}
			ending = false
			close(ended[own])
			return errors.Join(err, awaitEnd(ctx, ended[other], waiting))
		}
	}
}

// awaitEnd waits until a call has ended, or until somebody waits for a lock, which must be that call.
func awaitEnd(ctx context.Context, ended <-chan struct{}, waiting func(context.Context) (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if waits, err := waiting(ctx); waits || err != nil {
				return err
			}
		}
	}
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// halting says whether it takes anything, and confirms nothing while it does not.
type halting struct {
	*moody
	halted atomic.Bool
}

func (h *halting) Ping(ctx context.Context) error {
	if h.halted.Load() {
		return fmt.Errorf("%w: short of memory", broker.ErrFull)
	}
	return h.moody.Ping(ctx)
}

// A broker that is short of memory reads nothing more from publishers: the batch in flight is in doubt. Waiting and new
// requests are told at once, and when the broker reads again everything goes on.
func TestABrokerThatSaysThatItIsFullAndDoesNotConfirm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &halting{moody: &moody{Broker: brokermemory.NewServer(brokermemory.Options{Ordered: true}).Connect()}}
		b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{PublishAttempt: 15 * time.Second})
		queue.halted.Store(true)
		queue.from(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		first := make(chan error)
		go func() { first <- appending(b, "log", 10, 10*time.Second) }()
		time.Sleep(100 * time.Millisecond)
		for _, c := range []struct {
			who    string
			within time.Duration
		}{{"who waits behind it", 2 * time.Second}, {"who comes later", time.Millisecond}} {
			begun := time.Now()
			err := appending(b, "log", 10, 10*time.Second)
			if took := time.Since(begun); drainmark.KindOf(err) != drainmark.KindBacklogFull || took > c.within {
				t.Errorf("%s is told after %v: %v", c.who, took, err)
			}
		}
		if err := <-first; drainmark.KindOf(err) != drainmark.KindOutcomeUnknown {
			t.Errorf("whose batch is in flight is told: %v", err)
		}
		time.Sleep(time.Minute)
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("a full broker makes it not ready: %v", err)
		}
		queue.halted.Store(false)
		queue.from(nil)
		time.Sleep(time.Minute)
		if err := appending(b, "log", 10, time.Second); err != nil {
			t.Errorf("when the broker takes appends again: %v", err)
		}
	})
}

// A misconfigured broker is not called unavailable, and its error does not take ten seconds.
func TestAMisconfiguredBrokerIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]error{
		"certainly not stored": fmt.Errorf("%w: %w: the queue is another", broker.ErrNotSent, broker.ErrMisconfigured),
		"in doubt":             fmt.Errorf("%w: the queue is another", broker.ErrMisconfigured),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				queue := &moody{Broker: brokermemory.NewServer(brokermemory.Options{Ordered: true}).Connect()}
				b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{})
				queue.from(func(context.Context) error { return broken })
				if errors.Is(broken, broker.ErrNotSent) {
					begun := time.Now()
					err := appending(b, "log", 10, 10*time.Second)
					if took := time.Since(begun); drainmark.KindOf(err) != drainmark.KindMisconfigured || took > time.Second {
						t.Errorf("after %v: %v", took, err)
					}
				} else {
					go func() { _ = appending(b, "log", 10, time.Second) }()
				}
				time.Sleep(time.Second)
				begun := time.Now()
				err := appending(b, "log", 10, 10*time.Second)
				if took := time.Since(begun); drainmark.KindOf(err) != drainmark.KindMisconfigured || took > time.Second {
					t.Errorf("the next, after %v: %v", took, err)
				}
				queue.from(nil)
				time.Sleep(10 * time.Second)
				if err := appending(b, "log", 10, time.Second); err != nil {
					t.Errorf("when it is repaired: %v", err)
				}
			})
		})
	}
}

// A backend whose batches nobody confirms is not ready, as long as no partition works: it may have the wrong node. One
// partition that is stuck takes no backend out of service.
func TestReadyKnowsABrokerThatConfirmsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &stuckPartition{Broker: brokermemory.NewServer(brokermemory.Options{Partitions: 2, Ordered: true}).Connect()}
		b := serving(t, queue, storememory.NewDB().Reader(), 2, Limits{PublishAttempt: 15 * time.Second})
		go func() { _ = appending(b, logIn(1, 2), 10, time.Hour) }()
		time.Sleep(3 * time.Second)
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("after three seconds: %v", err)
		}
		time.Sleep(time.Minute)
		if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "confirmed nothing") {
			t.Errorf("after a minute: %v", err)
		}
		if err := appending(b, logIn(0, 2), 10, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("when another partition confirms: %v", err)
		}
	})
}

// stuckPartition confirms nothing in partition 1.
type stuckPartition struct{ broker.Broker }

func (s *stuckPartition) Publish(ctx context.Context, partition int, b broker.Batch) error {
	if partition == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Broker.Publish(ctx, partition, b)
}

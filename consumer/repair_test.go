package consumer

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
)

// damagedStore is a store with one kind of call that fails until somebody repairs it.
type damagedStore struct {
	store.Store
	call atomic.Pointer[string] // which, nil for none
}

func (s *damagedStore) breaks(call string) { s.call.Store(&call) }

func (s *damagedStore) fails(call, doing string) error {
	if broken := s.call.Load(); broken != nil && *broken == call {
		return fmt.Errorf("%s: %w", doing, store.Misconfigured("/data/store.db is damaged"))
	}
	return nil
}

func (s *damagedStore) Write(ctx context.Context, w store.Write) error {
	if err := s.fails("Write", "committing to partition 0"); err != nil {
		return err
	}
	return s.Store.Write(ctx, w)
}

func (s *damagedStore) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	if err := s.fails("Heartbeat", "sending a heartbeat"); err != nil {
		return store.Group{}, err
	}
	return s.Store.Heartbeat(ctx, owner, ttl)
}

func (s *damagedStore) Claim(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	if err := s.fails("Claim", "claiming partition 0"); err != nil {
		return drainmark.Progress{}, err
	}
	return s.Store.Claim(ctx, c, ttl)
}

func (s *damagedStore) Sweep(ctx context.Context, sweep store.Sweep) (bool, error) {
	if err := s.fails("Sweep", "sweeping partition 0"); err != nil {
		return false, err
	}
	return s.Store.Sweep(ctx, sweep)
}

// A store that somebody has to repair is an error in the log, in few lines, and a metric, and makes the consumer not
// ready at once. It goes on by itself when it has been repaired.
func TestAStoreThatHasToBeRepaired(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Write", "Heartbeat", "Claim", "Sweep"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
				var damaged *damagedStore
				r.wrapStore = func(s store.Store) store.Store {
					damaged = &damagedStore{Store: s}
					return damaged
				}
				broken := func() float64 { return testutil.ToFloat64(r.consumer.metrics.storeBroken) }
				r.begin()
				r.publish(1, message("a"))
				r.Wait(time.Second)
				if err := r.consumer.Ready(); err != nil || broken() != 0 {
					r.Fatalf("before: %v, store_broken %v", err, broken())
				}
				damaged.breaks(call)
				r.publish(2, message("b"))
				if call == "Claim" {
					r.consumer.mu.Lock()
					r.consumer.draining[0].interrupt() // so that it claims again
					r.consumer.mu.Unlock()
				}
				r.Wait(r.consumer.limits.Sweep + time.Second)
				err := r.consumer.Ready()
				if notReady := call != "Sweep"; (err != nil) != notReady || notReady && strings.Count(err.Error(), "/data/store.db is damaged") != 1 {
					r.Errorf("while it is damaged, readiness is %v", err)
				}
				r.Wait(time.Minute)
				if broken() != 1 {
					r.Errorf("while it is damaged, store_broken is %v", broken())
				}
				damaged.call.Store(nil)
				r.Wait(time.Minute)
				if err := r.consumer.Ready(); err != nil || broken() != 0 {
					r.Errorf("when it is repaired: %v, store_broken %v", err, broken())
				}
				r.expect("a", "b")
				r.stop()
				r.stop = nil
				said := r.logged.String()
				if n := strings.Count(said, "level=ERROR"); n < 1 || n > 10 || strings.Count(said, "the store can be used again") != 1 {
					r.Errorf("%d errors:\n%s", n, said)
				}
				if n := strings.Count(said, "level=WARN"); n > 5 {
					r.Errorf("%d warnings:\n%s", n, said)
				}
			})
		})
	}
}

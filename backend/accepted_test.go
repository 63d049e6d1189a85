package backend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

func TestAccepted(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	done := func(runs ...[2]uint64) (p drainmark.ProducerProgress) {
		for _, r := range runs {
			p.Done = p.Done.Add(r[0], r[1])
		}
		return p
	}
	var a accepted
	if n, since := a.pending(done()); n != 0 || !since.IsZero() {
		t.Errorf("of nothing, %d are pending since %v", n, since)
	}
	for i := range uint64(10) { // one to ten, one a second
		a.confirmed(i+1, start.Add(time.Duration(i)*time.Second))
	}
	a.confirmed(12, start.Add(9500*time.Millisecond))
	for _, c := range []struct {
		done  drainmark.ProducerProgress
		want  uint64
		since time.Duration
	}{
		{done(), 12, 0},
		{done([2]uint64{1, 3}), 9, 3 * time.Second},
		{done([2]uint64{1, 4}, [2]uint64{6, 8}), 5, 4 * time.Second},
		{done([2]uint64{1, 11}), 1, 9 * time.Second}, // as old as the first of its second
	} {
		if n, since := a.pending(c.done); n != c.want || since != start.Add(c.since) {
			t.Errorf("with %v persisted, %d are pending since %v, not %d since %v", c.done.Done, n, since.Sub(start), c.want, c.since)
		}
	}
	if n, since := a.pending(done([2]uint64{1, 12})); n != 0 || !since.IsZero() {
		t.Errorf("when all is persisted, %d are pending since %v", n, since)
	}
}

// The memory of accepted records is bounded however long nothing is persisted, and no age is said to be less than it
// is.
func TestAcceptedIsBounded(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	var a accepted
	const seconds = 100_000
	for i := range uint64(seconds) {
		a.confirmed(i+1, start.Add(time.Duration(i)*time.Second))
		if len(a.stretches) > maxStretches {
			t.Fatalf("%d stretches are remembered", len(a.stretches))
		}
	}
	for persisted := uint64(0); persisted < seconds; persisted += 777 {
		var p drainmark.ProducerProgress
		if persisted > 0 {
			p.Done = p.Done.Add(1, persisted)
		}
		n, since := a.pending(p)
		if n != seconds-persisted {
			t.Fatalf("with %d persisted, %d are pending", persisted, n)
		}
		if real := start.Add(time.Duration(persisted) * time.Second); since.After(real) || real.Sub(since) > seconds/100*time.Second {
			t.Fatalf("with %d persisted, the oldest is pending since %v, really since %v", persisted, since.Sub(start), real.Sub(start))
		}
	}
}

func oldest(b PartitionBacklog) time.Duration {
	age, _ := b.Oldest()
	return age
}

// uncounted is a broker that cannot count.
type uncounted struct{ broker.Broker }

func (u uncounted) Backlog(ctx context.Context, partition int, p drainmark.Progress) (broker.Backlog, error) {
	_, err := u.Broker.Backlog(ctx, partition, p)
	return broker.Backlog{}, err
}

// If the broker cannot count, the backlog is what this backend has accepted, and is said to be a lower bound.
func TestBacklogOfABrokerThatCannotCount(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.Backend.broker = uncounted{s.Backend.broker}
		s.append("log", "a", "b", "c")
		synctest.Wait()
		time.Sleep(10 * time.Second)
		backlog, err := s.Backlog(s.Context())
		if err != nil || backlog[0].Pending != (broker.Count{Records: 3}) || backlog[0].Stalled == "" || oldest(backlog[0]) != 10*time.Second {
			s.Errorf("with no consumer the backlog is %+v (%v)", backlog, err)
		}
		s.drain()
		r := s.append("log", "d")
		s.state(r, time.Minute)
		backlog, err = s.Backlog(s.Context())
		if err != nil || backlog[0].Pending != (broker.Count{}) || !backlog[0].OldestAt.IsZero() {
			s.Errorf("drained, the backlog is %+v (%v)", backlog, err)
		}
	})
}

package backend

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/test/testbed"
)

// wants checks how many consumers are wanted, and what the answer says of it.
func (s *system) wants(consumers int, says string) {
	s.Helper()
	w := s.Consumers(s.Context())
	said := w.Reason
	if w.Unknown != nil {
		said = w.Unknown.Error()
	}
	if w.Consumers != consumers || !strings.Contains(said, says) || w.Backend != s.ID() {
		s.Errorf("%d consumers are wanted (%q, unknown %v, %+v), not %d because of %q",
			w.Consumers, w.Reason, w.Unknown, w.Pending, consumers, says)
	}
}

// declareLost gives up the first missing records of a partition.
func (s *system) declareLost(partition int) {
	s.Helper()
	lost := s.Progress(partition).Missing()[0].String()
	if _, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Discard, Target: lost}); err != nil {
		s.Fatal(err)
	}
}

func TestConsumersWhereTheBrokerCounts(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 2, func(s *system) {
		s.wants(0, "")
		s.append("log", "a")
		s.wants(1, "1 record is accepted and not persisted")
		s.append("log", "b")
		s.wants(1, "2 records are accepted and not persisted")
		s.drain()
		s.Wait(time.Second)
		s.wants(0, "")
		s.undrain()
		s.Wait(time.Hour)
		s.wants(0, "")
		if _, err := s.Barrier(s.Context(), nil); err != nil {
			s.Fatal(err)
		}
		s.wants(1, "2 records") // a barrier that waits needs somebody too
	})
}

// Records that another backend has accepted count, also if it is gone.
func TestConsumersForWhatADeadBackendHasAccepted(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		other, err := New(Config{Broker: s.Connect(), Reader: s.reader, Deployment: s.Deployment, Logger: s.Logger()})
		if err != nil {
			s.Fatal(err)
		}
		stop := s.Start(other.Run)
		if _, err := other.Append(s.Context(), "log", testbed.Appends("log", "x")); err != nil {
			s.Fatal(err)
		}
		stop()
		s.wants(1, "1 record")
	})
}

func TestSoManyConsumers(t *testing.T) {
	t.Parallel()
	for pending, want := range map[uint64]int{0: 1, 1: 1, 10_000: 1, 10_001: 2, 20_000: 2, 39_999: 4, 1 << 62: 4} {
		if got := consumersFor(pending, 4); got != want {
			t.Errorf("%d pending records are worth %d consumers, not %d", pending, got, want)
		}
	}
}

// unasked is a broker that is not asked for the backlog with success while it fails.
type unasked struct {
	broker.Broker
	fails *atomic.Bool
}

func (u unasked) Backlog(ctx context.Context, partition int, p drainmark.Progress) (broker.Backlog, error) {
	if u.fails.Load() {
		return broker.Backlog{}, errors.New("it is away")
	}
	return u.Broker.Backlog(ctx, partition, p)
}

func TestConsumersWhileSomethingIsNotKnown(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		var fails atomic.Bool
		s.Backend.broker = unasked{s.Backend.broker, &fails}
		fails.Store(true)
		s.wants(1, "it is away")
		fails.Store(false)
		s.wants(0, "")
	})
	t.Run("a broker that cannot count", func(t *testing.T) {
		t.Parallel()
		running(t, Limits{}, 1, func(s *system) {
			s.Backend.broker = uncounted{s.Backend.broker}
			s.wants(1, "cannot count")
			s.append("log", "a", "b")
			s.wants(1, "at least 2 records are accepted and not persisted")
		})
	})
}

// Missing records are accepted and not persisted until somebody declares them lost.
func TestConsumersForMissingRecords(t *testing.T) {
	t.Parallel()
	runningOn(t, brokermemory.Options{Ordered: true}, Limits{}, func(s *system) {
		s.append("log", "a")
		if err := s.Server.Purge(0); err != nil {
			s.Fatal(err)
		}
		s.append("log", "b")
		s.drain()
		s.Wait(time.Minute)
		s.wants(1, "the broker did not deliver 1 accepted records")
		synctest.Wait()
		s.declareLost(0)
		s.Wait(time.Second)
		s.wants(0, "")
	})
}

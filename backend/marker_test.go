package backend

import (
	"fmt"
	"testing"
	"time"

	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/test/testbed"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Everybody notices what a purge has taken while the backend that had accepted it lives, even if that one is never
// asked for anything again.
func TestAPurgedQueueIsNoticedByOthers(t *testing.T) {
	t.Parallel()
	for _, replays := range []bool{false, true} {
		t.Run(fmt.Sprint("the broker replays: ", replays), func(t *testing.T) {
			testbed.Run(t, brokermemory.Options{Ordered: true, Replays: replays}, func(b *testbed.Bed) {
				s := &system{Bed: b}
				s.Backend = s.another(nil)
				other := s.another(nil)
				for range 150 {
					s.append("log", "gone")
				}
				if err := s.Server.Purge(0); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
				if n := testutil.ToFloat64(s.metrics.markers); n != 0 {
					t.Errorf("%v markers were sent while no consumer ran", n)
				}
				s.drain()
				time.Sleep(time.Minute)
				r, err := other.Barrier(s.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				status, err := other.Status(s.Context(), r, time.Minute)
				if err != nil || status.State != Stalled || status.Missing != 150 {
					t.Errorf("the other's barrier is %s, %d missing: %s (%v)", status.State, status.Missing, status.Reason, err)
				}
				time.Sleep(6 * time.Hour)
				if n := testutil.ToFloat64(s.metrics.markers); n != 1 {
					t.Errorf("%v markers were sent, not 1", n)
				}
			})
		})
	}
}

// another starts one more backend on the same broker and database, with a wall clock of its own if it is given one.
func (s *system) another(now func() time.Time) *Backend {
	s.Helper()
	b, err := New(Config{Broker: s.Server.Connect(), Reader: s.DB.Reader(), Deployment: s.Deployment, Now: now, Logger: quiet()})
	if err != nil {
		s.Fatal(err)
	}
	s.Start(b.Run)
	return b
}

// While all is well no marker is sent, however much there is. While somebody holds the partition and persists nothing,
// markers become rare.
func TestMarkersAreFew(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		for range 100 {
			s.append("log", "a")
			time.Sleep(3 * time.Second)
		}
		time.Sleep(time.Hour)
		if n := testutil.ToFloat64(s.metrics.markers); n != 0 {
			s.Errorf("%v markers were sent while all was well", n)
		}
	})
	running(t, Limits{}, 1, func(s *system) {
		c := consumer.New(consumer.Config{Broker: shutBroker{s.Server.Connect()}, Store: s.DB.Store(), Owner: "shut-out", Partitions: 1, Logger: quiet()})
		s.Start(c.Run)
		s.append("log", "a")
		time.Sleep(6 * time.Hour)
		if n := testutil.ToFloat64(s.metrics.markers); n < 1 || n > 20 {
			s.Errorf("%v markers were sent in six hours in which nothing was drained", n)
		}
	})
}

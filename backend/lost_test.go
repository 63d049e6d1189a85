package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// When the store has lost its tail, a backend reports how many of its own records that was, also when the consumer that
// had committed them is gone.
func TestReportsItsLostRecords(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		s.state(s.append("log", "a", "b"), time.Minute)
		last := s.append("log", "c", "d", "e")
		if state := s.state(last, time.Minute); state != Persisted {
			s.Fatalf("before the accident the last append is %s", state)
		}
		s.undrain()
		if err := s.DB.Rollback(1); err != nil {
			s.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if lost := testutil.ToFloat64(s.metrics.lostRecords); lost != 3 {
			s.Errorf("%v records are said to be lost; 3 are", lost)
		}
		if state := s.state(last, 0); state == Persisted {
			s.Error("the lost append is still said to be persisted")
		}
		s.drain()
		s.state(s.append("log", "f"), time.Minute)
		if lost := testutil.ToFloat64(s.metrics.lostRecords); lost != 3 {
			s.Errorf("later %v records are said to be lost; 3 are", lost)
		}
	})
}

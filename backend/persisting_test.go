package backend

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
)

// claim takes partition 0 as a consumer does that gets no further.
func (s *system) claim() {
	s.Helper()
	claim := store.Claim{Owner: "idle", Epoch: uint64(time.Now().UnixNano())}
	if _, err := s.db.Store().Claim(s.Context(), claim, time.Minute); err != nil {
		s.Fatal(err)
	}
}

func TestStalledSaysForHowLongSomethingHasWaited(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		time.Sleep(9 * time.Hour)
		status, err := s.Status(s.Context(), s.append("log", "a"), 6*time.Second)
		if err != nil || status.State != Stalled || !strings.Contains(status.Reason, "waited for 6s") {
			s.Errorf("after a quiet night: %+v, %v", status, err)
		}
	})
}

func TestBarriersAskedForAgainAndAgainAreStalledInTheEnd(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		var states []State
		for range 4 {
			r, err := s.Barrier(s.Context(), nil)
			if err != nil {
				s.Fatal(err)
			}
			states = append(states, s.state(r, 3*time.Second))
		}
		if states[0] != Pending || states[2] != Stalled || states[3] != Stalled {
			s.Errorf("new barriers, each with a wait of 3 s, are %v", states)
		}
	})
}

func TestPersisting(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		expect := func(what string, known bool, says string) {
			s.Helper()
			now := s.Working(s.Context())
			reason := ""
			if now.Persisting != nil {
				reason = now.Persisting.Error()
			}
			if now.PersistingUnknown == known || (says == "") != (reason == "") || !strings.Contains(reason, says) {
				s.Errorf("%s: known %v, reason %q", what, !now.PersistingUnknown, reason)
			}
		}
		expect("just started", false, "no consumer holds partition 0")
		time.Sleep(6 * time.Second)
		expect("without a consumer for 6 s", true, "no consumer holds partition 0")
		s.claim()
		expect("held, and nothing waits", true, "")
		s.append("log", "a")
		time.Sleep(4 * time.Second)
		expect("held, and something waits for 4 s", true, "")
		time.Sleep(2 * time.Second)
		expect("held by a consumer that persists nothing, and something waits for 6 s", true, "waited for 6s")
		time.Sleep(time.Minute) // its lease is over
		s.drain()
		s.append("log", "b")
		time.Sleep(time.Second)
		expect("with a consumer", true, "")
		time.Sleep(time.Hour)
		expect("a quiet hour later", true, "")
		_ = s.reader.Close()
		expect("when the store does not answer", false, "reading who holds the partitions")
	})
}

func TestWhatIsNotPersistedIsLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		lines := func(what string, want ...string) {
			s.Helper()
			got := slices.DeleteFunc(s.logged.about("persisted"), func(line string) bool { return strings.Contains(line, "a marker is sent") })
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || !strings.Contains(got[i], want[i]) {
					s.Fatalf("%s: logged %q, want %q", what, got, want)
				}
			}
		}
		time.Sleep(time.Hour)
		lines("while nothing waits")
		s.append("log", "a")
		time.Sleep(29 * time.Second)
		lines("something waits for 29 s")
		time.Sleep(5 * time.Second)
		lines("something waits for 34 s", "level=WARN msg=\"nothing is being persisted")
		for range 1000 {
			s.append("log", "b")
		}
		time.Sleep(time.Hour)
		lines("an hour later", "WARN", "WARN", "WARN", "WARN", "WARN", "WARN")
		s.drain()
		time.Sleep(10 * time.Second)
		lines("with a consumer", "persisted again")
	})
}

package backend

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
)

// claim takes partition 0 as a consumer does that gets no further.
func (s *system) claim() {
	s.Helper()
	claim := store.Claim{Owner: "idle", Token: uint64(time.Now().UnixNano())}
	if _, err := s.DB.Store().Claim(s.Context(), claim, time.Minute); err != nil {
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
		expect("just started", false, "partition 0: no claim on it is in force")
		time.Sleep(6 * time.Second)
		expect("without a consumer for 6 s", true, "partition 0: no claim on it is in force")
		s.claim()
		expect("held, and nothing waits", true, "")
		s.append("log", "a")
		time.Sleep(4 * time.Second)
		expect("held, and something waits for 4 s", true, "")
		time.Sleep(2 * time.Second)
		expect("held by a consumer that persists nothing, and something waits for 6 s", true, "waited for 6s")
		time.Sleep(time.Minute) // its lease is over
		expect("its claim is not in force any more", true, "none can write to the store; idle has held it until some ")
		s.drain()
		s.append("log", "b")
		time.Sleep(time.Second)
		expect("with a consumer", true, "")
		time.Sleep(time.Hour)
		expect("a quiet hour later", true, "")
		_ = s.reader.Close()
		expect("when the store does not answer", false, "reading the claims")
	})
}

func TestWhatIsNotPersistedIsLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		lines := func(what string, want ...string) {
			s.Helper()
			got := slices.DeleteFunc(s.Logged.About("persisted"), func(line string) bool { return strings.Contains(line, "a marker is sent") })
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

// When a receipt was issued, it says by the clock of another backend. That clock does not decide whether it is stalled.
func TestNoWallClockMakesAReceiptStalled(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{0, 3 * time.Hour, -3 * time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour} {
		running(t, Limits{}, 1, func(s *system) {
			expect := func(what string, r drainmark.Receipt, wait time.Duration, want State, says string) {
				s.Helper()
				status, err := s.Status(s.Context(), r, wait)
				if err != nil || status.State != want || !strings.Contains(status.Reason, says) {
					s.Errorf("a receipt whose clock is off by %s, %s, is %s because of %q, want %s: %v", off, what, status.State, status.Reason, want, err)
				}
			}
			other := s.another(func() time.Time { return time.Now().Add(off) })
			time.Sleep(9 * time.Hour)
			r, err := other.Append(s.Context(), "log", []drainmark.Record{{Kind: drainmark.Append, Log: "log", Body: []byte("a")}})
			if err != nil {
				s.Fatal(err)
			}
			expect("that is new", r, 0, Pending, "")
			expect("asked for 3 s", r, 3*time.Second, Pending, "")
			expect("asked for again, after 6 s in all", r, 3*time.Second+1, Stalled, "waited for 6s")
			s.drain()
			expect("with a consumer", r, time.Minute, Persisted, "")
			time.Sleep(time.Hour)
			expect("an hour later", r, 0, Persisted, "")
		})
	}
}

// Since when something waits that another backend has accepted, the broker says by its clock.
func TestNoWallClockOfTheBrokerMakesTheBacklogStalled(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		options := brokermemory.Options{Partitions: 1, Ordered: true, Now: func() time.Time { return time.Now().Add(off) }}
		runningOn(t, options, Limits{}, func(s *system) {
			other := s.another(nil)
			time.Sleep(9 * time.Hour)
			if _, err := other.Append(s.Context(), "log", []drainmark.Record{{Kind: drainmark.Append, Log: "log", Body: []byte("a")}}); err != nil {
				s.Fatal(err)
			}
			for after, stalls := range []bool{false, false, true} {
				backlog, err := s.Backlog(s.Context())
				if err != nil || (backlog[0].Stalled != "") != stalls || oldest(backlog[0])/time.Second != time.Duration(3*after) {
					s.Errorf("a broker's clock is off by %s: %d s after the append the backlog is %+v, %v", off, 3*after, backlog[0], err)
				}
				time.Sleep(3 * time.Second)
			}
			s.drain()
			time.Sleep(time.Second)
			if backlog, err := s.Backlog(s.Context()); err != nil || backlog[0].Stalled != "" {
				s.Errorf("drained, the backlog is %+v, %v", backlog[0], err)
			}
		})
	}
}

func TestWhenMarksWereAskedForFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a asked
		run := func(n int) drainmark.Span { return drainmark.Span{First: 1, Last: uint64(n)} }
		began := time.Now()
		for n := range maxAsked {
			a.since(run(n))
		}
		time.Sleep(time.Hour)
		for n := range maxAsked {
			if at := a.since(run(n)); !at.Equal(began) {
				t.Fatalf("mark %d was asked for first at %s, not at %s", n, at, began)
			}
		}
		for n := range 10 * maxAsked { // more than are remembered
			a.since(run(maxAsked + n))
			if at := a.since(run(0)); !at.Equal(began) {
				t.Fatalf("what is asked for again and again is forgotten after %d others", n)
			}
			if len(a.young)+len(a.old) > 2*maxAsked {
				t.Fatalf("%d marks are remembered", len(a.young)+len(a.old))
			}
		}
		if at := a.since(run(1)); at.Equal(began) {
			t.Error("what was not asked for again is remembered for ever")
		}
	})
}

package consumer

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A gap has everything read again. Records that are gone by then had been persisted. They are no loss, neither now nor
// later, because the search never moves the store's cursor back.
func TestWhatIsPurgedAfterItWasPersistedIsNoLoss(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		seen := &cursors{}
		r.wrapStore = func(s store.Store) store.Store { return watched{s, seen} }
		r.limits.CommitRecords = 1 // records read again have commits of their own
		for i := range uint64(3) {
			r.publish(i+1, message(strconv.FormatUint(i+1, 10)))
		}
		r.begin()
		r.Wait(time.Second)
		if err := r.Server.Purge(0); err != nil {
			t.Fatal(err)
		}
		r.publish(4, message("4"))
		r.publish(5, message("5"))
		r.Wait(time.Second)
		r.publish(7, message("7"))
		r.Wait(time.Minute)
		r.expect("1", "2", "3", "4", "5", "7")
		if missing := r.progress().Missing(); len(missing) != 1 || missing[0].First != 6 || missing[0].Last != 6 {
			t.Errorf("missing are %v, not 6", missing)
		}
		if letters := r.letters(); len(letters) != 0 {
			t.Errorf("what had been persisted is told as lost: %q", letters[0].Reason)
		}
		if n := testutil.ToFloat64(r.consumer.metrics.brokerLosses); n != 0 {
			t.Errorf("%v losses are counted", n)
		}
		if before, after := seen.wentBack(); after != "" {
			t.Errorf("the store's cursor went from %q back to %q", before, after)
		}
	})
}

// A purge before the records had been read, and a gap, come at once. The loss that is told is neither too small nor too
// large.
func TestALossBesideAGapIsToldOnce(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		r.publish(1, message("1"))
		r.publish(2, message("2"))
		r.begin()
		r.Wait(time.Second)
		r.stop()
		r.publish(3, message("3"))
		r.publish(4, message("4"))
		if err := r.Server.Purge(0); err != nil {
			t.Fatal(err)
		}
		r.publish(6, message("6"))
		r.begin()
		r.Wait(time.Minute)
		r.expect("1", "2", "6")
		letters := r.letters()
		if len(letters) != 1 || !strings.Contains(letters[0].Reason, "the batches 3 to 4 were purged") {
			t.Errorf("the dead letters are %+v, want one that says that the batches 3 to 4 were purged", letters)
		}
		if n := testutil.ToFloat64(r.consumer.metrics.brokerLosses); n != 1 {
			t.Errorf("%v losses are counted, not 1", n)
		}
	})
}

// If somebody knows what was accepted, and shows what is missing, no dead letter stands for what the broker has lost.
// The cursor moves past it all the same.
func TestALossThatIsAccountedForIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
			asked := 0
			r.accounts = func(p drainmark.Progress) bool {
				if asked++; p.Next(r.producer) != 3 {
					t.Errorf("it is asked for %+v", p)
				}
				return known
			}
			r.publish(1, message("1"))
			r.publish(2, message("2"))
			r.begin()
			r.Wait(time.Second)
			r.stop()
			r.publish(3, message("3"))
			if err := r.Server.Purge(0); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				r.begin()
				r.Wait(time.Minute)
				r.stop()
			}
			letters, losses := len(r.letters()), testutil.ToFloat64(r.consumer.metrics.brokerLosses)
			if want := map[bool]int{false: 1}[known]; letters != want || asked != 1 || losses != 0 {
				t.Errorf("if it is known, which is %v: %d letters, asked %d times, and later %v losses", known, letters, asked, losses)
			}
			line := map[bool]string{true: "is accounted for", false: "level=ERROR"}[known]
			if told := strings.Count(r.logged.String(), line); told != 1 {
				t.Errorf("it is said %d times", told)
			}
		})
	}
}

// cursors are those of commits, in order.
type cursors struct {
	mu  sync.Mutex
	all []int
}

// wentBack returns the first two that follow each other in the wrong order.
func (c *cursors) wentBack() (before, after string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.all); i++ {
		if c.all[i] < c.all[i-1] {
			return strconv.Itoa(c.all[i-1]), strconv.Itoa(c.all[i])
		}
	}
	return "", ""
}

// watched is a store that notes the commits' cursors: those of the memory broker, which are numbers.
type watched struct {
	store.Store
	seen *cursors
}

func (s watched) Write(ctx context.Context, w store.Write) error {
	n, err := strconv.Atoi(string(w.Cursor))
	if err != nil && w.Cursor != "" {
		return err
	}
	s.seen.mu.Lock()
	s.seen.all = append(s.seen.all, n)
	s.seen.mu.Unlock()
	return s.Store.Write(ctx, w)
}

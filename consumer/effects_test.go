package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/effect"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// shop counts how often each text was applied, and fails for texts as they say: "poison …" always, "reject …" by saying
// so. What is set here is asked before.
type shop struct {
	calls  int
	answer atomic.Pointer[func(records []effect.Record) error] // nil for the usual
}

// say sets what the shop answers, nil for the usual.
func (s *shop) say(answer func(records []effect.Record) error) {
	if answer == nil {
		s.answer.Store(nil)
		return
	}
	s.answer.Store(&answer)
}

func (s *shop) apply(_ context.Context, tx *storememory.Tx, records []effect.Record) error {
	s.calls++
	answer := s.answer.Load()
	rejected := map[int]string{}
	for i, r := range records {
		text := string(r.Body)
		n, _ := strconv.Atoi(tx.Get(text))
		tx.Put(text, strconv.Itoa(n+1))
		tx.Put("order", tx.Get("order")+" "+text)
		if strings.HasPrefix(text, "reject") {
			rejected[i] = "sold out"
		}
		if strings.HasPrefix(text, "poison") && answer == nil {
			return fmt.Errorf("%q cannot be applied", text)
		}
	}
	if answer != nil {
		if err := (*answer)(records); err != nil {
			return err
		}
	}
	if len(rejected) > 0 {
		return effect.Reject(rejected)
	}
	return nil
}

// withShop runs a test whose consumers apply the effect to the log.
func withShop(t *testing.T, o effect.Options, test func(*rig, *shop)) {
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		s := &shop{}
		r.effects = effect.List{storememory.Effect("log", s.apply, o)}
		test(r, s)
	})
}

// applied fails unless the texts were applied, once each and in this order.
func (r *rig) applied(texts ...string) {
	r.Helper()
	want := map[string]string{}
	for _, text := range texts {
		want[text] = "1"
		want["order"] += " " + text
	}
	if got := r.DB.Table(); !maps.Equal(got, want) {
		r.Errorf("the table is %v, not %v", got, want)
	}
}

func TestAnEffectIsPartOfTheCommit(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{}, func(r *rig, _ *shop) {
		r.begin()
		r.publish(1, message("a"), message("b"))
		r.publish(1, message("a"), message("b")) // again
		r.publish(3, message("c"))
		r.Wait(time.Second)
		r.expect("a", "b", "c")
		r.applied("a", "b", "c")
	})
}

// A failover that loses the tail loses what effects did there too, and the broker supplies it again.
func TestAnEffectIsAppliedAgainWhereItWasLost(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		r.effects = effect.List{storememory.Effect("log", (&shop{}).apply, effect.Options{})}
		r.begin()
		for i, text := range []string{"a", "b", "c"} {
			r.publish(uint64(i+1), message(text))
			r.Wait(time.Second)
		}
		if err := r.DB.Rollback(2); err != nil {
			t.Fatal(err)
		}
		r.publish(4, message("d"))
		r.Wait(10 * time.Second)
		r.expect("a", "b", "c", "d")
		r.applied("a", "b", "c", "d")
	})
}

func TestARejectedRecordIsSetAsideAtOnce(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{}, func(r *rig, s *shop) {
		r.begin()
		r.publish(1, message("a"), message("reject 1"), message("b"), message("reject 2"))
		r.Wait(10 * time.Millisecond)
		r.applied("a", "b")
		r.expect("a", "b")
		letters := r.letters()
		if len(letters) != 2 || letters[0].Reason != "rejected: sold out" || letters[0].Attempts != 1 {
			t.Errorf("the dead letters are %+v", letters)
		}
		if s.calls != 2 {
			t.Errorf("the effect was called %d times, not twice", s.calls)
		}
	})
}

// The record is found among many, tried some times, and set aside alone. Meanwhile readers can tell why.
func TestARecordThatAnEffectFailsForIsFound(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 4}, func(r *rig, _ *shop) {
		r.begin()
		r.publish(1, message("a"), message("b"), message("poison"), message("c"), message("d"))
		r.Wait(80 * time.Millisecond) // less than the first wait lasts with jitter is 50 ms, the second 100
		r.applied("a", "b")
		trouble := r.progress().Trouble
		if trouble == nil || trouble.Effect != "log" || trouble.Reason != `"poison" cannot be applied` || trouble.Attempts < 1 ||
			trouble.Span.First != 3 || trouble.Span.Last != 3 || trouble.Log != "log" || trouble.Stopped {
			t.Errorf("the trouble is %+v", trouble)
		}
		r.Wait(10 * time.Second)
		r.applied("a", "b", "c", "d")
		letters := r.letters()
		if len(letters) != 1 || letters[0].Attempts != 4 || letters[0].Reason != `"poison" cannot be applied` {
			t.Errorf("the dead letters are %+v", letters)
		}
		if trouble := r.progress().Trouble; trouble != nil {
			t.Errorf("there is still trouble: %+v", trouble)
		}
	})
}

// What the database refuses a record for, and the effect says to be a rejection, is one: the record is found and set aside
// without further attempts, and the breaker does not count it.
func TestAViolationThatRejectsIsNoFailure(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Rejects: []string{"sold_out"}}, func(r *rig, s *shop) {
		s.say(func(records []effect.Record) error {
			for _, record := range records {
				if strings.HasPrefix(string(record.Body), "too many") {
					return errSoldOut
				}
			}
			return nil
		})
		records := []drainmark.Record{message("a")}
		for i := range 2 * breakerRow {
			records = append(records, message(fmt.Sprint("too many ", i)))
		}
		r.begin()
		r.publish(1, append(records, message("b"))...)
		r.Wait(10 * time.Millisecond)
		r.applied("a", "b")
		letters := r.letters()
		if r.progress().SetAside != 2*breakerRow || letters[0].Reason != "rejected: nothing is left" || letters[0].Attempts != 1 {
			t.Errorf("%d records are set aside, the first with %+v", r.progress().SetAside, letters[0])
		}
	})
}

var errSoldOut = errors.New("nothing is left")

// A consumer that takes over goes on counting.
func TestAttemptsSurviveAHandOver(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 6}, func(r *rig, s *shop) {
		r.begin()
		r.publish(1, message("poison"))
		r.Wait(500 * time.Millisecond)
		made := s.calls
		if made < 3 || made > 5 {
			t.Fatalf("%d attempts were made in 500 ms", made)
		}
		r.stop()
		r.begin()
		r.Wait(time.Minute)
		letters := r.letters()
		if len(letters) != 1 || letters[0].Attempts != 6 {
			t.Errorf("the dead letters are %+v", letters)
		}
		if s.calls != 6 {
			t.Errorf("%d attempts were made by both, not 6", s.calls)
		}
	})
}

func TestAnEffectThatAsksForTimeIsCalledLater(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{}, func(r *rig, s *shop) {
		until := time.Now().Add(time.Minute)
		s.say(func([]effect.Record) error {
			if time.Now().Before(until) {
				return effect.Wait(20*time.Second, "the warehouse is closed")
			}
			return nil
		})
		r.begin()
		r.publish(1, message("a"), message("b"))
		r.Wait(30 * time.Second)
		if trouble := r.progress().Trouble; trouble == nil || trouble.Reason != "the warehouse is closed" {
			t.Errorf("the trouble is %+v", trouble)
		}
		r.Wait(time.Minute)
		r.applied("a", "b")
		if s.calls != 4 {
			t.Errorf("the effect was called %d times, not 4", s.calls)
		}
	})
}

// What the deployment is to blame for makes no dead letter, however long it lasts.
func TestABrokenDeploymentSetsNothingAside(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 1}, func(r *rig, s *shop) {
		s.say(func([]effect.Record) error { return errNoTable })
		r.begin()
		r.publish(1, message("a"), message("b"))
		r.Wait(2 * time.Minute)
		if trouble := r.progress().Trouble; trouble == nil || trouble.Reason != errNoTable.Error() || trouble.Span.First != 0 {
			t.Errorf("the trouble is %+v", trouble)
		}
		s.say(func([]effect.Record) error { return nil })
		r.Wait(10 * time.Second)
		r.applied("a", "b")
	})
}

var errNoTable = errors.New("there is no table orders")

func TestAPanicIsLikeAnError(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 2}, func(r *rig, s *shop) {
		s.say(func(records []effect.Record) error {
			for _, record := range records {
				if string(record.Body) == "poison" {
					panic("no such thing")
				}
			}
			return nil
		})
		r.begin()
		r.publish(1, message("a"), message("poison"), message("b"))
		r.Wait(time.Minute)
		r.applied("a", "b")
		if letters := r.letters(); len(letters) != 1 || letters[0].Reason != "it panicked: no such thing" {
			t.Errorf("the dead letters are %+v", letters)
		}
	})
}

// An effect that fails for everything does not turn the backlog into dead letters. It goes on by itself when it works
// again.
func TestTheBreakerStopsABrokenEffect(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 1}, func(r *rig, s *shop) {
		s.say(func([]effect.Record) error { return errors.New("a null pointer") })
		const all = 300
		records := make([]drainmark.Record, all)
		for i := range records {
			records[i] = message(fmt.Sprint(i))
		}
		r.publish(1, records...)
		r.begin()
		r.Wait(2 * time.Minute)
		if n := r.progress().SetAside; n != breakerRow {
			t.Errorf("%d records are set aside, not %d", n, breakerRow)
		}
		if trouble := r.progress().Trouble; trouble == nil || !trouble.Stopped || trouble.Log != "log" {
			t.Errorf("the trouble is %+v", trouble)
		}
		r.stop() // who takes over sets nothing aside either
		r.begin()
		r.Wait(2 * time.Minute)
		if n := r.progress().SetAside; n != breakerRow {
			t.Errorf("%d records are set aside after a hand-over, not %d", n, breakerRow)
		}
		s.say(nil)
		r.Wait(time.Minute)
		if n := len(r.texts()); n != all-breakerRow {
			t.Errorf("%d records were applied when the effect works again, not %d", n, all-breakerRow)
		}
	})
}

// A record that is at fault by itself does not hold up a partition that the breaker has stopped.
func TestTheBreakerClosesBehindAPoisonousRecord(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 1}, func(r *rig, s *shop) {
		s.say(func([]effect.Record) error { return errors.New("a null pointer") })
		var records []drainmark.Record
		for i := range breakerRow {
			records = append(records, message(fmt.Sprint(i)))
		}
		records = append(records, message("poison"), message("a"), message("b"))
		r.publish(1, records...)
		r.begin()
		r.Wait(time.Minute)
		s.say(nil)
		r.Wait(time.Minute)
		r.applied("a", "b")
		if n := r.progress().SetAside; n != breakerRow+1 {
			t.Errorf("%d records are set aside, not %d", n, breakerRow+1)
		}
	})
}

// A retry of a dead letter is one attempt.
func TestARetriedLetterIsAppliedOrStays(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Attempts: 2}, func(r *rig, s *shop) {
		r.begin()
		r.publish(1, message("poison"), message("a"))
		r.Wait(10 * time.Second)
		id := r.letters()[0].ID
		r.publish(3, drainmark.Record{Kind: drainmark.Retry, Target: id})
		r.Wait(10 * time.Second)
		if letters := r.letters(); len(letters) != 1 || letters[0].Attempts != 3 {
			t.Errorf("after a retry in vain the dead letters are %+v", letters)
		}
		s.say(func([]effect.Record) error { return nil })
		r.publish(4, drainmark.Record{Kind: drainmark.Retry, Target: id})
		r.Wait(10 * time.Second)
		if n := len(r.letters()); n != 0 {
			t.Errorf("%d dead letters are left after a retry that passes", n)
		}
		r.applied("a", "poison")
	})
}

// Messages of a log that is not kept are applied, have positions, and are not shown.
func TestALogThatIsNotKept(t *testing.T) {
	t.Parallel()
	withShop(t, effect.Options{Unkept: true}, func(r *rig, _ *shop) {
		r.begin()
		r.publish(1, message("a"), message("b"))
		r.Wait(time.Second)
		r.publish(3, message("c"))
		r.Wait(time.Second)
		r.applied("a", "b", "c")
		page, err := r.Reader.Messages(t.Context(), "log", 0, 10)
		if err != nil || len(page.Messages) != 0 || page.Log.LastPosition != 3 || page.Log.ClearedThrough != 3 {
			t.Errorf("the log shows %+v (%v)", page, err)
		}
	})
}

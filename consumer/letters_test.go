package consumer

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// accountsFor expects that the retry with a sequence is reported as rejected, because of a letter that has stayed for a
// reason, or that it is not, if the reason is empty.
func (r *rig) accountsFor(sequence uint64, letter, reason string) {
	r.Helper()
	span := drainmark.Span{Producer: r.producer, First: sequence, Last: sequence}
	found, err := r.Reader.Rejected(context.Background(), 0, []drainmark.Span{span}, 10)
	switch {
	case err != nil:
		r.Errorf("what was set aside of %s: %v", span, err)
	case letter == "":
		if len(found) > 0 {
			r.Errorf("%s is told to be rejected: %+v", span, found)
		}
	case len(found) != 1 || drainmark.RefusedLetter(found[0].ID) != letter || !strings.Contains(found[0].Reason, reason) || !found[0].Discarded:
		r.Errorf("%s is told to be %+v, not rejected because of letter %s: %s", span, found, letter, reason)
	}
}

// A letter may be older than all that is known of its producer. Settling it must not make the rest of that missing.
func TestALetterOfAForgottenProducerIsSettled(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.DB.Refuse = func(_ string, m *drainmark.Message) (string, bool) { return "no", string(m.Body) == "bad" }
		r.limits = seldom
		gone := drainmark.NewProducerID()
		r.begin()
		for sequence, text := range []string{"a", "bad", "bad"} {
			r.publishAt(gone, uint64(sequence+1), 0, message(text))
		}
		r.publish(1, message("b"))
		r.Wait(9 * day)
		r.publish(2, drainmark.Record{Kind: drainmark.Marker})
		r.Wait(time.Minute)
		r.publish(3, drainmark.Record{Kind: drainmark.Marker})
		r.Wait(time.Minute)
		letters := r.letters()
		if p := r.progress(); len(p.Producers) != 1 || len(letters) != 2 {
			t.Fatalf("it is not forgotten yet: %v, and there are %d letters", p.Producers, len(letters))
		}
		r.restart()
		r.publish(4, drainmark.Record{Kind: drainmark.Retry, Target: letters[0].ID}, drainmark.Record{Kind: drainmark.Discard, Target: letters[1].ID})
		r.Wait(time.Minute)
		if p := r.progress(); len(p.Missing()) > 0 || p.SetAside != 1 {
			t.Errorf("missing are %v, and %d records are set aside", p.Missing(), p.SetAside)
		}
		r.accountsFor(4, letters[0].ID, "no")
	})
}

// setAside commits a letter as a consumer before would have, and that its marks are done.
func (r *rig) setAside(letter *drainmark.DeadLetter) {
	r.Helper()
	r.keep(letter, drainmark.Range{First: letter.Span.First, Last: letter.Span.Last})
}

// keep commits a letter as a consumer before would have, and that some marks are done.
func (r *rig) keep(letter *drainmark.DeadLetter, marks ...drainmark.Range) {
	r.Helper()
	ctx, master := context.Background(), r.DB.Store()
	before, err := master.Claim(ctx, store.Claim{Owner: "setup", Token: 1}, time.Minute)
	if err != nil {
		r.Fatal(err)
	}
	done := before.Producers
	if len(marks) > 0 {
		done = map[drainmark.ProducerID]drainmark.ProducerProgress{r.producer: {Done: marks}}
	}
	commit := store.Commit{Token: 1, Revision: before.Revision, Now: time.Now(), Clock: before.Clock, Producers: done,
		Rejected: before.Rejected + 1, Operations: []store.Operation{{Kind: store.SetAside, Letter: letter}}}
	if _, err := store.NewHolder(master, 1).Commit(ctx, commit); err != nil {
		r.Fatal(err)
	}
	if err := master.Leave(ctx, "setup"); err != nil {
		r.Fatal(err)
	}
}

func TestRetryOfAnUndecodedBatchThatCanBeReadNow(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		b := drainmark.Batch{Producer: r.producer, First: 1, Records: []drainmark.Record{message("a"), {Kind: drainmark.Marker}, message("b")}}
		letter := drainmark.DeadLetter{
			ID: b.Span().String(), Span: b.Span(), Reason: "of a newer version", Attempts: 1, Payload: drainmark.EncodeBatch(nil, &b),
		}
		r.setAside(&letter)
		r.begin()
		r.publish(4, drainmark.Record{Kind: drainmark.Retry, Target: letter.ID})
		r.Wait(time.Second)
		r.expect("a", "b")
		if left := r.letters(); len(left) != 0 {
			t.Errorf("left are %+v", left)
		}
	})
}

// A letter that accounts for no marks is retried like a batch that comes late: each of its records is persisted once.
func TestRetryOfAnUndecodedBatchWithoutMarks(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		late := r.batch(2, message("b"), message("c"))
		r.begin()
		r.publish(1, message("a"))
		r.publish(3, message("C"), message("d")) // 2 is missing
		r.Wait(time.Minute)
		r.expect("a", "C", "d")
		r.stop()
		letter := drainmark.DeadLetter{ID: "0-undecoded-1", Reason: "of a newer version", Attempts: 1, Payload: late.Payload}
		r.keep(&letter)
		r.begin()
		r.publish(5, drainmark.Record{Kind: drainmark.Retry, Target: letter.ID})
		r.publishRaw(late.Header, late.Payload)
		r.Wait(time.Minute)
		r.expect("a", "C", "d", "b")
		if left, missing := r.letters(), r.progress().Missing(); len(left) != 0 || len(missing) != 0 {
			t.Errorf("left are %+v, and missing %v", left, missing)
		}
	})
}

// What a letter has kept is not applied if it is not of the marks that the letter accounts for, or of another partition.
func TestRetryOfAnUndecodedBatchThatIsOfSomethingElse(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]drainmark.Batch{
		"other marks":       {First: 1, Records: []drainmark.Record{message("a")}},
		"another partition": {Partition: 1, First: 1, Records: []drainmark.Record{message("a"), message("b")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
				other.Producer = r.producer
				span := drainmark.Span{Producer: r.producer, First: 1, Last: 2}
				r.setAside(&drainmark.DeadLetter{ID: span.String(), Span: span, Reason: "damaged", Attempts: 1, Payload: drainmark.EncodeBatch(nil, &other)})
				r.begin()
				r.publish(3, drainmark.Record{Kind: drainmark.Retry, Target: span.String()})
				r.Wait(time.Second)
				if left := r.letters(); len(r.texts()) != 0 || len(left) != 1 || left[0].Attempts != 2 || !strings.Contains(left[0].Reason, "the batch ") {
					t.Errorf("the log shows %q; left are %+v", r.texts(), left)
				}
			})
		})
	}
}

func TestRetryOfALetterWithoutItsPayload(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		span := drainmark.Span{Producer: r.producer, First: 1, Last: 1}
		r.setAside(&drainmark.DeadLetter{ID: span.String(), Span: span, Reason: "too large", Attempts: 1})
		r.begin()
		r.publish(2, drainmark.Record{Kind: drainmark.Retry, Target: span.String()}, message("a"))
		r.Wait(time.Second)
		r.expect("a")
		left := r.letters()
		if len(left) != 1 || left[0].Attempts != 2 || !strings.Contains(left[0].Reason, "was not kept") {
			t.Errorf("left are %+v", left)
		}
	})
}

// A letter says who has sent its record, and an effect is told of whoever sent what is retried.
func TestALetterKeepsWhoSentIt(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		var cured atomic.Bool
		var seen []string
		r.effects = effect.List{storememory.Effect("log", func(_ context.Context, _ *storememory.Tx, records []effect.Record) error {
			for i := range records {
				seen = append(seen, records[i].Principal)
			}
			return nil
		}, effect.Options{})}
		r.DB.Refuse = func(string, *drainmark.Message) (string, bool) { return "no", !cured.Load() }
		sent := message("a")
		sent.Principal = "shop"
		r.begin()
		r.publish(1, sent)
		r.Wait(5 * time.Second)
		letters := r.letters()
		if record, ok := letters[0].Record(); !ok || record.Principal != "shop" {
			t.Fatalf("the letter is of %+v", record)
		}
		cured.Store(true)
		seen = nil
		r.publish(2, drainmark.Record{Kind: drainmark.Retry, Target: letters[0].ID, Principal: "operator"})
		r.Wait(5 * time.Second)
		r.expect("a")
		if len(seen) != 1 || seen[0] != "shop" {
			t.Errorf("the effect was told of %q", seen)
		}
	})
}

// bodyOf is the body of the record that the letter has kept.
func bodyOf(l drainmark.DeadLetter) string {
	r, _ := l.Record()
	return string(r.Body)
}

// stale is a store that once answers like an old master that no longer gets writes.
type stale struct {
	store.Store
	once *atomic.Bool
}

func (s stale) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	if len(w.Letters) > 0 && s.once.CompareAndSwap(true, false) {
		return store.Found{Version: drainmark.Version{Token: 1, Revision: 1}}, nil
	}
	return s.Store.Find(ctx, partition, w)
}

func TestALetterIsNotLookedUpInAnotherState(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		var once, cured atomic.Bool
		r.wrapStore = func(s store.Store) store.Store { return stale{s, &once} }
		r.DB.Refuse = func(string, *drainmark.Message) (string, bool) { return "no", !cured.Load() }
		r.begin()
		r.publish(1, message("a"))
		r.Wait(5 * time.Second)
		cured.Store(true)
		once.Store(true)
		r.publish(2, drainmark.Record{Kind: drainmark.Retry, Target: r.letters()[0].ID})
		r.Wait(5 * time.Second)
		r.expect("a")
		if left := r.letters(); len(left) != 0 {
			t.Errorf("left are %+v", left)
		}
	})
}

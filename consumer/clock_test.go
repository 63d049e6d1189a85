package consumer

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
)

const day = 24 * time.Hour

// seldom is for tests of days: less happens in them.
var seldom = Limits{Lease: time.Hour, Sweep: 30 * time.Second}

// publishAt publishes a record of a producer that a clock stamped which is off by so much.
func (r *rig) publishAt(producer drainmark.ProducerID, first uint64, off time.Duration, record drainmark.Record) {
	r.Helper()
	record.AcceptedAt = time.Now().Add(off)
	b := drainmark.Batch{Producer: producer, First: first, Records: []drainmark.Record{record}}
	r.publishRaw(broker.Header{Producer: producer, First: first, Last: first}, drainmark.EncodeBatch(nil, &b))
}

func (r *rig) restart() {
	r.stop()
	r.begin()
}

func TestOneWrongClockForgetsNobody(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{8 * day, -8 * day, 400 * day, -400 * day} {
		for _, options := range []brokermemory.Options{{Replays: true}, {Ordered: true}} {
			bubble(t, options, func(r *rig) {
				r.begin()
				r.publish(1, message("a"), message("b"), message("c"))
				r.Wait(time.Second)
				other := drainmark.NewProducerID()
				r.publishAt(other, 1, off, message("x"))
				r.Wait(10 * time.Second)
				r.publishAt(other, 2, -off, message("y")) // and back
				r.Wait(10 * time.Second)
				if next := r.progress().Next(r.producer); next != 4 {
					t.Errorf("a clock off by %s: the other producer goes on with %d, not with 4", off, next)
				}
				r.restart()
				r.publish(4, message("d"))
				r.Wait(time.Minute)
				r.expect("a", "b", "c", "x", "y", "d")
			})
		}
	}
}

// The consumer's own clock is off.
func TestTheConsumersClockForgetsNobody(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{8 * day, -8 * day} {
		bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
			r.now = func() time.Time { return time.Now().Round(0).Add(off) }
			r.begin()
			r.publish(1, message("a"))
			r.Wait(10 * time.Second)
			r.publish(2, message("b"))
			r.Wait(10 * time.Second)
			r.now = nil
			r.restart()
			r.publish(3, message("c"))
			r.Wait(time.Minute)
			r.expect("a", "b", "c")
		})
	}
}

func TestAKeyIsKnownWhateverTheBackendsClocksSay(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		keyed := message("once")
		keyed.Key = "key"
		r.begin()
		r.publish(1, keyed)
		for i, off := range []time.Duration{26 * time.Hour, -26 * time.Hour, 400 * day} {
			r.publishAt(drainmark.ProducerID{byte(i + 1)}, 1, off, keyed)
			r.Wait(10 * time.Second)
		}
		r.expect("once")
	})
}

func TestKeysAndProducersAreForgottenInTime(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		keyed := message("again")
		keyed.Key = "key"
		living := drainmark.NewProducerID()
		r.limits = seldom
		r.begin()
		r.publish(1, keyed)
		r.publishAt(living, 1, 0, drainmark.Record{Kind: drainmark.Marker})
		r.Wait(24 * time.Hour)
		r.publishAt(living, 2, 0, keyed)
		r.Wait(time.Minute)
		r.expect("again") // 24 hours later the key is known
		r.Wait(time.Hour)
		r.publishAt(living, 3, 0, drainmark.Record{Kind: drainmark.Marker})
		r.Wait(time.Minute)
		r.publishAt(living, 4, 0, keyed)
		r.Wait(time.Minute)
		r.expect("again", "again")
		r.Wait(6 * day)
		r.publishAt(living, 5, 0, drainmark.Record{Kind: drainmark.Marker})
		r.Wait(time.Minute)
		if p := r.progress(); p.Next(r.producer) != 2 {
			t.Errorf("a week after its last record the producer is forgotten, at %s: a receipt can be from later than a lost tail", p.Clock)
		}
		r.Wait(day)
		r.publishAt(living, 6, 0, drainmark.Record{Kind: drainmark.Marker})
		r.Wait(time.Minute)
		if p := r.progress(); len(p.Producers) != 1 || p.Next(living) != 7 {
			t.Errorf("eight days after its last record the silent producer is known: %v", p.Producers)
		}
	})
}

// A week without a commit ages nothing by itself: what waits in the broker may be of a producer that was silent since.
func TestALongOutageForgetsNobody(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		other := drainmark.NewProducerID()
		r.limits = seldom
		r.begin()
		r.publish(1, message("a"))
		r.publishAt(other, 1, 0, message("x"))
		r.Wait(8 * day)
		r.publishAt(other, 2, -8*day+time.Hour, message("y")) // accepted at once, and stuck since then
		r.Wait(time.Minute)
		if p := r.progress(); p.Next(r.producer) != 2 || p.Clock > 2*time.Hour {
			t.Errorf("after the outage the clock shows %s, and %v are known", p.Clock, p.Producers)
		}
	})
}

func TestThePartitionsClockNeitherRunsAheadNorBack(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		began := time.Now()
		r.limits = seldom
		r.begin()
		before := time.Duration(0)
		for i, off := range []time.Duration{0, 0, 8 * day, -8 * day, 26 * time.Hour, 0, 400 * day, 0} {
			if i == 3 || i == 5 {
				r.restart()
			}
			r.publishAt(r.producer, uint64(i+1), off, message("m"))
			r.Wait(time.Hour)
			clock := r.progress().Clock
			if clock < before || clock > time.Since(began) {
				t.Errorf("after %s the clock shows %s, and showed %s before", time.Since(began), clock, before)
			}
			before = clock
		}
		if before < 2*time.Hour {
			t.Errorf("after %s the clock shows %s", time.Since(began), before)
		}
	})
}

// mute is a broker that does not say which producers it keeps something from, while it is mute.
type mute struct {
	broker.Broker
	mute *atomic.Bool
}

func (m mute) Keeps(ctx context.Context, partition int, producers []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	if m.mute.Load() {
		return nil, errCut
	}
	return m.Broker.Keeps(ctx, partition, producers)
}

// A silent producer's marks stay while the broker may deliver its records again, because only the marks drop those.
func TestNobodyIsForgottenOfWhomTheBrokerKeepsSomething(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		var silent atomic.Bool
		r.wrap = func(b broker.Broker) broker.Broker { return mute{b, &silent} }
		living, known := drainmark.NewProducerID(), uint64(0)
		live := func(d time.Duration) {
			known++
			r.publishAt(living, known, 0, drainmark.Record{Kind: drainmark.Marker})
			r.Wait(d)
		}
		forgotten := func(when string, want bool) {
			t.Helper()
			if next := r.progress().Next(r.producer); (next == 1) != want {
				t.Fatalf("%s the silent producer goes on with %d", when, next)
			}
		}
		r.limits = seldom
		r.begin()
		r.publish(1, message("a"), message("b"))
		live(time.Minute)
		r.Wait(9 * day)
		live(time.Minute)
		forgotten("while the broker keeps everything,", false)
		r.publishAt(living, known+2, 0, message("d")) // a gap: everything is read again
		r.Wait(time.Minute)
		r.expect("a", "b", "d")
		known += 2
		silent.Store(true)
		if err := r.Server.Trim(0); err != nil {
			t.Fatal(err)
		}
		live(time.Minute)
		forgotten("while the broker does not answer,", false)
		silent.Store(false)
		live(time.Minute)
		forgotten("when the broker has dropped it,", true)
		r.expect("a", "b", "d")
		r.stop()
		if n := strings.Count(r.logged.String(), "no producer is forgotten"); n < 1 || n > 5 {
			t.Errorf("%d lines say that the broker does not answer:\n%s", n, r.logged.String())
		}
	})
}

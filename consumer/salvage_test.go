package consumer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
)

// A broker that keeps no order gives what it is given back to the end of its queue. With more in the queue than is
// delivered at once, each subscription then begins with another gap.
func TestABacklogThatTurnsRoundIsPersisted(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{}, func(r *rig) {
		const each = 2 * receiveBatches / 3
		want := map[string][]string{}
		for _, log := range []string{"a", "b", "c"} {
			r.producer = drainmark.NewProducerID()
			for i := range each {
				text := fmt.Sprint(log, i)
				want[log] = append(want[log], text)
				record := message(text)
				record.Log = log
				r.publish(uint64(i+1), record)
			}
		}
		turnRound(r)
		r.begin()
		r.Wait(5 * time.Minute)
		for log, texts := range want {
			page, err := r.Reader.Messages(context.Background(), log, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range page.Messages {
				got = append(got, string(m.Body))
			}
			if !slices.Equal(got, texts) {
				t.Errorf("log %s shows %q, not %q", log, got, texts)
			}
		}
	})
}

// turnRound has somebody hold the first batches for a moment.
func turnRound(r *rig) {
	r.Helper()
	receiver, err := r.client.Open(context.Background(), 0, "", false)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := receiver.Receive(context.Background(), receiveBatches); err != nil {
		r.Fatal(err)
	}
	if err := receiver.Close(); err != nil {
		r.Fatal(err)
	}
}

// Salvaged records may stand in front of those that a marker was sent behind. So it is committed under a lease token that no
// barrier has noted when it sent that marker.
func TestWhatIsSalvagedHasAnEpochOfItsOwn(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{}, func(r *rig) {
		var held *heldBack
		r.wrap = func(b broker.Broker) broker.Broker {
			held = &heldBack{Broker: b, gate: make(chan struct{})}
			return held
		}
		r.begin()
		r.Wait(time.Second)
		noted := r.progress().Token
		r.publish(2, message("behind a gap"))
		other := drainmark.NewProducerID()
		r.producer, other = other, r.producer
		r.publish(1, drainmark.Record{Kind: drainmark.Marker})
		close(held.gate)
		r.Wait(50 * time.Millisecond)
		if p := r.progress(); p.Next(r.producer) == 2 && p.Token == noted {
			t.Error("a fence was committed under the epoch of its subscription, while what was delivered before it was not")
		}
		r.Wait(time.Minute)
		if p := r.progress(); p.Next(r.producer) != 2 || p.Next(other) != 3 {
			t.Errorf("in the end the progress is %v", p.Producers)
		}
	})
}

// heldBack delivers nothing before it may, so that several batches are delivered at once.
type heldBack struct {
	broker.Broker
	gate chan struct{}
}

func (h *heldBack) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	r, err := h.Broker.Open(ctx, partition, from, again)
	return heldReceiver{r, h.gate}, err
}

type heldReceiver struct {
	broker.Receiver
	gate chan struct{}
}

func (h heldReceiver) Receive(ctx context.Context, most int) ([]broker.Delivery, error) {
	select {
	case <-h.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.Receiver.Receive(ctx, most)
}

// oneByOne receives one batch at a time, as a slow connection makes it.
type oneByOne struct{ broker.Broker }

func (b oneByOne) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	r, err := b.Broker.Open(ctx, partition, from, again)
	return oneReceiver{r}, err
}

type oneReceiver struct{ broker.Receiver }

func (r oneReceiver) Receive(ctx context.Context, _ int) ([]broker.Delivery, error) {
	return r.Receiver.Receive(ctx, 1)
}

// Records that the broker has are found before they are passed, however few come at once, and however far behind they
// stand.
func TestWhatTheBrokerHasIsNotPassed(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{}, func(r *rig) {
		r.wrap = func(b broker.Broker) broker.Broker { return oneByOne{b} }
		late := r.producer
		for i := range 2 * receiveBatches {
			r.publishAt(late, uint64(i+2), 0, message(fmt.Sprint(i)))
		}
		r.publishAt(late, 1, 0, message("first"))
		r.begin()
		r.Wait(time.Minute)
		want := []string{"first"}
		for i := range 2 * receiveBatches {
			want = append(want, fmt.Sprint(i))
		}
		r.expect(want...)
	})
}

package amqp10

import (
	"context"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// handsOver: the next receiver waits already when one goes that holds something. It must get all of that first, in order.
// Servers that give back and hand out at the same time would mix them.
func handsOver(t *testing.T, p peer) {
	const rounds, each = 20, 40
	b := p.connect(t, p.config(t, 0))
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	holder := subscribe(ctx, t, b)
	for round := range uint64(rounds) {
		for i := range uint64(each) {
			if err := b.Publish(ctx, 0, single(round*each+i+1)); err != nil {
				t.Fatalf("publishing: %v", err)
			}
		}
		inOrder(ctx, t, holder, round*each+1, each/2)
		next := subscribe(ctx, t, b)
		if err := holder.Close(); err != nil {
			t.Fatalf("closing: %v", err)
		}
		last := inOrder(ctx, t, next, round*each+1, each)
		if err := next.Ack(ctx, last); err != nil {
			t.Fatalf("acknowledging: %v", err)
		}
		holder = next
	}
}

func subscribe(ctx context.Context, t *testing.T, b broker.Broker) broker.Receiver {
	t.Helper()
	r, err := b.Open(ctx, 0, "", false)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return r
}

// inOrder receives n batches of one record from first on, and returns the last.
func inOrder(ctx context.Context, t *testing.T, r broker.Receiver, first uint64, n int) (last broker.Delivery) {
	t.Helper()
	for i := range uint64(n) {
		got, err := r.Receive(ctx, 1)
		if err != nil {
			t.Fatalf("receiving %d: %v", first+i, err)
		}
		if last = got[0]; last.First != first+i {
			t.Fatalf("received %d, want %d", last.First, first+i)
		}
	}
	return last
}

func single(sequence uint64) broker.Batch {
	return broker.Batch{Header: broker.Header{Producer: drainmark.ProducerID{7}, First: sequence, Last: sequence}, Payload: []byte("x")}
}

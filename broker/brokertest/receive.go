package brokertest

import (
	"context"
	"errors"
	"time"

	"github.com/drainmark/drainmark/broker"
)

var receiveCases = []testCase{
	{name: "Receive returns at most max batches, and loses none of the others", run: receiveRespectsMax},
	{name: "Receive blocks until there is a batch", run: receiveBlocks},
	{name: "Receive returns the context's error, and the receiver can be used afterwards", run: receiveAndContext},
	{name: "a batch that comes while Receive is being cancelled is not lost", run: receiveCancelledAtOnce},
}

func receiveRespectsMax(c *C) {
	b := c.connect()
	batches := singles(1, 20)
	c.publish(b, batches...)
	r := c.open(b, 0, "")
	for next := 0; next < len(batches); {
		limit := min(1+next%3, len(batches)-next)
		got, err := c.tryReceive(r, limit)
		if err != nil || len(got) == 0 || len(got) > limit {
			c.Fatalf("Receive(max = %d) returned %d batches and the error: %v", limit, len(got), err)
		}
		for _, d := range got {
			if d.Header != batches[next].Header {
				c.Fatalf("received %v, want %v", d.Span(), batches[next].Span())
			}
			next++
		}
	}
	c.nothing(r)
}

// received is what a Receive in the background returned.
type received struct {
	deliveries []broker.Delivery
	err        error
}

// receiveInBackground lets a Receive block, and checks that it does.
func (c *C) receiveInBackground(ctx context.Context, r broker.Receiver) <-chan received {
	c.Helper()
	begun, done := make(chan struct{}), make(chan received, 1)
	go func() {
		close(begun)
		got, err := r.Receive(ctx, 10)
		done <- received{got, err}
	}()
	<-begun
	select {
	case got := <-done:
		c.Fatalf("Receive did not block: %d batches, error: %v", len(got.deliveries), got.err)
	case <-time.After(c.quiet):
	}
	return done
}

// wait returns what comes from the channel, or its zero value when it is closed.
func wait[V any](c *C, what string, from <-chan V) V {
	c.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(c.patience):
		c.Fatalf("%s: still waiting after %v", what, c.patience)
	}
	var zero V // not reached: Fatalf does not return
	return zero
}

func receiveBlocks(c *C) {
	b := c.connect()
	done := c.receiveInBackground(c.Context(), c.open(b, 0, ""))
	c.publish(c.connect(), batch(1, 1, 3))
	got := wait(c, "Receive", done)
	if got.err != nil || len(got.deliveries) != 1 || got.deliveries[0].Header != batch(1, 1, 3).Header {
		c.Fatalf("Receive returned %d batches and the error: %v", len(got.deliveries), got.err)
	}
}

func receiveAndContext(c *C) {
	b := c.connect()
	r := c.open(b, 0, "")
	over, cancel := context.WithCancel(c.Context())
	done := c.receiveInBackground(over, r)
	cancel()
	if got := wait(c, "Receive", done); !errors.Is(got.err, context.Canceled) {
		c.Fatalf("Receive whose context was cancelled returned %d batches and the error: %v", len(got.deliveries), got.err)
	}
	receive := func(ctx context.Context) ([]broker.Delivery, error) { return r.Receive(ctx, 1) }
	if _, err := callWith(c, over, "Receive", receive); !errors.Is(err, context.Canceled) {
		c.Fatalf("Receive with a context that is over: %v", err)
	}
	c.nothing(r) // a deadline, this time
	c.publish(b, batch(1, 1, 1))
	c.ack(r, c.expect(r, batch(1, 1, 1))[0])
}

func receiveCancelledAtOnce(c *C) {
	const rounds = 200
	b := c.connect()
	r := c.open(c.connect(), 0, "")
	next := uint64(1)
	check := func(deliveries []broker.Delivery) {
		for _, d := range deliveries {
			if d.First != next {
				c.Fatalf("received %v, want sequence %d", d.Span(), next)
			}
			next++
		}
		if c.forgets && len(deliveries) > 0 {
			c.ack(r, deliveries[len(deliveries)-1])
		}
	}
	for i := range uint64(rounds) {
		ctx, cancel := context.WithCancel(c.Context())
		begun, done := make(chan struct{}), make(chan received, 1)
		go func() {
			close(begun)
			got, err := r.Receive(ctx, 10)
			done <- received{got, err}
		}()
		<-begun
		c.publish(b, batch(1, i+1, i+1))
		cancel()
		got := wait(c, "Receive", done)
		if got.err != nil && !errors.Is(got.err, context.Canceled) {
			c.Fatalf("Receive whose context was cancelled: %v", got.err)
		}
		check(got.deliveries)
	}
	check(c.receive(r, rounds+1-int(next)))
	c.nothing(r)
}

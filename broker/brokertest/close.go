package brokertest

import (
	"context"
	"errors"

	"github.com/drainmark/drainmark/broker"
	"go.uber.org/goleak"
)

var closeCases = []testCase{
	{name: "closing a receiver ends its blocked Receive with ErrClosed", run: closeReceiverWhileBlocked},
	{name: "closing the broker ends a blocked Receive with ErrClosed", run: closeBrokerWhileBlocked},
	{name: "closing twice does nothing", run: closeTwice},
	{name: "everything fails with ErrClosed after Close", run: useAfterClose},
	{name: "Ping says whether a batch could be published", run: ping},
	{name: "nothing runs any more when Close has returned", run: closeLeaksNothing, alone: true},
}

func closeReceiverWhileBlocked(c *C) {
	r := c.open(c.connect(), 0, "")
	done := c.receiveInBackground(c.Context(), r)
	c.closed("closing the receiver", r.Close)
	if got := wait(c, "Receive", done); !errors.Is(got.err, broker.ErrClosed) {
		c.Fatalf("Receive returned the error: %v, want ErrClosed", got.err)
	}
}

func closeBrokerWhileBlocked(c *C) {
	b := c.connect()
	done := c.receiveInBackground(c.Context(), c.open(b, 0, ""))
	c.closed("closing the broker", b.Close)
	if got := wait(c, "Receive", done); !errors.Is(got.err, broker.ErrClosed) {
		c.Fatalf("Receive returned the error: %v, want ErrClosed", got.err)
	}
}

func closeTwice(c *C) {
	b := c.connect()
	r := c.open(b, 0, "")
	c.publish(b, batch(1, 1, 1))
	c.expect(r, batch(1, 1, 1))
	for range 2 {
		c.closed("closing the receiver", r.Close)
	}
	other := c.open(b, 0, "")
	for range 2 {
		c.closed("closing the broker", b.Close)
	}
	c.closed("closing a receiver after its broker", other.Close)
}

func useAfterClose(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 1))
	r, other := c.open(b, 0, ""), c.open(b, 1, "")
	d := c.expect(r, batch(1, 1, 1))[0]
	check := func(what string, err error) {
		c.Helper()
		if !errors.Is(err, broker.ErrClosed) {
			c.Errorf("%s returned %v, want ErrClosed", what, err)
		}
	}
	receiver := func(whose string, r broker.Receiver) {
		_, err := c.tryReceive(r, 1)
		check("Receive of a receiver whose "+whose+" is closed", err)
		check("Ack of a receiver whose "+whose+" is closed", c.tryAck(r, d))
	}
	c.closed("closing the receiver", r.Close)
	receiver("own side", r)
	c.closed("closing the broker", b.Close)
	receiver("broker", other)
	check("Publish", c.tryPublish(b, batch(1, 2, 2)))
	check("Ping", callError(c, "Ping", b.Ping))
	_, err := call(c, "Open", func(ctx context.Context) (broker.Receiver, error) { return b.Open(ctx, 0, "", false) })
	check("Open", err)
	_, err = call(c, "Backlog", func(ctx context.Context) (broker.Backlog, error) { return b.Backlog(ctx, 0, persisted("")) })
	check("Backlog", err)
}

func ping(c *C) {
	b := c.connect()
	if err := callError(c, "Ping", b.Ping); err != nil {
		c.Fatalf("Ping of a broker that can be published to: %v", err)
	}
	c.Drop(c.T, b)
	if err := callError(c, "Ping", b.Ping); err == nil {
		c.Fatalf("Ping of a broker without a connection returned nil")
	}
}

func closeLeaksNothing(c *C) {
	// The goroutines of the server itself, if it is in this process, are there from the first use of the partitions.
	c.publish(c.connect(), batchIn(0, 2, 1, 1), batchIn(1, 2, 1, 1))
	before := goleak.IgnoreCurrent()
	b := c.connect()
	c.publish(b, singles(1, 10)...)
	r := c.open(b, 0, "")
	c.ack(r, c.receive(r, 5)[2])
	c.backlog(b, persisted(""))
	other := c.open(b, 1, "")
	c.receive(other, 1)
	blocked := c.receiveInBackground(c.Context(), other)
	c.closed("closing the broker", b.Close)
	wait(c, "Receive", blocked)
	if err := goleak.Find(before); err != nil {
		c.Fatalf("after Close: %v", err)
	}
}

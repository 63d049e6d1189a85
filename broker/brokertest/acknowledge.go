package brokertest

import (
	"cmp"
	"slices"

	"github.com/drainmark/drainmark/broker"
)

var acknowledgeCases = []testCase{
	{name: "what was not acknowledged comes again after the receiver is closed", run: redeliveredAfterClose},
	{name: "what was not acknowledged comes again after the broker is closed", run: redeliveredAfterBrokerClose},
	{name: "what was not acknowledged comes again after the connection has died", run: redeliveredAfterDrop},
	{name: "Ack acknowledges everything up to and including the delivery, and nothing else", run: ackThrough, needs: forgets},
	{name: "Ack fails when the connection has died", run: ackAfterDrop, needs: forgets},
	{name: "two receivers of one partition lose nothing between them", run: twoReceivers},
}

// redelivered checks that after end, the batches delivered behind the acknowledged one come again, in order.
func redelivered(c *C, end func(b broker.Broker, r broker.Receiver)) {
	c.Helper()
	b := c.connect()
	c.publish(b, singles(1, 4)...)
	r := c.open(b, 0, "")
	got := c.expect(r, singles(1, 4)...)
	c.ack(r, got[0])
	end(b, r)
	c.expect(c.open(c.connect(), 0, got[0].Cursor), singles(1, 4)[1:]...)
}

func redeliveredAfterClose(c *C) {
	redelivered(c, func(_ broker.Broker, r broker.Receiver) { c.closed("closing the receiver", r.Close) })
}

func redeliveredAfterBrokerClose(c *C) {
	redelivered(c, func(b broker.Broker, _ broker.Receiver) { c.closed("closing the broker", b.Close) })
}

func redeliveredAfterDrop(c *C) {
	redelivered(c, func(b broker.Broker, _ broker.Receiver) { c.Drop(c.T, b) })
}

func ackThrough(c *C) {
	b := c.connect()
	batches := singles(1, 9)
	c.publish(b, batches...)
	for done := 0; done < len(batches); done += 3 {
		r := c.open(b, 0, "")
		got := c.expect(r, batches[done:]...)
		c.ack(r, got[2])
		c.closed("closing the receiver", r.Close)
	}
	c.publish(b, batch(1, 10, 10))
	r := c.open(b, 0, "")
	c.expect(r, batch(1, 10, 10))
	c.nothing(r)
}

func ackAfterDrop(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 1))
	r := c.open(b, 0, "")
	d := c.expect(r, batch(1, 1, 1))[0]
	c.Drop(c.T, b)
	if err := c.tryAck(r, d); err == nil {
		c.Fatalf("Ack over a connection that is gone returned nil")
	}
	c.expect(c.open(c.connect(), 0, ""), batch(1, 1, 1))
}

func twoReceivers(c *C) {
	older, newer := c.connect(), c.connect()
	c.publish(older, singles(1, 6)...)
	first := c.open(older, 0, "")
	held := c.receive(first, 3)
	second := c.open(newer, 0, held[0].Cursor)
	want := singles(1, 6)
	// The Ack fails where the newer receiver has the partition already.
	if acknowledged := c.tryAck(first, held[0]) == nil; acknowledged || older.Traits().Replays {
		want = want[1:]
	}
	c.closed("closing the older receiver", first.Close)
	got := c.receive(second, len(want))
	if !older.Traits().Ordered {
		slices.SortFunc(got, func(a, b broker.Delivery) int { return cmp.Compare(a.First, b.First) })
	}
	for i, d := range got {
		if d.Header != want[i].Header {
			c.Fatalf("delivery %d to the newer receiver is %v, want %v", i+1, d.Span(), want[i].Span())
		}
	}
	c.nothing(second)
}

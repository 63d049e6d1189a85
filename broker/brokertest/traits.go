package brokertest

import (
	"slices"

	"github.com/drainmark/drainmark/broker"
)

var traitCases = []testCase{
	{name: "the traits are always the same, and MaxPayload is sensible", run: traitsAreConstant},
	{name: "Replays is what the broker does", run: replaysAsClaimed},
	{name: "Ordered is what the broker does", run: orderedAsClaimed},
	{name: "ExactBacklog is what the broker does", run: exactBacklogAsClaimed},
}

func traitsAreConstant(c *C) {
	const least = 64 << 10
	b := c.connect()
	traits := b.Traits()
	if traits.MaxPayload < least {
		c.Errorf("MaxPayload is %d, want at least %d", traits.MaxPayload, least)
	}
	c.publish(b, batch(1, 1, 1))
	if other := c.connect().Traits(); other != traits || b.Traits() != traits {
		c.Errorf("the traits were %+v, and then %+v and %+v", traits, b.Traits(), other)
	}
}

func replaysAsClaimed(c *C) {
	b := c.connect()
	c.publish(b, singles(1, 3)...)
	r := c.open(b, 0, "")
	got := c.expect(r, singles(1, 3)...)
	c.ack(r, got[2])
	c.closed("closing the receiver", r.Close)
	c.publish(b, batch(1, 4, 4))
	r = c.open(b, 0, "")
	if b.Traits().Replays {
		c.expect(r, singles(1, 4)...)
	} else {
		c.expect(r, batch(1, 4, 4))
	}
	c.nothing(r)
	cursors := map[string]bool{}
	for _, d := range got {
		cursors[string(d.Cursor)] = true
	}
	if b.Traits().Replays && (len(cursors) != 3 || cursors[""]) {
		c.Fatalf("a broker that replays gave three deliveries the cursors %v", cursors)
	}
	if !b.Traits().Replays && (len(cursors) != 1 || !cursors[""]) {
		c.Fatalf("a broker that does not replay gave its deliveries the cursors %v", cursors)
	}
}

func orderedAsClaimed(c *C) {
	if !c.connect().Traits().Ordered && c.Disorder != nil {
		c.ordered(false, c.Disorder(c.T))
		return
	}
	b := c.connect()
	c.publish(b, singles(1, 4)...)
	r := c.open(b, 0, "")
	c.receive(r, 2)
	c.publish(b, batch(1, 5, 5))
	c.closed("closing the receiver", r.Close)
	c.ordered(b.Traits().Ordered, c.receive(c.open(b, 0, ""), 5))
}

// ordered checks that one producer's deliveries are in the order of publishing, or that they are not.
func (c *C) ordered(want bool, got []broker.Delivery) {
	c.Helper()
	var sequences []uint64
	for _, d := range got {
		sequences = append(sequences, d.First)
	}
	if slices.IsSorted(sequences) != want {
		c.Fatalf("Traits.Ordered is %v, and what was delivered again came in the order %v", want, sequences)
	}
}

func exactBacklogAsClaimed(c *C) {
	gone := c.connect()
	c.publish(gone, batch(1, 1, 3))
	c.Drop(c.T, gone)
	b := c.connect()
	if got := b.Traits().ExactBacklog; c.backlog(b, persisted("")).Pending.Exact != got {
		c.Fatalf("Traits.ExactBacklog is %v, and the backlog of a producer that is gone says the opposite", got)
	}
}

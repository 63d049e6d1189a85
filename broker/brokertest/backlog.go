package brokertest

import (
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

var backlogCases = []testCase{
	{name: "the backlog is right after every one of 1,000 publishes", run: backlogAfterPublish},
	{name: "the backlog counts what a producer left whose connection is gone", run: backlogOfDeadProducer},
	{name: "the backlog counts what is delivered and not acknowledged", run: backlogInFlight},
	{name: "the backlog leaves out exactly what the progress holds", run: backlogMinusProgress},
	{name: "the backlog counts a batch that was published twice once", run: backlogOfRepublished},
	{name: "the backlog is the partition's own", run: backlogOfPartition},
	{name: "the backlog says since when the oldest batch is pending, and zero if none is", run: backlogOldest, needs: countsExactly},
	{name: "what the backlog says is ready and in flight adds up", run: backlogAddsUp},
	{name: "the backlog is empty when everything is acknowledged and persisted", run: backlogEmpty},
}

func countsExactly(_ *Server, traits broker.Traits) bool { return traits.ExactBacklog }

func backlogAfterPublish(c *C) {
	const publishes = 1000
	connections := []broker.Broker{c.connect(), c.connect()}
	r := c.open(connections[0], 0, "")
	var next [2]uint64
	total := uint64(0)
	for i := range uint64(publishes) {
		who, n := i%2, 1+i%3
		c.publish(connections[who], batch(byte(who), next[who]+1, next[who]+n))
		next[who] += n
		total += n
		c.pending(connections[(i/2)%2], persisted(""), total)
		if i == publishes/2 {
			c.receive(r, publishes/4) // records in flight are pending all the same
		}
	}
}

func backlogOfDeadProducer(c *C) {
	dead := c.connect()
	c.publish(dead, batch(1, 1, 20), batch(1, 21, 40))
	c.Drop(c.T, dead)
	b := c.connect()
	c.pending(b, persisted(""), 40)
	c.publish(b, batch(2, 1, 2))
	c.pending(b, persisted("", batch(1, 1, 20)), 22)
}

func backlogInFlight(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 10), batch(1, 11, 15), batch(1, 16, 16))
	r := c.open(c.connect(), 0, "")
	got := c.expect(r, batch(1, 1, 10), batch(1, 11, 15), batch(1, 16, 16))
	c.pendingAtLeastIfExact(b, 16)
	c.ack(r, got[0])
	c.pending(b, persisted(got[0].Cursor, batch(1, 1, 10)), 6)
	c.pendingAtLeastIfExact(c.connect(), 6)
}

// pendingAtLeastIfExact checks that nothing that has not been acknowledged is left out.
func (c *C) pendingAtLeastIfExact(b broker.Broker, want uint64) {
	c.Helper()
	if got := c.backlog(b, persisted("")).Pending; got.Exact && got.Records < want {
		c.Fatalf("exactly %d records are said to be pending, but at least %d are", got.Records, want)
	}
}

func backlogMinusProgress(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 10), batch(2, 1, 5), batch(1, 11, 20))
	for _, test := range []struct {
		done []broker.Batch
		want uint64
	}{
		{nil, 25},
		{[]broker.Batch{batch(1, 1, 3)}, 22},
		{[]broker.Batch{batch(1, 1, 3), batch(1, 8, 12)}, 17},
		{[]broker.Batch{batch(2, 1, 5), batch(1, 20, 20)}, 19},
		{[]broker.Batch{batch(1, 1, 20)}, 5},
		{[]broker.Batch{batch(1, 1, 35), batch(2, 2, 2)}, 4}, // more than is stored
		{[]broker.Batch{batch(3, 1, 1000)}, 25},              // a producer that the broker never heard of
		{[]broker.Batch{batch(1, 1, 20), batch(2, 1, 5)}, 0},
	} {
		c.pending(b, persisted("", test.done...), test.want)
	}
}

func backlogOfRepublished(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 5), batch(1, 1, 5), batch(1, 6, 7))
	c.pending(b, persisted(""), 7)
	c.pending(b, persisted("", batch(1, 1, 5)), 2)
}

func backlogOfPartition(c *C) {
	b := c.connect()
	c.publish(b, batchIn(0, 1, 1, 3), batchIn(1, 1, 1, 4))
	c.pending(b, persisted(""), 3)
	c.pending(b, drainmark.Progress{Partition: 1}, 4)
}

func backlogOldest(c *C) {
	b := c.connect()
	expect := func(p drainmark.Progress, want time.Time) {
		c.Helper()
		got := c.backlog(b, p)
		if !got.OldestAt.Equal(want) {
			c.Fatalf("the oldest pending batch is said to be from %v, but it is from %v", got.OldestAt, want)
		}
		if want.IsZero() {
			return
		}
		if later := c.backlog(b, p); got.AsOf.Before(want) || !later.AsOf.After(got.AsOf) {
			c.Fatalf("the oldest pending batch is from %v, as of %v and then of %v: that tells no age", want, got.AsOf, later.AsOf)
		}
	}
	expect(persisted(""), time.Time{})
	c.publish(b, batch(1, 1, 3), batch(2, 1, 1))
	r := c.open(b, 0, "")
	got := c.receive(r, 2)
	expect(persisted(""), got[0].StoredAt)
	c.ack(r, got[0])
	expect(persisted(got[0].Cursor, batch(1, 1, 3)), got[1].StoredAt)
	c.ack(r, got[1])
	expect(persisted(got[1].Cursor, batch(1, 1, 3), batch(2, 1, 1)), time.Time{})
}

func backlogAddsUp(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 10), batch(1, 11, 15), batch(1, 16, 16))
	check := func(p drainmark.Progress, ready, inFlight uint64) {
		c.Helper()
		got := c.backlog(b, p)
		if got.Ready != nil && got.Ready.Exact && got.Ready.Records != ready {
			c.Fatalf("%d records are said to be ready, but %d are", got.Ready.Records, ready)
		}
		if got.InFlight != nil && got.InFlight.Exact && got.InFlight.Records != inFlight {
			c.Fatalf("%d records are said to be in flight, but %d are", got.InFlight.Records, inFlight)
		}
	}
	check(persisted(""), 16, 0)
	r := c.open(b, 0, "")
	all := c.receive(r, 3)
	check(persisted(""), 0, 16)
	c.ack(r, all[0])
	check(persisted(all[0].Cursor, batch(1, 1, 10)), 0, 6)
}

func backlogEmpty(c *C) {
	b := c.connect()
	c.pending(b, persisted(""), 0)
	c.publish(b, batch(1, 1, 10), batch(2, 1, 1))
	r := c.open(b, 0, "")
	got := c.receive(r, 2)
	c.ack(r, got[1])
	done := persisted(got[1].Cursor, batch(1, 1, 10), batch(2, 1, 1))
	c.pending(b, done, 0)
	c.closed("closing the receiver", r.Close)
	c.pending(c.connect(), done, 0)
}

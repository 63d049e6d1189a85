package brokertest

import (
	"bytes"
	"context"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

var keepsCases = []testCase{
	{name: "of whom something can be delivered again, the broker says so, and of nobody else", run: keepsWhatItDelivers},
	{name: "of whom nothing is left, the broker keeps nothing", run: keepsNothingPurged, needs: replaysAndCanPurge},
	{name: "of whom something is kept, it is kept after the server was killed", run: keepsAfterKill, needs: replaysAndCanKill, kills: true},
}

// keeps checks which of the producers 1 to 4 have something in partition 0.
func (c *C) keeps(b broker.Broker, want ...byte) {
	c.Helper()
	var asked, expected []drainmark.ProducerID
	for n := range byte(4) {
		asked = append(asked, producer(n+1))
	}
	for _, n := range want {
		expected = append(expected, producer(n))
	}
	got, err := call(c, "Keeps", func(ctx context.Context) ([]drainmark.ProducerID, error) { return b.Keeps(ctx, 0, asked) })
	if err != nil {
		c.Fatalf("asking of whom something is kept: %v", err)
	}
	slices.SortFunc(got, func(a, b drainmark.ProducerID) int { return bytes.Compare(a[:], b[:]) })
	if !slices.Equal(got, expected) {
		c.Fatalf("something is said to be kept of %v, and should be of %v", got, expected)
	}
}

func keepsWhatItDelivers(c *C) {
	b := c.connect()
	c.keeps(b)
	batches := []broker.Batch{batch(1, 1, 5), batch(2, 1, 1), batch(1, 6, 6)}
	c.publish(b, batches...)
	c.publish(b, batchIn(1, 3, 1, 1))
	r := c.open(b, 0, "")
	all := c.expect(r, batches...)
	c.ack(r, all[len(all)-1])
	c.closed("closing the receiver", r.Close)
	again := c.openAgain(c.connect(), all[len(all)-1].Cursor)
	if b.Traits().Replays {
		c.keeps(b, 1, 2)
		c.expect(again, batches...)
		return
	}
	c.keeps(b)
	c.nothing(again)
}

func keepsNothingPurged(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 5), batch(2, 1, 1))
	c.keeps(b, 1, 2)
	c.Purge(c.T, 0)
	c.keeps(b)
	c.publish(b, batch(2, 2, 2))
	c.keeps(b, 2)
}

func keepsAfterKill(c *C) {
	c.publish(c.connect(), batch(2, 1, 5), batch(3, 1, 1))
	c.Kill(c.T)
	c.Revive(c.T)
	c.keeps(c.connect(), 2, 3)
}

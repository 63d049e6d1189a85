package brokertest

import (
	"context"
	"errors"
	"time"

	"github.com/drainmark/drainmark/broker"
)

var crashCases = []testCase{
	{name: "what was confirmed is there after its publisher has died", run: publisherDies},
	{name: "what was confirmed is there after the server was killed at once", run: serverDies, needs: canKill, kills: true},
	{name: "everything confirmed while the server was being killed is there", run: serverDiesUnderLoad, needs: canKill, kills: true},
	{name: "publishing over a connection that is gone fails", run: publishWithoutConnection},
	{name: "publishing to a server that is dead fails, and says rightly what is certain", run: publishToDeadServer, needs: canKill, kills: true},
	{name: "a connection works again when the server is back", run: reconnects, needs: canReconnect, kills: true},
	{name: "the backlog is the same after the server was killed", run: backlogAfterKill, needs: canKill, kills: true},
}

func publisherDies(c *C) {
	for i, batch := range singles(1, 5) {
		b := c.connect()
		c.publish(b, batch)
		c.Drop(c.T, b)
		c.arrives(batch, i)
	}
}

// arrives checks that the batch has arrived behind so many others, which a broker that forgets has forgotten.
func (c *C) arrives(want broker.Batch, behind int) {
	c.Helper()
	b := c.connect()
	r := c.open(b, 0, "")
	if b.Traits().Replays {
		c.receive(r, behind)
	}
	c.ack(r, c.expect(r, want)[0])
	c.closed("closing the receiver", r.Close)
}

func serverDies(c *C) {
	for i, batch := range singles(1, c.kills) {
		c.publish(c.connect(), batch)
		c.Kill(c.T)
		c.Revive(c.T)
		c.arrives(batch, i)
	}
}

// notStored says whether an error of Publish means that the batch was certainly not stored.
func notStored(err error) bool {
	return errors.Is(err, broker.ErrNotSent) || errors.Is(err, broker.ErrFull)
}

func serverDiesUnderLoad(c *C) {
	const enough = 50
	b := c.connect()
	type outcome struct {
		confirmed uint64
		err       error // of the first Publish that failed
	}
	running, ended := make(chan struct{}), make(chan outcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(c.Context(), c.patience)
		defer cancel()
		for i := uint64(1); ; i++ {
			if err := b.Publish(ctx, 0, batch(1, i, i)); err != nil {
				ended <- outcome{i - 1, err}
				return
			}
			if i == enough {
				close(running)
			}
		}
	}()
	wait(c, "publishing", running)
	c.Kill(c.T)
	got := wait(c, "Publish to a dead server", ended)
	c.Revive(c.T)
	c.endsWith(c.open(c.connect(), 0, ""), got.confirmed, got.err)
}

// endsWith checks that exactly the batches 1 to last are there, and perhaps the next one, if its Publish failed with an
// error that leaves it open.
func (c *C) endsWith(r broker.Receiver, last uint64, err error) {
	c.Helper()
	c.expect(r, singles(1, int(last))...)
	if notStored(err) {
		c.nothing(r)
		return
	}
	ctx, cancel := context.WithTimeout(c.Context(), c.quiet)
	defer cancel()
	got, _ := callWith(c, ctx, "Receive", func(ctx context.Context) ([]broker.Delivery, error) { return r.Receive(ctx, 10) })
	if len(got) > 1 || len(got) == 1 && got[0].First != last+1 {
		c.Fatalf("after the confirmed batches 1 to %d there are %d more, the first of them %v", last, len(got), got[0].Span())
	}
}

func publishWithoutConnection(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 1))
	c.Drop(c.T, b)
	err := c.tryPublish(b, batch(1, 2, 2))
	if err == nil {
		c.Fatalf("publishing over a connection that is gone returned nil")
	}
	c.endsWith(c.open(c.connect(), 0, ""), 1, err)
}

func publishToDeadServer(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 1))
	c.Kill(c.T)
	const brief = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(c.Context(), brief)
	defer cancel()
	_, err := callWith(c, ctx, "Publish", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, b.Publish(ctx, 0, batch(1, 2, 2))
	})
	if err == nil {
		c.Fatalf("publishing to a dead server returned nil")
	}
	if err := callError(c, "Ping", b.Ping); err == nil {
		c.Fatalf("Ping of a dead server returned nil")
	}
	c.Revive(c.T)
	c.endsWith(c.open(c.connect(), 0, ""), 1, err)
}

func reconnects(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 1))
	r := c.open(b, 0, "")
	d := c.expect(r, batch(1, 1, 1))[0]
	c.ack(r, d)
	last := uint64(1 + c.kills)
	for i := uint64(2); i <= last; i++ {
		c.Kill(c.T)
		c.Revive(c.T)
		c.eventually("publishing", func() error { return c.tryPublish(b, batch(1, i, i)) })
		c.eventually("Ping", func() error { return callError(c, "Ping", b.Ping) })
	}
	c.pending(b, persisted(d.Cursor, batch(1, 1, 1)), last-1)
	again := c.open(b, 0, d.Cursor)
	seen := uint64(1)
	for seen < last { // a batch may be there twice, if its first Publish failed and stored it all the same
		for _, d := range c.receive(again, 1) {
			if d.First > seen+1 {
				c.Fatalf("received %v after sequence %d", d.Span(), seen)
			}
			seen = max(seen, d.Last)
		}
	}
}

func backlogAfterKill(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 10), batch(2, 1, 5), batch(1, 11, 11))
	r := c.open(b, 0, "")
	got := c.receive(r, 2)
	progress := persisted(got[0].Cursor, batch(1, 1, 10))
	c.ack(r, got[0])
	c.Kill(c.T)
	c.Revive(c.T)
	c.pending(c.connect(), progress, 6)
}

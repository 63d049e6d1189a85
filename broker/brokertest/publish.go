package brokertest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

var publishCases = []testCase{
	{name: "a batch is received with exactly the bytes that were published", run: exactBytes},
	{name: "a payload of MaxPayload bytes arrives whole", run: largestPayload},
	{name: "a payload over MaxPayload is refused as too large and not stored", run: payloadTooLarge},
	{name: "the payload's memory belongs to the caller again when Publish has returned", run: payloadIsCopied},
	{name: "the headers say partition, producer, first and last", run: headersSurvive},
	{name: "a delivery says when it was stored, or nothing", run: storedAt},
	{name: "a batch that is published again is delivered again", run: republished},
	{name: "one producer's batches arrive in the order in which they were published", run: orderOfOneProducer},
	{name: "a long backlog of large batches is delivered whole and in order", run: longBacklog},
	{name: "two producers on two connections keep their orders", run: orderOfTwoProducers},
	{name: "partitions are independent", run: partitionsAreIndependent},
	{name: "a message that Drainmark did not write is delivered with the zero header", run: foreignMessage, needs: hasForeigners},
}

func exactBytes(c *C) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	record := drainmark.Record{Kind: drainmark.Append, Log: "guestbook", Body: []byte{}, AcceptedAt: time.Now()}
	encoded := drainmark.EncodeBatch(nil, &drainmark.Batch{Producer: producer(1), First: 1, Records: []drainmark.Record{record}})
	var batches []broker.Batch
	for i, payload := range [][]byte{
		{}, {0}, {0, 0, 0}, []byte("\r\n"), []byte("NATS/1.0\r\n\r\n"), {0xff, 0xfe, 0x80, 0xc0}, every,
		bytes.Repeat([]byte("héllo "), 20_000), encoded,
	} {
		batches = append(batches, withPayload(0, 1, uint64(i+1), uint64(i+1), payload))
	}
	b := c.connect()
	c.publish(b, batches...)
	c.expect(c.open(b, 0, ""), batches...)
}

// patterned returns n bytes that differ from place to place.
func patterned(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return out
}

func largestPayload(c *C) {
	b := c.connect()
	largest := withPayload(0, 1, 1, 1, patterned(b.Traits().MaxPayload))
	c.publish(b, largest)
	c.expect(c.open(b, 0, ""), largest)
}

func payloadTooLarge(c *C) {
	b := c.connect()
	tooLarge := withPayload(0, 1, 1, 1, patterned(b.Traits().MaxPayload+1))
	if err := c.tryPublish(b, tooLarge); drainmark.KindOf(err) != drainmark.KindTooLarge {
		c.Fatalf("publishing %d bytes over the limit of %d: %v, want an error of kind %q",
			len(tooLarge.Payload), b.Traits().MaxPayload, err, drainmark.KindTooLarge)
	}
	c.pending(b, drainmark.Progress{}, 0)
	after := batch(1, 1, 1)
	c.publish(b, after)
	c.expect(c.open(b, 0, ""), after)
}

func payloadIsCopied(c *C) {
	b := c.connect()
	payload := []byte("as it was when it was published")
	c.publish(b, withPayload(0, 1, 1, 1, payload))
	want := withPayload(0, 1, 1, 1, bytes.Clone(payload))
	clear(payload)
	r := c.open(b, 0, "")
	delivered := c.expect(r, want)
	clear(delivered[0].Payload)
	c.closed("closing the receiver", r.Close)
	c.expect(c.open(b, 0, ""), want)
}

func headersSurvive(c *C) {
	b := c.connect()
	batches := []broker.Batch{
		batchIn(1, 1, 1, 1), batchIn(1, 1, 2, 1001), batchIn(1, 0xff, 1<<40, 1<<40+9),
	}
	c.publish(b, batches...)
	c.expect(c.open(b, 1, ""), batches...)
}

func storedAt(c *C) {
	const tolerance = time.Minute // between two machines' clocks
	b := c.connect()
	before := time.Now()
	c.publish(b, batch(1, 1, 1))
	got := c.receive(c.open(b, 0, ""), 1)[0].StoredAt
	if !got.IsZero() && (got.Before(before.Add(-tolerance)) || got.After(time.Now().Add(tolerance))) {
		c.Fatalf("stored at %v, but it was published at %v", got, before)
	}
}

func republished(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 5), batch(1, 1, 5), batch(1, 6, 6))
	c.expect(c.open(b, 0, ""), batch(1, 1, 5), batch(1, 1, 5), batch(1, 6, 6))
}

func orderOfOneProducer(c *C) {
	b := c.connect()
	batches := singles(1, 500)
	c.publish(b, batches[:100]...)
	r := c.open(c.connect(), 0, "")
	published := make(chan error, 1)
	go func() {
		for _, batch := range batches[100:] {
			if err := b.Publish(c.Context(), 0, batch); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	c.expect(r, batches...)
	if err := <-published; err != nil {
		c.Fatalf("publishing while receiving: %v", err)
	}
}

// longBacklog is larger than what any adapter should hold in memory.
func longBacklog(c *C) {
	const size, total = 50_000, 32 << 20
	b := c.connect()
	payload := patterned(size)
	n := uint64(total / size)
	for i := range n {
		c.publish(b, withPayload(0, 1, i+1, i+1, payload))
	}
	r := c.open(c.connect(), 0, "")
	for i := range n {
		c.ack(r, c.expect(r, withPayload(0, 1, i+1, i+1, payload))[0])
	}
	c.nothing(r)
}

func orderOfTwoProducers(c *C) {
	const each = 200
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range byte(2) {
		b := c.connect()
		wg.Go(func() {
			for _, batch := range singles(i, each) {
				if err := b.Publish(c.Context(), 0, batch); err != nil {
					c.Errorf("publishing %v: %v", batch.Span(), err)
					return
				}
			}
		})
	}
	r := c.open(c.connect(), 0, "")
	next := map[drainmark.ProducerID]uint64{}
	for _, d := range c.receive(r, 2*each) {
		if next[d.Producer]++; d.First != next[d.Producer] {
			c.Fatalf("received %v where this producer's sequence %d should come", d.Span(), next[d.Producer])
		}
	}
	c.nothing(r)
}

func partitionsAreIndependent(c *C) {
	b := c.connect()
	zero, one := c.open(b, 0, ""), c.open(b, 1, "")
	c.publish(b, batchIn(0, 1, 1, 1), batchIn(1, 1, 1, 1), batchIn(1, 2, 1, 9), batchIn(0, 1, 2, 2))
	held := c.expect(one, batchIn(1, 1, 1, 1), batchIn(1, 2, 1, 9))
	c.ack(one, held[1])
	c.expect(zero, batchIn(0, 1, 1, 1), batchIn(0, 1, 2, 2))
	c.nothing(one)
	c.closed("closing partition 1's receiver", one.Close)
	c.publish(b, batchIn(0, 1, 3, 3))
	c.expect(zero, batchIn(0, 1, 3, 3))
}

func foreignMessage(c *C) {
	b := c.connect()
	c.publish(b, batch(1, 1, 1))
	c.Foreign(c.T, 0, []byte("not a batch"))
	c.publish(b, batch(1, 2, 2))
	r := c.open(b, 0, "")
	got := c.receive(r, 3)
	for i, want := range []string{string(batch(1, 1, 1).Payload), "not a batch", string(batch(1, 2, 2).Payload)} {
		if string(got[i].Payload) != want {
			c.Fatalf("payload %d is %s, want %q", i+1, abridged(got[i].Payload), want)
		}
	}
	if got[1].Header != (broker.Header{}) {
		c.Fatalf("the message without headers was delivered with the header %+v", got[1].Header)
	}
	c.ack(r, got[2])
	c.pending(b, persisted(got[2].Cursor, batch(1, 1, 2)), 0)
}

// fullCase runs on the harness's small server.
var fullCase = testCase{
	name: "a full broker refuses with ErrFull, stores nothing of it, except for what is urgent perhaps, and takes batches again when there is room",
	run:  fullAndRoomAgain,
}

func fullAndRoomAgain(c *C) {
	const most = 5000
	b := c.connect()
	payload := func(i uint64) []byte { return fmt.Appendf(make([]byte, 1000), "%d", i) }
	stored := uint64(0)
	for {
		err := c.tryPublish(b, withPayload(0, 1, stored+1, stored+1, payload(stored+1)))
		if errors.Is(err, broker.ErrFull) {
			break
		}
		if stored++; err != nil || stored == most {
			c.Fatalf("after %d batches, instead of ErrFull: %v", stored, err)
		}
	}
	urgent := withPayload(0, 1, stored+1, stored+1, payload(stored+1))
	urgent.Urgent = true
	if err := c.tryPublish(b, urgent); err == nil { // it keeps some room back
		stored++
	} else if !errors.Is(err, broker.ErrFull) {
		c.Fatalf("for an urgent batch, instead of ErrFull: %v", err)
	}
	c.pending(b, drainmark.Progress{}, stored)
	r := c.open(b, 0, "")
	got := c.receive(r, int(stored))
	for i, d := range got {
		if d.First != uint64(i+1) {
			c.Fatalf("received %v as number %d", d.Span(), i+1)
		}
	}
	c.nothing(r)
	c.ack(r, got[len(got)-1])
	next := withPayload(0, 1, stored+1, stored+1, payload(stored+1))
	c.eventually("publishing after everything has been acknowledged", func() error { return c.tryPublish(b, next) })
	c.expect(r, next)
}

package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// C is what a case runs in: its server, and helpers that fail the case when something goes wrong or hangs.
type C struct {
	T
	*Server
	patience, quiet time.Duration
	kills           int
	forgets         bool // what the connections' traits say
}

// usualPatience is that of a harness that does not say.
const usualPatience = time.Minute

func newC(t T, h Harness, s *Server) *C {
	c := &C{T: t, Server: s, patience: h.Patience, quiet: h.Quiet, kills: h.Kills}
	if c.patience == 0 {
		c.patience = usualPatience
	}
	if c.kills == 0 {
		c.kills = 3
	}
	if c.quiet == 0 {
		c.quiet = 100 * time.Millisecond
	}
	return c
}

// call runs f with a context that lasts as long as the case's patience, and fails the case if f outlasts it.
func call[R any](c *C, what string, f func(ctx context.Context) (R, error)) (R, error) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), c.patience)
	defer cancel()
	return callWith(c, ctx, what, f)
}

func callWith[R any](c *C, ctx context.Context, what string, f func(ctx context.Context) (R, error)) (R, error) {
	c.Helper()
	type result struct {
		value R
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(c.patience + c.patience/2):
		c.Fatalf("%s does not return", what)
	}
	var zero R // not reached: Fatalf does not return
	return zero, nil
}

func callError(c *C, what string, f func(ctx context.Context) error) error {
	c.Helper()
	_, err := call(c, what, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// connect returns a connection that is closed with the case.
func (c *C) connect() broker.Broker {
	c.Helper()
	b := c.Connect(c.T)
	c.forgets = !b.Traits().Replays
	c.Cleanup(func() { c.closed("closing the broker", b.Close) })
	return b
}

// closed closes something that must close without an error.
func (c *C) closed(what string, close func() error) {
	c.Helper()
	if err := callError(c, what, func(context.Context) error { return close() }); err != nil {
		c.Errorf("%s: %v", what, err)
	}
}

func (c *C) open(b broker.Broker, partition int, from drainmark.Cursor) broker.Receiver {
	c.Helper()
	return c.openFor(b, partition, from, false)
}

// openAgain opens partition 0 to be read once more from the beginning.
func (c *C) openAgain(b broker.Broker, read drainmark.Cursor) broker.Receiver {
	c.Helper()
	return c.openFor(b, 0, read, true)
}

func (c *C) openFor(b broker.Broker, partition int, from drainmark.Cursor, again bool) broker.Receiver {
	c.Helper()
	r, err := call(c, "Open", func(ctx context.Context) (broker.Receiver, error) { return b.Open(ctx, partition, from, again) })
	if err != nil {
		c.Fatalf("opening partition %d from %q: %v", partition, from, err)
	}
	c.Cleanup(func() { c.closed("closing the receiver", r.Close) })
	return r
}

func (c *C) publish(b broker.Broker, batches ...broker.Batch) {
	c.Helper()
	for _, batch := range batches {
		if err := c.tryPublish(b, batch); err != nil {
			c.Fatalf("publishing %v: %v", batch.Span(), err)
		}
	}
}

func (c *C) tryPublish(b broker.Broker, batch broker.Batch) error {
	c.Helper()
	return callError(c, "Publish", func(ctx context.Context) error { return b.Publish(ctx, batch.Partition, batch) })
}

func (c *C) tryReceive(r broker.Receiver, max int) ([]broker.Delivery, error) {
	c.Helper()
	return call(c, "Receive", func(ctx context.Context) ([]broker.Delivery, error) { return r.Receive(ctx, max) })
}

// heldAtOnce is how many batches a receiver must deliver before any is acknowledged. A broker that forgets may wait for
// acknowledgements then.
const heldAtOnce = 32

// receive returns the next n deliveries. When it is many, it acknowledges on the way to a broker that forgets.
func (c *C) receive(r broker.Receiver, n int) []broker.Delivery {
	c.Helper()
	var all []broker.Delivery
	acknowledged := 0
	for len(all) < n {
		if c.forgets && len(all)-acknowledged >= heldAtOnce {
			c.ack(r, all[len(all)-1])
			acknowledged = len(all)
		}
		limit := n - len(all)
		got, err := c.tryReceive(r, limit)
		if err != nil {
			c.Fatalf("receiving batch %d of %d: %v", len(all)+1, n, err)
		}
		if len(got) == 0 || len(got) > limit {
			c.Fatalf("Receive(max = %d) returned %d batches", limit, len(got))
		}
		for _, d := range got {
			if d.Lost == "" {
				all = append(all, d)
			}
		}
	}
	return all
}

// expect receives exactly these batches, in this order.
func (c *C) expect(r broker.Receiver, want ...broker.Batch) []broker.Delivery {
	c.Helper()
	got := c.receive(r, len(want))
	for i, d := range got {
		if d.Header != want[i].Header {
			c.Fatalf("delivery %d of %d is %v, want %v", i+1, len(got), d.Span(), want[i].Span())
		}
		if !bytes.Equal(d.Payload, want[i].Payload) {
			c.Fatalf("the payload of %v is %s, want %s", d.Span(), abridged(d.Payload), abridged(want[i].Payload))
		}
	}
	return got
}

func abridged(payload []byte) string {
	if len(payload) > 64 {
		return fmt.Sprintf("%d bytes, %q …", len(payload), payload[:64])
	}
	return fmt.Sprintf("%d bytes, %q", len(payload), payload)
}

// nothing checks that no batch comes.
func (c *C) nothing(r broker.Receiver) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), c.quiet)
	defer cancel()
	got, err := callWith(c, ctx, "Receive", func(ctx context.Context) ([]broker.Delivery, error) { return r.Receive(ctx, 10) })
	if err == nil && len(got) > 0 {
		c.Fatalf("received %v, which should not have come", got[0].Span())
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		c.Fatalf("Receive whose context ended returned %d batches and the error: %v", len(got), err)
	}
}

func (c *C) ack(r broker.Receiver, through broker.Delivery) {
	c.Helper()
	if err := c.tryAck(r, through); err != nil {
		c.Fatalf("acknowledging through %v: %v", through.Span(), err)
	}
}

func (c *C) tryAck(r broker.Receiver, through broker.Delivery) error {
	c.Helper()
	return callError(c, "Ack", func(ctx context.Context) error { return r.Ack(ctx, through) })
}

func (c *C) backlog(b broker.Broker, p drainmark.Progress) broker.Backlog {
	c.Helper()
	got, err := call(c, "Backlog", func(ctx context.Context) (broker.Backlog, error) { return b.Backlog(ctx, p.Partition, p) })
	if err != nil {
		c.Fatalf("asking for the backlog: %v", err)
	}
	return got
}

// pending checks the backlog: equal to want where it claims to be exact, as it must if the trait is claimed, otherwise
// at most want.
func (c *C) pending(b broker.Broker, p drainmark.Progress, want uint64) broker.Backlog {
	c.Helper()
	got := c.backlog(b, p)
	switch pending := got.Pending; {
	case b.Traits().ExactBacklog && !pending.Exact:
		c.Fatalf("the backlog of a broker that claims exact ones is not: %d records, want %d", pending.Records, want)
	case pending.Exact && pending.Records != want:
		c.Fatalf("exactly %d records are said to be pending, but %d are", pending.Records, want)
	case pending.Records > want:
		c.Fatalf("at least %d records are said to be pending, but only %d are", pending.Records, want)
	}
	return got
}

// eventually tries until f returns nil, and fails the case with its last error when patience runs out.
func (c *C) eventually(what string, f func() error) {
	c.Helper()
	deadline := time.NewTimer(c.patience)
	defer deadline.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			c.Fatalf("%s: still, after %v: %v", what, c.patience, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// producer returns the n-th of the producers that cases use.
func producer(n byte) drainmark.ProducerID { return drainmark.ProducerID{0xb0, n, 15: 1} }

// batch returns a producer's batch of the sequences first to last in partition 0, with a payload of its own.
func batch(by byte, first, last uint64) broker.Batch { return batchIn(0, by, first, last) }

func batchIn(partition int, by byte, first, last uint64) broker.Batch {
	return withPayload(partition, by, first, last, fmt.Appendf(nil, "%d from %d: %d to %d", partition, by, first, last))
}

func withPayload(partition int, by byte, first, last uint64, payload []byte) broker.Batch {
	return broker.Batch{
		Header:  broker.Header{Partition: partition, Producer: producer(by), First: first, Last: last},
		Payload: payload,
	}
}

// singles returns n batches of one record each, in order.
func singles(by byte, n int) []broker.Batch {
	out := make([]broker.Batch, n)
	for i := range out {
		out[i] = batch(by, uint64(i+1), uint64(i+1))
	}
	return out
}

// persisted returns the progress of partition 0 in which these batches are persisted, the last one with this cursor.
func persisted(cursor drainmark.Cursor, batches ...broker.Batch) drainmark.Progress {
	p := drainmark.Progress{Cursor: cursor, Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{}}
	for _, b := range batches {
		done := p.Producers[b.Producer].Done.Add(b.First, b.Last)
		p.Producers[b.Producer] = drainmark.ProducerProgress{Done: done, LastAt: time.Hour}
	}
	return p
}

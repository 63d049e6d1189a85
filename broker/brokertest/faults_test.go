package brokertest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

var (
	keepsLog  = memory.Options{Replays: true}
	forgetsIt = memory.Options{Ordered: true}
)

// changesDeliveries makes an adapter that does something to what Receive returns.
func changesDeliveries(change func([]broker.Delivery) []broker.Delivery) func() *adapter {
	return func() *adapter {
		return &adapter{Options: keepsLog, receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			return change(got), err
		}}
	}
}

// changesEachDelivery does something to each delivery.
func changesEachDelivery(change func(*broker.Delivery)) func() *adapter {
	return changesDeliveries(func(got []broker.Delivery) []broker.Delivery {
		for i := range got {
			change(&got[i])
		}
		return got
	})
}

// changesPublishes makes an adapter that publishes something else, or (for nil) nothing.
func changesPublishes(change func(partition int, b broker.Batch) (int, *broker.Batch)) func() *adapter {
	return func() *adapter {
		return &adapter{Options: keepsLog, publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			partition, changed := change(partition, b)
			if changed == nil {
				return nil
			}
			return c.client().Publish(ctx, partition, *changed)
		}}
	}
}

var publishFaults = []fault{
	{"cuts payloads at a NUL", "a batch is received with exactly the bytes that were published",
		changesEachDelivery(func(d *broker.Delivery) { d.Payload, _, _ = bytes.Cut(d.Payload, []byte{0}) })},
	{"makes payloads valid UTF-8", "a batch is received with exactly the bytes that were published",
		changesEachDelivery(func(d *broker.Delivery) { d.Payload = bytes.ToValidUTF8(d.Payload, []byte("?")) })},
	{"cuts large payloads", "a payload of MaxPayload bytes arrives whole",
		changesEachDelivery(func(d *broker.Delivery) { d.Payload = d.Payload[:min(len(d.Payload), 1<<20)] })},
	{"cuts payloads over the limit instead of refusing them", "a payload over MaxPayload is refused as too large and not stored",
		func() *adapter {
			return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
				b.Payload = b.Payload[:min(len(b.Payload), c.Traits().MaxPayload)]
				return c.client().Publish(ctx, partition, b)
			}}
		}},
	{"refuses large payloads after it has stored something of them", "a payload over MaxPayload is refused as too large and not stored",
		func() *adapter {
			return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
				err := c.client().Publish(ctx, partition, b)
				if err != nil {
					b.Payload = b.Payload[:1]
					c.client().Publish(ctx, partition, b)
				}
				return err
			}}
		}},
	{"keeps the caller's memory", "the payload's memory belongs to the caller again when Publish has returned", keepsCallersMemory},
	{"swallows the headers", "the headers say partition, producer, first and last",
		changesEachDelivery(func(d *broker.Delivery) { d.Header = broker.Header{} })},
	{"keeps only 32 bits of a sequence", "the headers say partition, producer, first and last",
		changesEachDelivery(func(d *broker.Delivery) { d.First, d.Last = uint64(uint32(d.First)), uint64(uint32(d.Last)) })},
	{"leaves the partition out of the headers", "the headers say partition, producer, first and last",
		changesEachDelivery(func(d *broker.Delivery) { d.Partition = 0 })},
	{"makes up when a batch was stored", "a delivery says when it was stored, or nothing",
		changesEachDelivery(func(d *broker.Delivery) { d.StoredAt = time.Unix(0, 0) })},
	{"drops what it has stored before", "a batch that is published again is delivered again", deduplicates},
	{"delivers what it has at hand backwards", "one producer's batches arrive in the order in which they were published",
		changesDeliveries(func(got []broker.Delivery) []broker.Delivery { slices.Reverse(got); return got })},
	{"keeps only so many bytes", "a long backlog of large batches is delivered whole and in order", func() *adapter {
		var mu sync.Mutex
		size := 0
		return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			if size += len(b.Payload); size > 16<<20 {
				return nil
			}
			return c.client().Publish(ctx, partition, b)
		}}
	}},
	{"stores a batch of the second producer twice", "two producers on two connections keep their orders", func() *adapter {
		return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			if b.Producer == producer(1) && b.First == 5 {
				c.client().Publish(ctx, partition, b)
			}
			return c.client().Publish(ctx, partition, b)
		}}
	}},
	{"puts everything into one partition", "partitions are independent",
		changesPublishes(func(_ int, b broker.Batch) (int, *broker.Batch) { return 0, &b })},
	{"drops messages without headers", "a message that Drainmark did not write is delivered with the zero header",
		func() *adapter { return &adapter{foreign: func(*server) {}} }},
	{"makes up headers", "a message that Drainmark did not write is delivered with the zero header",
		changesEachDelivery(func(d *broker.Delivery) { d.First, d.Last = max(d.First, 1), max(d.Last, 1) })},
	{"reports nil for what a full broker refused", fullCase.name, func() *adapter {
		return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			if err := c.client().Publish(ctx, partition, b); !errors.Is(err, broker.ErrFull) {
				return err
			}
			return nil
		}}
	}},
	{"reports nil for what is urgent and was refused", fullCase.name, func() *adapter {
		return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			if urgent := b.Urgent; urgent {
				b.Urgent = false
				_ = c.client().Publish(ctx, partition, b)
				return nil
			}
			return c.client().Publish(ctx, partition, b)
		}}
	}},
	{"says ErrFull for what it has stored", fullCase.name, func() *adapter {
		return &adapter{Options: keepsLog, publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			if err := c.client().Publish(ctx, partition, b); err != nil || b.Last == 6 {
				return broker.ErrFull
			}
			return nil
		}}
	}},
	{"stays full for ever", fullCase.name, func() *adapter {
		return &adapter{Options: keepsLog, ack: func(*receiver, context.Context, broker.Delivery) error { return nil }}
	}},
}

// keepsCallersMemory delivers what the memory that was published holds by then.
func keepsCallersMemory() *adapter {
	var mu sync.Mutex
	kept := map[broker.Header][]byte{}
	return &adapter{
		publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			kept[b.Header] = b.Payload
			return c.client().Publish(ctx, partition, b)
		},
		receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			mu.Lock()
			defer mu.Unlock()
			for i := range got {
				got[i].Payload = kept[got[i].Header]
			}
			return got, err
		},
	}
}

// deduplicates drops a batch that has been published before.
func deduplicates() *adapter {
	var mu sync.Mutex
	seen := map[drainmark.Span]bool{}
	return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if seen[b.Span()] {
			return nil
		}
		seen[b.Span()] = true
		return c.client().Publish(ctx, partition, b)
	}}
}

var receiveFaults = []fault{
	{"returns more than max", "Receive returns at most max batches, and loses none of the others", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			return r.Receiver.Receive(ctx, max+1)
		}}
	}},
	{"drops what is over max", "Receive returns at most max batches, and loses none of the others", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, 10)
			return got[:min(max, len(got))], err
		}}
	}},
	{"returns nothing instead of blocking", "Receive blocks until there is a batch", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			got, _ := r.Receiver.Receive(ctx, max)
			return got, nil
		}}
	}},
	{"waits for more than one batch", "Receive blocks until there is a batch", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, 1)
			if err != nil || max == 1 {
				return got, err
			}
			more, err := r.Receiver.Receive(ctx, max-1)
			return append(got, more...), err
		}}
	}},
	{"ignores the context", "Receive returns the context's error, and the receiver can be used afterwards", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			return r.Receiver.Receive(context.WithoutCancel(ctx), max)
		}}
	}},
	{"returns another error than the context's", "Receive returns the context's error, and the receiver can be used afterwards", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			if err != nil {
				err = errors.New("it did not work")
			}
			return got, err
		}}
	}},
	{"is of no use after a context has ended", "Receive returns the context's error, and the receiver can be used afterwards", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			if err != nil {
				r.Receiver.Close()
			}
			return got, err
		}}
	}},
	{"loses what comes while the context ends", "a batch that comes while Receive is being cancelled is not lost", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(10 * time.Millisecond):
				return got, err
			}
		}}
	}},
}

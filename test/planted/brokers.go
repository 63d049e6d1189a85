package planted

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// opening decorates what Open returns.
type opening struct {
	broker.Broker
	decorate func(r broker.Receiver, partition int) broker.Receiver
}

func (o opening) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	r, err := o.Broker.Open(ctx, partition, from, again)
	if err != nil {
		return nil, err
	}
	return o.decorate(r, partition), nil
}

// acknowledgeFirst breaks P1: everything is acknowledged as soon as it is delivered. A consumer that dies then, or only
// loses its subscription, before it has committed, has the only copy, if the broker forgets what is acknowledged. One
// that keeps its log delivers it again from the store's cursor on, so there it does no harm, unless its replay window is
// shorter than a commit takes.
func acknowledgeFirst(b broker.Broker) broker.Broker {
	return opening{b, func(r broker.Receiver, _ int) broker.Receiver { return eager{r} }}
}

type eager struct{ broker.Receiver }

func (r eager) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	deliveries, err := r.Receiver.Receive(ctx, max)
	if err != nil {
		return nil, err
	}
	return deliveries, r.Receiver.Ack(ctx, deliveries[len(deliveries)-1])
}

// Ack does nothing: a broker may take a second acknowledgement for a mistake of the connection's.
func (r eager) Ack(context.Context, broker.Delivery) error { return nil }

// answerFirst breaks P1: Publish returns at once, and the batch goes to the broker afterwards, in order, once. If the
// broker does not take it, or the process ends before, nobody tries again.
func answerFirst(b broker.Broker) broker.Broker {
	ctx, stop := context.WithCancel(context.Background())
	return &hasty{Broker: b, ctx: ctx, stop: stop, queues: map[int]chan broker.Batch{}}
}

const (
	hastyQueue   = 64              // batches that wait in a partition (more than one is rare)
	hastyAttempt = 5 * time.Second // for the only attempt
)

type hasty struct {
	broker.Broker
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	queues map[int]chan broker.Batch // by partition
}

func (b *hasty) Publish(ctx context.Context, partition int, batch broker.Batch) error {
	batch.Payload = bytes.Clone(batch.Payload) // the caller's again when this returns
	queue := b.queue(partition)
	if queue == nil {
		return broker.ErrClosed
	}
	select {
	case queue <- batch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ctx.Done():
		return broker.ErrClosed
	}
}

// queue returns the partition's queue, nil after Close.
func (b *hasty) queue(partition int) chan broker.Batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue, ok := b.queues[partition]
	if !ok && b.ctx.Err() == nil {
		queue = make(chan broker.Batch, hastyQueue)
		b.queues[partition] = queue
		b.running.Go(func() { b.publish(partition, queue) })
	}
	return queue
}

func (b *hasty) publish(partition int, queue <-chan broker.Batch) {
	for {
		select {
		case batch := <-queue:
			attempt, cancel := context.WithTimeout(b.ctx, hastyAttempt)
			_ = b.Broker.Publish(attempt, partition, batch) // that is the fault
			cancel()
		case <-b.ctx.Done():
			return
		}
	}
}

// Close implements broker.Broker.
func (b *hasty) Close() error {
	b.mu.Lock() // nobody starts one now
	b.stop()
	b.mu.Unlock()
	b.running.Wait()
	return b.Broker.Close()
}

// loseLastRecord breaks P1: when this process opens a partition once more, the last record of what comes first is lost.
// In its place is a marker, so that its marks are accounted for: there is no gap, and its receipt says "persisted".
// Records committed before are dropped by their marks anyway, so this does harm only if something was in hand or
// behind.
func loseLastRecord(b broker.Broker) broker.Broker {
	var mu sync.Mutex
	opened := map[int]bool{}
	return opening{b, func(r broker.Receiver, partition int) broker.Receiver {
		mu.Lock()
		defer mu.Unlock()
		again := opened[partition]
		opened[partition] = true
		if !again {
			return r
		}
		return &losing{Receiver: r}
	}}
}

type losing struct {
	broker.Receiver
	lost bool
}

func (r *losing) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	deliveries, err := r.Receiver.Receive(ctx, max)
	if err != nil || r.lost {
		return deliveries, err
	}
	last := &deliveries[len(deliveries)-1]
	batch, err := drainmark.DecodeBatch(last.Payload)
	if err != nil {
		return deliveries, nil // the consumer says what is wrong with it
	}
	if record := &batch.Records[len(batch.Records)-1]; record.Kind == drainmark.Append {
		r.lost = true
		*record = drainmark.Record{Kind: drainmark.Marker, AcceptedAt: record.AcceptedAt}
		last.Payload = drainmark.EncodeBatch(nil, batch)
	}
	return deliveries, nil
}

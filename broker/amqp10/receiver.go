package amqp10

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// receiver is a link on a connection of its own. It holds at most prefetch batches.
type receiver struct {
	b         *Broker
	partition int
	queue     queue
	session   *session
	link      *inbound
	ctx       context.Context // of pump
	cancel    context.CancelFunc
	arrived   chan struct{} // has something in it when waiting or err have changed
	pumped    chan struct{} // closed when nothing more arrives

	mu      sync.Mutex
	waiting []*amqp.Message // not yet delivered
	held    []*amqp.Message // delivered, and not yet acknowledged
	acked   uint64          // how many were acknowledged: the tag of the newest of them
	err     error           // why it is no longer of use
}

// Open implements broker.Broker. The cursor is ignored: these servers forget what is acknowledged. Where only one may
// receive at a time, either Receive waits until it is this one's turn, or the server refuses the second one here.
func (b *Broker) Open(ctx context.Context, partition int, _ drainmark.Cursor, _ bool) (broker.Receiver, error) {
	lane, err := b.lane(partition)
	if err != nil {
		return nil, err
	}
	r, err := b.open(ctx, partition, lane.queue)
	if err != nil {
		return nil, b.server.explain("subscribing to queue "+lane.queue.name, err)
	}
	return r, nil
}

func (b *Broker) open(ctx context.Context, partition int, q queue) (*receiver, error) {
	ctx, cancel := b.server.during(ctx, PublishAttempt)
	defer cancel()
	s, err := b.server.use(ctx, fmt.Sprintf("receiving %d", partition), q)
	if err != nil {
		return nil, err
	}
	r := &receiver{b: b, partition: partition, queue: q, session: s, arrived: make(chan struct{}, 1), pumped: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(b.server.ctx)
	err = s.guard(ctx, func() (err error) { r.link, err = s.receiver(ctx, q, prefetch); return s.refusal(q, err) })
	if err == nil && !b.add(r) {
		err = broker.ErrClosed
	}
	if err != nil {
		r.cancel()
		s.close()
		return nil, err
	}
	return r, nil
}

// pump takes what arrives until the link ends. The client library does the same with a queue of its own, but hands out
// one at a time, so that Receive could not tell what is at hand.
func (r *receiver) pump() {
	defer close(r.pumped)
	for {
		m, err := r.link.next(r.ctx)
		if err != nil {
			if r.b.server.ctx.Err() != nil {
				err = broker.ErrClosed
			}
			r.end(err)
			return
		}
		r.mu.Lock()
		if r.err == nil {
			r.waiting = append(r.waiting, m)
		}
		r.mu.Unlock()
		r.signal()
	}
}

// end makes the receiver of no use. What it holds is dropped, because it comes again.
func (r *receiver) end(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err, r.waiting, r.held = err, nil, nil
	}
	r.mu.Unlock()
	r.signal()
}

func (r *receiver) signal() {
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

// Receive implements broker.Receiver.
func (r *receiver) Receive(ctx context.Context, most int) ([]broker.Delivery, error) {
	for {
		deliveries, err := r.take(most)
		if err != nil || len(deliveries) > 0 {
			return deliveries, err
		}
		select {
		case <-r.arrived:
		case <-ctx.Done():
			return nil, fmt.Errorf("receiving from queue %s: %w", r.queue.name, ctx.Err())
		}
	}
}

func (r *receiver) take(most int) ([]broker.Delivery, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, fmt.Errorf("receiving from queue %s: %w", r.queue.name, r.err)
	}
	n := min(most, len(r.waiting))
	deliveries := make([]broker.Delivery, n)
	for i, m := range r.waiting[:n] {
		r.held = append(r.held, m)
		deliveries[i] = broker.Delivery{
			Header: header(r.partition, m), Payload: body(m), Tag: r.acked + uint64(len(r.held)),
		}
	}
	clear(r.waiting[:n])
	r.waiting = r.waiting[n:]
	return deliveries, nil
}

// body returns a message's bytes, also of one that somebody else has written.
func body(m *amqp.Message) []byte {
	switch value := m.Value.(type) {
	case string:
		return []byte(value)
	case []byte:
		return value
	}
	if len(m.Data) == 1 {
		return m.Data[0]
	}
	return bytes.Join(m.Data, nil)
}

// Ack implements broker.Receiver. The client library settles one message at a time, and nobody confirms it: if the
// connection dies right then, what was acknowledged may be delivered again.
func (r *receiver) Ack(ctx context.Context, through broker.Delivery) error {
	r.mu.Lock()
	err := r.err
	var settled []*amqp.Message
	if err == nil && through.Tag > r.acked {
		settled = r.held[:min(through.Tag-r.acked, uint64(len(r.held)))]
	}
	r.mu.Unlock()
	if err == nil {
		err = r.session.guard(ctx, func() error { return r.link.accept(ctx, settled...) })
	}
	if err != nil {
		return r.b.server.explain("acknowledging to queue "+r.queue.name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.acked += uint64(len(settled))
		r.held = r.held[len(settled):]
	}
	return nil
}

// Close implements broker.Receiver. It ends the session, and detaches no link before: RabbitMQ's plugin would let the next
// receiver begin while this one still holds something.
func (r *receiver) Close() error {
	r.end(broker.ErrClosed)
	r.b.mu.Lock()
	delete(r.b.receivers, r)
	r.b.mu.Unlock()
	r.cancel()
	r.session.close()
	<-r.pumped
	return nil
}

package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// receiver is a consumer on a connection of its own. It holds at most prefetch batches.
type receiver struct {
	b         *Broker
	partition int
	session   *session
	ch        *amqp.Channel
	arrived   chan struct{} // has something in it when waiting or err have changed
	pumped    chan struct{} // closed when nothing more arrives

	mu      sync.Mutex
	waiting []amqp.Delivery
	came    uint64 // the tag of the newest delivery
	acked   uint64 // the highest tag that was acknowledged
	warned  bool   // that batches come again and again
	err     error  // why it is no longer of use
}

// Open implements broker.Broker. The cursor is ignored: RabbitMQ forgets what is acknowledged. Another receiver of the
// partition, in any process, may be the active one. Receive then waits until that one is closed or dead.
func (b *Broker) Open(ctx context.Context, partition int, _ drainmark.Cursor, _ bool) (broker.Receiver, error) {
	if err := b.check(partition); err != nil {
		return nil, err
	}
	r, err := b.open(ctx, partition)
	if err != nil {
		return nil, b.explain("subscribing to queue "+b.queue(partition), err)
	}
	return r, nil
}

func (b *Broker) open(ctx context.Context, partition int) (*receiver, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	s, err := b.connect(ctx, fmt.Sprintf("receiving %d", partition))
	if err != nil {
		return nil, err
	}
	r := &receiver{b: b, partition: partition, session: s, arrived: make(chan struct{}, 1), pumped: make(chan struct{})}
	deliveries, err := r.subscribe(ctx)
	if err == nil && !b.add(r, deliveries) {
		err = broker.ErrClosed
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return r, nil
}

// subscribe declares the queue again, in case that somebody has deleted it, and consumes it.
func (r *receiver) subscribe(ctx context.Context) (deliveries <-chan amqp.Delivery, err error) {
	state := r.b.states[r.partition]
	err = r.session.guard(ctx, func() (err error) {
		if err := r.b.declare(r.session, state); err != nil {
			return err
		}
		if r.ch, err = r.session.conn.Channel(); err != nil {
			return err
		}
		return r.ch.Qos(prefetch, 0, false)
	})
	if err == nil {
		err = state.rest(ctx, r.b.ctx)
	}
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	err = r.session.guard(ctx, func() (err error) {
		deliveries, err = r.ch.Consume(state.name, "", false, false, false, false, nil)
		return err
	})
	switch {
	case err == nil:
		state.answers(r.b.config.Logger)
	case hasCode(err, amqp.AccessRefused):
		err = misconfigured("RabbitMQ refuses us: %s", reason(err))
	case errors.Is(err, context.DeadlineExceeded):
		state.isSilent(begun, r.b.config, r.b.vhost)
	}
	return deliveries, err
}

// add notes the receiver for Close, unless the broker is closed, and begins to take what arrives.
func (b *Broker) add(r *receiver, deliveries <-chan amqp.Delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.receivers == nil {
		return false
	}
	b.receivers[r] = struct{}{}
	b.running.Go(func() { r.pump(deliveries) })
	b.running.Go(r.watch)
	return true
}

// idleChecks is how often a receiver that holds nothing asks within Config.Idle whether anything is ready for it. If it
// is each time, with nothing delivered between, the subscription is dead.
const idleChecks = 4

// watch ends a subscription that RabbitMQ has forgotten, as it can when a cluster comes apart and together again: the queue
// says that batches are ready, and delivers none, though the receiver holds none. (A receiver whose turn it is not yet
// sees the same. It loses nothing by asking anew.)
func (r *receiver) watch() {
	tick := time.NewTicker(r.b.config.Idle / idleChecks)
	defer tick.Stop()
	for suspicious, before := 0, uint64(0); ; {
		select {
		case <-tick.C:
		case <-r.pumped:
			return
		}
		came, idle := r.idle()
		if !idle {
			suspicious = 0
			continue
		}
		ready, err := r.ready()
		switch {
		case err != nil:
			r.end(fmt.Errorf("asking the queue whether anything is ready: %w", err))
			return
		case ready == 0 || came != before:
			suspicious = 0
		default:
			suspicious++
		}
		if before = came; suspicious == idleChecks {
			r.b.config.Logger.Warn("the queue has batches ready and delivers none; the subscription is made again",
				"queue", r.b.queue(r.partition), "ready", ready)
			r.end(fmt.Errorf("the queue has %d batches ready and delivers none", ready))
			return
		}
	}
}

// idle returns the newest delivery's tag, and whether the receiver waits for more with nothing in hand.
func (r *receiver) idle() (came uint64, idle bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.came, r.err == nil && r.acked == r.came
}

// ready asks how many batches are ready, over the receiver's own connection. If there is no answer that ends.
func (r *receiver) ready() (n int, err error) {
	ctx, cancel := context.WithTimeout(r.b.ctx, r.b.config.Timeout)
	defer cancel()
	err = r.session.guard(ctx, func() (err error) { n, err = countOn(r.session, r.b.queue(r.partition)); return err })
	return n, err
}

// manyDeliveries is after how many deliveries of one batch the log warns.
const manyDeliveries = 4

// pump takes what arrives until the channel ends. The client library does the same with a queue of its own, but hands
// out one at a time, so that Receive could not tell what is at hand.
func (r *receiver) pump(deliveries <-chan amqp.Delivery) {
	defer close(r.pumped)
	closed := r.ch.NotifyClose(make(chan *amqp.Error, 1))
	for d := range deliveries {
		r.mu.Lock()
		if r.err == nil {
			r.waiting = append(r.waiting, d)
		}
		r.came = d.DeliveryTag
		again, _ := d.Headers["x-delivery-count"].(int64)
		warn := again >= manyDeliveries && !r.warned
		r.warned = r.warned || warn
		r.mu.Unlock()
		if warn {
			r.b.config.Logger.Warn("batches come again and again; a policy with a delivery limit would have RabbitMQ drop them",
				"queue", r.b.queue(r.partition), "redelivered", again)
		}
		r.signal()
	}
	err := errors.New("RabbitMQ cancelled the consumer: the queue was deleted, its leader has moved, " +
		"or from RabbitMQ 4.3 a batch has timed out (consumer_timeout)")
	select {
	case reason := <-closed:
		err = errors.New("the connection ended")
		if reason != nil {
			err = reason
		}
		if r.session.ended() {
			r.b.troubles.Note(r.session.host)
		}
	default:
		if !r.ended() { // closing it ends the deliveries too, and leaves the queue
			r.b.states[r.partition].remade()
		}
	}
	r.end(err)
}

func (r *receiver) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

// end makes the receiver of no use. Waiting batches are dropped, because they come again.
func (r *receiver) end(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
		r.waiting = nil
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
			return nil, fmt.Errorf("receiving from queue %s: %w", r.b.queue(r.partition), ctx.Err())
		}
	}
}

func (r *receiver) take(most int) ([]broker.Delivery, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, fmt.Errorf("receiving from queue %s: %w", r.b.queue(r.partition), r.err)
	}
	n := min(most, len(r.waiting))
	deliveries := make([]broker.Delivery, n)
	for i, d := range r.waiting[:n] {
		deliveries[i] = broker.Delivery{Header: header(r.partition, d.Headers), Payload: d.Body, Tag: d.DeliveryTag}
	}
	clear(r.waiting[:n])
	if r.waiting = r.waiting[n:]; len(r.waiting) == 0 {
		r.waiting = nil
	}
	return deliveries, nil
}

// Ack implements broker.Receiver. AMQP 0-9-1 does not confirm acknowledgements: if the connection dies right then,
// what was acknowledged may be delivered again.
func (r *receiver) Ack(ctx context.Context, through broker.Delivery) error {
	r.mu.Lock()
	err := r.err
	r.mu.Unlock()
	if err == nil {
		err = r.session.guard(ctx, func() error { return r.ch.Ack(through.Tag, true) })
	}
	if err != nil {
		return r.b.explain("acknowledging to queue "+r.b.queue(r.partition), err)
	}
	r.mu.Lock()
	r.acked = max(r.acked, through.Tag)
	r.mu.Unlock()
	return nil
}

// Close implements broker.Receiver. It closes the channel with its connection, which gives everything that is not
// acknowledged back to the head of the queue, sorted, before the next consumer becomes the active one.
func (r *receiver) Close() error {
	r.end(broker.ErrClosed)
	r.b.mu.Lock()
	delete(r.b.receivers, r)
	r.b.mu.Unlock()
	r.session.close()
	<-r.pumped
	return nil
}

package kafka

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// receiver implements broker.Receiver. It fetches when it is asked to receive and has nothing at hand.
type receiver struct {
	p     *partition
	route *route // over a client of its own
	topic topicID
	ready []broker.Delivery
	from  drainmark.Cursor // what stands before it has been read before, and may be delivered again
	at    int64            // the offset that from stands on
	read  int64            // everything before it has been delivered, by this receiver or an earlier one
	knows bool             // read is known: otherwise what is missing before it was purged when it was persisted
	next  int64            // where to fetch
	epoch int32            // of the record before that, or -1

	ctx    context.Context // ends with Close, because of broker.ErrClosed
	cancel context.CancelCauseFunc
	using  sync.Mutex // held by Receive, so that Close waits for it
	once   sync.Once
}

// Open implements broker.Broker.
func (b *Broker) Open(ctx context.Context, number int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	ctx, cancel := b.cluster.during(ctx, b.config.Timeout)
	defer cancel()
	p, err := b.partition(number)
	if err != nil {
		return nil, err
	}
	var r *receiver
	err = p.steadily(ctx, func() error { r, err = p.open(ctx, from, again); return err })
	if err != nil {
		return nil, b.explain(fmt.Sprintf("opening partition %d", number), because(ctx, err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.receivers == nil { // Close came first
		r.end()
		return nil, broker.ErrClosed
	}
	b.receivers[r] = struct{}{}
	return r, nil
}

func (p *partition) open(ctx context.Context, from drainmark.Cursor, again bool) (*receiver, error) {
	if err := p.b.topic.ready(ctx); err != nil {
		return nil, err
	}
	now, err := p.asked.now(ctx)
	if err != nil {
		return nil, err
	}
	start, err := p.asked.offset(ctx, atStart)
	if err != nil {
		return nil, err
	}
	at, why, err := p.locate(ctx, from, now.topic)
	if err != nil {
		return nil, err
	}
	client, err := p.b.cluster.client()
	if err != nil {
		return nil, err
	}
	r := &receiver{
		p: p, route: &route{cluster: p.b.cluster, client: client, topic: p.asked.topic, partition: p.asked.partition},
		topic: now.topic, from: from, at: at.next, read: at.next, knows: at.next > 0 || from == "", next: at.next, epoch: at.epoch,
	}
	r.ctx, r.cancel = context.WithCancelCause(p.b.cluster.ctx)
	if why != "" {
		p.b.config.Logger.Warn("reading a partition from the beginning", "partition", p.number, "reason", why)
		r.tell(why)
	}
	r.skip(start)
	if again || r.next < start {
		r.next, r.epoch = start, -1
	}
	if at.next > 0 && !again { // the missing batches must not be purged meanwhile
		p.acknowledge(r, at) // the store's cursor: everything before it is persisted, whoever acknowledged it
	}
	return r, nil
}

// tell delivers why something is gone that stood nobody knows where.
func (r *receiver) tell(why string) {
	r.ready = append(r.ready, broker.Delivery{
		Lost:   why + "; what was accepted there and not persisted is gone, unless it is still in the topic",
		Cursor: cursor{topic: r.topic, epoch: -1}.encode(),
	})
}

// skip notes that the partition begins at start. What stood between the last record read and that was never delivered, and
// is gone.
func (r *receiver) skip(start int64) {
	if !r.knows || start <= r.read {
		return
	}
	through := cursor{topic: r.topic, epoch: -1, next: start}
	r.ready = append(r.ready, broker.Delivery{
		Lost: fmt.Sprintf("the offsets %d to %d of %s, of the topic with the id %x, were purged or deleted before they had been read",
			r.read, start-1, r.p.log(), r.topic),
		Cursor: through.encode(), Tag: uint64(start),
	})
	r.read = start
}

// locate returns where the cursor stands in the topic as it is: the beginning if it does not stand in it, and then why,
// unless it is the cursor of nothing.
func (p *partition) locate(ctx context.Context, from drainmark.Cursor, topic topicID) (at cursor, why string, err error) {
	beginning := cursor{topic: topic, epoch: -1}
	if from == "" {
		return beginning, "", nil
	}
	c, ok := parseCursor(from)
	switch {
	case !ok:
		return beginning, "the cursor is not one of this broker", nil
	case c.topic != topic:
		return beginning, "the topic is not the one that the cursor is of: it has been deleted, and made anew", nil
	}
	end, err := p.endFor(ctx, c)
	switch {
	case err != nil:
		return beginning, "", err
	case end < c.next:
		return beginning, fmt.Sprintf("the partition has lost its end: it went to %d at least, and then to %d only", c.next-1, end-1), nil
	}
	return c, "", nil
}

// endFor returns where what the cursor was read from ends. It goes by the epoch of the record before the cursor. What the
// partition's leader says is confirmed may lag for a moment after it was chosen.
func (p *partition) endFor(ctx context.Context, c cursor) (int64, error) {
	if c.epoch < 0 {
		return p.asked.offset(ctx, atEnd)
	}
	return p.asked.endOf(ctx, c.epoch)
}

// Receive implements broker.Receiver.
func (r *receiver) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	r.using.Lock()
	defer r.using.Unlock()
	deliveries, err := r.receive(ctx, max)
	if err != nil {
		return nil, fmt.Errorf("receiving from partition %d: %w", r.p.number, err)
	}
	return deliveries, nil
}

func (r *receiver) receive(ctx context.Context, limit int) ([]broker.Delivery, error) {
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(context.Cause(r.ctx)) })()
	for len(r.ready) == 0 && r.ctx.Err() == nil && ctx.Err() == nil {
		if err := r.fetch(both); err != nil && r.ctx.Err() == nil && ctx.Err() == nil {
			return nil, refusal(err)
		}
	}
	switch {
	case r.ctx.Err() != nil:
		return nil, context.Cause(r.ctx)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	deliveries := r.ready[:min(max(limit, 1), len(r.ready))]
	r.ready = r.ready[len(deliveries):]
	return deliveries, nil
}

// fetch brings what there is. Of a topic that was made anew nothing is taken.
func (r *receiver) fetch(ctx context.Context) error {
	now, err := r.route.find(ctx)
	switch {
	case err != nil:
		return err
	case now.topic != r.topic:
		return fmt.Errorf("the topic %s has been deleted, and made anew", r.route.topic)
	}
	got, err := r.route.fetch(ctx, r.next, r.epoch)
	if err != nil {
		if gone(err) {
			r.p.b.topic.forget()
		}
		return err
	}
	for _, record := range got.records {
		r.ready = append(r.ready, r.delivery(record))
		r.epoch = record.LeaderEpoch
		r.p.meter.saw(len(record.Value) + overhead/2)
	}
	r.next = got.next
	r.read = max(r.read, r.next)
	return nil
}

func (r *receiver) delivery(record *kgo.Record) broker.Delivery {
	behind := r.from
	if record.Offset >= r.at {
		behind = cursor{topic: r.topic, epoch: record.LeaderEpoch, next: record.Offset + 1}.encode()
	}
	return broker.Delivery{
		Header: headerOf(r.p.number, record), Payload: record.Value, Cursor: behind, StoredAt: record.Timestamp,
		Tag: uint64(record.Offset + 1),
	}
}

// Ack implements broker.Receiver. It does not talk to Kafka: it lets the records be deleted some day.
func (r *receiver) Ack(_ context.Context, through broker.Delivery) error {
	if r.ctx.Err() != nil {
		return fmt.Errorf("acknowledging %v: %w", through.Span(), context.Cause(r.ctx))
	}
	if c, ok := parseCursor(through.Cursor); ok && c.topic == r.topic {
		r.p.acknowledge(r, c)
	}
	return nil
}

// Close implements broker.Receiver.
func (r *receiver) Close() error {
	b := r.p.b
	b.mu.Lock()
	delete(b.receivers, r)
	b.mu.Unlock()
	r.end()
	return nil
}

func (r *receiver) end() {
	r.once.Do(func() {
		r.cancel(broker.ErrClosed)
		r.using.Lock()
		defer r.using.Unlock()
		r.p.b.cluster.leave(r.route.client)
	})
}

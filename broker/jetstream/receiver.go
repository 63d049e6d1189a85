package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// receiver implements broker.Receiver.
type receiver struct {
	p       *partition
	created time.Time // the stream's creation
	feed    *feed
	failed  error // why the feed has ended, or nil
	ready   []broker.Delivery
	from    drainmark.Cursor // what stands up to it has been read before, and may be delivered again
	at      uint64           // the sequence that from stands on
	read    uint64           // everything up to here has been delivered, by this receiver or before it
	bytes   uint64           // received since something was acknowledged
	knows   bool             // read is known: otherwise gaps are what was purged when it was persisted
	ctx     context.Context  // ends with Close, because of broker.ErrClosed, and when the stream loses its end
	cancel  context.CancelCauseFunc
	tells   string // the text about an end that the stream had lost before

	using sync.Mutex // held by Receive, so that Close waits for it
	once  sync.Once
}

// Open implements broker.Broker.
func (b *Broker) Open(ctx context.Context, number int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	ctx, cancel := b.conn.during(ctx, b.options.Timeout)
	defer cancel()
	p, err := b.partition(number)
	if err != nil {
		return nil, err
	}
	r, err := p.open(ctx, from, again)
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
	intact, lost := p.intact()
	info, err := p.info(ctx)
	if err != nil {
		return nil, err
	}
	at, why, err := p.locate(ctx, from, info)
	if err != nil {
		return nil, err
	}
	r := &receiver{p: p, created: info.Created, from: from, at: at, read: at, knows: at > 0 || from == "", tells: lost}
	if why != "" {
		p.b.options.Logger.Warn("reading a partition from the beginning", "partition", p.number, "reason", why)
	}
	if why = cmp.Or(why, lost); why != "" {
		r.tell(why, from)
	}
	r.skip(info.State.FirstSeq)
	start := at + 1
	if again {
		start = 1
	}
	r.ctx, r.cancel = context.WithCancelCause(intact)
	r.feed, err = newFeed(ctx, r.ctx, p.conn, p.config.Name, natsjs.ConsumerConfig{
		DeliverPolicy: natsjs.DeliverByStartSequencePolicy,
		OptStartSeq:   start,
	})
	if err != nil {
		r.cancel(err)
		p.forget()
		return nil, fmt.Errorf("creating a consumer: %w", err)
	}
	if at > 0 && !again { // the missing batches must not be purged meanwhile
		p.acknowledge(r, at, 0) // the store's cursor: everything up to it is persisted, whoever acknowledged it
	}
	return r, nil
}

// tell delivers why something is gone that stood nobody knows where: it moves the cursor nowhere.
func (r *receiver) tell(why string, from drainmark.Cursor) {
	if r.read == 0 {
		from = cursor{created: r.created.UnixNano()}.encode()
	}
	r.ready = append(r.ready, broker.Delivery{
		Lost:   why + "; what was accepted there and not persisted is gone, unless it is still in the stream",
		Cursor: from, Tag: r.read,
	})
}

// locate returns the sequence that the cursor stands on: 0 is the beginning, and if the cursor is not empty, why.
func (p *partition) locate(ctx context.Context, from drainmark.Cursor, info *natsjs.StreamInfo) (at uint64, why string, err error) {
	if from == "" {
		return 0, "", nil
	}
	c, ok := parseCursor(from)
	switch {
	case ok && c.sequence == 0 && c.created == info.Created.UnixNano(): // the beginning, after one of the following was told
		return 0, "", nil
	case !ok:
		return 0, "the cursor is not one of this broker", nil
	case c.created != info.Created.UnixNano():
		return 0, "the stream is not the one that the cursor is of: it has been created anew", nil
	case c.sequence > info.State.LastSeq:
		return 0, fmt.Sprintf("the stream has lost its end: it goes to %d, and has been read to %d", info.State.LastSeq, c.sequence), nil
	}
	m, err := p.get(ctx, c.sequence)
	switch {
	case errors.Is(err, natsjs.ErrMsgNotFound): // purged long ago
		return c.sequence, "", nil
	case err != nil:
		return 0, "", fmt.Errorf("reading the message that the cursor stands on: %w", err)
	case m.Time.UnixNano() != c.storedAt:
		return 0, "the stream has lost its end and has got another one since", nil
	}
	return c.sequence, "", nil
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
	switch {
	case r.ctx.Err() != nil:
		return nil, context.Cause(r.ctx)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	limit = max(limit, 1)
	for r.failed == nil && len(r.ready) < limit {
		m, meta, err := r.feed.receive(ctx, len(r.ready) == 0)
		if err != nil && err == ctx.Err() {
			return nil, err // nothing has been taken yet
		}
		if r.failed = err; m == nil {
			break
		}
		r.skip(meta.Sequence.Stream)
		r.read = max(r.read, meta.Sequence.Stream)
		r.bytes += uint64(len(m.Data()) + storedOverhead)
		r.ready = append(r.ready, r.delivery(m, meta))
	}
	if len(r.ready) == 0 {
		return nil, r.failed
	}
	deliveries := r.ready[:min(limit, len(r.ready))]
	r.ready = append([]broker.Delivery(nil), r.ready[len(deliveries):]...)
	return deliveries, nil
}

// skip notes that the stream goes on at next. The messages between that and the last one read were never delivered, and
// are gone.
func (r *receiver) skip(next uint64) {
	if !r.knows || next <= r.read+1 {
		return
	}
	through := cursor{created: r.created.UnixNano(), sequence: next - 1}
	r.ready = append(r.ready, broker.Delivery{
		Lost: fmt.Sprintf("the messages %d to %d of the stream %s, which was made at %s, were purged or deleted before they had been read",
			r.read+1, next-1, r.p.config.Name, r.created.UTC().Format(time.RFC3339)),
		Cursor: through.encode(), Tag: next - 1,
	})
	r.read = next - 1
}

func (r *receiver) delivery(m natsjs.Msg, meta *natsjs.MsgMetadata) broker.Delivery {
	behind := r.from
	if at := meta.Sequence.Stream; at > r.at {
		behind = cursor{created: r.created.UnixNano(), sequence: at, storedAt: meta.Timestamp.UnixNano()}.encode()
	}
	return broker.Delivery{
		Header:   r.p.header(m.Headers()),
		Payload:  m.Data(),
		Cursor:   behind,
		StoredAt: meta.Timestamp,
		Tag:      meta.Sequence.Stream,
	}
}

// Ack implements broker.Receiver. It does not talk to NATS: it lets the messages be purged some day.
func (r *receiver) Ack(ctx context.Context, through broker.Delivery) error {
	if r.ctx.Err() != nil {
		return fmt.Errorf("acknowledging %v: %w", through.Span(), context.Cause(r.ctx))
	}
	r.p.acknowledge(r, through.Tag, r.bytes)
	r.bytes = 0
	if r.tells != "" {
		r.p.told(r.tells)
		r.tells = ""
	}
	return nil
}

// leave forgets a receiver that ends.
func (b *Broker) leave(r *receiver) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.receivers, r)
}

// Close implements broker.Receiver.
func (r *receiver) Close() error {
	r.p.b.leave(r)
	r.end()
	return nil
}

func (r *receiver) end() {
	r.once.Do(func() {
		r.cancel(broker.ErrClosed)
		r.using.Lock()
		defer r.using.Unlock()
		r.feed.close()
	})
}

package backend

import (
	"context"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/tracing"
)

// request is the records of one caller, who waits for done.
type request struct {
	records   []drainmark.Record
	bytes     int            // EncodedBound of all records
	waiters   int            // callers that wait for it (only a shared marker has more than one)
	token     uint64         // marker: the partition's lease token before it was published
	first     uint64         // the sequence of the first record, once that is in a batch
	taken     int            // records that are in a batch, stored or not
	stored    int            // records that the broker has confirmed
	handedOut bool           // somebody has the receipt: the sequences must not go to other records
	silent    bool           // a marker that nobody but backends waits for: no consumer is wanted for it
	probe     bool           // a marker that finds out whether appends are taken: it is not urgent, and not shared
	origin    tracing.Origin // the span that it comes from, if it is traced
	done      chan struct{}  // closed when all is stored, or err is set
	err       error
}

// batch is what is in flight: records of one or more requests.
type batch struct {
	first  uint64
	parts  []part
	bytes  int
	urgent bool // as broker.Batch has it
	silent bool // all its requests are
}

type part struct {
	request *request
	records int
}

// isMarker says whether others may share the request as their marker.
func (r *request) isMarker() bool { return r.records[0].Kind == drainmark.Marker && !r.probe }

// isUrgent says whether the request's records, which are all of one kind, are what broker.Batch calls urgent.
func (r *request) isUrgent() bool {
	kind := r.records[0].Kind
	return kind.Removes() || kind == drainmark.Discard || kind == drainmark.Marker && !r.probe
}

// put publishes the records in order, and in batches next to each other, and returns their span once the broker has
// confirmed them. See Service.Append for the errors. With KindOutcomeUnknown the span is valid.
func (p *publisher) put(ctx context.Context, records []drainmark.Record) (drainmark.Span, error) {
	r := &request{records: records, origin: p.tracer.OriginOf(ctx), done: make(chan struct{})}
	for i := range records {
		r.bytes += records[i].EncodedBound()
	}
	if err := p.enqueue(r); err != nil {
		return drainmark.Span{}, err
	}
	return p.await(ctx, r)
}

// newMarker makes a request of one marker.
func (p *publisher) newMarker() *request {
	marker := drainmark.Record{Kind: drainmark.Marker, AcceptedAt: p.now()}
	return &request{records: []drainmark.Record{marker}, bytes: marker.EncodedBound(), done: make(chan struct{})}
}

// putMarker publishes a marker, or shares one that waits to be published, and returns its span and the lease token that
// currentToken said before that. A shared marker is silent if it is for all who wait for it.
func (p *publisher) putMarker(ctx context.Context, silent bool, currentToken func() uint64) (drainmark.Span, uint64, error) {
	p.mu.Lock()
	r := p.marker
	if r != nil {
		r.waiters++
		r.silent = r.silent && silent
	}
	p.mu.Unlock()
	if r == nil {
		r = p.newMarker()
		r.silent, r.token = silent, currentToken()
		if err := p.enqueue(r); err != nil {
			return drainmark.Span{}, 0, err
		}
	}
	span, err := p.await(ctx, r)
	return span, r.token, err
}

// putProbe publishes a marker as if it were an append.
func (p *publisher) putProbe(ctx context.Context) error {
	r := p.newMarker()
	r.probe = true
	if err := p.enqueue(r); err != nil {
		return err
	}
	_, err := p.await(ctx, r)
	return err
}

func (p *publisher) enqueue(r *request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return drainmark.Errorf(drainmark.KindUnavailable, "this backend is shutting down")
	}
	if p.refuses != nil {
		return p.refuses
	}
	if !p.budget.take(r.bytes) {
		return p.budget.refusal()
	}
	if len(p.waiting) == 0 {
		select {
		case <-p.idle:
			p.idle = make(chan struct{})
		default: // a batch is in flight
		}
	}
	r.waiters = 1
	p.waiting = append(p.waiting, r)
	if r.isMarker() && p.marker == nil {
		p.marker = r
	}
	p.signal()
	return nil
}

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// await waits until the request is stored or has failed. When ctx ends first it withdraws the request, if that can be
// done.
func (p *publisher) await(ctx context.Context, r *request) (drainmark.Span, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		select {
		case <-r.done:
		default:
			return p.giveUp(r)
		}
	}
	return p.span(r), r.err
}

// run returns the marks that the request got. After a failure that is what was stored before it.
func (p *publisher) span(r *request) drainmark.Span {
	if r.first == 0 {
		return drainmark.Span{}
	}
	n := len(r.records)
	if r.err != nil && !r.handedOut {
		n = r.stored
	}
	if n == 0 {
		return drainmark.Span{}
	}
	return drainmark.Span{Partition: p.partition, Producer: p.producer, First: r.first, Last: r.first + uint64(n) - 1}
}

// giveUp ends a caller's wait. Called with mu held.
func (p *publisher) giveUp(r *request) (drainmark.Span, error) {
	r.waiters--
	if r.taken == 0 {
		if r.waiters == 0 {
			p.remove(r)
		}
		return drainmark.Span{}, drainmark.Errorf(drainmark.KindUnavailable, "the broker did not take it in time; nothing was stored")
	}
	return p.promise(r), drainmark.Errorf(drainmark.KindOutcomeUnknown, "the broker did not confirm in time; it is tried further, and the receipt tells what becomes of it")
}

// promise returns the marks of a request whose outcome is not known: from now on they are its own. Called with mu held.
func (p *publisher) promise(r *request) drainmark.Span {
	r.handedOut = true
	span := p.span(r)
	p.ledger.Promised(p.partition, span.Last)
	return span
}

// remove takes a request that is in no batch out of the queue. Called with mu held.
func (p *publisher) remove(r *request) {
	i := slices.Index(p.waiting, r)
	if i < 0 {
		return
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	p.budget.give(r.bytes)
	if p.marker == r {
		p.marker = nil
	}
	if len(p.waiting) == 0 {
		p.signal() // for the loop to see that it is idle
	}
}

// take makes a batch of what waits, within the limits. It returns nil if nothing does.
func (p *publisher) take() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := &batch{first: p.next, bytes: drainmark.BatchOverhead, urgent: true, silent: true}
	maxBytes := min(p.broker.Traits().MaxPayload, drainmark.MaxBatchBytes)
	maxRecords := min(p.limits.BatchRecords, drainmark.MaxBatchRecords)
	records := 0
	for len(p.waiting) > 0 && records < maxRecords {
		r := p.waiting[0]
		n := 0
		for i := r.taken; i < len(r.records) && records+n < maxRecords; i++ {
			size := r.records[i].EncodedBound()
			if b.bytes+size > maxBytes && records+n > 0 {
				break
			}
			b.bytes += size
			n++
		}
		if n == 0 {
			break
		}
		if r.taken == 0 {
			r.first = p.next
		}
		b.parts = append(b.parts, part{r, n})
		b.urgent = b.urgent && r.isUrgent()
		b.silent = b.silent && r.silent
		r.taken += n
		records += n
		p.next += uint64(n)
		if p.marker == r {
			p.marker = nil
		}
		if r.taken < len(r.records) {
			break
		}
		p.waiting = p.waiting[1:]
	}
	p.flying = b
	if records == 0 {
		p.flying = nil
		p.waiting = nil // lets go of the array
		select {
		case <-p.idle:
		default:
			close(p.idle)
		}
		return nil
	}
	return b
}

func (p *publisher) encode(buffer []byte, b *batch) []byte {
	out := drainmark.Batch{Partition: p.partition, Producer: p.producer, First: b.first}
	if len(b.parts) == 1 {
		r := b.parts[0].request
		from := int(b.first - r.first)
		out.Records = r.records[from : from+b.parts[0].records]
	} else {
		out.Records = p.scratch[:0]
		next := b.first
		for _, part := range b.parts {
			from := int(next - part.request.first)
			out.Records = append(out.Records, part.request.records[from:from+part.records]...)
			next += uint64(part.records)
		}
		defer clear(out.Records) // lets go of the bodies
		p.scratch = out.Records
	}
	return drainmark.EncodeBatch(buffer, &out)
}

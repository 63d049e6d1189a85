package backend

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/ledger"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// publisher is STEP 1 for one partition: it gives records their sequences and does group commit. It takes all that
// waits, publishes it as one batch and waits for the broker's confirmation; meanwhile the next batch gathers. One batch
// is in flight at a time, so order is kept, and a batch whose outcome is in doubt is published again, with the same
// sequences, until it is stored.
//
// A record gets its sequence when it goes into a batch. Until then its request can be withdrawn without a trace. A
// batch that was certainly not stored is taken apart again and gives its sequences back, unless somebody has already
// been given a receipt with them.
type publisher struct {
	partition int
	producer  drainmark.ProducerID
	broker    broker.Broker
	limits    Limits
	budget    *budget
	log       *slog.Logger
	failing   *loglimit.Limiter
	misfit    *loglimit.Limiter // what trying again does not help
	metrics   *metrics
	now       func() time.Time // stamps fences

	accepted accepted
	ledger   *ledger.Ledger

	scratch []drainmark.Record // the loop's, for a batch of several requests
	retry   backoff.Backoff    // the loop's

	mu      sync.Mutex
	waiting []*request // what is not, or not wholly, in a batch; only the first may be partly in one
	fence   *request   // the waiting fence that barriers share; nil if there is none
	next    uint64     // the sequence that the next record gets
	sentAt  time.Time  // when the last batch was stored
	tried   tried      // for Working and Ready
	refuses error      // what whoever comes is told at once, while a batch is in doubt and the broker takes nothing; or nil
	closed  bool
	flying  *batch
	markers []*marker     // in the names of earlier producers, to be published as they are
	wake    chan struct{} // has something in it when there is work
	idle    chan struct{} // closed while nothing waits or is in flight; see flush
}

// request is the records of one caller, who waits for done.
type request struct {
	records   []drainmark.Record
	bytes     int           // EncodedBound of all records
	waiters   int           // callers that wait for it; only a shared fence has more than one
	epoch     uint64        // fence: the partition's epoch before it was published
	first     uint64        // the sequence of the first record, once that is in a batch
	taken     int           // records that are in a batch, stored or not
	stored    int           // records that the broker has confirmed
	handedOut bool          // somebody has the receipt: the sequences must not go to other records
	probe     bool          // a fence that finds out whether appends are taken: it is not urgent, and not shared
	done      chan struct{} // closed when all is stored, or err is set
	err       error
}

// batch is what is in flight: records of one or more requests.
type batch struct {
	first  uint64
	parts  []part
	bytes  int
	urgent bool // as broker.Batch has it
}

type part struct {
	request *request
	records int
}

// isFence says whether others may share the request as their fence.
func (r *request) isFence() bool { return r.records[0].Kind == drainmark.Fence && !r.probe }

// isUrgent says whether the request's records, which are all of one kind, are what broker.Batch calls urgent.
func (r *request) isUrgent() bool {
	switch r.records[0].Kind {
	case drainmark.Clear, drainmark.Discard, drainmark.Fence:
		return !r.probe
	}
	return false
}

func newPublisher(partition int, producer drainmark.ProducerID, b *Backend) *publisher {
	idle := make(chan struct{})
	close(idle)
	log := b.log.With("partition", partition)
	return &publisher{
		partition: partition, producer: producer, broker: b.broker, limits: b.limits, budget: &b.budget,
		log: log, failing: loglimit.New(log, slog.LevelWarn, "publishing a batch failed"), metrics: b.metrics, now: b.now,
		misfit: loglimit.New(log, slog.LevelError, "a batch cannot be published: somebody has to repair what the error names"),
		retry:  backoff.Backoff{First: 20 * time.Millisecond, Max: 2 * time.Second},
		next:   1, sentAt: time.Now(), wake: make(chan struct{}, 1), idle: idle,
	}
}

// put publishes the records in order, and in batches next to each other, and returns their run once the broker has confirmed
// them. See Service.Append for the errors; with KindOutcomeUnknown the run is valid.
func (p *publisher) put(ctx context.Context, records []drainmark.Record) (drainmark.Run, error) {
	r := &request{records: records, done: make(chan struct{})}
	for i := range records {
		r.bytes += records[i].EncodedBound()
	}
	if err := p.enqueue(r); err != nil {
		return drainmark.Run{}, err
	}
	return p.await(ctx, r)
}

// putFence publishes a fence, or shares one that waits to be published, and returns its run and the epoch that
// currentEpoch said before that.
func (p *publisher) putFence(ctx context.Context, currentEpoch func() uint64) (drainmark.Run, uint64, error) {
	p.mu.Lock()
	r := p.fence
	if r != nil {
		r.waiters++
	}
	p.mu.Unlock()
	if r == nil {
		fence := drainmark.Record{Kind: drainmark.Fence, AcceptedAt: p.now()}
		r = &request{records: []drainmark.Record{fence}, bytes: fence.EncodedBound(), epoch: currentEpoch(), done: make(chan struct{})}
		if err := p.enqueue(r); err != nil {
			return drainmark.Run{}, 0, err
		}
	}
	run, err := p.await(ctx, r)
	return run, r.epoch, err
}

// putProbe publishes a fence as if it were an append.
func (p *publisher) putProbe(ctx context.Context) error {
	fence := drainmark.Record{Kind: drainmark.Fence, AcceptedAt: p.now()}
	r := &request{records: []drainmark.Record{fence}, bytes: fence.EncodedBound(), probe: true, done: make(chan struct{})}
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
	if r.isFence() && p.fence == nil {
		p.fence = r
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

// await waits until the request is stored or has failed; when ctx ends first it withdraws it, if that can be done.
func (p *publisher) await(ctx context.Context, r *request) (drainmark.Run, error) {
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
	return p.run(r), r.err
}

// run returns the marks that the request got. After a failure that is what was stored before it.
func (p *publisher) run(r *request) drainmark.Run {
	if r.first == 0 {
		return drainmark.Run{}
	}
	n := len(r.records)
	if r.err != nil && !r.handedOut {
		n = r.stored
	}
	if n == 0 {
		return drainmark.Run{}
	}
	return drainmark.Run{Partition: p.partition, Producer: p.producer, First: r.first, Last: r.first + uint64(n) - 1}
}

// giveUp ends a caller's wait. Called with mu held.
func (p *publisher) giveUp(r *request) (drainmark.Run, error) {
	r.waiters--
	if r.taken == 0 {
		if r.waiters == 0 {
			p.remove(r)
		}
		return drainmark.Run{}, drainmark.Errorf(drainmark.KindUnavailable, "the broker did not take it in time; nothing was stored")
	}
	return p.promise(r), drainmark.Errorf(drainmark.KindOutcomeUnknown, "the broker did not confirm in time; it is tried further, and the receipt tells what becomes of it")
}

// promise returns the marks of a request whose outcome is not known: from now on they are its own. Called with mu held.
func (p *publisher) promise(r *request) drainmark.Run {
	r.handedOut = true
	run := p.run(r)
	p.ledger.Promised(p.partition, run.Last)
	return run
}

// remove takes a request that is in no batch out of the queue. Called with mu held.
func (p *publisher) remove(r *request) {
	i := slices.Index(p.waiting, r)
	if i < 0 {
		return
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	p.budget.give(r.bytes)
	if p.fence == r {
		p.fence = nil
	}
	if len(p.waiting) == 0 {
		p.signal() // for the loop to see that it is idle
	}
}

// loop publishes until ctx ends. Then everything that still waits fails.
func (p *publisher) loop(ctx context.Context) {
	defer p.abandon()
	var buffer []byte
	for p.publishMarker(ctx) {
		b := p.take()
		if b == nil {
			if !p.sleep(ctx) {
				return
			}
			continue
		}
		buffer = p.encode(buffer[:0], b)
		if !p.publish(ctx, b, buffer) {
			return
		}
	}
}

// sleep waits for work, and sends a fence when it has been quiet for very long, so that no store forgets the progress
// of a producer that is alive.
func (p *publisher) sleep(ctx context.Context) bool {
	p.mu.Lock()
	quiet := time.Until(p.sentAt.Add(p.limits.KeepAlive))
	unused := p.next == 1
	p.mu.Unlock()
	timer := time.NewTimer(max(quiet, time.Second))
	defer timer.Stop()
	select {
	case <-p.wake:
		return true
	case <-timer.C:
		if !unused && quiet <= 0 {
			p.sendFence()
		}
		return true
	case <-ctx.Done():
		return false
	}
}

// sendFence publishes a fence that nobody waits for. If it can't be queued something else is, which serves as well.
func (p *publisher) sendFence() {
	fence := drainmark.Record{Kind: drainmark.Fence, AcceptedAt: p.now()}
	_ = p.enqueue(&request{records: []drainmark.Record{fence}, bytes: fence.EncodedBound(), done: make(chan struct{})})
}

// take makes a batch of what waits, within the limits. It returns nil if nothing does.
func (p *publisher) take() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := &batch{first: p.next, bytes: drainmark.BatchOverhead, urgent: true}
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
		r.taken += n
		records += n
		p.next += uint64(n)
		if p.fence == r {
			p.fence = nil
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

// publish publishes the batch until it is stored, or until it is certain that it is not, in which case it is taken
// apart. It returns false when ctx ends.
func (p *publisher) publish(ctx context.Context, b *batch, payload []byte) bool {
	last := b.first - 1
	for _, part := range b.parts {
		last += uint64(part.records)
	}
	message := broker.Batch{
		Header:  broker.Header{Partition: p.partition, Producer: p.producer, First: b.first, Last: last},
		Payload: payload, Urgent: b.urgent,
	}
	inDoubt := false
	for {
		start := time.Now()
		err := p.attempt(ctx, message)
		if err == nil {
			p.metrics.published(time.Since(start), int(last-b.first+1))
			p.retry.Reset()
			if !p.isFull() {
				p.failing.End("batches are published again")
				p.misfit.End("batches are published again")
			}
			p.accepted.confirmed(last, time.Now()) // before anybody is told
			p.ledger.Confirmed(p.partition, last)
			p.refuse(nil)
			p.confirm(b)
			return true
		}
		p.metrics.publishFailures.Inc()
		p.failed(err, "first", b.first, "last", last, "error", err)
		refusal := refusalOf(err)
		if isCertain(err) && !inDoubt && p.takeApart(b) {
			p.turnAway(refusal, b.urgent) // whoever comes next finds out anew
			return refusal != nil || p.retry.Wait(ctx) == nil
		}
		inDoubt = inDoubt || !isCertain(err)
		p.refuse(refusal)
		if p.retry.Wait(ctx) != nil {
			return false
		}
	}
}

// failed logs that a batch was not published.
func (p *publisher) failed(err error, args ...any) {
	lines := p.failing
	if errors.Is(err, broker.ErrMisconfigured) {
		lines = p.misfit
	}
	lines.Log(args...)
}

// isCertain says whether a batch was certainly not stored.
func isCertain(err error) bool {
	return errors.Is(err, broker.ErrFull) || errors.Is(err, broker.ErrNotSent)
}

// refusalOf is what those are told that are in no batch, when the broker has said that it takes nothing; nil if trying
// again may help.
func refusalOf(err error) error {
	switch {
	case errors.Is(err, broker.ErrDiskFull):
		return drainmark.Errorf(drainmark.KindDiskFull, "nothing more is accepted until somebody has made room: %w", err)
	case errors.Is(err, broker.ErrFull):
		return drainmark.Errorf(drainmark.KindBacklogFull, "nothing more is accepted now: %w", err)
	case errors.Is(err, broker.ErrMisconfigured):
		return drainmark.Errorf(drainmark.KindMisconfigured, "%w", err)
	}
	return nil
}

// attempt publishes a batch once, and remembers what came of it.
func (p *publisher) attempt(ctx context.Context, b broker.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, p.limits.PublishAttempt)
	defer cancel()
	p.mu.Lock()
	p.tried.begin(time.Now())
	p.mu.Unlock()
	err := p.broker.Publish(ctx, p.partition, b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried.end(time.Now(), b.Urgent, err)
	return err
}

// confirm tells the waiting callers that their records are stored.
func (p *publisher) confirm(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sentAt = time.Now()
	for _, part := range b.parts {
		r := part.request
		r.stored += part.records
		if r.stored == len(r.records) {
			p.finish(r, nil)
		}
	}
}

// finish ends a request that is no longer in the queue. Called with mu held.
func (p *publisher) finish(r *request, err error) {
	p.budget.give(r.bytes)
	r.err = err
	close(r.done)
}

// takeApart puts the records of a batch that was certainly not stored back into the queue, with no sequence. It does
// nothing and returns false if a receipt of one of them has been handed out: the batch must then be stored as it is.
func (p *publisher) takeApart(b *batch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range b.parts {
		if part.request.handedOut {
			return false
		}
	}
	for _, part := range slices.Backward(b.parts) {
		r := part.request
		if len(p.waiting) == 0 || p.waiting[0] != r { // else it was only partly taken, and still heads the queue
			p.waiting = slices.Insert(p.waiting, 0, r)
		}
		r.taken -= part.records
		if r.isFence() && p.fence == nil && r.taken == 0 {
			p.fence = r
		}
	}
	p.next = b.first
	return true
}

// refuse fails what is in no batch, and whatever comes, because the broker takes nothing; with nil it ends that.
func (p *publisher) refuse(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = why
	p.failWaiting(why, true)
}

// turnAway fails what is in no batch now, unless why is nil, and nothing that comes later. For want of room, what is
// urgent fails only if it was an urgent batch that was refused: otherwise it is tried by itself next.
func (p *publisher) turnAway(why error, urgent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = nil
	kind := drainmark.KindOf(why)
	p.failWaiting(why, urgent || kind != drainmark.KindBacklogFull && kind != drainmark.KindDiskFull)
}

// failWaiting fails what is in no batch, unless why is nil, with what is urgent or without. Called with mu held.
func (p *publisher) failWaiting(why error, urgent bool) {
	if why == nil {
		return
	}
	var kept []*request
	for _, r := range p.waiting {
		switch {
		case r.handedOut || r.taken > r.stored, // its sequences are given away, or partly in flight
			!urgent && r.isUrgent():
			kept = append(kept, r)
		case r.stored > 0:
			p.finish(r, drainmark.Errorf(drainmark.KindOutcomeUnknown, "the first %d of %d records are stored, the others are not: %w", r.stored, len(r.records), why))
		default:
			p.finish(r, why)
		}
	}
	p.waiting = kept
	if !slices.Contains(kept, p.fence) {
		p.fence = nil
	}
}

// isFull says whether the broker had no room for what was tried last, and is not urgent.
func (p *publisher) isFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Is(p.tried.err, broker.ErrFull)
}

// flush stops taking requests, and waits until everything is stored or ctx ends.
func (p *publisher) flush(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// abandon fails everything that is left when the loop ends.
func (p *publisher) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.fence = nil
	left := p.waiting
	p.waiting = nil
	if p.flying != nil {
		for _, part := range p.flying.parts {
			if part.request.taken == len(part.request.records) { // else it heads the queue
				left = append(left, part.request)
			}
		}
	}
	for _, r := range left {
		switch {
		case r.stored == len(r.records): // done
		case r.taken == 0:
			p.finish(r, drainmark.Errorf(drainmark.KindUnavailable, "this backend is shutting down; nothing was stored"))
		default:
			p.promise(r)
			p.finish(r, drainmark.Errorf(drainmark.KindOutcomeUnknown, "this backend shut down before the broker had confirmed; the receipt tells what became of it"))
		}
	}
}

// budget bounds the bytes that wait in all publishers of a backend.
type budget struct {
	limit   int64
	used    atomic.Int64
	refused atomic.Int64 // the bytes of the newest request, if it was refused; else 0
}

func (b *budget) take(n int) bool {
	for {
		used := b.used.Load()
		if used+int64(n) > b.limit {
			if int64(n) <= b.limit { // what can never fit says nothing of the others
				b.refused.Store(int64(n))
			}
			return false
		}
		if b.used.CompareAndSwap(used, used+int64(n)) {
			b.refused.Store(0)
			return true
		}
	}
}

func (b *budget) give(n int) { b.used.Add(int64(-n)) }

// full returns an error if the newest request was refused, and would be refused still.
func (b *budget) full() error {
	if n := b.refused.Load(); n > 0 && b.used.Load()+n > b.limit {
		return b.refusal()
	}
	return nil
}

func (b *budget) refusal() error {
	return drainmark.Errorf(drainmark.KindBacklogFull, "%d bytes wait to be published; the limit (waiting-bytes) is %d", b.used.Load(), b.limit)
}

package backend

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/ledger"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/tracing"
)

// publisher is STEP 1 for one partition: it gives records their sequences and does group commit. It takes all that
// waits, publishes it as one batch and waits for the broker's confirmation. Meanwhile the next batch gathers. One batch
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
	flag      *flag
	limits    Limits
	budget    *budget
	logger    *slog.Logger
	failing   *loglimit.Limiter
	misfit    *loglimit.Limiter // what trying again does not help
	metrics   *metrics
	tracer    *tracing.Tracer
	follow    func(shown)      // has it shown when the tracker sees it
	now       func() time.Time // stamps markers
	unheld    func() bool      // nobody holds the partition, as far as is known

	accepted accepted
	ledger   *ledger.Ledger

	scratch []drainmark.Record // the loop's, used for a batch of several requests
	retry   backoff.Backoff    // the loop's

	mu      sync.Mutex
	waiting []*request // what is not, or not wholly, in a batch (only the first may be partly in one)
	marker  *request   // the waiting marker that barriers share, nil if there is none
	next    uint64     // the sequence that the next record gets
	sentAt  time.Time  // when the last batch was stored
	tried   tried      // for Working and Ready
	refuses error      // for new requests while a batch is in doubt and the broker takes nothing, else nil
	closed  bool
	flying  *batch
	markers []*marker     // in the names of earlier producers, to be published as they are
	wake    chan struct{} // has something in it when there is work
	idle    chan struct{} // closed while nothing waits or is in flight (see flush)
}

func newPublisher(partition int, producer drainmark.ProducerID, b *Backend) *publisher {
	idle := make(chan struct{})
	close(idle)
	logger := b.logger.With("partition", partition)
	return &publisher{
		partition: partition, producer: producer, broker: b.broker, flag: b.flag, limits: b.limits, budget: &b.budget,
		logger: logger, failing: loglimit.New(logger, slog.LevelWarn, "publishing a batch failed"), metrics: b.metrics, now: b.now,
		tracer: b.tracer, follow: func(s shown) { b.tracker.partitions[partition].follow(s) },
		misfit: loglimit.New(logger, slog.LevelError, "a batch cannot be published: somebody has to repair what the error names"),
		retry:  backoff.Backoff{First: 20 * time.Millisecond, Max: 2 * time.Second},
		unheld: func() bool { return b.isUnheld(partition) },
		next:   1, sentAt: time.Now(), wake: make(chan struct{}, 1), idle: idle,
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

// sleep waits for work, and sends a marker when it has been quiet for very long, so that no store forgets the progress
// of a producer that is alive. While nobody holds the partition nothing there grows old, and the marker waits, because it
// would only wake somebody.
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
		if !unused && quiet <= 0 && !p.unheld() {
			p.sendMarker()
		}
		return true
	case <-ctx.Done():
		return false
	}
}

// sendMarker publishes a marker that nobody waits for. If it can't be queued something else is, which serves as well.
func (p *publisher) sendMarker() {
	r := p.newMarker()
	r.silent = true
	_ = p.enqueue(r)
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
	sending := p.tracer.Send(b.origins(), p.partition, int(last-b.first+1))
	defer sending.End()
	inDoubt := false
	for {
		start := time.Now()
		err := p.attempt(ctx, message, b.silent)
		if err == nil {
			p.metrics.published(time.Since(start), int(last-b.first+1))
			p.retry.Reset()
			if !p.isFull() {
				p.failing.End("batches are published again")
				p.misfit.End("batches are published again")
			}
			p.accepted.confirmed(last, time.Now()) // before anybody is told
			p.ledger.Confirmed(p.partition, last)
			if !b.silent && p.vouch(ctx) != nil {
				return false
			}
			sending.Done()
			p.refuse(nil)
			p.confirm(b)
			p.watchShown(b)
			return true
		}
		sending.Failed("publish", err)
		p.metrics.publishFailures.Inc()
		p.failed(err, "first", b.first, "last", last, "error", err)
		refusal := refusalOf(err)
		if isCertain(err) && !inDoubt && p.takeApart(b) {
			sending.End()                 // what follows is no part of it
			p.turnAway(refusal, b.urgent) // the next request finds out anew
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

// vouch waits until the flag stands for a batch that was confirmed just now. It fails when ctx ends.
func (p *publisher) vouch(ctx context.Context) error {
	for {
		call, cancel := context.WithTimeout(ctx, p.limits.PublishAttempt)
		err := p.flag.vouch(call)
		cancel()
		if err == nil {
			p.retry.Reset()
			return nil
		}
		p.failed(err, "error", err)
		p.mu.Lock()
		p.tried.end(time.Now(), false, err)
		p.mu.Unlock()
		if err := p.retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// attempt publishes a batch once, under the flag unless it is silent, and remembers its outcome.
func (p *publisher) attempt(ctx context.Context, b broker.Batch, silent bool) error {
	ctx, cancel := context.WithTimeout(ctx, p.limits.PublishAttempt)
	defer cancel()
	p.mu.Lock()
	p.tried.begin(time.Now())
	p.mu.Unlock()
	var err error
	if !silent {
		err = p.flag.cover(ctx)
	}
	if err == nil {
		err = p.broker.Publish(ctx, p.partition, b)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried.end(time.Now(), b.Urgent, err)
	return err
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
	p.marker = nil
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

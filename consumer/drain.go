package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// drain holds one partition, from claiming it to giving it up. It is a state machine:
//
//	claim ──> open ──> receive ──> persist ──┐
//	  ^                  ^                   │ committed and acknowledged
//	  │                  └───────────────────┤
//	  └── any trouble: the receiver is closed, which gives back what was not acknowledged
//
// Every failure drops everything in hand. Nothing is lost by that: unacknowledged batches come again, and committed
// records are dropped then.
type drain struct {
	*common
	*memory
	partition int
	stop      context.CancelFunc
	stopped   <-chan struct{} // closed when it is to end: batches in hand are committed, and nothing is tried again
	holder    *store.Holder
	givenUp   bool // because it was stuck, and it is about to end. Guarded by Consumer.mu
	logger    *slog.Logger
	clock     partitionClock // of this claim
	stamps    stamps         // of this subscription

	revision atomic.Uint64 // the progress's
	claimed  atomic.Bool   // it holds the claim, as far as it knows

	mu       sync.Mutex
	receiver broker.Receiver // changed with mu held, nil while there is none
	openedAt time.Time       // when the receiver was opened
	opening  bool            // the broker has been asked for one and has not answered yet
	plight   plight

	token   uint64
	inHand  []broker.Delivery // received, in order, and not committed yet
	came    time.Time         // when that was received
	retry   backoff.Backoff
	attempt attempt       // of the record that an effect fails for
	breaker breaker       // of this partition
	broken  chan struct{} // has something in it when the subscription was ended by another goroutine
}

// state does one step and returns the next. nil ends the drain.
type state func(context.Context) state

func (d *drain) run(ctx context.Context) {
	d.stopped = ctx.Done()
	d.retry = backoff.Backoff{First: 20 * time.Millisecond, Max: 2 * time.Second}
	for next := state(d.claim); next != nil; {
		next = next(ctx)
	}
	d.close()
	d.metrics.held.WithLabelValues(fmt.Sprint(d.partition)).Set(0)
	d.metrics.effectHolds.DeleteLabelValues(fmt.Sprint(d.partition))
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.limits.Lease)
	defer cancel()
	if err := d.store.Release(release, d.owner, d.partition); err != nil {
		d.logger.Warn("giving the claim up failed; it is tried again at the next heartbeat", "error", err)
	}
}

// stopping says whether the drain is to end.
func (d *drain) stopping() bool {
	select {
	case <-d.stopped:
		return true
	default:
		return false
	}
}

// trouble closes the subscription and, after a while, begins again with the claim. Trouble of the broker may be this
// consumer's alone.
func (d *drain) trouble(ctx context.Context, doing string, ofBroker bool, err error) state {
	d.close()
	if ctx.Err() != nil {
		return nil
	}
	why := err // the store says what it was doing
	if ofBroker {
		d.metrics.brokerTroubles.Inc()
		why = fmt.Errorf("%s: %w", doing, err)
	}
	d.note(why, ofBroker)
	switch {
	case errors.Is(err, store.ErrHeld):
		d.logger.Debug("another consumer holds the partition")
		return nil // the next heartbeat says whether to try again
	case errors.Is(err, store.ErrFenced):
		d.metrics.fencedCommits.Inc()
		d.logger.Warn("fenced: the partition was taken over, or the store has lost its tail", "error", err)
	case ofBroker:
		d.brokerFails.Log("what", doing+" failed", "partition", d.partition, "error", err)
	default:
		d.storeFailed(doing+" failed", err, "partition", d.partition)
	}
	if d.retry.Wait(ctx) != nil {
		return nil
	}
	return d.claim
}

func (d *drain) close() {
	d.inHand = nil
	d.claimed.Store(false)
	if d.receiver == nil {
		return
	}
	d.interrupt()
	d.subscribe(nil)
	select {
	case <-d.broken:
	default:
	}
}

// interrupt ends a blocked Receive: the drain begins again with the claim. Any goroutine may call it.
func (d *drain) interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.receiver == nil {
		return
	}
	select {
	case d.broken <- struct{}{}:
	default:
	}
	if err := d.receiver.Close(); err != nil {
		d.logger.Warn("closing the subscription failed", "error", err)
	}
}

func (d *drain) subscribe(r broker.Receiver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receiver, d.openedAt, d.opening = r, time.Now(), false
}

// note notes why nothing is drained, or with nil that something was.
func (d *drain) note(why error, ofBroker bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plight.note(why, ofBroker)
}

// stuck returns why nothing was drained for so long although it should, or nil. A subscription that has been made may have
// nothing to deliver, so the broker is not to blame while there is one. If it lasts as long, it is well.
func (d *drain) stuck(long time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.receiver == nil || !d.plight.ofBroker {
		return d.plight.lasts(long)
	}
	if time.Since(d.openedAt) >= long {
		d.plight.note(nil, false)
	}
	return nil
}

// failing returns why nothing is drained, however short that has been so, or nil.
func (d *drain) failing() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plight.why
}

// stuckAtBroker is the same for what the broker is the cause of, and another consumer may be able to drain. It also says
// whether the broker is being asked right now, and may yet answer.
func (d *drain) stuckAtBroker(long time.Duration) (why error, asking bool) {
	why = d.stuck(long)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.plight.ofBroker {
		return nil, false
	}
	return why, d.opening && time.Since(d.plight.since) < d.limits.OpenTimeout
}

// drains says whether the partition is subscribed to and nothing fails.
func (d *drain) drains() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.receiver != nil && d.plight.why == nil
}

// subscribing notes that a subscription is about to be made: an attempt that hangs is trouble too.
func (d *drain) subscribing() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opening = true
	if d.plight.why == nil || !d.plight.ofBroker {
		d.plight.note(errSubscribing, true)
	}
}

var errSubscribing = errors.New("the subscription has not been made yet")

// takeClaim claims the partition under a new token and takes up the store's progress.
func (d *drain) takeClaim(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, d.limits.CommitTimeout)
	defer cancel()
	d.token = newToken()
	progress, err := d.store.Claim(call, store.Claim{Partition: d.partition, Owner: d.owner, Token: d.token}, d.limits.Lease)
	if err != nil {
		return err
	}
	d.reportLostTail(progress)
	d.progress, d.clock = progress, newPartitionClock(progress)
	d.resumeTrouble()
	d.revision.Store(progress.Revision)
	d.claimed.Store(true)
	return nil
}

// claim takes the partition.
func (d *drain) claim(ctx context.Context) state {
	if err := d.takeClaim(ctx); err != nil {
		return d.trouble(ctx, "claiming the partition", false, err)
	}
	d.metrics.held.WithLabelValues(fmt.Sprint(d.partition)).Set(1)
	d.logger.Debug("claimed", "revision", d.progress.Revision, "cursor", d.progress.Cursor)
	return d.open
}

// open subscribes, and then claims once more: that gives every subscription a lease token that is in the store after the
// subscription was made and before anything is committed through it. A barrier relies on it.
//
// After a gap everything is read again that the broker keeps: records in the progress are dropped once more, and
// missing ones are found if they are there at all.
func (d *drain) open(ctx context.Context) state {
	claimed := d.progress.Cursor
	d.subscribing()
	call, cancel := context.WithTimeout(ctx, d.limits.OpenTimeout)
	receiver, err := d.broker.Open(call, d.partition, d.progress.Cursor, len(d.gaps) > 0)
	cancel()
	if err != nil {
		d.subscribe(nil)
		return d.trouble(ctx, "subscribing to the partition", true, err)
	}
	d.subscribe(receiver)
	d.stamps = stamps{}
	if err := d.takeClaim(ctx); err != nil {
		return d.trouble(ctx, "claiming the partition", false, err)
	}
	if d.progress.Cursor != claimed { // between the two claims the store was taken over, or has lost its tail
		return d.trouble(ctx, "subscribing to the partition", false, errors.New("the store's progress has changed while the partition was subscribed to"))
	}
	d.logger.Debug("subscribed", "epoch", d.token)
	return d.receive
}

// receiveBatches is how many batches are received at once. Their bytes are bounded by the adapter's prefetch.
const receiveBatches = 64

// receive waits for batches.
func (d *drain) receive(ctx context.Context) state {
	began := time.Now()
	deliveries, err := d.receiver.Receive(ctx, receiveBatches)
	if err != nil {
		return d.trouble(ctx, "receiving", true, err)
	}
	d.stamps.received(time.Since(began))
	d.inHand, d.came = deliveries, time.Now()
	return d.persist
}

// persist commits and acknowledges what is in hand, a commit's worth at a time. When ctx ends it goes on with that, for
// at most Limits.Drain.
func (d *drain) persist(ctx context.Context) state {
	work, cancel := outlive(ctx, d.limits.Drain)
	defer cancel()
	for len(d.inHand) > 0 {
		deliveries := d.portion()
		plan, err := d.plan(deliveries)
		if err != nil {
			d.gather(ctx)
			if err := d.salvage(work); err != nil {
				return d.trouble(ctx, "committing", false, err)
			}
			return d.passGap(ctx, err)
		}
		d.skew.see(&d.stamps, plan.entries, d.now(), d.broker.Traits().Ordered)
		d.skew.warn(d.logger)
		if next, done := d.carry(ctx, work, plan, deliveries[len(deliveries)-1]); !done {
			return next
		}
		d.inHand = d.inHand[len(deliveries):]
		d.retry.Reset()
		d.note(nil, false)
		d.forgetGaps()
	}
	return d.receive
}

// carry commits a plan and acknowledges what it is of. If that is not done, it returns the next state.
func (d *drain) carry(ctx, work context.Context, plan *plan, through broker.Delivery) (next state, done bool) {
	switch ofBroker, err := d.carryTraced(work, plan, through); {
	case err == nil:
		return nil, true
	case err == errStopped:
		return d.probe, false
	case ofBroker:
		return d.trouble(ctx, "acknowledging", true, err), false
	default:
		return d.trouble(ctx, "committing", false, err), false
	}
}

// carryTraced does that within a span, and says whether it is the broker that failed.
func (d *drain) carryTraced(ctx context.Context, plan *plan, through broker.Delivery) (ofBroker bool, err error) {
	span := d.tracer.Process(d.origins(plan), d.partition, len(plan.entries), d.came)
	defer span.End()
	ctx = span.Into(ctx)
	if err := d.commit(ctx, plan); err != nil {
		span.Failed("commit", nil) // the span of the commit says why
		return false, err
	}
	d.reportPassed(plan)
	settling := d.tracer.Settle(ctx, d.partition)
	defer settling.End()
	if err := d.receiver.Ack(ctx, through); err != nil {
		settling.Failed("acknowledge", err)
		return true, err
	}
	return false, nil
}

// portion returns the first of what is in hand: whole batches, up to a commit's worth of records or bytes.
func (d *drain) portion() []broker.Delivery {
	records, bytes := 0, 0
	for i, delivery := range d.inHand {
		records += int(min(delivery.Last-delivery.First, drainmark.MaxBatchRecords)) + 1 // a header may claim anything
		bytes += len(delivery.Payload)
		if records >= d.limits.CommitRecords || bytes >= d.limits.CommitBytes {
			return d.inHand[:i+1]
		}
	}
	return d.inHand
}

// outlive returns a context that goes on for a while after ctx has ended.
func outlive(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel() }
}

// gap is a gap in a producer's sequences that subscriptions have shown.
type gap struct {
	missing drainmark.Span
	same    int // how many subscriptions in a row have shown exactly this one
	grown   int // how many in a row have shown one that begins there and ends there or later
}

// grownGapTries is how many times Limits.GapTries a gap is tried again that does not stay the same, but never shrinks.
// One that shrinks is still being filled. On a broker without order it may grow again before that, and passing it would
// cost its order.
const grownGapTries = 4

func (g *gap) Error() string {
	return fmt.Sprintf("the broker delivered a batch before records %s", g.missing)
}

// passGap opens the partition again, because a broker gives back what somebody else held. A gap that stays is passed:
// the broker has lost confirmed records, or somebody still holds them. They are found as the gaps of the progress.
func (d *drain) passGap(ctx context.Context, err error) state {
	var found *gap
	if !errors.As(err, &found) {
		return d.trouble(ctx, "reading batches", false, err)
	}
	if d.progress.Next(found.missing.Producer) > found.missing.First { // salvaged
		d.close()
		return d.claim
	}
	before := d.gaps[found.missing.Producer]
	if found.missing.First == before.missing.First && found.missing.Last >= before.missing.Last {
		found.grown = before.grown
	}
	if found.missing == before.missing {
		found.same = before.same
	}
	found.grown++
	found.same++
	// Only tries in a row count. A gap that is to be passed already is not tried again because of what is behind it. A
	// broker without an order shows the gaps of several producers in turn, and never one of them in a row.
	if d.broker.Traits().Ordered {
		maps.DeleteFunc(d.gaps, func(_ drainmark.ProducerID, g gap) bool { return !d.toleratesGap(g.missing) })
	}
	d.gaps[found.missing.Producer] = *found
	d.metrics.gaps.Inc()
	d.note(nil, false) // the search takes as long as it takes
	d.close()
	d.logger.Warn("gap: the partition is opened again", "missing", found.missing, "try", found.same, "tries", d.limits.GapTries)
	wait := backoff.Backoff{First: d.limits.GapWait / 4 << min(found.same, 2), Max: d.limits.GapWait}
	if wait.Wait(ctx) != nil {
		return nil
	}
	return d.claim
}

// forgetGaps ends the search for missing records when the first of them has come, or has been passed.
func (d *drain) forgetGaps() {
	for producer, g := range d.gaps {
		if d.progress.Next(producer) > g.missing.First {
			delete(d.gaps, producer)
		}
	}
}

// toleratesGap says whether the gap has stayed for so many subscriptions that it is passed. One that grows each time is
// passed too, later: a broker that loses more with every subscription must not stop everything for ever.
func (d *drain) toleratesGap(missing drainmark.Span) bool {
	g := d.gaps[missing.Producer]
	return g.missing == missing && g.same >= d.limits.GapTries ||
		g.missing.First == missing.First && g.missing.Last <= missing.Last && g.grown >= grownGapTries*d.limits.GapTries
}

// reportLostTail compares what the store says now with what this consumer has committed before.
func (d *drain) reportLostTail(now drainmark.Progress) {
	for producer, before := range d.progress.Producers {
		if now.Forgets(producer, before, drainmark.KeptFor(d.limits.ProducerRetention)) {
			continue
		}
		after := now.Producers[producer]
		for _, r := range before.Done {
			for _, lost := range after.Done.Minus(r.First, r.Last) {
				span := drainmark.Span{Partition: d.partition, Producer: producer, First: lost.First, Last: lost.Last}
				d.metrics.lostRecords.Add(float64(lost.Last - lost.First + 1))
				d.logger.Error("the store has lost committed records", "lost", span, "supplied_again", d.broker.Traits().Replays)
			}
		}
	}
}

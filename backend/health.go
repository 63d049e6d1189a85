package backend

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// The appends themselves show whether appends work: no broker can say beforehand what it would do with one. So each
// publisher remembers how its newest attempt ended. A failure is remembered only until the next success, which may
// never come by itself while nobody appends. So after a while, when it is asked for, the publisher tries again, with a
// marker.

// Ready returns nil when the broker answers, and confirms. It may be full: that is a reason to refuse appends, and they
// are told so, but none to take this backend out of service. The others have the same broker, so no backend would be
// left to say why appends are refused, and to go on serving reads. But one whose batches nobody confirms, in any
// partition, may be connected to the wrong part of a broker that has come apart.
func (b *Backend) Ready(ctx context.Context) error {
	err := b.broker.Ping(ctx)
	if errors.Is(err, broker.ErrFull) {
		return nil
	}
	return cmp.Or(err, b.unconfirmed(time.Now()))
}

// unconfirmedTime is how long batches may be in doubt, with none confirmed meanwhile, until a backend is not ready.
const unconfirmedTime = 5 * time.Second

// unconfirmed says since when nothing is confirmed, if that is too long.
func (b *Backend) unconfirmed(now time.Time) error {
	var doubt, confirmed time.Time
	partition := 0
	for i, p := range b.publishers {
		p.mu.Lock()
		since, sent := p.tried.doubt, p.sentAt
		p.mu.Unlock()
		if sent.After(confirmed) {
			confirmed = sent
		}
		if !since.IsZero() && (doubt.IsZero() || since.Before(doubt)) {
			doubt, partition = since, i
		}
	}
	if doubt.IsZero() || confirmed.After(doubt) || now.Sub(doubt) <= unconfirmedTime {
		return nil
	}
	return drainmark.Errorf(drainmark.KindUnavailable, "the broker has confirmed nothing for %v, in partition %d or any other",
		now.Sub(doubt).Round(100*time.Millisecond), partition)
}

// workingTime is how long Working waits for broker and store, which it asks at the same time.
const workingTime = 2 * time.Second

// Working implements Service.
func (b *Backend) Working(ctx context.Context) (now Working) {
	ctx, cancel := context.WithTimeout(ctx, workingTime)
	defer cancel()
	var asking sync.WaitGroup
	asking.Go(func() { now.Reads = b.readable(ctx) })
	asking.Go(func() {
		var known bool
		now.Cause, known, now.Persisting = b.persisting(ctx)
		now.PersistingUnknown = !known
	})
	now.Appends = b.takesAppends(ctx)
	asking.Wait()
	return now
}

// readable says why something cannot be read. A ping would not show that something can be.
func (b *Backend) readable(ctx context.Context) error {
	if err := b.reads.failing(ctx); err != nil {
		return unavailable("reading the store", err)
	}
	logs, err := b.Logs(ctx, "", 1)
	logs.Release()
	return err
}

// takesAppends says why appends are not accepted now, in at least one partition.
func (b *Backend) takesAppends(ctx context.Context) error {
	if err := b.broker.Ping(ctx); err != nil {
		return cmp.Or(refusalOf(err), unanswered("asking the broker", "the broker", err))
	}
	if err := b.budget.full(); err != nil {
		return err
	}
	failures := make([]error, len(b.publishers))
	var asking sync.WaitGroup
	for i, p := range b.publishers {
		asking.Go(func() { failures[i] = p.takesAppends(ctx, b.tracker.partitions[i]) })
	}
	asking.Wait()
	var first error
	failed := 0
	for i, err := range failures {
		if err == nil {
			continue
		}
		if failed++; failed == 1 {
			first = drainmark.Errorf(drainmark.KindOf(err), "partition %d: %w", i, err)
		}
	}
	if failed > 1 {
		return drainmark.Errorf(drainmark.KindOf(first), "%d of %d partitions take no appends: %w", failed, len(failures), first)
	}
	return first
}

const (
	// slowAttempt is how long an attempt to publish may take before it counts as one that fails.
	slowAttempt = 2 * time.Second
	// recheckAfter is how long an attempt that failed speaks for the present, when no other follows.
	recheckAfter = time.Second
	// recheckFull is the same for one that found the broker full, while nothing has been persisted since. Nothing of
	// Drainmark makes room then, and a marker, which is small, may fit where appends do not. But somebody may have raised
	// a limit.
	recheckFull = 10 * time.Second
)

// takesAppends says why appends to the partition are not accepted now. If that is no longer known, because the last
// attempt to publish was some time ago and failed, it publishes a marker to find out.
func (p *publisher) takesAppends(ctx context.Context, t *tracked) error {
	persisted, _ := t.quietSince()
	p.mu.Lock()
	quiet := p.flying == nil && len(p.waiting) == 0
	recheck := quiet && p.tried.recheck(time.Now(), persisted)
	err := p.tried.failure(time.Now())
	p.mu.Unlock()
	if !recheck {
		return err
	}
	if err = p.putProbe(ctx); err == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.tried.failure(time.Now()), err) // what the broker says tells more than that nobody waits any longer
}

// tried is how a publisher's newest attempts to publish ended.
type tried struct {
	began time.Time // when the one in progress began, zero while there is none
	err   error     // of the last one that ended, nil if it stored its batch
	at    time.Time // when that ended
	since time.Time // when the first of the failures ended that no success has followed
	doubt time.Time // when the first attempt began whose outcome is not known, zero if all are
}

func (t *tried) begin(now time.Time) {
	t.began = now
	t.doubt = cmp.Or(t.doubt, now)
}

// end notes how an attempt ended. A stored urgent batch says nothing about others, if the broker had no room.
func (t *tried) end(now time.Time, urgent bool, err error) {
	if err == nil || isCertain(err) {
		t.doubt = time.Time{}
	}
	if t.began = (time.Time{}); urgent && err == nil && errors.Is(t.err, broker.ErrFull) {
		return
	}
	if t.err == nil {
		t.since = now
	}
	t.err, t.at = err, now
}

// failure says why a batch would not be stored now, as far as the attempts show.
func (t *tried) failure(now time.Time) error {
	switch refusal := refusalOf(t.err); {
	case refusal != nil:
		return refusal
	case t.err != nil:
		return unanswered("publishing", "the broker", t.err)
	case !t.began.IsZero() && now.Sub(t.began) > slowAttempt:
		return drainmark.Errorf(drainmark.KindUnavailable, "the broker has not confirmed a batch for %v", now.Sub(t.began).Round(100*time.Millisecond))
	}
	return nil
}

// recheck says whether the last attempt failed too long ago to tell about the present. Something of the partition was
// persisted last at persisted.
func (t *tried) recheck(now, persisted time.Time) bool {
	if t.err == nil {
		return false
	}
	speaks := recheckAfter
	if errors.Is(t.err, broker.ErrFull) && !persisted.After(t.since) {
		speaks = recheckFull
	}
	return now.Sub(t.at) >= speaks
}

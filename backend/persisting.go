package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// A backend knows from three things whether accepted records get persisted: which of its own are not persisted and
// since when they wait, when the partition's progress moved last, and who holds the partition. A claim is no progress.
// Everything is measured with this process' own monotonic clock. Another one's wall clock, in a receipt or in the
// broker, may be hours ahead or behind.

// waitsFor says for how long something has waited in the partition while nothing there was persisted. Besides this
// backend's own records it is something that has waited for as long as age.
func (b *Backend) waitsFor(partition int, age time.Duration) time.Duration {
	t, p := b.tracker.partitions[partition], b.publishers[partition]
	own := t.snapshot().Producers[p.producer]
	if records, _ := p.accepted.pending(own); records > 0 {
		// Records in a gap are missing, which is another problem: they do not wait for a consumer.
		if since := p.accepted.behind(own.Done.Max()); !since.IsZero() {
			age = max(age, time.Since(since))
		}
	}
	moved, _ := t.quietSince()
	return min(age, time.Since(moved))
}

// stalled says why a partition does not move although something, or a record of this backend, has waited there for as
// long as age. It returns "" if the partition moves, or nothing has waited for long.
func (b *Backend) stalled(ctx context.Context, partition int, age time.Duration) (reason string, cause Cause) {
	if why, cause := b.stops(partition); why != "" {
		return why, cause
	}
	return b.stands(ctx, partition, age), Cause{}
}

// stands is stalled of a partition that no effect stops.
func (b *Backend) stands(ctx context.Context, partition int, age time.Duration) string {
	waits := b.waitsFor(partition, age)
	if waits <= b.limits.StallAfter {
		return ""
	}
	reason := fmt.Sprintf("partition %d: something has waited for %s, and nothing was persisted", partition, waits.Round(time.Second))
	if why := b.unmade.reason(); why != "" {
		return reason + "; " + why
	}
	claims, err := b.reader.Claims(ctx)
	if err != nil {
		if errors.Is(err, store.ErrMisconfigured) {
			return reason + "; the store has to be repaired"
		}
		return reason + "; the store does not answer"
	}
	_, claimed := b.tracker.partitions[partition].quietSince()
	for _, c := range claims {
		switch {
		case c.Partition != partition:
		case claimed > usualClaims:
			return fmt.Sprintf("%s; it is held by %s, which has claimed it %d times meanwhile: its log and its /readyz say what fails",
				reason, c.Owner, claimed)
		default:
			return reason + "; it is held by " + c.Owner
		}
	}
	return reason + "; " + b.unheld(partition)
}

// unheld says what is known of a partition on which no claim is in force. That does not show whether a consumer runs: one
// that cannot write to the store, because that is locked or read-only or out of its reach, cannot renew its claim either.
func (b *Backend) unheld(partition int) string {
	const known = "no claim on it is in force: no consumer runs, or none can write to the store"
	b.watch.mu.Lock()
	defer b.watch.mu.Unlock()
	holder, since := b.watch.holder[partition], b.watch.unheld[partition]
	if holder == "" || since.IsZero() {
		return known
	}
	return fmt.Sprintf("%s; %s has held it until some %s ago", known, holder, time.Since(since).Round(time.Second))
}

// usualClaims is how often a partition may be claimed until something is committed while all is well: two claims a
// subscription, and some consumers that come and go.
const usualClaims = 6

// watch is what a backend remembers about the partitions' holders, and about what it has logged.
type watch struct {
	mu     sync.Mutex
	unheld []time.Time // by partition: since when nobody has held it, zero while somebody does
	holder []string    // by partition: who was seen to hold it last, "" for nobody
	seen   time.Time   // when the claims were read last
	warned time.Time   // when it was last said that nothing is persisted, zero while that is not so
}

const (
	warnAfter = 6                // times Limits.StallAfter is for how long something waits before a line is logged
	warnAgain = 10 * time.Minute // between two lines of one trouble
)

// watchPersisting looks now and then who holds the partitions, and logs it when none of this backend's accepted records
// are persisted for long, until ctx ends.
func (b *Backend) watchPersisting(ctx context.Context) {
	tick := time.NewTicker(b.limits.StallAfter / 2)
	defer tick.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, workingTime)
		_ = b.lookAtClaims(call) // a store that does not answer has changed nothing that is known
		cancel()
		b.warn()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookAtClaims notes which partitions nobody holds now.
func (b *Backend) lookAtClaims(ctx context.Context) error {
	claims, err := b.reader.Claims(ctx)
	if err != nil {
		return err
	}
	held := make([]string, len(b.publishers))
	for _, c := range claims {
		if c.Partition >= 0 && c.Partition < len(held) {
			held[c.Partition] = c.Owner
		}
	}
	b.watch.mu.Lock()
	defer b.watch.mu.Unlock()
	b.watch.seen = time.Now()
	for p := range held {
		if held[p] != "" {
			b.watch.unheld[p], b.watch.holder[p] = time.Time{}, held[p]
		} else if b.watch.unheld[p].IsZero() {
			b.watch.unheld[p] = time.Now()
		}
	}
	return nil
}

// isUnheld says whether nobody is known to hold a partition. If the store has not answered for long, that is not known.
func (b *Backend) isUnheld(partition int) bool {
	b.watch.mu.Lock()
	defer b.watch.mu.Unlock()
	return time.Since(b.watch.seen) < warnAfter*b.limits.StallAfter && !b.watch.unheld[partition].IsZero()
}

// warn logs that nothing is persisted although something waits: when that has been so for long, every ten minutes as
// long as it is, and when it is over.
func (b *Backend) warn() {
	var stuck []int
	longest := time.Duration(0)
	for p := range b.publishers {
		waits := b.waitsFor(p, 0)
		longest = max(longest, waits)
		if waits > warnAfter*b.limits.StallAfter {
			stuck = append(stuck, p)
		}
	}
	b.metrics.notPersisting.Set(longest.Seconds())
	b.watch.mu.Lock()
	defer b.watch.mu.Unlock()
	switch {
	case len(stuck) == 0 && longest <= b.limits.StallAfter && !b.watch.warned.IsZero():
		b.watch.warned = time.Time{}
		b.logger.Info("what waited is being persisted again")
	case len(stuck) > 0 && (b.watch.warned.IsZero() || time.Since(b.watch.warned) >= warnAgain):
		b.watch.warned = time.Now()
		var unheld []int
		for _, p := range stuck {
			if !b.watch.unheld[p].IsZero() {
				unheld = append(unheld, p)
			}
		}
		b.logger.Warn("nothing is being persisted of what waits: are there consumers, and do broker and store answer them?",
			"waiting_for", longest.Round(time.Second), "partitions", stuck, "held_by_no_consumer", unheld)
	}
}

// persisting says why accepted records are not being persisted, or that this is not known. It returns nil if they are,
// as far as this backend knows.
func (b *Backend) persisting(ctx context.Context) (cause Cause, known bool, reason error) {
	if err := b.lookAtClaims(ctx); err != nil {
		return Cause{}, false, unavailable("reading the claims", err)
	}
	for p := range b.publishers {
		if reason, cause := b.stalled(ctx, p, 0); reason != "" {
			return cause, true, drainmark.Errorf(drainmark.KindUnavailable, "%s", reason)
		}
	}
	b.watch.mu.Lock()
	unheld := slices.Clone(b.watch.unheld)
	b.watch.mu.Unlock()
	for p, since := range unheld {
		if since.IsZero() {
			continue
		}
		reason := drainmark.Errorf(drainmark.KindUnavailable, "partition %d: %s", p, b.unheld(p))
		if time.Since(since) > b.limits.StallAfter {
			return Cause{}, true, reason
		}
		return Cause{}, false, reason // it may be on its way from one to another
	}
	return Cause{}, true, nil
}

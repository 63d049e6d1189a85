package backend

import (
	"context"
	"slices"
	"time"

	"github.com/drainmark/drainmark/store"
)

// Consumers notice what a purge or a damaged queue takes away as a gap before the next record of the same producer. If
// that producer publishes nothing more, nothing shows that its end is missing, and the barriers of others are reached.
// The producer itself knows better: it has accepted records that stay unpersisted although the partition is drained. So
// it publishes a marker behind them, as a marker: if they are there it arrives behind them and does nothing, and if they
// are lost it shows the gap.
//
// From outside, records that are lost look like records that wait in a long backlog. A marker does no harm there. So it
// is sent in both cases, more rarely the longer nothing changes.

// maxMarkerWait is the longest time between two markers behind the same records.
const maxMarkerWait = time.Hour

// unseen watches the oldest of this backend's records of one partition that nothing shows the fate of: they are behind
// all of its records that are persisted.
type unseen struct {
	first  uint64        // the oldest one's sequence, 0 if there are none
	since  time.Time     // when that changed, or when something was published behind it
	waited time.Duration // since the last marker, or 0 before the first
}

// due says whether a marker is to be sent, because none of this backend's records were persisted or published for a
// while.
func (u *unseen) due(now time.Time, first uint64, accepted, published time.Time, stallAfter time.Duration) bool {
	switch {
	case first == 0:
		*u = unseen{}
		return false
	case first != u.first:
		u.first, u.since = first, now
		return false
	}
	for _, later := range []time.Time{accepted, published} {
		if later.After(u.since) {
			u.since = later
		}
	}
	return now.Sub(u.since) >= max(stallAfter, u.waited)
}

// sent notes that a marker was sent.
func (u *unseen) sent(now time.Time, stallAfter time.Duration) {
	u.since = now
	u.waited = min(2*max(u.waited, stallAfter), maxMarkerWait)
}

// watchUnseen sends markers until ctx ends.
func (b *Backend) watchUnseen(ctx context.Context) {
	tick := time.NewTicker(b.limits.Poll)
	defer tick.Stop()
	watched := make([]unseen, len(b.publishers))
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for i, p := range b.publishers {
			if b.unseenFor(p, &watched[i]) && b.isHeld(ctx, p.partition) {
				b.metrics.markers.Inc()
				p.logger.Info("accepted records have not been persisted for a while: a marker is sent behind them, to see whether the broker still has them",
					"first", watched[i].first)
				p.sendMarker()
				watched[i].sent(time.Now(), b.limits.StallAfter)
			}
		}
	}
}

// unseenFor says whether a partition is due for a marker.
func (b *Backend) unseenFor(p *publisher, watched *unseen) bool {
	first, accepted := p.accepted.unseen(b.tracker.partitions[p.partition].snapshot().Producers[p.producer])
	p.mu.Lock()
	published, quiet := p.sentAt, p.flying == nil && len(p.waiting) == 0
	p.mu.Unlock()
	return watched.due(time.Now(), first, accepted, published, b.limits.StallAfter) && quiet
}

// isHeld says whether a consumer holds the partition. If none does, nothing is delivered, and a marker shows nothing.
func (b *Backend) isHeld(ctx context.Context, partition int) bool {
	call, cancel := context.WithTimeout(ctx, b.limits.StallAfter)
	defer cancel()
	claims, err := b.reader.Claims(call)
	return err == nil && slices.ContainsFunc(claims, func(c store.Claim) bool { return c.Partition == partition })
}

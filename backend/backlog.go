package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Backlog implements Service. It reads the progress first and asks the broker second, so that the pending number is
// never less than what was missing when it was asked. If the broker cannot count, what this backend itself has accepted
// is a lower bound, and exact if it is the only backend. All who ask while it is read, or within backlogEvery of its
// beginning, get one answer, which none may change: the next.
func (b *Backend) Backlog(ctx context.Context) ([]PartitionBacklog, error) {
	backlogs, err := b.backlogs.ask(ctx, b.readBacklog)
	if err != nil && errors.Is(err, ctx.Err()) {
		return nil, unavailable("asking for the backlog", err)
	}
	return backlogs, err
}

// backlogEvery is the time between two reads of the backlog, at least: each asks store and broker for every partition.
const backlogEvery = 200 * time.Millisecond

func (b *Backend) readBacklog(ctx context.Context) ([]PartitionBacklog, error) {
	claims, err := b.reader.Claims(ctx)
	if err != nil {
		return nil, unavailable("reading the claims", err)
	}
	backlogs := make([]PartitionBacklog, len(b.publishers))
	for p := range backlogs {
		counted, waits, err := b.count(ctx, p)
		if err != nil {
			return nil, err
		}
		counted.Claim = claimOn(claims, p)
		counted.Stalled, counted.Cause = b.stalled(ctx, p, waits)
		backlogs[p] = counted
	}
	return backlogs, nil
}

// Known is what is known of a partition's backlog while not everything may be.
type Known struct {
	PartitionBacklog       // but for Stalled and Cause
	Uncounted        error // why nothing but the claim is known, nil if more is
	Unclaimed        error // why the claim is not known, nil if it is
}

// KnownBacklog says the same as Backlog of each partition for itself: one that store or broker do not answer for, or not
// before ctx ends, keeps nothing from being said of the others. It is for the metrics.
func (b *Backend) KnownBacklog(ctx context.Context) []Known {
	known := make([]Known, len(b.publishers))
	var claims []store.Claim
	var unclaimed error
	var asking sync.WaitGroup
	asking.Go(func() { claims, unclaimed = b.reader.Claims(ctx) })
	for p := range known {
		asking.Go(func() { known[p].PartitionBacklog, _, known[p].Uncounted = b.count(ctx, p) })
	}
	asking.Wait()
	for p := range known {
		known[p].Partition, known[p].Claim = p, claimOn(claims, p)
		if unclaimed != nil {
			known[p].Unclaimed = unavailable("reading the claims", unclaimed)
		}
	}
	return known
}

// count reads what is pending in a partition, and for how long something has waited there as the broker says.
func (b *Backend) count(ctx context.Context, partition int) (backlog PartitionBacklog, waits time.Duration, err error) {
	progress, err := b.reader.Progress(ctx, partition)
	if err != nil {
		return backlog, 0, unavailable("reading the progress", err)
	}
	counted, err := b.broker.Backlog(ctx, partition, progress)
	if err != nil {
		return backlog, 0, unanswered(fmt.Sprintf("asking the broker for partition %d's backlog", partition), "the broker", err)
	}
	_, stored := counted.Oldest()
	waits = b.tracker.partitions[partition].seesWaiting(stored || counted.Ready != nil && counted.Ready.Records > 0)
	ours := b.publishers[partition]
	if !counted.Pending.Exact {
		own, since := ours.accepted.pending(progress.Producers[ours.producer])
		counted.Pending.Records = max(counted.Pending.Records, own)
		if counted.OldestAt.IsZero() && !since.IsZero() {
			counted.OldestAt, counted.AsOf = since, time.Now()
		}
	}
	return PartitionBacklog{
		Partition: partition, Backlog: counted, Progress: progress, Missing: sortedMissing(progress), Backend: ours.producer,
	}, waits, nil
}

// claimOn returns the claim on a partition, nil if nobody has it.
func claimOn(claims []store.Claim, partition int) *store.Claim {
	if i := slices.IndexFunc(claims, func(c store.Claim) bool { return c.Partition == partition }); i >= 0 {
		return &claims[i]
	}
	return nil
}

func sortedMissing(p drainmark.Progress) []drainmark.Span {
	missing := p.Missing()
	slices.SortFunc(missing, func(a, b drainmark.Span) int { return strings.Compare(a.String(), b.String()) })
	return missing
}

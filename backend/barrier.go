package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/drainmark/drainmark"
	"golang.org/x/sync/errgroup"
)

// A barrier is a fence through every partition concerned, and the wait for it: when the reader's progress holds the
// fence, it holds everything that was stored before the fence.
//
// On a broker that keeps the order of what it delivers again, that is all. On another one, records that a consumer
// held when the partition was opened anew may come back behind the fence. Every opening has its own epoch, which the
// consumer writes into the store after the opening and before it commits anything. So the epoch is noted before the
// fence is published, and if the progress that holds the fence has another, another fence is sent.
//
// A barrier is also not reached while the progress has holes: those are accepted records that the broker did not
// deliver.

// fence is one partition's part of a barrier.
type fence struct {
	run   drainmark.Run
	epoch uint64 // of the partition, before the fence was published
}

// Barrier implements Service.
func (b *Backend) Barrier(ctx context.Context, logs []string) (drainmark.Receipt, error) {
	b.metrics.barriers.Inc()
	concerned := map[int]bool{}
	for _, log := range logs {
		concerned[drainmark.PartitionOf(log, len(b.publishers))] = true
	}
	if len(logs) == 0 {
		for p := range b.publishers {
			concerned[p] = true
		}
	}
	fences, err := b.fence(ctx, slices.Sorted(maps.Keys(concerned)))
	if err != nil {
		return drainmark.Receipt{}, err
	}
	runs := make([]drainmark.Run, 0, len(fences))
	epochs := make(map[int]uint64, len(fences))
	for partition, f := range fences {
		runs = append(runs, f.run)
		epochs[partition] = f.epoch
	}
	r := b.receipt(runs...)
	r.Epochs = epochs
	return r, nil
}

// fence publishes a fence to each of the partitions, all at once, and waits until all are stored.
func (b *Backend) fence(ctx context.Context, partitions []int) (map[int]fence, error) {
	runs := make([]fence, len(partitions))
	group, ctx := errgroup.WithContext(ctx)
	for i, partition := range partitions {
		group.Go(func() error {
			run, epoch, err := b.publishers[partition].putFence(ctx, func() uint64 {
				return b.tracker.partitions[partition].snapshot().Epoch
			})
			runs[i] = fence{run, epoch}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		kind := drainmark.KindOf(err)
		switch kind {
		case drainmark.KindMisconfigured, drainmark.KindBacklogFull, drainmark.KindDiskFull:
		default:
			kind = drainmark.KindUnavailable
		}
		return nil, drainmark.Errorf(kind, "publishing a fence: %w", err)
	}
	fences := make(map[int]fence, len(partitions))
	for i, partition := range partitions {
		fences[partition] = runs[i]
	}
	return fences, nil
}

// fencedAnew returns the partitions that need another fence, if the receipt, whose marks are all held, is a barrier's.
func (b *Backend) fencedAnew(r drainmark.Receipt, now states) (again []int) {
	for partition, epoch := range r.Epochs {
		if !b.broker.Traits().Ordered && now[partition].Epoch != epoch {
			again = append(again, partition)
		}
	}
	return again
}

// missingRuns are runs of accepted records that the broker did not deliver.
type missingRuns []drainmark.Run

func (m missingRuns) records() uint64 { return records(m) }

func (m missingRuns) reason() string {
	return fmt.Sprintf("the broker did not deliver %d accepted records, in %d runs, the first of which is %s; see the dead letters", m.records(), len(m), m[0])
}

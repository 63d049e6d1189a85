package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/drainmark/drainmark"
	"golang.org/x/sync/errgroup"
)

// A barrier is a marker through every partition concerned, and the wait for it: when the reader's progress holds the
// marker, it holds everything that was stored before the marker.
//
// On a broker that keeps the order of what it delivers again, that is all. On another one, records that a consumer
// held when the partition was opened anew may come back behind the marker. Every opening has its own lease token, which the
// consumer writes into the store after the opening and before it commits anything. So the lease token is noted before the
// marker is published, and if the progress that holds the marker has another, another marker is sent.
//
// A barrier is also not reached while the progress has gaps: those are accepted records that the broker did not
// deliver.

// sentMarker is one partition's part of a barrier.
type sentMarker struct {
	span  drainmark.Span
	token uint64 // of the partition, before the marker was published
}

// Barrier implements Service.
func (b *Backend) Barrier(ctx context.Context, logs []string) (drainmark.Receipt, error) {
	b.metrics.barriers.Inc()
	return b.barrier(ctx, logs, false)
}

// barrier sends a barrier. A silent one is the backend's own: no consumer is wanted for it.
func (b *Backend) barrier(ctx context.Context, logs []string, silent bool) (drainmark.Receipt, error) {
	concerned := map[int]bool{}
	for _, log := range logs {
		concerned[drainmark.PartitionOf(log, len(b.publishers))] = true
	}
	if len(logs) == 0 {
		for p := range b.publishers {
			concerned[p] = true
		}
	}
	markers, err := b.sendMarkers(ctx, slices.Sorted(maps.Keys(concerned)), silent)
	if err != nil {
		return drainmark.Receipt{}, err
	}
	spans := make([]drainmark.Span, 0, len(markers))
	tokens := make(map[int]uint64, len(markers))
	for partition, f := range markers {
		spans = append(spans, f.span)
		tokens[partition] = f.token
	}
	r := b.receipt(spans...)
	r.Tokens = tokens
	return r, nil
}

// sendMarkers publishes a marker to each of the partitions, all at once, and waits until all are stored. Silent ones are
// the backend's own.
func (b *Backend) sendMarkers(ctx context.Context, partitions []int, silent bool) (map[int]sentMarker, error) {
	sent := make([]sentMarker, len(partitions))
	group, ctx := errgroup.WithContext(ctx)
	for i, partition := range partitions {
		group.Go(func() error {
			span, token, err := b.publishers[partition].putMarker(ctx, silent, func() uint64 {
				return b.tracker.partitions[partition].snapshot().Token
			})
			sent[i] = sentMarker{span, token}
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
		return nil, drainmark.Errorf(kind, "publishing a marker: %w", err)
	}
	markers := make(map[int]sentMarker, len(partitions))
	for i, partition := range partitions {
		markers[partition] = sent[i]
	}
	return markers, nil
}

// openedAnew returns the partitions that need another marker, if the receipt, whose marks are all held, is a barrier's.
func (b *Backend) openedAnew(r drainmark.Receipt, now states) (again []int) {
	for partition, token := range r.Tokens {
		if !b.broker.Traits().Ordered && now[partition].Token != token {
			again = append(again, partition)
		}
	}
	return again
}

// missingSpans are spans of accepted records that the broker did not deliver.
type missingSpans []drainmark.Span

func (m missingSpans) records() uint64 { return records(m) }

func (m missingSpans) reason() string {
	return fmt.Sprintf("the broker did not deliver %d accepted records, in %d runs, the first of which is %s; see the dead letters", m.records(), len(m), m[0])
}

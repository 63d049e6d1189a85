package planted

import (
	"context"
	"errors"
	"maps"
	"math"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// clearDirectly breaks what a clear promises, to remove exactly what was accepted before it: it does not travel through
// the queue but removes at once what is in the store. Messages that were accepted before it, and are not persisted yet,
// stay. Its receipt is that of a marker, which comes behind all of them.
func clearDirectly(p *Process, s backend.Service) backend.Service { return direct{s, p} }

type direct struct {
	backend.Service
	process *Process
}

func (s direct) Publish(ctx context.Context, r drainmark.Record) (drainmark.Receipt, error) {
	if r.Kind != drainmark.Clear {
		return s.Service.Publish(ctx, r)
	}
	if err := s.clear(ctx, &r); err != nil {
		return drainmark.Receipt{}, drainmark.Errorf(drainmark.KindUnavailable, "clearing the log: %w", err)
	}
	receipt, err := s.Service.Barrier(ctx, []string{r.Log})
	receipt.Tokens = nil // it is not to look like a barrier's
	return receipt, err
}

func (s direct) clear(ctx context.Context, r *drainmark.Record) error {
	master := s.process.master
	if master == nil {
		opened, err := s.process.open(ctx)
		if err != nil {
			return err
		}
		defer opened.Close()
		master = opened
	}
	deployment, err := s.process.reader.Deployment(ctx)
	if err != nil {
		return err
	}
	partition := drainmark.PartitionOf(r.Log, deployment.Partitions)
	for {
		err := s.commit(ctx, store.NewHolder(master, deployment.Partitions), partition, r)
		if !errors.Is(err, store.ErrFenced) {
			return err
		}
		select { // a consumer was faster, or nobody holds the partition
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commit commits the clear under the claim of the partition's holder, which then claims it anew.
func (s direct) commit(ctx context.Context, holder *store.Holder, partition int, r *drainmark.Record) error {
	progress, err := s.process.reader.Progress(ctx, partition)
	if err != nil {
		return err
	}
	_, err = holder.Commit(ctx, store.Commit{
		Partition: partition, Token: progress.Token, Revision: progress.Revision, Now: time.Now(),
		Operations: []store.Operation{{Kind: store.Clear, Record: r}},
		Cursor:     progress.Cursor, Rejected: progress.Rejected, Clock: progress.Clock,
	})
	return err
}

// barrierOfOne breaks P5: of the markers of a barrier only the first is waited for. All are published.
func barrierOfOne(_ *Process, s backend.Service) backend.Service { return first{s} }

type first struct{ backend.Service }

func (s first) Barrier(ctx context.Context, logs []string) (drainmark.Receipt, error) {
	r, err := s.Service.Barrier(ctx, logs)
	if err != nil || len(r.Spans) < 2 {
		return r, err
	}
	r.Spans = r.Spans[:1]
	partition := r.Spans[0].Partition
	r.Tokens = map[int]uint64{partition: r.Tokens[partition]}
	maps.DeleteFunc(r.Clocks, func(p int, _ time.Duration) bool { return p != partition })
	return r, nil
}

// tailSkips breaks P4, and loses messages for followers of a log: a tail that is to go on behind a position begins at
// the end of the log instead. It skips messages persisted in between, after the page or the event that the client saw
// last and before it asked.
func tailSkips(_ *Process, s backend.Service) backend.Service { return skipping{s} }

type skipping struct{ backend.Service }

func (s skipping) Subscribe(ctx context.Context, log string, after uint64) (backend.Subscription, error) {
	if after > 0 {
		page, err := s.Service.Messages(ctx, log, math.MaxInt64, 1, nil, 0)
		if err != nil && drainmark.KindOf(err) != drainmark.KindNotFound {
			return nil, err
		}
		after = max(after, page.Log.LastPosition)
	}
	return s.Service.Subscribe(ctx, log, after)
}

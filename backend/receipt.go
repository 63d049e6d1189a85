package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/drainmark/drainmark"
)

// ParseReceipt implements Service.
func (b *Backend) ParseReceipt(texts ...string) (drainmark.Receipt, error) {
	var merged drainmark.Receipt
	for i, text := range texts {
		r, err := drainmark.ParseReceipt(text)
		if err == nil {
			err = r.Check(b.deployment.ID, b.deployment.Partitions)
		}
		if err == nil && i > 0 {
			r, err = merged.Merge(r)
		}
		if err != nil {
			return drainmark.Receipt{}, err
		}
		merged = r
	}
	return merged, nil
}

// Status implements Service.
func (b *Backend) Status(ctx context.Context, r drainmark.Receipt, wait time.Duration) (Status, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		letter, unasked, err := b.awaitHeld(waiting, r)
		if err != nil {
			return b.statusOf(ctx, r, err)
		}
		if len(unasked) > 0 || len(r.Epochs) > 0 {
			if err := b.freshen(ctx, r.Runs); err != nil {
				return Status{}, unavailable("reading progress", err)
			}
			if !b.holdsAll(r.Runs) { // the store has lost its tail, and will get it again
				continue
			}
		}
		if letter == nil {
			if letter, err = b.findRejected(ctx, unasked); err != nil {
				return Status{}, err
			}
		}
		again, missing := b.recheck(r)
		switch {
		case len(again) > 0:
			if r, err = b.fenceAgain(ctx, r, again); err != nil {
				return Status{Receipt: r, State: Pending}, err
			}
		case missing != nil:
			return Status{Receipt: r, State: Stalled, Reason: missing.reason(), Missing: missing.records()}, nil
		case letter != nil:
			return Status{Receipt: r, State: Rejected, Reason: letter.Reason}, nil
		default:
			return Status{Receipt: r, State: Persisted}, nil
		}
	}
}

// awaitHeld waits until the progress that was read last holds all runs, at one moment. It returns a dead letter if one
// of their marks was set aside meanwhile, and the runs for which it did not have to wait: of those it is not known
// whether marks were set aside, and the progress may be some time old.
func (b *Backend) awaitHeld(ctx context.Context, r drainmark.Receipt) (letter *drainmark.DeadLetter, unasked []drainmark.Run, err error) {
	for i := 0; i < len(r.Runs); i++ {
		if err := b.checkExpired(r, r.Runs[i]); err != nil {
			return nil, nil, err
		}
		rejected, asked, err := b.tracker.partitions[r.Runs[i].Partition].wait(ctx, r.Runs[i])
		if err != nil {
			return nil, nil, err
		}
		if rejected != nil {
			letter = rejected
		}
		if !asked {
			unasked = append(unasked, r.Runs[i])
		}
		if i == len(r.Runs)-1 && !b.holdsAll(r.Runs) { // the store lost its tail meanwhile
			i, unasked = -1, nil
		}
	}
	return letter, unasked, nil
}

// freshen reads the progress of the runs' partitions anew, so that an answer is from a state after the question.
func (b *Backend) freshen(ctx context.Context, runs []drainmark.Run) error {
	for i, run := range runs {
		if i > 0 && runs[i-1].Partition == run.Partition {
			continue
		}
		if err := b.tracker.partitions[run.Partition].refresh(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) holdsAll(runs []drainmark.Run) bool {
	for _, run := range runs {
		if !b.tracker.partitions[run.Partition].snapshot().Holds(run) {
			return false
		}
	}
	return true
}

// findRejected asks the reader whether marks of the runs, sorted by partition, were set aside.
func (b *Backend) findRejected(ctx context.Context, runs []drainmark.Run) (*drainmark.DeadLetter, error) {
	for len(runs) > 0 {
		partition, n := runs[0].Partition, 1
		for n < len(runs) && runs[n].Partition == partition {
			n++
		}
		if b.tracker.partitions[partition].snapshot().Rejected > 0 {
			// A wait of no time at all still gets this answer: the read has its own limit.
			read, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.limits.StallAfter)
			letters, err := b.reader.Rejected(read, partition, runs[:n])
			cancel()
			if err != nil {
				return nil, unavailable("looking up rejected records", err)
			}
			if len(letters) > 0 {
				return &letters[0], nil
			}
		}
		runs = runs[n:]
	}
	return nil, nil
}

// checkExpired refuses a receipt whose producer's progress the store may have forgotten.
func (b *Backend) checkExpired(r drainmark.Receipt, run drainmark.Run) error {
	if !b.tracker.partitions[run.Partition].forgot(run.Producer) {
		return nil
	}
	if time.Since(r.IssuedAt) > b.limits.ProducerRetention {
		return drainmark.Errorf(drainmark.KindReceiptExpired, "the receipt is from %s; what became of a record is known for %s after its producer's last one", r.IssuedAt.UTC().Format(time.RFC3339), b.limits.ProducerRetention)
	}
	return nil
}

// statusOf says what a receipt is whose wait ended with an error.
func (b *Backend) statusOf(ctx context.Context, r drainmark.Receipt, err error) (Status, error) {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		if drainmark.KindOf(err) == drainmark.KindInternal {
			err = unavailable("waiting for the receipt", err)
		}
		return Status{}, err
	}
	for _, run := range r.Runs {
		if b.tracker.partitions[run.Partition].snapshot().Holds(run) {
			continue
		}
		if reason := b.stalled(ctx, run.Partition, r.IssuedAt); reason != "" {
			return Status{Receipt: r, State: Stalled, Reason: reason}, nil
		}
	}
	return Status{Receipt: r, State: Pending}, nil
}

// stalled says why a partition in which something is pending since a time does not move, or "" if it does.
func (b *Backend) stalled(ctx context.Context, partition int, since time.Time) string {
	t := b.tracker.partitions[partition]
	moved, claimed := t.quietSince()
	quiet := time.Since(moved)
	if quiet <= b.limits.StallAfter || time.Since(since) <= b.limits.StallAfter {
		return ""
	}
	reason := fmt.Sprintf("partition %d has made no progress for %s", partition, quiet.Round(time.Second))
	claims, err := b.reader.Claims(ctx)
	if err != nil {
		return reason + "; the store does not answer"
	}
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
	return reason + "; no consumer holds it"
}

// usualClaims is how often a partition may be claimed until something is committed while all is well: two claims a
// subscription, and some consumers that come and go.
const usualClaims = 6

// fenceAgain publishes new fences to the partitions and returns the receipt with these in place of the old ones.
func (b *Backend) fenceAgain(ctx context.Context, r drainmark.Receipt, partitions []int) (drainmark.Receipt, error) {
	b.metrics.fencesAgain.Add(float64(len(partitions)))
	fences, err := b.fence(ctx, partitions)
	if err != nil {
		return r, err
	}
	renewed := drainmark.Receipt{Deployment: r.Deployment, IssuedAt: r.IssuedAt, Runs: r.Runs, Epochs: maps.Clone(r.Epochs)}
	for _, f := range fences {
		renewed.Epochs[f.run.Partition] = f.epoch
	}
	// The old fences are held already; the new ones stand for them.
	runs := make([]drainmark.Run, 0, len(r.Runs))
	for _, run := range r.Runs {
		if _, replaced := fences[run.Partition]; !replaced {
			runs = append(runs, run)
		}
	}
	for _, f := range fences {
		runs = append(runs, f.run)
	}
	renewed.Runs = drainmark.NewReceipt(r.Deployment, r.IssuedAt, runs...).Runs
	return renewed, nil
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Messages implements Service.
func (b *Backend) Messages(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (store.Page, error) {
	if need == nil {
		return b.page(ctx, log, after, limit)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	t := b.tracker.partitions[drainmark.PartitionOf(log, len(b.publishers))]
	for {
		if _, _, err := b.awaitHeld(waiting, *need); err != nil {
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				return store.Page{}, drainmark.Errorf(drainmark.KindNotReached, "the reader does not show the receipt's writes yet")
			}
			return store.Page{}, err
		}
		before := t.snapshot()
		if !holdsOf(before, need.Runs) {
			continue
		}
		page, err := b.page(ctx, log, after, limit)
		if err != nil && drainmark.KindOf(err) != drainmark.KindNotFound {
			return store.Page{}, err
		}
		// A page of the same line of states as the progress, and not older, shows what that progress holds.
		if err != nil || page.Version.Includes(before.Version) {
			return page, err
		}
		if err := t.refresh(ctx); err != nil {
			return store.Page{}, unavailable("reading progress", err)
		}
		if now := t.snapshot(); page.Version.Includes(now.Version) && holdsOf(now, need.Runs) {
			return page, nil
		}
	}
}

// holdsOf says whether the progress holds those of the runs that are of its partition.
func holdsOf(p drainmark.Progress, runs []drainmark.Run) bool {
	for _, run := range runs {
		if run.Partition == p.Partition && !p.Holds(run) {
			return false
		}
	}
	return true
}

func (b *Backend) page(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	page, err := b.reader.Messages(ctx, log, after, limit)
	if errors.Is(err, store.ErrNotFound) {
		return page, drainmark.Errorf(drainmark.KindNotFound, "log %q: nothing was ever written to it", log)
	}
	if err != nil {
		return page, unavailable("reading messages", err)
	}
	return page, nil
}

// Logs implements Service.
func (b *Backend) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	logs, err := b.reader.Logs(ctx, after, limit)
	if err != nil {
		return nil, unavailable("reading the list of logs", err)
	}
	return logs, nil
}

// Backlog implements Service. It reads the progress first and asks the broker second, so that what is said to be
// pending is never less than what was missing when it was asked. Where the broker cannot count, what this backend itself
// has accepted is a lower bound, and the whole if it is the only one.
func (b *Backend) Backlog(ctx context.Context) ([]PartitionBacklog, error) {
	claims, err := b.reader.Claims(ctx)
	if err != nil {
		return nil, unavailable("reading claims", err)
	}
	backlogs := make([]PartitionBacklog, len(b.publishers))
	for p := range backlogs {
		progress, err := b.reader.Progress(ctx, p)
		if err != nil {
			return nil, unavailable("reading progress", err)
		}
		counted, err := b.broker.Backlog(ctx, p, progress)
		if err != nil {
			return nil, drainmark.Errorf(drainmark.KindUnavailable, "asking the broker for partition %d's backlog: %w", p, err)
		}
		if !counted.Pending.Exact {
			ours := b.publishers[p]
			own, since := ours.accepted.pending(progress.Producers[ours.producer])
			counted.Pending.Records = max(counted.Pending.Records, own)
			if counted.OldestAt.IsZero() {
				counted.OldestAt = since
			}
		}
		backlogs[p] = PartitionBacklog{Partition: p, Backlog: counted, Progress: progress, Missing: sortedMissing(progress), Backend: b.publishers[p].producer}
		if i := slices.IndexFunc(claims, func(c store.Claim) bool { return c.Partition == p }); i >= 0 {
			backlogs[p].Claim = &claims[i]
		}
		ready := b.tracker.partitions[p].readySince(counted.Ready != nil && counted.Ready.Records > 0)
		switch {
		case counted.Pending.Records > 0:
			backlogs[p].Stalled = b.stalled(ctx, p, b.age(counted.OldestAt))
		case !ready.IsZero(): // others' records, and since when they wait only they know
			backlogs[p].Stalled = b.stalled(ctx, p, time.Since(ready))
		}
	}
	return backlogs, nil
}

func sortedMissing(p drainmark.Progress) []drainmark.Run {
	missing := p.Missing()
	slices.SortFunc(missing, func(a, b drainmark.Run) int { return strings.Compare(a.String(), b.String()) })
	return missing
}

// reasonMissing is the reason of what is listed as a dead letter although no record was ever seen.
const reasonMissing = "missing: accepted, and not delivered by the broker although later records of the same producer were; it may still come. Discard it to declare it lost"

// DeadLetters implements Service. A partition's list is the records that were set aside, then the runs of records that
// are missing. A place in it is "<partition>.<ordinal>", and "<partition>.m<index>" among the missing.
func (b *Backend) DeadLetters(ctx context.Context, after string, limit int) (DeadLetters, error) {
	partition, ordinal, missing, err := b.parsePlace(after)
	if err != nil {
		return DeadLetters{}, err
	}
	var list DeadLetters
	size := 0 // of the records' bodies
	for ; partition < len(b.publishers); partition, ordinal, missing = partition+1, 0, -1 {
		for missing < 0 {
			letters, err := b.reader.DeadLetters(ctx, partition, ordinal, limit-len(list.Letters)+1)
			if err != nil {
				return DeadLetters{}, unavailable("reading dead letters", err)
			}
			if len(letters) == 0 {
				missing = 0
			}
			for _, l := range letters {
				if len(list.Letters) == limit || size > 0 && size+len(l.Record.Body) > store.PageBytes {
					list.Next = fmt.Sprintf("%d.%d", partition, ordinal)
					return list, nil
				}
				list.Letters = append(list.Letters, l.DeadLetter)
				size += len(l.Record.Body)
				ordinal = l.Ordinal
			}
		}
		progress, err := b.reader.Progress(ctx, partition)
		if err != nil {
			return DeadLetters{}, unavailable("reading progress", err)
		}
		runs := sortedMissing(progress)
		for ; missing < len(runs); missing++ {
			if len(list.Letters) == limit {
				list.Next = fmt.Sprintf("%d.m%d", partition, missing)
				return list, nil
			}
			list.Letters = append(list.Letters, drainmark.DeadLetter{ID: runs[missing].String(), Run: runs[missing], Reason: reasonMissing})
		}
	}
	return list, nil
}

func (b *Backend) parsePlace(after string) (partition int, ordinal uint64, missing int, err error) {
	if after == "" {
		return 0, 0, -1, nil
	}
	first, second, _ := strings.Cut(after, ".")
	partition, err = strconv.Atoi(first)
	missing = -1
	if index, ok := strings.CutPrefix(second, "m"); ok && err == nil {
		missing, err = strconv.Atoi(index)
	} else if err == nil {
		ordinal, err = strconv.ParseUint(second, 10, 64)
	}
	if err != nil || partition < 0 || partition >= len(b.publishers) || missing < -1 {
		return 0, 0, 0, drainmark.Errorf(drainmark.KindInvalid, "after: %q is not a place in the list of dead letters", after)
	}
	return partition, ordinal, missing, nil
}

// checkLetter finds the partition of the dead letter that a Retry or Discard names, and refuses what cannot work.
func (b *Backend) checkLetter(ctx context.Context, r drainmark.Record) (int, error) {
	first, _, _ := strings.Cut(r.Target, "-")
	partition, err := strconv.Atoi(first)
	if err != nil || partition < 0 || partition >= len(b.publishers) {
		return 0, drainmark.Errorf(drainmark.KindNotFound, "there is no dead letter %q", r.Target)
	}
	letter, err := b.reader.DeadLetter(ctx, partition, r.Target)
	switch {
	case err == nil && letter.Discarded:
		return 0, drainmark.Errorf(drainmark.KindConflict, "dead letter %q was discarded before", r.Target)
	case err == nil:
		return partition, nil
	case !errors.Is(err, store.ErrNotFound):
		return 0, unavailable("reading the dead letter", err)
	}
	run, err := drainmark.ParseRun(r.Target)
	if err != nil {
		return 0, drainmark.Errorf(drainmark.KindNotFound, "there is no dead letter %q", r.Target)
	}
	progress, err := b.reader.Progress(ctx, partition)
	if err != nil {
		return 0, unavailable("reading progress", err)
	}
	if !slices.Contains(progress.Missing(), run) {
		return 0, drainmark.Errorf(drainmark.KindNotFound, "there is no dead letter %q, and those records are not missing", r.Target)
	}
	if r.Kind == drainmark.Retry {
		return 0, drainmark.Errorf(drainmark.KindConflict, "records %q are missing: there is nothing to try again; they are persisted if the broker still delivers them", r.Target)
	}
	return partition, nil
}

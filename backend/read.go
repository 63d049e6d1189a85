package backend

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Messages implements Service.
func (b *Backend) Messages(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (Page, error) {
	if need == nil {
		return b.page(ctx, log, after, limit)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	t := b.tracker.partitions[drainmark.PartitionOf(log, len(b.publishers))]
	for {
		if _, _, err := b.awaitHeld(waiting, *need); err != nil {
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				return Page{}, drainmark.Errorf(drainmark.KindNotReached, "the reader does not show the receipt's writes yet")
			}
			return Page{}, err
		}
		before := t.snapshot()
		if !holdsOf(before, need.Spans) {
			continue
		}
		page, err := b.page(ctx, log, after, limit)
		if drainmark.KindOf(err) == drainmark.KindNotFound {
			shown, failed := t.stillShows(ctx, before, need.Spans)
			if failed == nil && !shown {
				continue
			}
			return Page{}, cmp.Or(failed, err)
		}
		if err != nil {
			return Page{}, err
		}
		shows, err := t.shows(ctx, page.Version, before, need.Spans)
		if shows {
			return page, nil
		}
		page.Release()
		if err != nil {
			return Page{}, err
		}
	}
}

// shows says whether a page of a version shows the writes of the spans, which a progress that was read before held. It
// does if it is of the same token as the progress, and not older. Otherwise a newer progress has to tell.
func (p *tracked) shows(ctx context.Context, page drainmark.Version, before drainmark.Progress, spans []drainmark.Span) (bool, error) {
	if page.Includes(before.Version) {
		return true, nil
	}
	if err := p.refresh(ctx); err != nil {
		return false, unavailable("reading the progress", err)
	}
	now := p.snapshot()
	return page.Includes(now.Version) && holdsOf(now, spans), nil
}

// stillShows says whether a state that was read since, whose version nobody knows, shows the writes of the spans: all do
// between a progress that held them and that of now, if they are of one line.
func (p *tracked) stillShows(ctx context.Context, before drainmark.Progress, spans []drainmark.Span) (bool, error) {
	if err := p.refresh(ctx); err != nil {
		return false, unavailable("reading the progress", err)
	}
	now := p.snapshot()
	return now.Version.Includes(before.Version) && holdsOf(now, spans), nil
}

// holdsOf says whether the progress holds those of the spans that are of its partition.
func holdsOf(p drainmark.Progress, spans []drainmark.Span) bool {
	for _, span := range spans {
		if span.Partition == p.Partition && !p.Holds(span) {
			return false
		}
	}
	return true
}

// page reads a page and counts it.
func (b *Backend) page(ctx context.Context, log string, after uint64, limit int) (Page, error) {
	done, err := b.answers.reading(ctx)
	if err != nil {
		return Page{}, unavailable("reading messages", err)
	}
	defer done()
	page, err := b.read(ctx, log, after, limit)
	if err != nil {
		return Page{}, err
	}
	if page.Log.Deleted {
		return Page{}, drainmark.Errorf(drainmark.KindNotFound, "log %q: it was deleted, and nothing was written to it since", log)
	}
	held, err := b.answers.hold(memoryOfPage(&page))
	if err != nil {
		return Page{}, err
	}
	return Page{page, held}, nil
}

func (b *Backend) read(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
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
func (b *Backend) Logs(ctx context.Context, after string, limit int) (Logs, error) {
	done, err := b.answers.reading(ctx)
	if err != nil {
		return Logs{}, unavailable("listing the logs", err)
	}
	defer done()
	infos, err := b.reader.Logs(ctx, after, limit)
	if err != nil {
		return Logs{}, unavailable("listing the logs", err)
	}
	size := 0
	for i := range infos {
		size += memoryOfLog(&infos[i])
	}
	held, err := b.answers.hold(size)
	if err != nil {
		return Logs{}, err
	}
	return Logs{infos, held}, nil
}

// LetterLog implements Service.
func (b *Backend) LetterLog(ctx context.Context, id string) (string, error) {
	_, log, err := b.checkLetter(ctx, drainmark.Record{Kind: drainmark.Discard, Target: id})
	return log, err
}

// checkLetter finds the partition and the log of the dead letter that a Retry or Discard names, and refuses what cannot work.
func (b *Backend) checkLetter(ctx context.Context, r drainmark.Record) (partition int, log string, err error) {
	first, _, _ := strings.Cut(r.Target, "-")
	partition, err = strconv.Atoi(first)
	if err != nil || partition < 0 || partition >= len(b.publishers) {
		return 0, "", drainmark.Errorf(drainmark.KindNotFound, "there is no dead letter %q", r.Target)
	}
	letter, err := b.reader.DeadLetter(ctx, partition, r.Target)
	switch {
	case err == nil && letter.Discarded:
		return 0, letter.Log, drainmark.Errorf(drainmark.KindConflict, "dead letter %q was discarded before", r.Target)
	case err == nil:
		return partition, letter.Log, nil
	case !errors.Is(err, store.ErrNotFound):
		return 0, "", unavailable("reading dead letter "+r.Target, err)
	}
	span, err := drainmark.ParseSpan(r.Target)
	if err != nil {
		return 0, "", drainmark.Errorf(drainmark.KindNotFound, "there is no dead letter %q", r.Target)
	}
	progress, err := b.reader.Progress(ctx, partition)
	if err != nil {
		return 0, "", unavailable("reading the progress", err)
	}
	if !slices.Contains(progress.Missing(), span) {
		return 0, "", drainmark.Errorf(drainmark.KindNotFound, "there is no dead letter %q, and those records are not missing", r.Target)
	}
	if r.Kind == drainmark.Retry {
		return 0, "", drainmark.Errorf(drainmark.KindConflict, "records %q are missing: there is nothing to try again; they are persisted if the broker still delivers them", r.Target)
	}
	return partition, "", nil
}

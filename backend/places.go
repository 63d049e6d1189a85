package backend

import (
	"context"
	"errors"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Place is where a message stands.
type Place struct {
	Position uint64
	Mark     drainmark.Mark
}

// No store finds a message by its mark: an index for that would cost each write, and most are never asked about. So a
// log is searched from its end, where newly persisted messages stand, and not far.
const (
	placesSearched = 1000 // positions
	placesAtOnce   = 100
	maxPlaced      = 100 // records of a receipt that are looked for
)

// Places implements Service.
func (b *Backend) Places(ctx context.Context, log string, r drainmark.Receipt) ([]Place, error) {
	wanted := records(r.Spans)
	if wanted > maxPlaced {
		return nil, nil
	}
	done, err := b.answers.reading(ctx)
	if err != nil {
		return nil, unavailable("reading messages", err)
	}
	defer done()
	const behindAll = 1<<53 - 1
	last, err := b.reader.Messages(ctx, log, behindAll, 1)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("reading messages", err)
	}
	first := last.Log.ClearedThrough // nothing is searched up to here
	if last.Log.LastPosition > placesSearched {
		first = max(first, last.Log.LastPosition-placesSearched)
	}
	var places []Place
	for end := last.Log.LastPosition; end > first && uint64(len(places)) < wanted; {
		after := max(first, end-min(end, placesAtOnce))
		found, err := b.placesBetween(ctx, log, after, end, r.Spans)
		if err != nil {
			return nil, err
		}
		places = slices.Concat(found, places)
		end = after
	}
	return places, nil
}

// placesBetween looks for the spans' messages behind a position and up to another one.
func (b *Backend) placesBetween(ctx context.Context, log string, after, end uint64, spans []drainmark.Span) (found []Place, err error) {
	for after < end {
		page, err := b.reader.Messages(ctx, log, after, int(end-after))
		if err != nil {
			return nil, unavailable("reading messages", err)
		}
		if len(page.Messages) == 0 { // they have been cleared meanwhile
			return found, nil
		}
		for i := range page.Messages {
			m := &page.Messages[i]
			if after = m.Position; after > end {
				return found, nil
			}
			if slices.ContainsFunc(spans, func(r drainmark.Span) bool { return overlap(r, drainmark.SpanOf(m.Mark)) }) {
				found = append(found, Place{m.Position, m.Mark})
			}
		}
	}
	return found, nil
}

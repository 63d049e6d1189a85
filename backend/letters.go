package backend

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// reasonMissing is the reason of what is listed as a dead letter although no record was ever seen.
const reasonMissing = "missing: accepted, and not delivered by the broker although later records of the same producer were; it may still come. Discard it to declare it lost"

// DeadLetters implements Service.
func (b *Backend) DeadLetters(ctx context.Context, f LetterFilter, after string, limit int) (DeadLetters, error) {
	l := letterList{backend: b, filter: f, limit: limit}
	if err := l.goTo(after); err != nil {
		return DeadLetters{}, err
	}
	done, err := b.answers.reading(ctx)
	if err != nil {
		return DeadLetters{}, unavailable("listing dead letters", err)
	}
	defer done()
	if err := l.read(ctx); err != nil {
		return DeadLetters{}, err
	}
	size := 0
	for i := range l.list.Letters {
		size += memoryOfLetter(&l.list.Letters[i])
	}
	if l.list.Held, err = b.answers.hold(size); err != nil {
		return DeadLetters{}, err
	}
	return l.list, nil
}

// letterList puts a part of the list of dead letters together. A partition's list is the records that were set aside,
// then the spans of records that are missing. A place in it is "<partition>.<ordinal>", and "<partition>.m<index>" among
// the missing.
type letterList struct {
	backend *Backend
	filter  LetterFilter
	limit   int
	list    DeadLetters
	size    int // of the records' bodies

	partition int
	ordinal   uint64 // of the last letter before
	missing   int    // index of the next run that is missing, -1 while there may be letters
}

// read reads up to the limit, or to the end of the last partition.
func (l *letterList) read(ctx context.Context) error {
	for ; l.partition < len(l.backend.publishers); l.partition, l.ordinal, l.missing = l.partition+1, 0, -1 {
		for l.missing < 0 {
			if full, err := l.readLetters(ctx); full || err != nil {
				return err
			}
		}
		if full, err := l.readMissing(ctx); full || err != nil {
			return err
		}
	}
	return nil
}

func (l *letterList) readLetters(ctx context.Context) (full bool, err error) {
	letters, err := l.backend.reader.DeadLetters(ctx, l.partition, l.ordinal, l.limit-len(l.list.Letters)+1)
	if err != nil {
		return false, unavailable("listing dead letters", err)
	}
	if len(letters) == 0 {
		l.missing = 0
	}
	for _, letter := range letters {
		if !l.filter.fits(&letter.DeadLetter) {
			l.ordinal = letter.Ordinal
			continue
		}
		if len(l.list.Letters) == l.limit || l.size > 0 && l.size+len(letter.Payload) > store.PageBytes {
			l.list.Next = fmt.Sprintf("%d.%d", l.partition, l.ordinal)
			return true, nil
		}
		l.list.Letters = append(l.list.Letters, letter.DeadLetter)
		l.size += len(letter.Payload)
		l.ordinal = letter.Ordinal
	}
	return false, nil
}

func (l *letterList) readMissing(ctx context.Context) (full bool, err error) {
	progress, err := l.backend.reader.Progress(ctx, l.partition)
	if err != nil {
		return false, unavailable("reading the progress", err)
	}
	for spans := sortedMissing(progress); l.missing < len(spans); l.missing++ {
		if len(l.list.Letters) == l.limit {
			l.list.Next = fmt.Sprintf("%d.m%d", l.partition, l.missing)
			return true, nil
		}
		letter := drainmark.DeadLetter{ID: spans[l.missing].String(), Span: spans[l.missing], Reason: reasonMissing}
		if l.filter.Before.IsZero() && l.filter.fits(&letter) { // when they went missing nobody knows
			l.list.Letters = append(l.list.Letters, letter)
		}
	}
	return false, nil
}

// goTo goes to a place in the list.
func (l *letterList) goTo(place string) (err error) {
	l.missing = -1
	if place == "" {
		return nil
	}
	first, second, _ := strings.Cut(place, ".")
	l.partition, err = strconv.Atoi(first)
	if index, ok := strings.CutPrefix(second, "m"); ok && err == nil {
		l.missing, err = strconv.Atoi(index)
	} else if err == nil {
		l.ordinal, err = strconv.ParseUint(second, 10, 64)
	}
	if err != nil || l.partition < 0 || l.partition >= len(l.backend.publishers) || l.missing < -1 {
		return drainmark.Errorf(drainmark.KindInvalid, "after: %q is not a place in the list of dead letters", place)
	}
	return nil
}

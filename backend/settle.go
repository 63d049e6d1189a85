package backend

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// LetterFilter says which dead letters are meant: those that fit all that is set.
type LetterFilter struct {
	Log    string    // of this log
	Reason string    // with a reason that begins so
	Before time.Time // set aside before

	// May says of which logs the letters may be seen, and settled; "" is for those that are of no log. nil for all.
	May func(log string) bool
}

func (f LetterFilter) fits(l *drainmark.DeadLetter) bool {
	return (f.Log == "" || l.Log == f.Log) && strings.HasPrefix(l.Reason, f.Reason) &&
		(f.Before.IsZero() || l.SetAsideAt.Before(f.Before)) && (f.May == nil || f.May(l.Log))
}

// Settled is what was done with several dead letters at once.
type Settled struct {
	Letters int               // how many were found
	Records uint64            // how many records they stand for
	Receipt drainmark.Receipt // of the records that settle them, without spans if nothing was published
	Next    string            // where to go on, empty at the end
}

// lettersAtOnce is how many dead letters are read at once to look for those that are meant.
const lettersAtOnce = 100

// Settle implements Service. It settles letters of one partition only, so that its records are accepted all or none.
func (b *Backend) Settle(ctx context.Context, kind drainmark.RecordKind, principal string, f LetterFilter, after string, limit int) (Settled, error) {
	if !b.settling.TryLock() {
		return Settled{}, drainmark.Errorf(drainmark.KindTooMany, "dead letters are being settled by another request; the limit is 1 at a time")
	}
	defer b.settling.Unlock()
	l := letterList{backend: b}
	if err := l.goTo(after); err != nil {
		return Settled{}, err
	}
	for p, ordinal := l.partition, l.ordinal; p < len(b.publishers); p, ordinal = p+1, 0 {
		if l.missing >= 0 && p == l.partition {
			continue // missing records are settled one by one: that declares them lost
		}
		settled, records, err := b.lettersToSettle(ctx, p, ordinal, drainmark.Record{Kind: kind, Principal: principal}, f, limit)
		if err != nil {
			return Settled{}, err
		}
		if settled.Letters == 0 {
			continue
		}
		if settled.Next == "" && p+1 < len(b.publishers) {
			settled.Next = fmt.Sprintf("%d.0", p+1)
		}
		settled.Receipt, err = b.put(ctx, b.publishers[p], records)
		return settled, err
	}
	return Settled{}, nil
}

// lettersToSettle finds up to limit letters of a partition, and makes the records that settle them: each is like the one
// given.
func (b *Backend) lettersToSettle(
	ctx context.Context, partition int, after uint64, record drainmark.Record, f LetterFilter, limit int,
) (found Settled, records []drainmark.Record, err error) {
	err = b.eachLetter(ctx, partition, after, func(l *drainmark.DeadLetter, ordinal uint64) (more bool) {
		if !f.fits(l) {
			return true
		}
		if found.Letters == limit {
			found.Next = fmt.Sprintf("%d.%d", partition, after)
			return false
		}
		after = ordinal
		found.Letters++
		found.Records += l.Records()
		record.Target = l.ID
		records = append(records, record)
		return true
	})
	return found, records, err
}

// CountLetters implements Service.
func (b *Backend) CountLetters(ctx context.Context, f LetterFilter) (Settled, error) {
	var counted Settled
	for p := range b.publishers {
		err := b.eachLetter(ctx, p, 0, func(l *drainmark.DeadLetter, _ uint64) bool {
			if f.fits(l) {
				counted.Letters++
				counted.Records += l.Records()
			}
			return true
		})
		if err != nil {
			return Settled{}, err
		}
	}
	return counted, nil
}

// eachLetter calls do with the partition's open dead letters behind an ordinal, in their order, until it returns false.
func (b *Backend) eachLetter(ctx context.Context, partition int, after uint64, do func(l *drainmark.DeadLetter, ordinal uint64) bool) error {
	for {
		done, err := b.answers.reading(ctx)
		if err != nil {
			return unavailable("listing dead letters", err)
		}
		letters, err := b.reader.DeadLetters(ctx, partition, after, lettersAtOnce)
		done()
		if err != nil {
			return unavailable("listing dead letters", err)
		}
		for i := range letters {
			if after = letters[i].Ordinal; !do(&letters[i].DeadLetter, after) {
				return nil
			}
		}
		if len(letters) == 0 {
			return nil
		}
	}
}

package backend

import (
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
)

// accepted remembers what this backend's publisher of one partition has had confirmed, and when. Together with the
// progress it says how much of that is pending, exactly, even where the broker cannot count. Its methods may be called
// concurrently.
type accepted struct {
	mu        sync.Mutex
	last      uint64        // sequences 1 to last are confirmed
	stretches []stretch     // in order, the last one up to last, without the persisted ones at the front
	step      time.Duration // how long a stretch is
}

// stretch is a span of sequences that ends with last. The first of them was confirmed at since.
type stretch struct {
	last  uint64
	since time.Time
}

// Times are remembered by the second at first, and then twice as coarsely each time that there are so many stretches.
const (
	firstStep    = time.Second
	maxStretches = 1024
)

// confirmed notes that the broker has confirmed everything up to a sequence.
func (a *accepted) confirmed(last uint64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = last
	switch n := len(a.stretches); {
	case n == 0:
		a.step = firstStep
	case now.Sub(a.stretches[n-1].since) < a.step:
		a.stretches[n-1].last = last
		return
	}
	if len(a.stretches) == maxStretches {
		a.thin()
	}
	a.stretches = append(a.stretches, stretch{last, now})
}

// thin joins stretches two by two. A joined one has the age of the older, so that no age is ever said to be less than
// it is.
func (a *accepted) thin() {
	kept := a.stretches[:0]
	for i := 0; i < len(a.stretches); i += 2 {
		joined := a.stretches[i]
		if i+1 < len(a.stretches) {
			joined.last = a.stretches[i+1].last
		}
		kept = append(kept, joined)
	}
	a.stretches = kept
	a.step *= 2
}

// unseen returns the first of this producer's confirmed records behind all those that the progress holds, and since
// when it has been confirmed, or 0 if there is none.
func (a *accepted) unseen(progress drainmark.ProducerProgress) (first uint64, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first = progress.Done.Max() + 1
	if first > a.last {
		return 0, time.Time{}
	}
	for _, s := range a.stretches {
		if s.last >= first {
			return first, s.since
		}
	}
	return first, time.Time{} // the stretch was dropped when it was fully persisted, and no longer is
}

// pending returns how many of this producer's confirmed records the progress does not hold, and since when the first of
// them has been confirmed, or the zero time if there are none. The progress must have been read before the call: then
// the number is never less than what was missing at the time of the call.
func (a *accepted) pending(progress drainmark.ProducerProgress) (records uint64, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	missing := progress.Done.Minus(1, a.last)
	if a.last == 0 || len(missing) == 0 {
		a.stretches = nil
		return 0, time.Time{}
	}
	for _, r := range missing {
		records += r.Last - r.First + 1
	}
	oldest := 0
	for oldest < len(a.stretches)-1 && a.stretches[oldest].last < missing[0].First {
		oldest++
	}
	if a.stretches = slices.Delete(a.stretches, 0, oldest); len(a.stretches) > 0 {
		since = a.stretches[0].since
	}
	return records, since
}

// behind returns since when the first record behind a sequence has been confirmed, or one shortly before it, or the
// zero time if there is none.
func (a *accepted) behind(sequence uint64) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.stretches {
		if s.last > sequence {
			return s.since
		}
	}
	return time.Time{}
}

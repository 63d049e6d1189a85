package consumer

import (
	"time"

	"github.com/drainmark/drainmark"
)

// partitionClock moves a partition's clock (drainmark.Progress) under one claim. Forgetting is final, so no wall clock
// decides it alone: under a claim the clock moves by no more than what the holder's monotonic clock has measured since,
// and by no more than what the stamps of one producer have moved. The first bounds a producer whose clock is ahead or
// jumps. The second keeps the clock back where the holder could not commit for long: what waits in the backlog was
// accepted before that.
type partitionClock struct {
	base  time.Duration                      // its time when the partition was claimed
	since time.Time                          // when the claim was answered
	first map[drainmark.ProducerID]time.Time // when each producer's first record under this claim was accepted
	moved time.Duration                      // the most that the stamps of one producer have moved since its first
}

// newPartitionClock begins with what the claim returned. It is called when the claim has been answered: from then on
// nobody else moves the clock.
func newPartitionClock(p drainmark.Progress) partitionClock {
	return partitionClock{base: p.Clock, since: time.Now(), first: map[drainmark.ProducerID]time.Time{}}
}

// see takes note of when the records of entries were accepted.
func (c *partitionClock) see(entries []entry) {
	var producer drainmark.ProducerID
	var first time.Time
	for i := range entries {
		e := &entries[i]
		if e.record == nil {
			continue
		}
		if e.span.Producer != producer || first.IsZero() {
			known := false
			producer = e.span.Producer
			if first, known = c.first[producer]; !known {
				first = e.record.AcceptedAt
				c.first[producer] = first
			}
		}
		c.moved = max(c.moved, e.record.AcceptedAt.Sub(first))
	}
}

// now returns what the clock shows when the entries that it has seen are committed on top of a progress.
func (c *partitionClock) now(p drainmark.Progress) time.Duration {
	return max(p.Clock, (c.base + min(time.Since(c.since), c.moved)).Truncate(time.Microsecond))
}

package consumer

import (
	"maps"
	"slices"
	"time"

	"github.com/drainmark/drainmark/store"
)

// A consumer takes what is free, and otherwise waits until others give up what they have too much of, or until their
// leases end. That takes a lease, or as long as a holder needs to commit what it has in hand. If it takes much longer
// something is wrong with the holder, and nobody else would say so: it may be what hangs.

// wait says that a partition should come to this consumer, and another one holds it.
type wait struct {
	holder string
	alive  bool      // the holder counts as alive
	since  time.Time // when that was seen first
	told   time.Time // when it was logged last, zero before that
}

// waitAgain is the time between two log lines about the same wait.
const waitAgain = 10 * time.Minute

// waitsFor says which partitions that others hold should come to an owner, by the same rules as fairShare: those of
// holders that are not alive, and, if it has too few and there are none to take, those of holders with more than it
// should have. It will get some of these.
func waitsFor(owner string, partitions int, group store.Group) map[int]wait {
	held := map[string][]int{owner: nil}
	for _, o := range group.Owners {
		held[o] = nil
	}
	for _, c := range group.Claims {
		held[c.Owner] = append(held[c.Owner], c.Partition)
	}
	floor := partitions / len(held)
	lacks := len(held[owner]) < floor && len(group.Claims) == partitions
	waits := map[int]wait{}
	for holder, has := range held {
		alive := slices.Contains(group.Owners, holder)
		if holder == owner || alive && !(lacks && len(has) > floor) {
			continue
		}
		for _, p := range has {
			waits[p] = wait{holder: holder, alive: alive}
		}
	}
	return waits
}

// noteWaits notes which partitions this consumer waits for, and says so in the log when it has waited for three leases
// more than an orderly hand-over may take, every ten minutes as long as it does, and when it has got them.
func (c *Consumer) noteWaits(group store.Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, waits := time.Now(), c.standing.waits
	holder := map[int]string{}
	for _, claim := range group.Claims {
		holder[claim.Partition] = claim.Owner
	}
	wanted := waitsFor(c.owner, c.partitions, group)
	for p, w := range waits {
		_, waited := wanted[p]
		switch {
		case holder[p] == w.holder && waited, holder[p] == "" && !w.told.IsZero(): // it may be taken right now
			continue
		case holder[p] == c.owner && !w.told.IsZero():
			c.logger.Info("a partition that this consumer had waited for is taken over", "partition", p, "held_by", w.holder,
				"waited", now.Sub(w.since).Round(time.Second))
		}
		delete(waits, p)
	}
	overdue := map[string][]int{}
	for p, w := range wanted {
		if before, known := waits[p]; known {
			w.since, w.told = before.since, before.told
		} else {
			w.since = now
		}
		if now.Sub(w.since) >= c.limits.Drain+unreadyAfter*c.limits.Lease && (w.told.IsZero() || now.Sub(w.told) >= waitAgain) {
			w.told = now
			overdue[w.holder] = append(overdue[w.holder], p)
		}
		waits[p] = w
	}
	for _, holder := range slices.Sorted(maps.Keys(overdue)) {
		slices.Sort(overdue[holder])
		first := waits[overdue[holder][0]]
		c.logger.Warn("waiting for partitions that another consumer holds, longer than its lease lasts", "partitions", overdue[holder],
			"held_by", holder, "alive", first.alive, "waited", now.Sub(first.since).Round(time.Second))
	}
}

package consumer

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark/store"
)

// share says that this consumer is alive, and takes or gives up partitions so that all have the same number. It returns
// when to do so again: soon while there are others, who may give up something, and otherwise in time for the lease.
// While it cannot drain anything it says nothing, so that the others share among themselves.
func (c *Consumer) share(ctx context.Context, running *sync.WaitGroup) (again time.Duration) {
	again = c.limits.Lease / 3
	if c.absent(ctx) {
		return again
	}
	call, cancel := context.WithTimeout(ctx, c.limits.CommitTimeout)
	defer cancel()
	before := c.revisions()
	group, err := c.store.Heartbeat(call, c.owner, c.limits.Lease)
	c.noteHeartbeat(ctx, err)
	if err != nil {
		return again // drains go on: what they may commit, the store decides
	}
	c.interruptStale(before, group)
	c.noteWaits(group)
	alone := len(group.Owners) <= 1
	if !alone && c.giveUpStuck(ctx) {
		return again
	}
	take, give := fairShare(c.owner, c.partitions, group, c.choice(group, alone))
	for _, p := range c.follow(ctx, take, give, running) {
		if err := c.store.Release(call, c.owner, p); err != nil {
			c.storeFailed("giving the claim up failed; it is tried again", err, "partition", p)
		}
	}
	if !alone {
		again = min(again, c.limits.HandOver)
	}
	return again
}

// choice is what an owner knows of partitions besides who holds them. Others do not know it.
type choice struct {
	shunned map[int]bool // it could not subscribe to them: they are not taken
	orphans map[int]bool // nobody has held them for a lease, so they are shunned by those whose turn it is: they are taken
	adopted map[int]bool // taken as orphans: they are not given up for the sake of fairness
}

// fairShare says which partitions an owner should try to take, and which of its own it should give up, so that in the
// end the numbers that two owners hold differ by one at most. Every owner computes the same from the same group, but for
// its choice: that moves what one of them cannot drain to others, in exchange for what it can.
func fairShare(owner string, partitions int, group store.Group, choice choice) (take, give []int) {
	held := map[string][]int{}
	for _, o := range group.Owners {
		held[o] = nil
	}
	free := map[int]bool{}
	for p := range partitions {
		free[p] = true
	}
	for _, c := range group.Claims {
		held[c.Owner] = append(held[c.Owner], c.Partition)
		delete(free, c.Partition)
	}
	floor := partitions / len(held)
	ceiling := (partitions + len(held) - 1) / len(held)
	mine := held[owner]
	lacking := 0 // what the others need of the free ones first
	for o, has := range held {
		if o != owner {
			lacking += max(0, floor-len(has))
		}
	}
	wanted := max(floor-len(mine), min(ceiling-len(mine), len(free)-lacking))
	for _, p := range mine {
		if choice.shunned[p] {
			give = append(give, p)
		} else {
			take = append(take, p) // if its drain has ended, it begins again
		}
	}
	for _, p := range slices.Sorted(maps.Keys(free)) {
		switch {
		case choice.shunned[p]:
		case wanted > 0:
			take = append(take, p)
			wanted--
		case choice.orphans[p]:
			take = append(take, p)
		}
	}
	surplus := surplus(owner, held, floor, ceiling, len(free)) - len(give)
	for _, p := range slices.Backward(mine) {
		if surplus > 0 && !choice.adopted[p] && !choice.shunned[p] {
			give = append(give, p)
			take = slices.DeleteFunc(take, func(taken int) bool { return taken == p })
			surplus--
		}
	}
	return take, give
}

// surplus says how many partitions an owner should give up for those who have too few.
func surplus(owner string, held map[string][]int, floor, ceiling, free int) int {
	lacking := -free // free ones serve first
	for _, has := range held {
		lacking += max(0, floor-len(has))
	}
	owners := slices.SortedFunc(maps.Keys(held), func(a, b string) int {
		if len(held[a]) != len(held[b]) {
			return len(held[b]) - len(held[a])
		}
		if a < b {
			return -1
		}
		return 1
	})
	given := max(0, len(held[owner])-ceiling)
	for _, o := range owners { // those with the most give first
		over := max(0, len(held[o])-ceiling)
		lacking -= over
		if o != owner && lacking > 0 && len(held[o])-over > floor {
			lacking--
		} else if o == owner && lacking > 0 && len(held[o])-over > floor {
			return given + 1
		}
	}
	return given
}

package consumer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/drainmark/drainmark/store"
	"pgregory.net/rapid"
)

// TestSharesEvenly lets owners, one after the other in any order, do what fairShare says, from any start, until nothing
// changes. Then all partitions must be held, and the numbers differ by one at most.
func TestSharesEvenly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 16).Draw(t, "partitions")
		owners := make([]string, rapid.IntRange(1, 6).Draw(t, "owners"))
		for i := range owners {
			owners[i] = fmt.Sprint("owner-", i)
		}
		holder := map[int]string{}
		for p := range partitions {
			if n := rapid.IntRange(0, len(owners)).Draw(t, "holder"); n < len(owners) {
				holder[p] = owners[n]
			}
		}
		quiet := 0
		for step := 0; quiet < len(owners); step++ {
			if step > 200 {
				t.Fatalf("still moving after 200 steps: %v", holder)
			}
			if beat(owners[step%len(owners)], owners, partitions, holder) {
				quiet = 0
			} else {
				quiet++
			}
		}
		counts := map[string]int{}
		for _, o := range holder {
			counts[o]++
		}
		low, high := partitions, 0
		for _, o := range owners {
			low, high = min(low, counts[o]), max(high, counts[o])
		}
		if len(holder) != partitions || high-low > 1 {
			t.Fatalf("%d partitions, %d owners: ended with %v", partitions, len(owners), holder)
		}
	})
}

// beat does what one heartbeat of an owner does, and says whether anything changed.
func beat(owner string, owners []string, partitions int, holder map[int]string) (moved bool) {
	group := store.Group{Owners: slices.Sorted(slices.Values(owners))}
	for p := range partitions {
		if o := holder[p]; o != "" {
			group.Claims = append(group.Claims, store.Claim{Partition: p, Owner: o})
		}
	}
	take, give := fairShare(owner, partitions, group, choice{})
	for _, p := range give {
		if holder[p] == owner {
			delete(holder, p)
			moved = true
		}
	}
	for _, p := range take {
		if holder[p] == "" {
			holder[p] = owner
			moved = true
		}
	}
	return moved
}

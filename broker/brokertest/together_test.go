package brokertest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func TestMeeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting(3)
		var steps []string // of the holder of a meeting (one at a time)
		step := func(s string) func() { return func() { steps = append(steps, s) } }
		var running sync.WaitGroup
		for i, rounds := range []int{1, 2, 2} {
			running.Go(func() {
				defer m.leave()
				for round := range rounds {
					if i == 1 {
						synctest.Wait() // the others are there, or have left
						if len(steps) != 2*round {
							t.Errorf("before the last one comes, round %d: %q", round, steps)
						}
					}
					m.meet(step(fmt.Sprint("kill ", round)))
					m.meet(step(fmt.Sprint("revive ", round)))
				}
			})
		}
		running.Wait()
		if want := []string{"kill 0", "revive 0", "kill 1", "revive 1"}; !slices.Equal(steps, want) {
			t.Errorf("%q, want %q", steps, want)
		}
	})
}

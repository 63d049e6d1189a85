package simulation

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	schedules = flag.Int("schedules", 150, "how many schedules to play")
	firstSeed = flag.Uint64("seed", 1, "the first schedule's seed")
	kind      = flag.String("kind", "", "the kind of broker: replaying, uncounted, ordered or unordered; all of them if empty")
	rare      = flag.Bool("rare", false, "look for the planted fault too that shows in one schedule of a thousand")
	logged    = flag.Bool("logged", false, "print what the system logs")
)

// play plays one schedule in a bubble of its own.
func play(t *testing.T, seed uint64, kind Kind, bug Bug) (violations []string) {
	var logs io.Writer
	if *logged {
		logs = os.Stderr
	}
	synctest.Test(t, func(*testing.T) { violations = Run(seed, kind, bug, logs) })
	return violations
}

func TestSchedules(t *testing.T) {
	const workers = 4
	if !slices.Contains([]Kind{AnyKind, Replaying, Uncounted, Ordered, Unordered}, Kind(*kind)) {
		t.Fatalf("-kind %q: it is replaying, uncounted, ordered or unordered", *kind)
	}
	for n := range uint64(workers) {
		t.Run(fmt.Sprint("worker ", n), func(t *testing.T) {
			t.Parallel()
			for seed := *firstSeed + n; seed < *firstSeed+uint64(*schedules); seed += workers {
				for _, v := range play(t, seed, Kind(*kind), NoBug) {
					t.Errorf("%s\nreplay: go test ./test/simulation -run TestSchedules -schedules 1 -logged -kind %q -seed %d", v, *kind, seed)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestFindsBugs proves that the simulation can fail: with a bug planted, it finds a broken promise, on a broker of the
// kind on which the bug shows.
func TestFindsBugs(t *testing.T) {
	for bug, shows := range map[Bug]struct {
		kind     Kind
		promises string
	}{
		AckBeforeCommit:         {AnyKind, "P1 P5 P6"},
		CommitWithoutOwnerCheck: {AnyKind, "P1 P2 P4 P5 P6"},
		ProgressOutside:         {AnyKind, "P2"},
		BarrierWithoutEpoch:     {Unordered, "P5"},
		ForgetsWhatIsKept:       {Replaying, "P2 P3 P9 clear"},
		ClockFromStamps:         {Ordered, "P2 P9"},
		NoFlag:                  {Ordered, "wanted"},
		LowersAny:               {Ordered, "wanted"},
		ReadsOldFlag:            {Ordered, "wanted"},
		EffectRemembers:         {Replaying, "effect"},
		ErasesNothing:           {AnyKind, "removal"},
	} {
		if bug == ForgetsWhatIsKept && !*rare {
			continue // it takes minutes to be found: see make simulate
		}
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 2000; seed++ {
				for _, v := range play(t, seed, shows.kind, bug) {
					if promise, _, _ := strings.Cut(v, ":"); strings.Contains(shows.promises, promise) {
						t.Logf("seed %d: %s", seed, v)
						return
					}
				}
			}
			t.Errorf("2,000 schedules did not show that one of %s is broken", shows.promises)
		})
	}
}

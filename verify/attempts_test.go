package verify

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// appendsOf loads the appends of a run's history.
func appendsOf(t *testing.T, dir string) []history.Append {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h, err := history.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return h.Appends
}

// Each failed attempt is in the history with its true outcome, even if a later one was accepted.
func TestTheHistorySaysWhenAttemptsFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults
		failed, others func(*history.Append) []time.Duration
	}{
		"unknown": {faults{failAfter: 10, failAs: "504"}, unknownAt, refusedAt},
		"cut":     {faults{failAfter: 10, failAs: "cut"}, unknownAt, refusedAt},
		"refused": {faults{failBefore: 10}, refusedAt, unknownAt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			runAgainst(t, &fake{faults: c.faults}, func(config *Config) { config.Dir = dir })
			again := 0
			for _, a := range appendsOf(t, dir) {
				failed := c.failed(&a)
				if a.Outcome != history.Done || len(failed) != max(a.Attempts, 1)-1 || len(c.others(&a)) > 0 {
					t.Errorf("attempts failed at %v: %+v", failed, a)
				}
				if outside := func(at time.Duration) bool { return at <= a.Start || at >= a.End }; slices.ContainsFunc(failed, outside) {
					t.Errorf("attempts failed at %v, from %v to %v", failed, a.Start, a.End)
				}
				again += len(failed)
			}
			if again == 0 {
				t.Error("no attempt failed")
			}
		})
	}
}

func unknownAt(a *history.Append) []time.Duration { return a.UnknownAt }
func refusedAt(a *history.Append) []time.Duration { return a.RefusedAt }

// Attempts that the end of the run cuts off are unknown, but not because of the deployment.
func TestTheHistoryDoesNotSayThatAttemptsFailedWhichTheRunHasCutOff(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	f := &fake{faults: faults{posted: func(n int) {
		if n == 50 {
			cancel()
			<-over
		}
	}}}
	dir := t.TempDir()
	url := startFake(t, f)
	_, _ = Run(ctx, Config{URLs: []string{url}, Workload: Appends, Batch: 1, Messages: 100, Concurrency: 4, Timeout: time.Minute, Dir: dir})
	close(over)
	unknown := 0
	for _, a := range appendsOf(t, dir) {
		if a.Outcome == history.Unknown {
			unknown++
		}
		if len(a.UnknownAt) > 0 {
			t.Errorf("attempts failed at %v", a.UnknownAt)
		}
	}
	if unknown == 0 {
		t.Error("nothing was cut off")
	}
}

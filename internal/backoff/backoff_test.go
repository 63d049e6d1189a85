package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitsDoubleUpToTheLimitWithJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{First: 100 * time.Millisecond, Max: time.Second}
		for round := range 2 {
			for i, step := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
				step *= time.Millisecond
				start := time.Now()
				if err := b.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < step/2 || took > step {
					t.Errorf("round %d: wait %d took %s, not %s to %s", round, i, took, step/2, step)
				}
			}
			b.Reset()
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		var b Backoff
		start := time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

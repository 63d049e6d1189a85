// Package backoff waits between attempts: longer each time, with jitter, so that many who wait for the same thing do
// not come back together.
package backoff

import (
	"context"
	"time"
)

// Backoff counts attempts. The zero value waits from First to Max. It is for one goroutine.
type Backoff struct {
	First, Max time.Duration // of the wait before jitter, 50 ms and 5 s if zero
	attempts   int
}

// Wait waits between half and the whole of the current step, which doubles with every call, and returns early with
// the context's error when that ends.
func (b *Backoff) Wait(ctx context.Context) error {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Next returns how long the next wait is, and counts it.
func (b *Backoff) Next() time.Duration {
	first, limit := b.First, b.Max
	if first <= 0 {
		first = 50 * time.Millisecond
	}
	if limit <= 0 {
		limit = 5 * time.Second
	}
	step := min(first<<min(b.attempts, 20), limit)
	b.attempts++
	return step/2 + time.Duration(scramble(uint64(time.Now().UnixNano()))%uint64(step/2+1))
}

// scramble is the finalizer of SplitMix64. The jitter comes from the clock, which is as good as random between
// processes and makes a run under virtual time repeatable.
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Reset begins again with the first step: something has worked.
func (b *Backoff) Reset() { b.attempts = 0 }

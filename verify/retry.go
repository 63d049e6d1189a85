package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	backoffLeast = 20 * time.Millisecond
	backoffMost  = 2 * time.Second
	patienceMost = 5 * time.Second // what of a Retry-After is honoured
)

// backoff waits longer each time, up to backoffMost, and never for the same time as others.
type backoff struct{ next time.Duration }

// wait waits before the next try, at least for as long as the failed answer says, if it says so. It fails with the
// context's cause when that ends first.
func (b *backoff) wait(ctx context.Context, failure error) error {
	b.next = min(max(2*b.next, backoffLeast), backoffMost)
	least := b.next / 2
	var p *problem
	if errors.As(failure, &p) && p.retryAfter > 0 {
		least = min(p.retryAfter, patienceMost)
	}
	return pause(ctx, least+rand.N(b.next/2+1))
}

// pause waits, or fails with the context's cause when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// retry makes a call until it succeeds, cannot succeed, or ctx ends.
func (r *runner) retry(ctx context.Context, try func() error) error {
	for b := (backoff{}); ; {
		err := try()
		if err == nil || !worthRetrying(err) {
			return err
		}
		if over := b.wait(ctx, err); over != nil {
			return fmt.Errorf("%w; the last try: %w", over, err)
		}
		r.retries.Add(1)
	}
}

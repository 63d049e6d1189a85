package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	defaultLeast = 20 * time.Millisecond
	defaultMost  = 2 * time.Second
)

// Retry says how a call that failed is made again, where that is safe and may help. It waits longer each time, with
// jitter, and never for less than the server's Retry-After says. The call's context ends it in any case.
//
// That a request is made again with the token that has replaced a refused one is not a part of it, nor counted.
type Retry struct {
	Attempts int           // how many requests a call makes at most, 0 for any number, or for one if Elapsed is 0 too
	Elapsed  time.Duration // how long after its beginning a call makes another request, 0 for any time
	Least    time.Duration // the first pause, 20 ms if 0
	Most     time.Duration // the longest pause, unless Retry-After is longer, 2 s if 0
}

// DefaultRetry tries again for 30 seconds.
var DefaultRetry = Retry{Elapsed: 30 * time.Second}

// withDefaults fills in what is not set, and says what cannot be.
func (r Retry) withDefaults() (Retry, error) {
	if r.Attempts < 0 || r.Elapsed < 0 || r.Least < 0 || r.Most < 0 {
		return r, errors.New("client: nothing in Retry can be negative")
	}
	if r.Attempts == 0 && r.Elapsed == 0 {
		r.Attempts = 1
	}
	if r.Least == 0 {
		r.Least = defaultLeast
	}
	if r.Most == 0 {
		r.Most = max(defaultMost, r.Least)
	}
	if r.Most < r.Least {
		return r, errors.New("client: Retry.Most is less than Retry.Least")
	}
	return r, nil
}

// on says whether calls are made again at all.
func (r *Retry) on() bool { return r.Attempts != 1 }

// allows says whether there may be another request after so many, after a pause.
func (r *Retry) allows(attempts int, elapsed, pause time.Duration) bool {
	return (r.Attempts == 0 || attempts < r.Attempts) && (r.Elapsed == 0 || elapsed+pause <= r.Elapsed)
}

// pace is how long to pause: longer each time, and never for the same time as others.
type pace struct{ step, least, most time.Duration }

func (r *Retry) pace() pace { return pace{least: r.Least, most: r.Most} }

// next returns the next pause, which is at least as long as the server has asked for.
func (p *pace) next(atLeast time.Duration) time.Duration {
	p.step = min(max(2*p.step, p.least), p.most)
	return max(p.step/2, atLeast) + rand.N(p.step/2+1)
}

// reset begins again with the shortest pause: something has worked.
func (p *pace) reset() { p.step = 0 }

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

package backend

import (
	"context"
	"errors"
	"time"

	"github.com/drainmark/drainmark/broker"
)

const (
	// slowCheck is how often publishers are looked at whose batch is not confirmed.
	slowCheck = 500 * time.Millisecond
	// slowPing is how long the broker has to say that it takes nothing.
	slowPing = time.Second
)

// watchSlow, until ctx ends, answers requests at once that wait behind a batch that is not confirmed because the broker
// says that it takes nothing. A broker that is short of memory or disk may not read what was sent to it, and so neither
// confirm nor refuse it. New requests would wait in vain until their time is over.
func (b *Backend) watchSlow(ctx context.Context) {
	tick := time.NewTicker(slowCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var slow []*publisher
		for _, p := range b.publishers {
			if p.isSlow(time.Now()) {
				slow = append(slow, p)
			}
		}
		if len(slow) == 0 {
			continue
		}
		call, cancel := context.WithTimeout(ctx, slowPing)
		err := b.broker.Ping(call)
		cancel()
		if !errors.Is(err, broker.ErrFull) {
			continue
		}
		for _, p := range slow {
			if p.isSlow(time.Now()) { // still
				p.refuse(refusalOf(err))
			}
		}
	}
}

// isSlow says whether a batch has not been confirmed for some time.
func (p *publisher) isSlow(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.tried.began.IsZero() && now.Sub(p.tried.began) > slowCheck
}

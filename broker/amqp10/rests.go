package amqp10

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// rests knows which of RabbitMQ's queues may be used. RabbitMQ confirms that a queue is made, and what is published to it,
// before it has written down for good that this node has a member of it. A kill within that time brings the queue back
// empty. So nobody uses a queue before its process has known it for two seconds (ADR 0026). A queue with a message in it has
// rested: who put that there has waited. Its methods may be called concurrently.
type rests struct {
	lasts time.Duration

	mu    sync.Mutex
	until map[string]time.Time // of queues that have been seen, zero for one that has rested
}

// seen notes that a queue is there, whether it was made just now, and whether it has been used.
func (r *rests) seen(name string, made, used bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.until[name]
	switch {
	case used:
		r.until[name] = time.Time{}
	case made || !known:
		r.until[name] = time.Now().Add(r.lasts)
	}
}

// anew lets the rests that are not over begin anew, because other queues were made meanwhile: they are written down together.
func (r *rests) anew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, until := range r.until {
		if time.Now().Before(until) {
			r.until[name] = time.Now().Add(r.lasts)
		}
	}
}

func (r *rests) left(name string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(r.until[name])
}

// wait returns when the queue has rested. One that has not been seen needs none.
func (r *rests) wait(ctx context.Context, name string) error {
	for left := r.left(name); left > 0; left = r.left(name) {
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return fmt.Errorf("queue %s may have just been made, and rests: %w", name, ctx.Err())
		}
	}
	return nil
}

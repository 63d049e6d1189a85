package backend

import (
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/tracing"
)

// The last step of a traced request: a span from when the broker had confirmed its records until the tracker sees them in
// a reader's progress.

// mostFollowed is how many requests of a partition are followed at once. The oldest is forgotten for another one, and
// has no such span then.
const mostFollowed = 256

// shown is what is followed.
type shown struct {
	span      drainmark.Span
	origin    tracing.Origin
	confirmed time.Time
}

// origins returns the spans that the batch's requests come from.
func (b *batch) origins() (all tracing.Origins) {
	for _, part := range b.parts {
		all.Add(part.request.origin)
	}
	return all
}

// watchShown follows the traced requests of a batch of which everything is stored now.
func (p *publisher) watchShown(b *batch) {
	for _, part := range b.parts {
		r := part.request
		if r.origin.IsZero() || r.stored < len(r.records) {
			continue
		}
		span := drainmark.Span{Partition: p.partition, Producer: p.producer, First: r.first, Last: r.first + uint64(len(r.records)) - 1}
		p.follow(shown{span, r.origin, time.Now()})
	}
}

// follow tells the trace of a request when the progress holds its marks, which it may do already.
func (p *tracked) follow(s shown) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.progress.Holds(s.span) {
		s.tell(p.tracker.tracer, false)
		return
	}
	if len(p.followed) == mostFollowed {
		p.drop(p.followed[0])
		p.followed = slices.Delete(p.followed, 0, 1)
	}
	w := &waiter{span: s.span, shown: &s}
	p.followed = append(p.followed, w)
	p.push(w)
}

// unfollow forgets what is shown now.
func (p *tracked) unfollow(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.followed, w); i >= 0 {
		p.followed = slices.Delete(p.followed, i, i+1)
	}
}

// tell makes the span.
func (s *shown) tell(tracer *tracing.Tracer, rejected bool) {
	tracer.Shown(s.origin, s.span.Partition, s.span.String(), s.confirmed, rejected)
}

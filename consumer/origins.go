package consumer

import (
	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/tracing"
)

// origins returns the spans that a plan's records come from. Neighbours mostly share their headers.
func (d *drain) origins(p *plan) (all tracing.Origins) {
	if d.tracer == nil {
		return all
	}
	var before drainmark.Headers
	for i := range p.entries {
		r := p.entries[i].record
		if r == nil || r.Headers.IsZero() || r.Headers == before {
			continue
		}
		if before = r.Headers; all.IsFull() {
			break
		}
		parent, _ := r.Headers.Get(drainmark.TraceParent)
		state, _ := r.Headers.Get(drainmark.TraceState)
		all.Add(d.tracer.Parse(parent, state))
	}
	return all
}

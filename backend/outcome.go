package backend

import (
	"errors"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// isCertain says whether a batch was certainly not stored.
func isCertain(err error) bool {
	return errors.Is(err, broker.ErrFull) || errors.Is(err, broker.ErrNotSent) || errors.Is(err, errNotRaised)
}

// refusalOf is the error for requests that are in no batch when the broker has said that it takes nothing, nil if
// trying again may help.
func refusalOf(err error) error {
	switch {
	case errors.Is(err, broker.ErrDiskFull):
		return drainmark.Errorf(drainmark.KindDiskFull, "nothing more is accepted until somebody has made room: %w", err)
	case errors.Is(err, broker.ErrFull):
		return drainmark.Errorf(drainmark.KindBacklogFull, "nothing more is accepted now: %w", err)
	case errors.Is(err, broker.ErrMisconfigured):
		return drainmark.Errorf(drainmark.KindMisconfigured, "%w", err)
	}
	return nil
}

// confirm tells the waiting callers that their records are stored.
func (p *publisher) confirm(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sentAt = time.Now()
	for _, part := range b.parts {
		r := part.request
		r.stored += part.records
		if r.stored == len(r.records) {
			p.finish(r, nil)
		}
	}
}

// finish ends a request that is no longer in the queue. Called with mu held.
func (p *publisher) finish(r *request, err error) {
	p.budget.give(r.bytes)
	r.err = err
	close(r.done)
}

// takeApart puts the records of a batch that was certainly not stored back into the queue, with no sequence. It does
// nothing and returns false if a receipt of one of them has been handed out: the batch must then be stored as it is.
func (p *publisher) takeApart(b *batch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range b.parts {
		if part.request.handedOut {
			return false
		}
	}
	for _, part := range slices.Backward(b.parts) {
		r := part.request
		if len(p.waiting) == 0 || p.waiting[0] != r { // else it was only partly taken, and still heads the queue
			p.waiting = slices.Insert(p.waiting, 0, r)
		}
		r.taken -= part.records
		if r.isMarker() && p.marker == nil && r.taken == 0 {
			p.marker = r
		}
	}
	p.next = b.first
	return true
}

// refuse fails the requests that are in no batch, and new ones, because the broker takes nothing. A nil error ends
// that.
func (p *publisher) refuse(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = why
	p.failWaiting(why, true)
}

// turnAway fails what is in no batch now, unless why is nil, and nothing that comes later. If there is no room, urgent
// requests fail only if the refused batch was urgent. Otherwise they are tried by themselves next.
func (p *publisher) turnAway(why error, urgent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = nil
	kind := drainmark.KindOf(why)
	p.failWaiting(why, urgent || kind != drainmark.KindBacklogFull && kind != drainmark.KindDiskFull)
}

// failWaiting fails what is in no batch, unless why is nil, with what is urgent or without. Called with mu held.
func (p *publisher) failWaiting(why error, urgent bool) {
	if why == nil {
		return
	}
	var kept []*request
	for _, r := range p.waiting {
		switch {
		case r.handedOut || r.taken > r.stored, // its sequences are given away, or partly in flight
			!urgent && r.isUrgent():
			kept = append(kept, r)
		case r.stored > 0:
			p.finish(r, drainmark.Errorf(drainmark.KindOutcomeUnknown, "the first %d of %d records are stored, the others are not: %w", r.stored, len(r.records), why))
		default:
			p.finish(r, why)
		}
	}
	p.waiting = kept
	if !slices.Contains(kept, p.marker) {
		p.marker = nil
	}
}

// isBusy says whether anything waits to be published, or for its confirmation.
func (p *publisher) isBusy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying != nil || len(p.waiting) > 0 || len(p.markers) > 0
}

// isFull says whether the broker had no room for what was tried last, and is not urgent.
func (p *publisher) isFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Is(p.tried.err, broker.ErrFull)
}

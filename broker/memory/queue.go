package memory

import (
	"cmp"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// queue forgets what is acknowledged. One receiver at a time has it, the one that was opened last.
type queue struct {
	ordered bool     // batches given back go to the front, otherwise to the back
	waiting []*entry // in the order in which they will be delivered
	holder  *receiver
	stored  uint64 // how many there have ever been
	tags    uint64 // the newest delivery's
}

func (q *queue) put(e *entry) {
	q.stored++
	e.index = q.stored
	q.waiting = append(q.waiting, e)
}

func (q *queue) unacknowledged() int {
	n := len(q.waiting)
	if q.holder != nil {
		n += len(q.holder.held)
	}
	return n
}

func (q *queue) open(r *receiver, _ drainmark.Cursor, _ bool) {
	if q.holder != nil {
		q.holder.end(errTaken)
	}
	q.holder = r
}

func (q *queue) take(r *receiver, limit int) []broker.Delivery {
	taken := q.waiting[:min(max(limit, 0), len(q.waiting))]
	q.waiting = q.waiting[len(taken):]
	out := make([]broker.Delivery, len(taken))
	for i, e := range taken {
		q.tags++
		e.tag = q.tags
		out[i] = e.delivery()
	}
	r.held = append(r.held, taken...)
	return out
}

func (q *queue) ack(r *receiver, through broker.Delivery) {
	n := 0
	for n < len(r.held) && r.held[n].tag <= through.Tag {
		n++
	}
	r.held = r.held[n:]
}

func (q *queue) release(r *receiver) {
	back := slices.Clone(r.held)
	r.held = nil
	q.holder = nil
	slices.SortFunc(back, func(a, b *entry) int { return cmp.Compare(a.index, b.index) })
	if q.ordered {
		q.waiting = append(back, q.waiting...)
	} else {
		q.waiting = append(slices.Clone(q.waiting), back...)
	}
}

func (q *queue) purge() { q.waiting = nil }

func (q *queue) trim() {}

// uncounted knows how many batches nobody holds.
func (q *queue) uncounted(drainmark.Progress) broker.Backlog {
	return broker.Backlog{Ready: &broker.Count{Records: uint64(len(q.waiting))}}
}

func (q *queue) keeps(drainmark.ProducerID) bool { return false }

// backlog counts a record that is both held and ready, because it was published twice, as held.
func (q *queue) backlog(p drainmark.Progress) broker.Backlog {
	all, held := records{}, records{}
	entries := q.waiting
	if q.holder != nil {
		entries = slices.Concat(q.holder.held, q.waiting)
		for _, e := range q.holder.held {
			held.add(e)
		}
	}
	for _, e := range entries {
		all.add(e)
	}
	pending, inFlight := all.missing(p), held.missing(p)
	return broker.Backlog{
		Pending:  broker.Count{Records: pending, Exact: true},
		Ready:    &broker.Count{Records: pending - inFlight, Exact: true},
		InFlight: &broker.Count{Records: inFlight, Exact: true},
		OldestAt: oldest(entries, p),
	}
}

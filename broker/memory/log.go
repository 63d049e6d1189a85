package memory

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// log keeps every batch for ever. Any number of receivers read it, each at its own place.
type log struct {
	entries []*entry // the i-th has the index i+1
	stored  records
	acked   uint64 // the highest acknowledged index
	purged  uint64 // entries up to this index are no longer delivered
}

func newLog() *log { return &log{stored: records{}} }

func (l *log) put(e *entry) {
	l.entries = append(l.entries, e)
	e.index = uint64(len(l.entries))
	e.tag = e.index
	l.stored.add(e)
}

func (l *log) unacknowledged() int { return len(l.entries) - int(l.acked) }

// open begins behind the cursor's index, or at the beginning if there is no such index or it is read again.
func (l *log) open(r *receiver, from drainmark.Cursor, again bool) {
	index := l.index(from)
	r.read, r.next = index, index+1
	if again {
		r.next = 1
	}
}

// index returns the cursor's, 0 if it is not known here.
func (l *log) index(from drainmark.Cursor) uint64 {
	index, err := strconv.ParseUint(string(from), 10, 64)
	if err != nil || index > uint64(len(l.entries)) {
		return 0
	}
	return index
}

func (l *log) take(r *receiver, most int) []broker.Delivery {
	var out []broker.Delivery
	if unread := max(r.next, r.read+1); unread <= l.purged {
		out = append(out, broker.Delivery{
			Lost:   fmt.Sprintf("the batches %d to %d were purged", unread, l.purged),
			Cursor: cursorAt(l.purged), Tag: l.purged,
		})
	}
	r.next = max(r.next, l.purged+1)
	for ; r.next <= uint64(len(l.entries)) && len(out) < most; r.next++ {
		d := l.entries[r.next-1].delivery()
		d.Cursor = cursorAt(max(r.next, r.read))
		out = append(out, d)
	}
	return out
}

func (l *log) ack(_ *receiver, through broker.Delivery) {
	if through.Tag <= uint64(len(l.entries)) {
		l.acked = max(l.acked, through.Tag)
	}
}

func (l *log) release(*receiver) {}

func (l *log) purge() { l.purged = uint64(len(l.entries)) }

// trim also ends what is told of them: a producer that has nothing left is as if it had never been.
func (l *log) trim() {
	l.purged = max(l.purged, l.acked)
	l.stored = records{}
	for _, e := range l.entries[l.purged:] {
		l.stored.add(e)
	}
}

// uncounted knows how many batches are behind the cursor, and so only of none how many records they have.
func (l *log) uncounted(p drainmark.Progress) broker.Backlog {
	behind := uint64(len(l.entries)) - max(l.index(p.Cursor), l.purged)
	return broker.Backlog{Pending: broker.Count{Exact: behind == 0}, Ready: &broker.Count{Records: behind}}
}

func (l *log) keeps(producer drainmark.ProducerID) bool {
	return slices.ContainsFunc(l.entries[l.purged:], func(e *entry) bool { return e.First > 0 && e.Producer == producer })
}

func (l *log) backlog(p drainmark.Progress) broker.Backlog {
	b := broker.Backlog{Pending: broker.Count{Records: l.stored.missing(p), Exact: true}}
	if b.Pending.Records > 0 {
		b.OldestAt = oldest(l.entries, p)
	}
	return b
}

// records are the sequences of each producer that some batches hold. A sequence counts once, however often it is there.
type records map[drainmark.ProducerID]drainmark.Ranges

// add leaves out what is not a batch: a message without a header.
func (s records) add(e *entry) {
	if e.First == 0 {
		return
	}
	s[e.Producer] = s[e.Producer].Add(e.First, e.Last)
}

// missing counts the records that the progress does not hold.
func (s records) missing(p drainmark.Progress) uint64 {
	var n uint64
	for producer, ranges := range s {
		done := p.Producers[producer].Done
		for _, r := range ranges {
			for _, m := range done.Minus(r.First, r.Last) {
				n += m.Last - m.First + 1
			}
		}
	}
	return n
}

// oldest returns the earliest time at which an entry was stored that the progress does not hold whole, or zero.
func oldest(entries []*entry, p drainmark.Progress) time.Time {
	var at time.Time
	for _, e := range entries {
		if e.First > 0 && !p.Holds(e.Span()) && (at.IsZero() || e.storedAt.Before(at)) {
			at = e.storedAt
		}
	}
	return at
}

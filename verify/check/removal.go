package check

import (
	"fmt"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// removing is what the log of the client that removes must be: it is the only one that writes there, and it waits for each
// of its calls.
type removing struct {
	name     string
	doubtful bool     // nobody knows any more
	base     uint64   // the position of what stands before kept
	kept     []uint64 // the numbers of the messages that there are, 0 for an erased one
	deleted  bool     // also before anything was appended
}

// checkRemovals checks that trims, erasures and deletions do what they say and nothing else: positions go on behind each of
// them, and none comes back.
func (v *view) checkRemovals() Promise {
	p, pages, removals := newPromise("removal", "trims, erasures and deletions"), 0, 0
	logs := map[string]*removing{}
	for i := range v.Removals {
		d := &v.Removals[i]
		l := logs[d.Log]
		if l == nil {
			l = &removing{name: d.Log, deleted: true} // a new one: its name has the run's in it
			logs[d.Log] = l
		}
		switch {
		case l.doubtful || d.Outcome == history.Refused:
		case d.Kind == "read":
			pages++
			l.look(p, d)
		case d.Outcome != history.Done || d.Settled != "persisted":
			l.doubtful = true
		default:
			removals++
			l.apply(d)
		}
	}
	if p.Violations == 0 && pages == 0 {
		return p.rested("no page was read behind a trim, an erasure or a deletion")
	}
	return p.judged(fmt.Sprintf("%s pages behind %s appends, trims, erasures and deletions", format.Thousands(pages), format.Thousands(removals)), "")
}

// apply does what a call has done.
func (l *removing) apply(d *history.Removal) {
	switch d.Kind {
	case "append":
		l.kept, l.deleted = append(l.kept, d.Number), false
	case "trim":
		if d.Position > l.base {
			n := min(d.Position-l.base, uint64(len(l.kept)))
			l.base, l.kept = l.base+n, l.kept[n:]
		}
	case "erase":
		if d.Position > l.base && d.Position-l.base <= uint64(len(l.kept)) {
			l.kept[d.Position-l.base-1] = 0
		}
	case "delete":
		l.base += uint64(len(l.kept))
		l.kept, l.deleted = nil, true
	}
}

// look compares a page with what it must be.
func (l *removing) look(p *Promise, d *history.Removal) {
	position, expected, found := l.differs(d)
	if expected == "" {
		return
	}
	p.broken(func() Violation {
		return Violation{Log: l.name, Position: position, At: d.End.Seconds(), Expected: expected, Found: found}
	})
	l.doubtful = true // what follows from it is the same fault
}

// differs says in what a page differs from what it must be, and "" if it does not.
func (l *removing) differs(d *history.Removal) (position uint64, expected, found string) {
	last := l.base + uint64(len(l.kept))
	switch {
	case l.deleted != d.Gone:
		return last, said(l.deleted, "no such log", "a log") + ", going by what was done to it", said(d.Gone, "no such log", "a log")
	case d.Gone:
		return 0, "", ""
	case d.Last != last:
		return last, fmt.Sprintf("the last position %d, for positions go on behind what was removed", last), fmt.Sprintf("the last position %d", d.Last)
	case d.First != l.base+1 && d.First != 0: // an older backend does not say it
		return l.base + 1, fmt.Sprintf("a log that begins at %d", l.base+1), fmt.Sprintf("one that begins at %d", d.First)
	case d.Count != uint64(len(l.kept)) || len(d.Shown) != len(l.kept):
		return l.base + 1, fmt.Sprintf("%d messages", len(l.kept)), fmt.Sprintf("%d messages, and the count %d", len(d.Shown), d.Count)
	}
	for i, s := range d.Shown {
		want := history.Shown{Position: l.base + 1 + uint64(i), Number: l.kept[i]}
		if want.Number == 0 {
			want.Erased, want.Empty = true, true
		}
		if s != want {
			return want.Position, shown(want), shown(s)
		}
	}
	return 0, "", ""
}

func said(yes bool, one, other string) string {
	if yes {
		return one
	}
	return other
}

// shown says what a message is.
func shown(s history.Shown) string {
	switch {
	case s.Erased && s.Empty:
		return fmt.Sprintf("an erased message at position %d", s.Position)
	case s.Erased:
		return fmt.Sprintf("message %d at position %d, which says that it is erased", s.Number, s.Position)
	case s.Number == 0:
		return fmt.Sprintf("a message that cannot be told at position %d", s.Position)
	}
	return fmt.Sprintf("message %d at position %d", s.Number, s.Position)
}

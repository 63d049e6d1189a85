package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// cut is what a clear separates, as far as the clients know.
type cut struct {
	clear *history.Clear
	front uint64 // the highest position of what had been answered when the clear was sent: all up to it must go
	back  uint64 // the lowest of what was sent after it was answered, 0 if nothing is known
}

// checkClear checks that a clear removes all that precedes it. (That it removes nothing else is P1's matter.) A state
// must be without it if it has something that was sent after the clear's answer, or is behind a barrier that was.
func (v *view) checkClear() Promise {
	p, judged, cleared := newPromise("clear", "a clear removes what precedes it"), 0, 0
	for i := range v.logs {
		l := &v.logs[i]
		v.checkBegan(p, l)
		if cuts := v.cuts(l); len(cuts) > 0 {
			cleared += len(cuts)
			judged += v.checkCuts(p, l, cuts)
		}
	}
	switch {
	case p.Violations > 0:
	case cleared == 0:
		return p.rested("no clear was done while the run went on")
	case judged == 0:
		return p.judged("", "no page was read that a clear must have been done before")
	}
	return p.judged(fmt.Sprintf("%s pages behind %s clears", format.Thousands(judged), format.Thousands(cleared)), "")
}

// checkBegan checks the clear that the run began with: nothing from before it may be shown. Messages further behind are
// somebody else's.
func (v *view) checkBegan(p *Promise, l *logView) {
	b := l.Began
	if b == nil || b.Shown == 0 && b.Count == 0 || b.Shown > b.Before+1 {
		return
	}
	p.broken(func() Violation {
		found := fmt.Sprintf("no messages, but the count %d", b.Count)
		if b.Shown != 0 {
			found = fmt.Sprintf("a message from before it, and the count %d", b.Count)
		}
		return l.of(history.Nobody, b.Shown, 0, "an empty log behind the clear that the run began with", found)
	})
}

// cuts returns what the log's clears separate.
func (v *view) cuts(l *logView) (all []cut) {
	for _, c := range l.clears {
		group, known := v.group(&c.Call)
		if t := l.groups[group]; c.Outcome == history.Done && c.Settled == "persisted" && known && t != nil {
			all = append(all, cut{c.Clear, t.before(c.Start).top, t.lowAfter(c.End)})
		}
	}
	return all
}

// checkCuts checks all pages of a log.
func (v *view) checkCuts(p *Promise, l *logView, cuts []cut) (judged int) {
	byBack := raised(cuts, func(c cut) uint64 { return c.back })
	byEnd := raised(cuts, func(c cut) uint64 { return uint64(c.clear.End) })
	for i := range v.Reads {
		r := &v.Reads[i]
		if r.Log != l.index || r.Outcome != history.Done || r.Tail || r.Gap {
			continue
		}
		must := below(byBack, r.Last+1)
		if b := v.barrierOf(r); b != nil {
			if other := below(byEnd, uint64(b.Start)); must == nil || other != nil && other.front > must.front {
				must = other
			}
		}
		if must == nil {
			continue
		}
		judged++
		if r.N > 0 && r.From <= must.front {
			p.broken(func() Violation {
				m := l.At(r.From).Message
				return l.of(m, r.From, r.End, fmt.Sprintf("nothing up to position %d: that was accepted before the clear that was sent at %s and done",
					must.front, seconds(must.clear.Start)), fmt.Sprintf("a page that begins with %s", name(m)))
			})
		}
	}
	return judged
}

// ranked is a cut with what it is sorted by. Its cut is the one with the highest front of all up to it.
type ranked struct {
	by uint64
	*cut
}

// raised sorts cuts. Those at 0 are not known.
func raised(cuts []cut, by func(cut) uint64) (all []ranked) {
	for i := range cuts {
		if at := by(cuts[i]); at > 0 {
			all = append(all, ranked{at, &cuts[i]})
		}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Compare(a.by, b.by) })
	for i := 1; i < len(all); i++ {
		if all[i-1].front > all[i].front {
			all[i].cut = all[i-1].cut
		}
	}
	return all
}

// below returns the cut with the highest front of those whose rank is below at, or nil.
func below(all []ranked, at uint64) *cut {
	i, _ := slices.BinarySearchFunc(all, at, func(r ranked, at uint64) int { return cmp.Compare(r.by, at) })
	if i == 0 {
		return nil
	}
	return all[i-1].cut
}

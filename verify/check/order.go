package check

import (
	"cmp"
	"fmt"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// passed is what checkOrder remembers of the messages of one group that it has walked past.
type passed struct {
	latest *history.Append // the one that was sent last of all
	which  history.Message // and its message
	newest []uint64        // of each client: the highest number
}

// checkOrder checks P3: a message that was answered before another was sent stands before it, whoever sent the two, and
// the messages of one request stand in their order.
func (v *view) checkOrder() Promise {
	p, checked := newPromise("P3", "order"), 0
	for i := range v.logs {
		checked += v.checkLogOrder(p, &v.logs[i])
	}
	v.checkRowsOrder(p)
	_, notThere := v.rowsRead()
	missing := cmp.Or(v.notRead(), notThere)
	if checked == 0 {
		missing = cmp.Or(missing, "no message was seen in any log")
	}
	among := ""
	if !v.Run.Ordered {
		among = ", among those of each backend"
	}
	return p.judged(fmt.Sprintf("%s messages of %s clients%s", format.Thousands(checked), format.Thousands(v.Run.Clients), among), missing)
}

// checkLogOrder walks through a log, and needs to remember only the append that was sent last of all so far: if
// anything was sent after the answer to the one at hand, that was. A second copy, and what should not be there at all,
// is P2's matter.
func (v *view) checkLogOrder(p *Promise, l *logView) (checked int) {
	groups := map[string]*passed{}
	lines := make(map[*history.Append]uint64) // of requests of many: the highest number so far
	for at := range l.Places {
		s, position := &l.Places[at], l.Base+1+uint64(at)
		if !s.Known || s.Message == history.Nobody || v.place(s.Message) != position {
			continue
		}
		a := v.AppendOf(s.Message)
		if a == nil || a.Log != l.index || !expected(a) {
			continue
		}
		checked++
		if a.Count > 1 {
			if s.Message.Number < lines[a] {
				v.misplaced(p, l, s, position, history.Message{Client: a.Client, Number: lines[a]}, "which is a later message of the same request")
			}
			lines[a] = max(lines[a], s.Message.Number)
		}
		name, known := v.group(&a.Call)
		if !known {
			continue
		}
		if groups[name] == nil {
			groups[name] = &passed{newest: make([]uint64, v.Run.Clients)}
		}
		v.pass(p, l, s, position, a, groups[name])
	}
	return checked
}

// pass walks past one message.
func (v *view) pass(p *Promise, l *logView, s *history.Place, position uint64, a *history.Append, before *passed) {
	m := s.Message
	newest := &before.newest[m.Client]
	if a.Outcome == history.Done {
		switch {
		case before.latest != nil && a.End < before.latest.Start:
			v.misplaced(p, l, s, position, before.which, fmt.Sprintf("which was sent at %s, when this one had been answered at %s",
				seconds(before.latest.Start), seconds(a.End)))
		case *newest >= a.First+uint64(a.Count):
			v.misplaced(p, l, s, position, history.Message{Client: m.Client, Number: *newest}, "which the same client sent afterwards")
		}
	}
	if before.latest == nil || a.Start > before.latest.Start {
		before.latest, before.which = a, m
	}
	*newest = max(*newest, m.Number)
}

func (v *view) misplaced(p *Promise, l *logView, s *history.Place, position uint64, other history.Message, why string) {
	p.broken(func() Violation {
		return l.of(s.Message, position, s.At, fmt.Sprintf("before %s, %s", name(other), why),
			fmt.Sprintf("behind it: that one is at position %d", v.place(other)))
	})
}

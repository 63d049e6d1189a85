package check

import (
	"cmp"
	"fmt"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// checkDurable checks P1: everything that was accepted is in its log, as it was sent, unless a clear may have removed
// it or it is a dead letter. An unknown append whose receipt said persisted was accepted too.
func (v *view) checkDurable() Promise {
	p, accepted := newPromise("P1", "accepted is durable"), 0
	lost := make([]int, len(v.logs)) // reported one by one
	for i := range v.Appends {
		if a := &v.Appends[i]; v.mustBeThere(a) {
			accepted += a.Count
			lost[a.Log] += v.checkPresent(p, a)
		}
	}
	for i := range v.logs {
		l := &v.logs[i]
		checkIntact(p, l)
		if l.read() {
			v.checkCount(p, l, lost[i])
		}
	}
	v.checkRowsThere(p)
	inTable, notThere := v.rowsRead()
	missing := cmp.Or(v.notRead(), notThere)
	if accepted == 0 {
		missing = cmp.Or(missing, "nothing was accepted")
	}
	return p.judged(fmt.Sprintf("%s accepted messages in %s%s", format.Thousands(accepted), logs(len(v.logs)), inTable), missing)
}

// mustBeThere says whether an append's messages must be in the final readings of its log.
func (v *view) mustBeThere(a *history.Append) bool {
	l := &v.logs[a.Log]
	switch {
	case !expected(a) || !l.read():
		return false
	case a.Outcome == history.Done:
		return a.End < l.barrier.Start
	}
	return a.Settled == "persisted" && a.SettledBehind <= l.readings[len(l.readings)-1].begun
}

// checkPresent checks that an append's messages are in its log, and returns how many have no position there.
func (v *view) checkPresent(p *Promise, a *history.Append) (lost int) {
	l, excused := &v.logs[a.Log], v.excused(a)
	why := "in the log, for it was accepted"
	if a.Outcome != history.Done {
		why = "in the log, for its receipt said persisted"
	}
	for m := range messages(a) {
		position := v.place(m)
		found := ""
		switch {
		case position == 0 && (v.letters[m] || hopeless(a, m)):
			lost++ // P9 judges it
		case position == 0 && !excused:
			found = "not in the log, and not a dead letter"
			lost++
		case position > l.last:
			found = fmt.Sprintf("gone again: it was at position %d, and the log now ends at %d", position, l.last)
			lost++
		case position != 0 && position < l.from && !excused:
			found = fmt.Sprintf("gone again: it was at position %d, the log now begins at %d, and every clear before had been answered "+
				"when it was sent", position, l.from)
		}
		if found != "" {
			p.broken(func() Violation { return l.of(m, position, a.End, why, found) })
		}
	}
	return lost
}

// checkIntact checks that the messages in a log are as they were sent.
func checkIntact(p *Promise, l *logView) {
	for i := range l.Places {
		if s := &l.Places[i]; s.Known && s.Damaged {
			p.broken(func() Violation {
				return l.of(s.Message, l.Base+1+uint64(i), s.At, "the body, content type and headers that were sent", cmp.Or(s.Fault, "something else"))
			})
		}
	}
}

// checkCount checks that a log has had a position for every accepted message. Positions are never given back, so that a
// clear does not excuse what is missing here. lost is what is known to be missing.
func (v *view) checkCount(p *Promise, l *logView, lost int) {
	accepted := 0
	for i := range v.Appends {
		if a := &v.Appends[i]; a.Log == l.index && a.Outcome == history.Done && v.mustBeThere(a) {
			accepted += a.Count
		}
	}
	if had := l.had() - l.strange; had+lost+l.unnamed < accepted {
		p.broken(func() Violation {
			return l.of(history.Nobody, l.last, v.end(), fmt.Sprintf("positions for %s accepted messages behind position %d", format.Thousands(accepted), l.Base),
				fmt.Sprintf("positions for %s at most: the log has had positions up to %d, and %s of them hold something else",
					format.Thousands(had+lost), l.last, format.Thousands(l.strange)))
		})
	}
}

// had is how many positions the log has had since the run began.
func (l *logView) had() int {
	if l.last <= l.Base {
		return 0
	}
	return int(l.last - l.Base)
}

// checkExactlyOnce checks P2: nothing is in a log twice, or in another one than it was sent to, and nothing is that was
// refused or had to be rejected.
func (v *view) checkExactlyOnce() Promise {
	p, seen := newPromise("P2", "exactly once, in effect"), 0
	for i := range v.logs {
		l := &v.logs[i]
		for at := range l.Places {
			if s := &l.Places[at]; s.Known && s.Message != history.Nobody {
				seen++
				v.checkBelongs(p, l, s, l.Base+1+uint64(at))
			}
		}
		v.checkAgain(p, l)
		v.checkNotTooMany(p, l)
	}
	v.checkRowsOnce(p)
	_, notThere := v.rowsRead()
	missing := cmp.Or(v.notRead(), notThere)
	if seen == 0 {
		missing = cmp.Or(missing, "no message was seen in any log")
	}
	return p.judged(fmt.Sprintf("%s messages seen; %s requests had been sent again, %s of them after they were accepted", format.Thousands(seen),
		format.Thousands(v.countAppends().Retries+v.Resends), format.Thousands(v.Resends)), missing)
}

// checkBelongs checks that a message may be in the log in which it is.
func (v *view) checkBelongs(p *Promise, l *logView, s *history.Place, position uint64) {
	a, expected := v.AppendOf(s.Message), ""
	switch {
	case a == nil && v.End == nil:
		return // its append was on its way when the run was broken off
	case a == nil:
		expected = "not in the log, for nobody has sent it"
	case a.Log != l.index:
		expected = fmt.Sprintf("in the log %s, for it was sent there", v.logs[a.Log].Name)
	case a.Outcome == history.Refused:
		expected = "not in the log, for every answer said that nothing was done"
	case a.Conflicts:
		expected = "not in the log, for its idempotency key was another message's"
	case hopeless(a, s.Message):
		expected = "not in the log, for the store refuses it"
	default:
		return
	}
	p.broken(func() Violation { return l.of(s.Message, position, s.At, expected, "in the log "+l.Name) })
}

// checkAgain checks that no message has a second position. One whose first position came to mean something else has
// moved, which is P4's matter.
func (v *view) checkAgain(p *Promise, l *logView) {
	for _, again := range l.Again {
		first := v.PositionOf(again.Message)
		if l.changed(first) {
			continue
		}
		p.broken(func() Violation {
			return l.of(again.Message, again.Position, l.At(again.Position).At, fmt.Sprintf("only at position %d", first), "there once more")
		})
	}
}

// checkNotTooMany checks that a log has had no more positions than there were messages that could take them, whether or
// not anybody saw what was at them before a clear. If somebody else wrote, that is not known.
func (v *view) checkNotTooMany(p *Promise, l *logView) {
	sent := l.all.sentBefore(never)
	if had := l.had() - l.strange; l.read() && len(l.foreign) == 0 && had > sent {
		p.broken(func() Violation {
			return l.of(history.Nobody, l.last, v.end(), fmt.Sprintf("at most %s positions behind position %d, for that is how many messages "+
				"were sent and not refused", format.Thousands(sent), l.Base), format.Thousands(had))
		})
	}
}

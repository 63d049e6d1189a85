package check

import (
	"fmt"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// checkAccounted checks P9: a message that can never be persisted is a dead letter, and its receipt says rejected. A
// receipt that says so tells the truth. Nothing else is a dead letter, because everything else that the run sends can
// be persisted.
func (v *view) checkAccounted() Promise {
	p, conflicting, receipts := newPromise("P9", "dead letters account for the rest"), 0, 0
	for i := range v.Appends {
		switch a := &v.Appends[i]; {
		case (a.Conflicts || len(a.Unfit) > 0) && a.Outcome == history.Done:
			conflicting++
			v.checkRejected(p, a)
		case a.Settled == "rejected":
			receipts++
			v.checkReceipt(p, a)
		}
	}
	judged := map[history.Message]bool{} // a listing that was begun again names some twice
	for _, letter := range v.Letters {
		if m, err := history.ParseMessage(letter.Message); err == nil && !judged[m] {
			judged[m] = true
			v.checkLetter(p, m, letter.Reason)
		}
	}
	v.checkRowsOfLetters(p)
	switch {
	case conflicting == 0 && receipts == 0 && len(v.Letters) == 0:
		return p.rested("nothing had to be rejected, and nothing was")
	case !v.complete():
		return p.judged("", "the run was broken off before all dead letters were listed")
	}
	return p.judged(fmt.Sprintf("%s appends that had to be rejected, and %s dead letters", format.Thousands(conflicting), format.Thousands(len(v.Letters))), "")
}

// checkRejected checks an append that went with another message's idempotency key, or has messages that the store
// refuses. P2 judges the messages in a log.
func (v *view) checkRejected(p *Promise, a *history.Append) {
	l, why := &v.logs[a.Log], "its idempotency key was another message's"
	if !a.Conflicts {
		why = "the store refuses it"
	}
	for m := range messages(a) {
		if !hopeless(a, m) || v.PositionOf(m) != 0 {
			continue
		}
		if a.Settled != "" && a.Settled != "rejected" {
			p.broken(func() Violation {
				return l.of(m, 0, a.End, "a receipt that says rejected, for "+why, "it says "+a.Settled)
			})
		}
		if v.complete() && !v.letters[m] && l.unnamed == 0 {
			p.broken(func() Violation {
				return l.of(m, 0, a.End, "among the dead letters, for it was accepted, and "+why, "in no log, and not a dead letter")
			})
		}
	}
}

// checkReceipt checks an append whose receipt said rejected: one of its messages at least is a dead letter, and so they
// are not all in the log. If it was sent more than once the receipt may be another attempt's than the one that is in the
// log. One in a log that had to be rejected is P2's matter.
func (v *view) checkReceipt(p *Promise, a *history.Append) {
	l, first, placed, letters := &v.logs[a.Log], history.Message{Client: a.Client, Number: a.First}, 0, 0
	for m := range messages(a) {
		if v.place(m) != 0 {
			placed++
		}
		if v.letters[m] {
			letters++
		}
	}
	switch {
	case placed == a.Count && (a.Conflicts || a.Attempts > 1 || letters > 0): // checkLetter finds messages that are in both
	case placed == a.Count:
		p.broken(func() Violation {
			return l.of(first, v.place(first), a.End, "not in the log, for its receipt said rejected", "in the log, and nothing of it a dead letter")
		})
	case letters == 0 && l.unnamed == 0 && v.complete():
		p.broken(func() Violation {
			return l.of(first, 0, a.End, "among the dead letters, for its receipt said rejected", "nothing of it a dead letter")
		})
	}
}

// checkLetter checks that a message may be a dead letter: one that had to be rejected, and is in no log.
func (v *view) checkLetter(p *Promise, m history.Message, reason string) {
	a := v.AppendOf(m)
	if m == history.Nobody || a == nil {
		return // nothing is known about it
	}
	l, position, at, expected, found := &v.logs[a.Log], v.place(m), a.End, "", "a dead letter"
	switch {
	case a.Outcome == history.Refused:
		expected = "not a dead letter, for every answer said that nothing was done"
	case hopeless(a, m):
		return // as it must be, or P2's matter
	case position != 0:
		expected, found, at = "in the log, and not a dead letter", "both", l.At(position).At
	default:
		expected = "in the log, for it is a message that can be persisted"
	}
	p.broken(func() Violation {
		return l.of(m, position, at, expected, fmt.Sprintf("%s; the dead letter's reason is %q", found, reason))
	})
}

package check

import (
	"fmt"

	"github.com/drainmark/drainmark/verify/history"
)

// checkAccounted checks P9: what can never be persisted is a dead letter, and its receipt says rejected; and a dead
// letter is in no log.
func (v *view) checkAccounted() Promise {
	p, rejected := newPromise("P9", "dead letters account for the rest"), 0
	for i := range v.Appends {
		if a := &v.Appends[i]; a.Conflicts && a.Outcome == history.Done {
			rejected++
			v.checkRejected(p, a)
		}
	}
	for _, letter := range v.Letters {
		v.checkLetter(p, letter)
	}
	switch {
	case rejected == 0 && len(v.Letters) == 0:
		return p.rested("nothing had to be rejected, and nothing was")
	case !v.complete():
		return p.judged("", "the run was broken off before all dead letters were listed")
	}
	return p.judged(fmt.Sprintf("%s appends that had to be rejected, and %s dead letters", thousands(rejected), thousands(len(v.Letters))), "")
}

// checkRejected checks an append that went with another message's idempotency key. One that is in a log is P2's matter.
func (v *view) checkRejected(p *Promise, a *history.Append) {
	l := &v.logs[a.Log]
	for m := range messages(a) {
		if v.PositionOf(m) != 0 {
			continue
		}
		if a.Settled != "" && a.Settled != "rejected" {
			p.broken(func() Violation {
				return l.of(m, 0, a.End, "a receipt that says rejected, for its idempotency key was another message's", "it says "+a.Settled)
			})
		}
		if v.complete() && !v.letters[m] && l.unnamed == 0 {
			p.broken(func() Violation {
				return l.of(m, 0, a.End, "among the dead letters, for it was accepted and had to be rejected", "in no log, and not a dead letter")
			})
		}
	}
}

// checkLetter checks that a dead letter is not in a log too.
func (v *view) checkLetter(p *Promise, letter history.Letter) {
	m, err := history.ParseMessage(letter.Message)
	if err != nil || m == history.Nobody {
		return
	}
	a := v.AppendOf(m)
	if a == nil || !expected(a) || v.place(m) == 0 {
		return // as it must be, or P2's matter
	}
	l := &v.logs[a.Log]
	p.broken(func() Violation {
		position := v.place(m)
		return l.of(m, position, l.At(position).At, "in the log or a dead letter, not both",
			fmt.Sprintf("both; the dead letter's reason is %q", letter.Reason))
	})
}

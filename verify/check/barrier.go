package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// checkBarrier checks P5: when a barrier is reached, everything that was accepted before it was asked for is shown, and
// counted, and the barrier has said how much is set aside. And when the last one was, no receipt says that something is
// pending that is there.
func (v *view) checkBarrier() Promise {
	p, judged := newPromise("P5", "the barrier never lies"), 0
	for i := range v.Reads {
		r := &v.Reads[i]
		b := v.barrierOf(r)
		if b == nil {
			continue
		}
		judged++
		v.checkReached(p, &v.logs[r.Log], r, b)
	}
	v.checkPending(p)
	v.checkSetAside(p)
	missing := ""
	if judged == 0 {
		missing = "no log was read from behind a barrier that was reached"
	}
	return p.judged(fmt.Sprintf("%s pages from behind %s barriers", format.Thousands(judged), format.Thousands(len(v.reached))), missing)
}

// checkReached checks a page from behind a barrier.
func (v *view) checkReached(p *Promise, l *logView, r *history.Read, b *history.Barrier) {
	before := l.all.before(b.Start)
	if before.top > r.Last {
		p.broken(func() Violation {
			m, end := v.highest(before.who)
			return l.of(m, before.top, r.End, fmt.Sprintf("%s, for it was accepted at %s and barrier %d, which was reached, was asked for at %s",
				name(m), seconds(end), b.Number, seconds(b.Start)), fmt.Sprintf("the log up to position %d", r.Last))
		})
		return // what it counts follows from it
	}
	least, most := uint64(before.messages), uint64(l.all.sentBefore(r.End)+l.strange)
	if v.End == nil { // calls under way when the run was broken off are not written
		most = math.MaxUint64
	}
	if len(l.clears) == 0 && (r.Total < least || r.Total > most) {
		p.broken(func() Violation {
			return l.of(history.Nobody, 0, r.End, fmt.Sprintf("a count from %d to %d behind barrier %d: that many had been accepted before it was "+
				"asked for, and sent at all", least, most, b.Number), fmt.Sprintf("the count %d", r.Total))
		})
	}
}

// checkSetAside checks what reached barriers said to be set aside: at least the messages that had been accepted before
// and were still dead letters when the run listed them in the end. Others may have discarded what is not listed, and may
// have set aside more.
func (v *view) checkSetAside(p *Promise) {
	type accepted struct {
		message history.Message
		log     int
		end     time.Duration
	}
	var letters []accepted
	for m := range v.letters {
		if a := v.AppendOf(m); a != nil && a.Outcome == history.Done && a.Attempts <= 1 {
			letters = append(letters, accepted{m, a.Log, a.End})
		}
	}
	slices.SortFunc(letters, func(a, b accepted) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.message.String(), b.message.String()))
	})
	for i := range v.Barriers {
		b := &v.Barriers[i]
		if b.Outcome != history.Done || b.SetAside == nil {
			continue
		}
		least, last := uint64(0), accepted{}
		for _, l := range letters {
			if l.end >= b.Start {
				break
			}
			if len(b.Logs) == 0 || slices.Contains(b.Logs, l.log) {
				least, last = least+1, l
			}
		}
		if *b.SetAside < least {
			p.broken(func() Violation {
				return v.logs[last.log].of(last.message, 0, b.End, fmt.Sprintf("barrier %d, which was reached, to say that at least %d records are set aside, "+
					"for so many accepted before it are dead letters", b.Number, least), fmt.Sprintf("it says %d", *b.SetAside))
			})
		}
	}
}

// highest returns the message of an append that stands furthest behind, and when the append was answered.
func (v *view) highest(index int) (history.Message, time.Duration) {
	a := &v.Appends[index]
	for m := range messages(a) {
		if v.place(m) == v.tops[index] {
			return m, a.End
		}
	}
	return history.Nobody, a.End
}

// checkPending checks the receipts of unknown appends that said "pending" or "stalled" behind the last barrier,
// although all was there, in front of what that barrier was for. If an append was sent several times, another attempt,
// whose receipt got lost, may have been the one that was done.
func (v *view) checkPending(p *Promise) {
	for i := range v.Appends {
		a := &v.Appends[i]
		l := &v.logs[a.Log]
		open := a.Settled == "pending" || a.Settled == "stalled"
		if a.Outcome != history.Unknown || !open || a.Attempts > 1 || !l.read() || l.barrier.Outcome != history.Done || v.tops[i] == 0 {
			continue
		}
		if v.tops[i] < l.all.before(l.barrier.Start).top && v.seenBefore(a) {
			p.broken(func() Violation {
				m := history.Message{Client: a.Client, Number: a.First}
				return l.of(m, v.place(m), a.End, "a receipt that says persisted, for all messages of the append are in the log", "it says "+a.Settled)
			})
		}
	}
}

// seenBefore says whether all messages of an append had been seen when its receipt was asked about.
func (v *view) seenBefore(a *history.Append) bool {
	if a.SettledBehind == 0 {
		return false
	}
	asked := v.Reads[a.SettledBehind-1].End
	for m := range messages(a) {
		position := v.place(m)
		if position == 0 || v.logs[a.Log].At(position).At > asked {
			return false
		}
	}
	return true
}

// checkReadYourWrites checks P6: a read with a receipt is answered from a state that holds the write, or refused. So is one
// without it if the same backend had said before that the receipt is persisted.
func (v *view) checkReadYourWrites() Promise {
	p := newPromise("P6", "read your writes")
	shown, refused := 0, 0
	for i := range v.Reads {
		r := &v.Reads[i]
		if r.Holds == "" || r.Tail || r.Gap || r.Told != "" && r.Outcome == history.Done && r.Told != r.Backend {
			continue // another backend has not said so
		}
		if r.Outcome != history.Done {
			refused++
			continue
		}
		if m, err := history.ParseMessage(r.Holds); err == nil && m != history.Nobody {
			shown++
			v.checkHolds(p, &v.logs[r.Log], r, m)
		}
	}
	states, missing := v.checkSnapshots(p)
	if shown == 0 {
		missing = cmp.Or(missing, fmt.Sprintf("none of %s reads with a receipt was answered", format.Thousands(refused)))
	}
	return p.judged(fmt.Sprintf("%s reads with a receipt; %s more were not answered%s", format.Thousands(shown), format.Thousands(refused), states), missing)
}

// checkHolds checks a read that carried the receipt of m's append, or came behind the answer that it is persisted: all
// messages of the append are in the state.
func (v *view) checkHolds(p *Promise, l *logView, r *history.Read, m history.Message) {
	a := v.AppendOf(m)
	if a == nil || a.Log != r.Log || !expected(a) {
		return // it is in another log, or must be in none
	}
	excused := v.excused(a) || !l.read() // or nobody has looked
	why := "whose receipt the read carried, or none"
	if r.Told != "" {
		why = "whose receipt was persisted, as this backend had said"
	}
	for m := range messages(a) {
		position, found := v.place(m), ""
		switch {
		case position > r.Last:
			found = fmt.Sprintf("a state up to position %d, without it", r.Last)
		case position == 0 && !excused && !v.letters[m] && !hopeless(a, m):
			found = fmt.Sprintf("a state up to position %d, and nobody has ever seen it", r.Last)
		}
		if found != "" {
			p.broken(func() Violation {
				return l.of(m, position, r.End, fmt.Sprintf("a state with %s, %s", name(m), why), found)
			})
			return
		}
	}
}

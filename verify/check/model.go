package check

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// The model of a log: appends put one message behind the last one, clears remove all, and a read from behind a barrier
// shows all that is there. The calls are linearizable if there is one order of all of them, in which each stands
// somewhere between its start and its end, that explains what every read has shown.

// content is a state of the model: what a log holds.
type content struct {
	first uint64 // the first position that is held, or the one behind the last
	last  uint64
	hash  uint64 // of the messages that are held, in their order
	over  bool   // all calls have been done, but for those that may never be
}

// appending puts a message into a log, at a position if it was ever seen there. A request of many is as many of them:
// it may be persisted in parts, and its order is P3's matter.
type appending struct {
	message  uint64
	position uint64 // 0 if it is not known
	open     bool   // it may never be done
}

// clearingAll is a clear.
type clearingAll struct{ open bool }

// showing is a read from behind a barrier, from when the barrier was asked for to when the read was answered.
type showing struct{ content }

// ending comes behind all calls that have an end. A call that may never be done, and was not needed until then, has not
// been done.
type ending struct{}

// known is what reads have shown about the order of a log's calls. It makes the search short.
type known struct {
	*logView
	joined []bool // whether no clear can have come between a position and the next, from Base on: a page showed both
	seen   uint64 // the highest last position of any page
}

func (v *view) known(l *logView) *known {
	k := &known{logView: l, joined: make([]bool, len(l.Places)+1), seen: l.Base + uint64(len(l.Places))}
	for i := range v.Reads {
		r := &v.Reads[i]
		if r.Log != l.index || r.Outcome != history.Done || r.Tail {
			continue
		}
		k.seen = max(k.seen, r.Last)
		if r.N == 0 || r.From <= l.Base {
			continue
		}
		for at := r.From - l.Base; at < min(r.Last-l.Base, uint64(len(k.joined))); at++ {
			k.joined[at] = true
		}
	}
	return k
}

// step is the model.
func (k *known) step(state, input, _ any) (bool, any) {
	is := state.(content)
	switch call := input.(type) {
	case appending:
		if is.over && call.open {
			return true, is
		}
		is.last++
		is.hash = mix(is.hash, call.message)
		fits := call.position == is.last || call.position == 0 && !k.At(is.last).Known
		return fits && (is.last <= k.seen || !call.open), is
	case clearingAll:
		if is.over && call.open {
			return true, is
		}
		at := is.last - k.Base
		between := at < uint64(len(k.joined)) && k.joined[at]
		return !between && (is.first <= is.last || !call.open), content{first: is.last + 1, last: is.last}
	case showing:
		return call.content == is, is
	case ending:
		is.over = true
		return true, is
	}
	return false, state
}

// mix adds a message to a hash of messages.
func mix(hash, message uint64) uint64 {
	hash = (hash ^ message) * 0x9e3779b97f4a7c15
	return hash ^ hash>>29
}

// checkLinearizable checks the logs that have a model.
func (v *view) checkLinearizable(most time.Duration) Promise {
	p, looked, calls := newPromise("linearizable", "strong reads fit one order"), 0, 0
	missing, deadline := "", time.Now().Add(most)
	if !v.Run.Ordered {
		return p.rested("order is promised among the appends of each backend only")
	}
	for i := range v.logs {
		l := &v.logs[i]
		if !l.Model {
			continue
		}
		looked++
		operations, reads := v.operations(l)
		calls += len(operations)
		switch left := time.Until(deadline); {
		case len(l.foreign) > 0:
			missing = "somebody else wrote into the log " + l.Name
		case reads == 0:
			missing = fmt.Sprintf("the log %s was never read whole from behind a barrier", l.Name)
		case left <= 0 || !v.explain(p, l, operations, left):
			missing = fmt.Sprintf("no answer within %v for %s calls", most, format.Thousands(calls))
		}
	}
	if looked == 0 {
		return p.rested("no log had a model")
	}
	return p.judged(fmt.Sprintf("%s calls on %s", format.Thousands(calls), logs(looked)), missing)
}

// explain looks for the order, and says whether it came to an end in time.
func (v *view) explain(p *Promise, l *logView, operations []porcupine.Operation, most time.Duration) bool {
	model := porcupine.Model{
		Init: func() any { return content{first: l.Base + 1, last: l.Base} },
		Step: v.known(l).step,
		Hash: func(state any) uint64 { return state.(content).hash ^ state.(content).last },
	}
	// Verbose, for then it waits for what it has started, also when time is over.
	result, info := porcupine.CheckOperationsVerbose(model, operations, most)
	if result == porcupine.Illegal {
		p.broken(func() Violation { return v.unexplained(l, operations, &info) })
	}
	return result != porcupine.Unknown
}

// unexplained makes a violation. It names a read: of those that the order which explains the most leaves out, the one
// that was answered first.
func (v *view) unexplained(l *logView, operations []porcupine.Operation, info *porcupine.LinearizationInfo) Violation {
	var longest []int
	for _, part := range info.PartialLinearizations() {
		for _, order := range part {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	explained := make([]bool, len(operations))
	for _, index := range longest {
		explained[index] = true
	}
	var blamed *history.Read
	for i := range operations {
		if r, ok := operations[i].Metadata.(*history.Read); ok && !explained[i] && (blamed == nil || r.End < blamed.End) {
			blamed = r
		}
	}
	expected := "one order of all appends, clears and reads from behind barriers that explains what each read showed"
	if blamed == nil {
		return l.of(history.Nobody, 0, v.end(), expected, "there is none")
	}
	shown := fmt.Sprintf("%d messages from position %d to %d", blamed.N, blamed.From, blamed.Last)
	if blamed.N == 0 {
		shown = fmt.Sprintf("an empty log behind position %d", blamed.Last)
	}
	return l.of(history.Nobody, blamed.Last, blamed.End, expected,
		fmt.Sprintf("none that explains the read of client %d behind barrier %d, answered at %s, which showed %s", blamed.Client, blamed.Barrier,
			seconds(blamed.End), shown))
}

// operations returns the calls on a log, and how many of them are reads. Calls that may still take effect have no end.
func (v *view) operations(l *logView) (all []porcupine.Operation, reads int) {
	add := func(c *history.Call, input any, from, until time.Duration) {
		operation := porcupine.Operation{ClientId: c.Client, Input: input, Call: int64(from), Return: int64(until)}
		all = append(all, operation)
	}
	for i := range v.Appends {
		if a := &v.Appends[i]; a.Log == l.index && expected(a) {
			for m := range messages(a) {
				position := v.place(m)
				if position != 0 {
					add(&a.Call, appending{messageHash(m), position, a.Outcome != history.Done}, a.Start, endOf(a))
				} else if v.mayHaveBeen(l, a, m) { // no read can tell such messages from each other
					add(&a.Call, appending{open: a.Outcome != history.Done}, a.Start, endOf(a))
				}
			}
		}
	}
	for i := range v.Clears {
		c := &v.Clears[i]
		if c.Log != l.index || c.Outcome == history.Refused {
			continue
		}
		if c.Outcome == history.Done {
			add(&c.Call, clearingAll{}, c.Start, c.End)
		}
		if c.Outcome != history.Done || c.Attempts > 1 {
			add(&c.Call, clearingAll{open: true}, c.Start, never)
		}
	}
	for i := range v.Reads {
		r := &v.Reads[i]
		if r.Log != l.index {
			continue
		}
		if b := v.barrierOf(r); b != nil && whole(l, r) {
			add(&r.Call, showing{l.shown(r)}, b.Start, r.End)
			all[len(all)-1].Metadata = r
			reads++
		}
	}
	add(&history.Call{}, ending{}, never-1, never-1)
	return all, reads
}

// endOf is when an append had been done.
func endOf(a *history.Append) time.Duration {
	if a.Outcome == history.Done {
		return a.End
	}
	return never
}

// mayHaveBeen says whether a message that nobody has seen may have been in the log: it was accepted, or a clear may
// have removed it, or nobody has looked.
func (v *view) mayHaveBeen(l *logView, a *history.Append, m history.Message) bool {
	return !v.letters[m] && (a.Outcome == history.Done || v.excused(a) || !l.read())
}

// messageHash spreads a message over the numbers.
func messageHash(m history.Message) uint64 {
	return mix(uint64(m.Client)+1, m.Number)
}

// whole says whether a page shows all that the log holds.
func whole(l *logView, r *history.Read) bool {
	return r.After <= l.Base && (r.N == 0 || r.From+uint64(r.N)-1 == r.Last)
}

// shown is what a whole page has shown.
func (l *logView) shown(r *history.Read) content {
	c := content{first: r.Last + 1, last: r.Last}
	if r.N > 0 {
		c.first = r.From
	}
	for position := c.first; position <= c.last; position++ {
		c.hash = mix(c.hash, messageHash(l.At(position).Message))
	}
	return c
}

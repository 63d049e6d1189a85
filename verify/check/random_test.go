package check

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark/verify/history"
)

// world is a deployment that keeps its promises: calls take effect at an instant between their start and their end, or
// later or never if they are unknown. Effects are persisted in their order, some time later, and readers show a state
// that is behind.
type world struct {
	*story
	rt      *rapid.T
	effects []effect // by the time of their effect
}

// effect is what a call has done, in milliseconds.
type effect struct {
	at        int
	persisted int
	messages  []history.Message
	clear     bool
	of        *history.Append
}

func (w *world) int(least, most int) int { return rapid.IntRange(least, most).Draw(w.rt, "n") }

// one returns true in one of so many cases.
func (w *world) one(in int) bool { return w.int(1, in) == 1 }

// outcome draws how a call ends, and when it takes effect: 0 for never.
func (w *world) outcome(start, end int) (history.Outcome, int) {
	switch w.int(1, 8) {
	case 1:
		return refused, 0
	case 2:
		return unknown, 0
	case 3:
		return unknown, w.int(start+1, theEnd)
	}
	return done, w.int(start+1, end)
}

// write makes the calls of one client.
func (w *world) write(client, calls int) {
	now, number := 0, 1
	for range calls {
		start := now + w.int(0, 30)
		end := start + w.int(1, 60)
		now = end
		o, took := w.outcome(start, end)
		if w.one(12) {
			w.conflict(start, end, history.Message{Client: client, Number: uint64(number)}.String())
			w.letter(history.Message{Client: client, Number: uint64(number)}.String())
			number++
			continue
		}
		count := w.int(1, 3)
		a := w.append(o, start, end, history.Message{Client: client, Number: uint64(number)}.String(), count)
		a.Attempts = w.int(0, 3)
		number += count
		if took != 0 {
			e := effect{at: took, of: a, messages: slices.Collect(messages(a))}
			if o == unknown {
				e.messages = e.messages[:w.int(1, count)]
			}
			w.effects = append(w.effects, e)
		}
	}
}

// clears makes some clears.
func (w *world) clears(calls int) {
	for range calls {
		start := w.int(0, 300)
		end := start + w.int(1, 60)
		o, took := w.outcome(start, end)
		c := w.clear(o, start, end)
		if took != 0 {
			w.effects = append(w.effects, effect{at: took, clear: true})
		}
		if o == done && w.one(4) {
			c.Attempts = 2
			w.effects = append(w.effects, effect{at: w.int(start+1, theEnd), clear: true})
		}
	}
}

// persist puts the effects in order.
func (w *world) persist() {
	slices.SortStableFunc(w.effects, func(a, b effect) int { return cmp.Compare(a.at, b.at) })
	before := 0
	for i := range w.effects {
		e := &w.effects[i]
		e.persisted = max(before, e.at+w.int(0, 40))
		before = e.persisted
	}
}

// persistedAt returns how many effects are persisted at a time, and how many have been done.
func (w *world) persistedAt(ms int) (persisted, effected int) {
	for _, e := range w.effects {
		if e.persisted <= ms {
			persisted++
		}
		if e.at <= ms {
			effected++
		}
	}
	return persisted, effected
}

// show returns what the log holds after so many effects.
func (w *world) show(effects int) (from, last uint64, held []history.Message) {
	from = 1
	for _, e := range w.effects[:effects] {
		if e.clear {
			from, held = last+1, nil
			continue
		}
		last += uint64(len(e.messages))
		held = append(held, e.messages...)
	}
	return from, last, held
}

func text(all []history.Message) (names string) {
	for _, m := range all {
		names += m.String() + " "
	}
	return names
}

// fill makes a page show the state after so many effects.
func (w *world) fill(r *history.Read, effects int) {
	from, last, held := w.show(effects)
	skip := 0
	if r.After >= from {
		skip = min(int(r.After-from)+1, len(held))
	}
	shown := held[skip:]
	if r.Limit > 0 {
		shown = shown[:min(len(shown), r.Limit)]
	}
	r.Seen, r.From, r.Last, r.Total = w.seen(text(shown)), 0, last, uint64(len(held))
	if len(shown) > 0 {
		r.From = from + uint64(skip)
	}
}

// read makes reads of all kinds.
func (w *world) read(calls int) {
	followed := uint64(0)
	for range calls {
		start := w.int(1, 300)
		switch persisted, _ := w.persistedAt(start); w.int(1, 3) {
		case 1: // any page, of a reader that is behind
			r := w.page(start, start+5, uint64(w.int(0, 10)), 0, "")
			r.Limit = w.int(1, 5)
			w.fill(r, w.int(0, persisted))
		case 2: // with a receipt
			if i := slices.IndexFunc(w.effects, func(e effect) bool { return e.of != nil && e.persisted <= start }); i >= 0 {
				r := w.page(start, start+5, uint64(w.int(0, 10)), 0, "")
				r.Holds = w.effects[i].messages[0].String()
				if e := w.effects[i]; len(e.messages) < e.of.Count {
					r.Outcome = refused // the rest never comes
					continue
				}
				w.fill(r, w.int(i+1, persisted))
			}
		default: // from behind a barrier
			_, effected := w.persistedAt(start)
			until := start + 1
			if effected > 0 {
				until = max(until, w.effects[effected-1].persisted)
			}
			b := w.barrier(start-1, until)
			r := w.behind(b, until, until+5, 0, 0, "")
			persisted, _ := w.persistedAt(until)
			w.fill(r, w.int(effected, persisted))
		}
	}
	for ms := 10; ms <= 300; ms += w.int(5, 50) { // a tail
		persisted, _ := w.persistedAt(ms)
		r := w.tail(ms+1, followed, "")
		w.fill(r, persisted)
		r.Last, r.Total = 0, 0
		if n := len(r.Seen); n > 0 {
			followed = r.From + uint64(n) - 1
		}
	}
}

// finish reads all, from readers that are behind no further than the last barrier.
func (w *world) finish() {
	_, least := w.persistedAt(lastBarrier - 1)
	w.reached()
	for i := range w.effects {
		if e := &w.effects[i]; i < least {
			e.persisted = min(e.persisted, lastBarrier+1)
		}
	}
	for which, start := range map[int]int{1: firstFinal, 2: secondFinal} {
		persisted, _ := w.persistedAt(start)
		w.fill(w.final(which, 1, ""), w.int(least, persisted))
	}
	w.end()
}

func TestARandomHistoryThatKeepsThePromisesIsAccepted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{story: newStory(t), rt: rt}
		for client := range 3 {
			w.write(client, w.int(1, 6))
		}
		if w.one(2) {
			w.run.Logs[0].Clears = true
			w.clears(w.int(1, 4))
		}
		w.run.Logs[0].Model = true
		w.persist()
		w.read(w.int(0, 12))
		w.finish()
		r := w.judge()
		if p := promise(t, r, "linearizable"); strings.HasPrefix(p.Checked, "no answer") {
			rt.Fatalf("%s: %s; the history:\n%s", p.Promise, p.Checked, w.told())
		}
		if got := broken(r); len(got) > 0 {
			for _, p := range r.Promises {
				rt.Logf("%s %s: %d violations, %+v", p.Promise, p.State, p.Violations, p.Examples)
			}
			rt.Fatalf("broken are %q; the history:\n%s", got, w.told())
		}
	})
}

package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// timeline answers what was appended before, and after, a time.
type timeline struct {
	done []doneAt // by end
	sent []sentAt // by start
}

type doneAt struct {
	end      time.Duration
	messages int    // answered until then: this one's and all before
	top      uint64 // the highest position of those
	who      int    // the append that has it
}

type sentAt struct {
	start    time.Duration
	messages int    // sent until then: this one's and all before
	low      uint64 // the lowest position of this one's and all later ones, 0 for none
}

func (t *timeline) add(a *history.Append, index, accepted int, top, low uint64) {
	if a.Outcome == history.Done {
		t.done = append(t.done, doneAt{a.End, accepted, top, index})
	}
	t.sent = append(t.sent, sentAt{a.Start, a.Count, low})
}

func (t *timeline) close() {
	slices.SortStableFunc(t.done, func(a, b doneAt) int { return cmp.Compare(a.end, b.end) })
	slices.SortStableFunc(t.sent, func(a, b sentAt) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(t.done); i++ {
		is, was := &t.done[i], &t.done[i-1]
		is.messages += was.messages
		if was.top > is.top {
			is.top, is.who = was.top, was.who
		}
	}
	for i := 1; i < len(t.sent); i++ {
		t.sent[i].messages += t.sent[i-1].messages
	}
	for i := len(t.sent) - 2; i >= 0; i-- {
		if next := t.sent[i+1].low; t.sent[i].low == 0 || next != 0 && next < t.sent[i].low {
			t.sent[i].low = next
		}
	}
}

// before returns what had been answered with success before a time.
func (t *timeline) before(at time.Duration) doneAt {
	i, _ := slices.BinarySearchFunc(t.done, at, func(d doneAt, at time.Duration) int { return cmp.Compare(d.end, at) })
	if i == 0 {
		return doneAt{who: -1}
	}
	return t.done[i-1]
}

// sentBefore returns how many messages had been sent before a time.
func (t *timeline) sentBefore(at time.Duration) int {
	i, _ := slices.BinarySearchFunc(t.sent, at, func(s sentAt, at time.Duration) int { return cmp.Compare(s.start, at) })
	if i == 0 {
		return 0
	}
	return t.sent[i-1].messages
}

// lowAfter returns the lowest position of messages sent after a time, or 0 if none was seen.
func (t *timeline) lowAfter(at time.Duration) uint64 {
	i, _ := slices.BinarySearchFunc(t.sent, at+1, func(s sentAt, at time.Duration) int { return cmp.Compare(s.start, at) })
	if i == len(t.sent) {
		return 0
	}
	return t.sent[i].low
}

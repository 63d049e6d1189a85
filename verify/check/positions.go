package check

import (
	"cmp"
	"fmt"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// checkPositions checks P4: positions follow each other without gaps up to the last one, go on behind a clear, and
// never change their message.
func (v *view) checkPositions() Promise {
	p, pages, tails, stuck := newPromise("P4", "positions"), 0, 0, ""
	for i := range v.Reads {
		r := &v.Reads[i]
		if r.Tail && r.Outcome != history.Done {
			stuck = cmp.Or(stuck, fmt.Sprintf("the events of the log %s: %s", v.logs[r.Log].Name, r.Error))
		}
		if r.Outcome != history.Done || !v.logs[r.Log].began() {
			continue
		}
		if r.Tail {
			tails++
		} else if !r.Gap {
			pages++
		}
		v.checkShown(p, &v.logs[r.Log], r, i+1 < len(v.Reads) && v.Reads[i+1].Gap)
	}
	missing := cmp.Or(v.notRead(), stuck)
	for i := range v.logs {
		l := &v.logs[i]
		if b := l.Began; b != nil && b.Base <= b.Before {
			p.broken(func() Violation {
				return l.of(history.Nobody, b.Base, 0, fmt.Sprintf("a last position above %d behind the clear that the run began with, for a message "+
					"had been accepted behind that one", b.Before), fmt.Sprintf("the last position %d", b.Base))
			})
		}
		v.checkStable(p, l)
		v.checkEarly(p, l)
		v.checkReadings(p, l)
		if !l.readTwice() {
			missing = cmp.Or(missing, fmt.Sprintf("the log %s could not be read twice", l.Name))
		}
	}
	return p.judged(fmt.Sprintf("%s pages and %s parts of tails; %s read twice", format.Thousands(pages), format.Thousands(tails), logs(len(v.logs))), missing)
}

// began says whether the run began with an empty log.
func (l *logView) began() bool { return l.Began == nil || l.Began.Shown == 0 && l.Began.Count == 0 }

// pageBytes is how many bytes of bodies a page has at least before it may be cut for its size.
const pageBytes = 1 << 20

// readTwice says whether both final readings went on to the end.
func (l *logView) readTwice() bool {
	both := 0
	for _, r := range l.readings {
		both |= r.pages[0].Final
	}
	return both == 1|2
}

// checkShown checks one page, or part of a tail, by itself. One that goes on behind a gap has more than the part.
func (v *view) checkShown(p *Promise, l *logView, r *history.Read, goesOn bool) {
	next, end := max(r.After, l.Base)+1, r.From+uint64(r.N)-1
	broken := func(position uint64, expected, found string) {
		p.broken(func() Violation { return l.of(l.At(position).Message, position, r.End, expected, found) })
	}
	switch {
	case r.Wrong != "":
		broken(0, "positions that follow each other in a tail", r.Wrong)
	case r.Gap:
		broken(r.From, "positions that follow each other in "+kind(r), fmt.Sprintf("position %d behind a gap, or out of order", r.From))
	case r.N > 0 && r.From <= r.After:
		broken(r.From, fmt.Sprintf("positions behind %d, as was asked for", r.After), fmt.Sprintf("position %d", r.From))
	case r.N > 0 && r.From > next && l.cleared >= r.End:
		broken(r.From, fmt.Sprintf("position %d first, for nothing had been cleared", next), fmt.Sprintf("position %d", r.From))
	}
	if r.Tail {
		return
	}
	switch {
	case l.begins(r) && r.Last >= end && r.Total != r.Last-r.From+1:
		broken(r.From, fmt.Sprintf("the count %d, for the log begins at position %d and ends at %d", r.Last-r.From+1, r.From, r.Last),
			fmt.Sprintf("the count %d", r.Total))
	}
	switch {
	case r.N > 0 && r.Last < end:
		broken(end, fmt.Sprintf("a last position of at least %d, for the same page shows that one", end), fmt.Sprintf("the last position %d", r.Last))
	case r.Limit > 0 && r.N > r.Limit:
		broken(r.From, fmt.Sprintf("at most %d messages, as was asked for", r.Limit), fmt.Sprintf("%d", r.N))
	case r.N == 0 && r.Last >= next && l.cleared >= r.End: // a page of large messages may be short, but not empty
		broken(next, fmt.Sprintf("messages from position %d on, for the same page says that there are some up to %d", next, r.Last), "an empty page")
	case r.N > 0 && uint64(r.N) < min(uint64(r.Limit), r.Last-r.From+1) && r.Bytes < pageBytes && !goesOn:
		broken(end+1, fmt.Sprintf("%d messages from position %d on, for the log goes on to %d", min(uint64(r.Limit), r.Last-r.From+1), r.From, r.Last),
			fmt.Sprintf("%d messages, of %d bytes", r.N, r.Bytes))
	}
}

// begins says whether a page begins where its log does: from there on positions have no gaps, so that they say the count.
func (l *logView) begins(r *history.Read) bool {
	return r.N > 0 && !r.Gap && r.From > l.Base && (r.From > r.After+1 || r.After <= l.Base)
}

// kind is what a read is called.
func kind(r *history.Read) string {
	if r.Tail {
		return "a tail"
	}
	return "a page"
}

// checkStable checks that no position came to mean something else.
func (v *view) checkStable(p *Promise, l *logView) {
	for _, c := range l.Changes {
		p.broken(func() Violation {
			found := name(c.Is.Message)
			if c.Is.Message == c.Was.Message {
				found = "something else about it"
			}
			return l.of(c.Was.Message, c.Position, v.Reads[c.Read].End, name(c.Was.Message)+", as another read had shown before", found)
		})
	}
	p.Violations += l.ChangeCount - len(l.Changes)
}

// checkEarly checks that no state that has something of the run shows something from before it, which a clear had
// removed by then. A replica that is behind may show a state from before.
func (v *view) checkEarly(p *Promise, l *logView) {
	for _, i := range l.Early {
		r := &v.Reads[i]
		if r.Outcome != history.Done || r.Tail || r.Last <= l.Base && v.barrierOf(r) == nil {
			continue
		}
		p.broken(func() Violation {
			return l.of(history.Nobody, r.From, r.End, fmt.Sprintf("nothing up to position %d, for that was cleared before the run's first message",
				l.Base), fmt.Sprintf("a page that begins at position %d and ends at %d", r.From, r.Last))
		})
	}
}

// checkReadings checks that the final readings show the same. (That a position shows the same message, checkStable has
// checked.) What may come, or may be cleared, behind the last barrier, one of them may have and another not. And what
// was accepted is the matter of P1 and P5.
func (v *view) checkReadings(p *Promise, l *logView) {
	if !l.read() {
		return
	}
	for _, r := range l.readings {
		begun := r.pages[0].End
		if first := l.readings[0]; r.from != first.from && l.until < l.barrier.Start {
			p.broken(func() Violation {
				return l.of(history.Nobody, min(first.from, r.from), begun,
					fmt.Sprintf("a log from position %d on, as the reading before had shown it", first.from),
					fmt.Sprintf("a log from position %d on", r.from))
			})
		}
		for position := r.last + 1; position <= l.Base+uint64(len(l.Places)); position++ {
			s := l.At(position)
			if a := v.AppendOf(s.Message); !s.Known || s.At >= l.barrier.Start || a != nil && v.mustBeThere(a) {
				continue
			}
			p.broken(func() Violation {
				return l.of(s.Message, position, begun,
					fmt.Sprintf("still in the log: %s had been shown at this position before the last barrier", name(s.Message)),
					fmt.Sprintf("a log up to position %d", r.last))
			})
		}
	}
}

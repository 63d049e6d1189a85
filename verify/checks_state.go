package verify

import "fmt"

// checkPositions checks P4: positions follow each other without gaps up to the last one, go on behind a clear, and
// never come to mean another message.
func (v *view) checkPositions() Promise {
	p := Promise{Promise: "P4", Title: "positions", Examples: []Violation{}}
	if c := v.cleared; c != nil && c.last <= c.before {
		p.broken(func() Violation {
			return Violation{
				Expected: fmt.Sprintf("a last position above %d after a clear, for that was the last one, and a message was accepted behind it", c.before),
				Found:    fmt.Sprintf("last position %d", c.last),
			}
		})
	}
	if v.first == nil || v.cleared == nil {
		return p.judged(false, notRead)
	}
	v.checkDense(&p)
	if v.second != nil {
		v.checkSame(&p)
	}
	for i := range v.readBacks {
		r := &v.readBacks[i]
		if place := v.places[r.message]; r.found != 0 && place != 0 && r.found != place {
			p.broken(func() Violation {
				return v.of(r.message, place, fmt.Sprintf("at position %d, where it was soon after it was accepted", r.found), "moved")
			})
		}
	}
	p.Checked = fmt.Sprintf("positions %d to %d, read twice", v.first.begins(), v.first.lastPosition)
	return p.judged(v.second != nil && len(v.first.messages) > 0, "the log could not be read twice")
}

// checkDense checks that the first reading has every position once, in order.
func (v *view) checkDense(p *Promise) {
	next := v.cleared.last + 1
	if v.cut {
		next = v.first.begins()
	}
	for _, s := range v.first.messages {
		if s.position != next {
			p.broken(func() Violation {
				return v.of(s.message, s.position, fmt.Sprintf("position %d", next), fmt.Sprintf("position %d", s.position))
			})
		}
		next = s.position + 1
	}
	if last := v.first.lastPosition; next != last+1 {
		p.broken(func() Violation {
			return Violation{
				Expected: fmt.Sprintf("messages up to the log's last position, %d", last),
				Found:    fmt.Sprintf("the last one is at position %d", next-1),
			}
		})
	}
}

// checkSame checks that the second reading has at every position what the first one had.
func (v *view) checkSame(p *Promise) {
	first, second := v.first.messages, v.second.messages
	for len(first) > 0 || len(second) > 0 {
		switch {
		case len(first) == 0 || len(second) > 0 && second[0].position < first[0].position:
			if s := second[0]; s.position <= v.first.lastPosition { // what came later is new
				p.broken(func() Violation {
					return v.of(s.message, s.position, v.pages(v.first)+", no message at this position", v.pages(v.second)+", this one")
				})
			}
			second = second[1:]
		case len(second) == 0 || first[0].position < second[0].position:
			if s := first[0]; !v.cut || s.position >= v.second.begins() {
				p.broken(func() Violation {
					return v.of(s.message, s.position, v.pages(v.first)+", this message", v.pages(v.second)+", none at this position")
				})
			}
			first = first[1:]
		default:
			a, b := first[0], second[0]
			if a.digest != b.digest {
				p.broken(func() Violation {
					return v.of(a.message, a.position, v.pages(v.first)+", this message", v.pages(v.second)+", "+v.other(a, b))
				})
			}
			first, second = first[1:], second[1:]
		}
	}
}

func (v *view) pages(r *reading) string { return fmt.Sprintf("in pages of %d", r.limit) }

// other says what b is, which stands where a stood.
func (v *view) other(a, b seen) string {
	if b.message == nobody || b.message == a.message {
		return "one that differs"
	}
	return v.name(b.message)
}

// checkBarrier checks P5: when a barrier is reached, everything that was accepted before it was asked for is shown.
// The count read then must be at least that, and at most what had been sent until it was answered.
func (v *view) checkBarrier() Promise {
	p := Promise{Promise: "P5", Title: "the barrier never lies", Examples: []Violation{}}
	v.checkCleared(&p)
	judged, final := 0, false
	for i := range v.barriers {
		b := &v.barriers[i]
		if b.fault != "" {
			continue
		}
		judged++
		final = v.final && i == len(v.barriers)-1
		least, most := v.countsAt(b)
		if b.count < least && !v.cut || b.count > most {
			p.broken(func() Violation {
				expected := fmt.Sprintf("a count of %d", least)
				if most != least {
					expected = fmt.Sprintf("a count from %d to %d", least, most)
				}
				return Violation{Expected: expected + " when the barrier was reached", Found: fmt.Sprintf("%d", b.count)}
			})
		}
	}
	p.Checked = fmt.Sprintf("the count at %s barriers", thousands(judged))
	if v.cut {
		return p.judged(false, cutShort)
	}
	why := "the last barrier was not reached"
	if v.final {
		why = "the count at the last barrier was not answered: " + v.barriers[len(v.barriers)-1].fault
	}
	return p.judged(final, why)
}

// checkCleared checks that the log was empty when its clear was persisted and a barrier was reached: nothing that was
// there before may be shown. What stands further behind is somebody else's.
func (v *view) checkCleared(p *Promise) {
	c := v.cleared
	if c == nil {
		return
	}
	if c.shown != 0 && c.shown <= c.before+1 || c.shown == 0 && c.count != 0 {
		p.broken(func() Violation {
			found := "no messages, but the count %d"
			if c.shown != 0 {
				found = "a message from before the clear, and the count %d"
			}
			return Violation{Position: c.shown, Expected: "an empty log behind the clear and a barrier", Found: fmt.Sprintf(found, c.count)}
		})
	}
}

// countsAt returns the lowest and highest count that can be right at a barrier.
func (v *view) countsAt(b *barrierCall) (least, most uint64) {
	for i := range v.appends {
		a := &v.appends[i]
		switch {
		case a.outcome == done && a.answered < b.asked:
			least++
			most++
		case (a.outcome == done || a.outcome == unknown) && a.sent < b.counted:
			most++
		}
	}
	return least, most + uint64(v.foreign)
}

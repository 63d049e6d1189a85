package verify

import (
	"fmt"
	"slices"
)

// The promises that a run judges, each by one pure function over the history. What a client cannot know is never held
// against the deployment: an unknown append may be there or not, and overlapping appends may stand either way round.

// view is a history with what several checks need of it.
type view struct {
	*history
	places  []uint64 // where the first reading saw each message first, 0 for nowhere
	foreign int      // how many foreign messages it saw
	cut     bool     // somebody else wrote, and the log does not begin where the run does: it was cleared meanwhile
}

func (h *history) view() *view {
	v := &view{history: h, places: make([]uint64, len(h.appends)), foreign: h.strangers().Count}
	if h.first == nil {
		return v
	}
	for _, s := range h.first.messages {
		if s.message != nobody && v.places[s.message] == 0 {
			v.places[s.message] = s.position
		}
	}
	if v.foreign > 0 && h.cleared != nil {
		v.cut = h.first.begins() > h.cleared.last+1 || h.second != nil && h.second.begins() > h.cleared.last+1
	}
	return v
}

// begins returns the position at which the log begins.
func (r *reading) begins() uint64 {
	if len(r.messages) == 0 {
		return r.lastPosition + 1
	}
	return r.messages[0].position
}

// foreign counts the foreign messages. A reading that was not done has none.
func (r *reading) foreign() int {
	n := 0
	if r != nil {
		for i := range r.messages {
			if r.messages[i].condition == foreign {
				n++
			}
		}
	}
	return n
}

// check judges every promise.
func (h *history) check() []Promise {
	v := h.view()
	return []Promise{
		v.checkDurable(), v.checkExactlyOnce(), v.checkOrder(), v.checkPositions(), v.checkBarrier(), v.checkReadYourWrites(),
	}
}

const (
	notRead  = "the log could not be read to its end"
	cutShort = "somebody else cleared the log during the run"
)

// broken notes a violation. It is made only if it becomes an example.
func (p *Promise) broken(violation func() Violation) {
	p.Violations++
	if len(p.Examples) < MaxExamples {
		p.Examples = append(p.Examples, violation())
	}
}

// judged closes a check, which has looked at something, or could not.
func (p *Promise) judged(could bool, why string) Promise {
	switch {
	case p.Violations > 0:
		p.State = PromiseBroken
	case could:
		p.State = PromiseHeld
	default:
		p.State, p.Checked = PromiseUnchecked, why
	}
	return *p
}

// of makes a violation about a message.
func (v *view) of(m message, position uint64, expected, found string) Violation {
	out := Violation{Position: position, Expected: expected, Found: found}
	if m != nobody {
		client := v.client(m)
		out.Client, out.Number = &client, v.number(m)
	}
	return out
}

// name is what a message is called in the text of a violation.
func (v *view) name(m message) string {
	return fmt.Sprintf("client %d's message %d", v.client(m), v.number(m))
}

// checkDurable checks P1: everything that was accepted is in the log, as it was sent.
func (v *view) checkDurable() Promise {
	p := Promise{Promise: "P1", Title: "accepted is durable", Examples: []Violation{}}
	if v.first == nil {
		return p.judged(false, notRead)
	}
	accepted := 0
	for i := range v.appends {
		if v.appends[i].outcome != done {
			continue
		}
		accepted++
		if v.places[i] == 0 && !v.cut {
			p.broken(func() Violation { return v.of(message(i), 0, "in the log, for it was accepted", "not in the log") })
		}
	}
	for _, s := range v.first.messages {
		if s.condition == damaged {
			p.broken(func() Violation {
				found := v.first.faults[s.position]
				if found == "" {
					found = "something else"
				}
				return v.of(s.message, s.position, "the body and content type that were sent", found)
			})
		}
	}
	p.Checked = fmt.Sprintf("%s accepted messages", thousands(accepted))
	if v.cut {
		return p.judged(false, cutShort)
	}
	return p.judged(accepted > 0, "nothing was accepted")
}

// checkExactlyOnce checks P2: nothing is in the log twice, and nothing that was refused is in it.
func (v *view) checkExactlyOnce() Promise {
	p := Promise{Promise: "P2", Title: "exactly once, in effect", Examples: []Violation{}}
	if v.first == nil {
		return p.judged(false, notRead)
	}
	for _, s := range v.first.messages {
		if s.message == nobody {
			continue
		}
		if first := v.places[s.message]; first != s.position {
			p.broken(func() Violation {
				return v.of(s.message, s.position, fmt.Sprintf("only at position %d", first), "there once more")
			})
		} else if o := v.appends[s.message].outcome; o == refused || o == unsent {
			p.broken(func() Violation {
				return v.of(s.message, s.position, "not in the log, for every answer said that nothing was done", "in the log")
			})
		}
	}
	p.Checked = fmt.Sprintf("%s messages in the log; %s requests had been sent again after they were accepted",
		thousands(len(v.first.messages)), thousands(v.resent))
	return p.judged(len(v.first.messages) > 0, "nothing is in the log")
}

// checkOrder checks P3: what was answered before something else was sent stands before it, whoever sent the two, and
// the lines of one request stand in their order. It walks through the log and needs to remember only the message that
// was sent last of all so far: if anything was sent after the answer to the one at hand, that was. And as a client
// sends one request after the other, an accepted message of its own never stands behind one with a higher number.
func (v *view) checkOrder() Promise {
	p := Promise{Promise: "P3", Title: "order", Examples: []Violation{}}
	if v.first == nil {
		return p.judged(false, notRead)
	}
	latest := nobody                                      // the message sent last so far
	newest := slices.Repeat([]message{nobody}, v.clients) // per client: its message with the highest number so far
	checked := 0
	for _, s := range v.first.messages {
		if s.message == nobody || v.places[s.message] != s.position {
			continue // a second copy is P2's matter
		}
		m, a, own := s.message, v.appends[s.message], &newest[v.client(s.message)]
		other := nobody // which should stand behind m
		switch {
		case a.outcome != done:
		case latest != nobody && a.answered < v.appends[latest].sent:
			other = latest
		case *own != nobody && m < *own:
			other = *own
		}
		if other != nobody {
			p.broken(func() Violation {
				return v.of(m, s.position, fmt.Sprintf("before %s, which is at position %d", v.name(other), v.places[other]), "behind it")
			})
		}
		if latest == nobody || a.sent > v.appends[latest].sent {
			latest = m
		}
		if *own == nobody || m > *own {
			*own = m
		}
		checked++
	}
	p.Checked = fmt.Sprintf("%s messages of %d clients", thousands(checked), v.clients)
	return p.judged(checked > 0, "nothing of the run is in the log")
}

// checkReadYourWrites checks P6: a read with a receipt is answered from a state that holds the write, or refused.
func (v *view) checkReadYourWrites() Promise {
	p := Promise{Promise: "P6", Title: "read your writes", Examples: []Violation{}}
	shown, refusals := 0, 0
	for i := range v.readBacks {
		r := &v.readBacks[i]
		place := r.found
		if place == 0 {
			place = v.places[r.message]
		}
		switch {
		case r.refused:
			refusals++
			continue
		case r.found == 0 && (place != 0 && place <= r.after || v.cut):
			continue // it stands where it was not looked for, which P3 judges; or somebody has cleared the log
		case r.found == 0 || r.found > r.last:
			p.broken(func() Violation {
				return v.of(r.message, place, "a state with this message, whose receipt the read carried, or none",
					fmt.Sprintf("a state up to position %d without it", r.last))
			})
		}
		shown++
	}
	p.Checked = fmt.Sprintf("%s reads with a receipt; %s more were refused", thousands(shown), thousands(refusals))
	return p.judged(shown > 0, fmt.Sprintf("none of %s reads with a receipt was answered", thousands(len(v.readBacks))))
}

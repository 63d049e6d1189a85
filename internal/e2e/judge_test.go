package e2e

import (
	"fmt"
)

// reading is a whole log, as it was read in the end.
type reading struct {
	messages []message
	last     uint64 // last_position
	count    uint64
}

// judgement is a history with what several checks need of it.
type judgement struct {
	*history
	final  map[string]reading
	places map[string][]uint64    // by body: where it is in the final reading of its log
	calls  map[string]*appendCall // by body
	line   map[string]int         // by body: which message of its append
	found  []violation
}

// judge says which promises the history breaks, given what was read in the end, when a barrier asked for after
// everything else was reached. What a client cannot know is never held against anybody.
func (h *history) judge(final map[string]reading) []violation {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := &judgement{
		history: h, final: final, places: map[string][]uint64{}, calls: map[string]*appendCall{}, line: map[string]int{},
		found: h.broken,
	}
	for _, c := range h.calls {
		for i, body := range c.bodies {
			j.calls[body], j.line[body] = c, i
		}
	}
	for log, r := range final {
		for _, m := range r.messages {
			if c := j.calls[m.Body]; c == nil || c.log != log {
				j.broken("P2", "%s: position %d has %.60q, which nobody has appended to it", log, m.Position, m.Body)
				continue
			}
			j.places[m.Body] = append(j.places[m.Body], m.Position)
		}
	}
	j.checkAppends()
	for log := range final {
		j.checkOrder(log)
		j.checkPositions(log)
	}
	j.checkBarriers()
	j.checkReadBacks()
	return j.found
}

func (j *judgement) broken(promise, format string, args ...any) {
	j.found = append(j.found, violation{promise, fmt.Sprintf(format, args...)})
}

// checkAppends checks P1 and P2: what was accepted is there exactly once, what was refused is not, and what is unknown
// is there at most once, and is what its receipt says.
func (j *judgement) checkAppends() {
	for _, c := range j.history.calls {
		there := 0
		for _, body := range c.bodies {
			places := j.places[body]
			switch {
			case len(places) == 0 && c.outcome == accepted:
				j.broken("P1", "%s: %q was accepted at %v and is not there", c.log, body, c.answered)
			case len(places) > 1:
				j.broken("P2", "%s: %q (%v) is there %d times, at %v", c.log, body, c.outcome, len(places), places)
			case len(places) == 1 && c.outcome == refused:
				j.broken("P2", "%s: %q was refused and is at %d", c.log, body, places[0])
			}
			there += min(1, len(places))
		}
		if c.outcome != unknown {
			continue
		}
		if c.before == "persisted" && there < len(c.bodies) {
			j.broken("P1", "%s: the receipt of %q said persisted, and %d of its %d messages are there", c.log, c.bodies[0], there, len(c.bodies))
		}
		// Another attempt with the same key, whose receipt got lost, may have been the one that was persisted.
		if c.after != "" && c.after != "persisted" && c.attempts == 1 && there == len(c.bodies) {
			j.broken("P5", "%s: the receipt of %q says %s, and all its messages are there", c.log, c.bodies[0], c.after)
		}
	}
}

// checkOrder checks P3: what was answered before something else was sent stands before it, and the messages of one
// request stand in their order. It needs to remember only what was sent last among the messages passed: if anything was
// sent after the answer to the one at hand, that was.
func (j *judgement) checkOrder(log string) {
	latest := map[string]message{} // by producer, or "" for all
	next := map[*appendCall]int{}
	for _, m := range j.final[log].messages {
		c := j.calls[m.Body]
		if c == nil || c.log != log {
			continue
		}
		among := ""
		if !j.ordered {
			among = m.producer()
		}
		before, ok := latest[among]
		if ok && c.outcome == accepted && c.answered < j.calls[before.Body].sent {
			j.broken("P3", "%s: %q at %d was answered at %v and stands behind %q at %d, which was sent at %v", log, m.Body, m.Position,
				c.answered, before.Body, before.Position, j.calls[before.Body].sent)
		}
		if !ok || c.sent > j.calls[before.Body].sent {
			latest[among] = m
		}
		if j.line[m.Body] < next[c] {
			j.broken("P3", "%s: %q at %d stands behind a later message of the same request", log, m.Body, m.Position)
		}
		next[c] = j.line[m.Body]
	}
}

// checkPositions checks P4: positions go from 1 to the last without a gap, and are what they were.
func (j *judgement) checkPositions(log string) {
	r := j.final[log]
	for i, m := range r.messages {
		if m.Position != uint64(i)+1 {
			j.broken("P4", "%s: message %d is at position %d", log, i+1, m.Position)
			return
		}
		if seen := j.seen[log]; i < len(seen) && seen[i] != "" && seen[i] != m.Body {
			j.broken("P4", "%s: position %d was %.40q and is %.40q in the end", log, i+1, seen[i], m.Body)
		}
	}
	if n := uint64(len(r.messages)); r.last != n || r.count != n {
		j.broken("P4", "%s: it has %d messages, the last position is said to be %d and the count %d", log, n, r.last, r.count)
	}
	if n := len(j.seen[log]); n > len(r.messages) {
		j.broken("P4", "%s: position %d was seen, and there are %d in the end", log, n, len(r.messages))
	}
}

// checkBarriers checks P5: a state that was shown with a reached barrier's receipt has everything that was accepted
// before the barrier was asked for. Positions never move, so that a state is known by its last one.
func (j *judgement) checkBarriers() {
	for _, b := range j.barriers {
		for _, c := range j.history.calls {
			last, shown := b.last[c.log]
			if !shown || c.outcome != accepted || c.answered >= b.asked {
				continue
			}
			for _, body := range c.bodies {
				if places := j.places[body]; len(places) == 0 || places[0] > last {
					j.broken("P5", "%s: %q at %v was accepted at %v, and a barrier asked for at %v showed the log up to %d", c.log, body,
						places, c.answered, b.asked, last)
				}
			}
		}
	}
}

// checkReadBacks checks P6: what was shown with an append's receipt has the append.
func (j *judgement) checkReadBacks() {
	for _, r := range j.readBacks {
		if r.found == 0 || r.found > r.last {
			j.broken("P6", "%s: a read that must show %q showed the log up to %d without it (it is at %v)", r.log, r.body, r.last, j.places[r.body])
		} else if places := j.places[r.body]; len(places) > 0 && places[0] != r.found {
			j.broken("P4", "%s: %q was read at %d, and is at %v in the end", r.log, r.body, r.found, places)
		}
	}
}

// worst returns the first few violations of each promise.
func worst(found []violation) (some []violation) {
	const most = 5
	times := map[string]int{}
	for _, v := range found {
		if times[v.promise]++; times[v.promise] <= most {
			some = append(some, v)
		}
	}
	return some
}

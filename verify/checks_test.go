package verify

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The messages of the made-up histories: three clients with ten messages each, sent round by round. Client c's number n
// is sent at 10n+c ms and answered 5 ms later, so that the appends of a round overlap and those of two rounds do not.
const (
	madeClients = 3
	madeEach    = 10
	madeBefore  = 20 // the log's last position before the run
)

const ms = time.Millisecond

// made returns a history in which every promise was kept.
func made() *history {
	h := &history{clients: madeClients, appends: make([]appendCall, madeClients*madeEach), final: true}
	h.cleared = &clearCall{before: madeBefore, last: madeBefore + 1}
	order := make([]message, len(h.appends))
	for i := range h.appends {
		m := message(i)
		sent := time.Duration(10*h.number(m)+h.client(m)) * ms
		h.appends[i] = appendCall{sent: sent, answered: sent + 5*ms, outcome: done}
		order[i] = m
	}
	h.stand(order)
	h.barriers = []barrierCall{
		{asked: 51 * ms, reached: 52 * ms, counted: 53 * ms, count: 13}, // behind four rounds; three more were under way
		{asked: 200 * ms, reached: 210 * ms, counted: 211 * ms, count: 30},
	}
	m := h.index(1, 5)
	h.readBacks = []readBack{{message: m, after: 30, last: 36, found: h.position(m)}}
	return h
}

// stand makes both readings show these messages.
func (h *history) stand(order []message) {
	r := &reading{limit: 10, faults: map[uint64]string{}, strangers: []Foreign{}}
	for i, m := range order {
		r.messages = append(r.messages, seen{position: h.cleared.last + 1 + uint64(i), digest: 1000 + uint64(m), message: m})
	}
	r.lastPosition = h.cleared.last + uint64(len(order))
	h.first = r
	again := *r
	again.messages, again.limit = slices.Clone(r.messages), 7
	h.second = &again
}

// readBackAgain makes the read-back fit to where the messages stand now.
func (h *history) readBackAgain() {
	r := &h.readBacks[0]
	r.found = h.position(r.message)
	r.after, r.last = h.cleared.last, h.first.lastPosition
}

// order returns the messages as the first reading shows them.
func (h *history) order() []message {
	var order []message
	for _, s := range h.first.messages {
		order = append(order, s.message)
	}
	return order
}

// position returns where a message stands.
func (h *history) position(m message) uint64 {
	for _, s := range h.first.messages {
		if s.message == m {
			return s.position
		}
	}
	return 0
}

// drop takes a message out of the log; those behind it move up.
func (h *history) drop(m message) {
	h.stand(slices.DeleteFunc(h.order(), func(x message) bool { return x == m }))
	h.readBackAgain()
}

// insert puts a message into the log before index i.
func (h *history) insert(i int, m message) {
	h.stand(slices.Insert(h.order(), i, m))
	h.readBackAgain()
}

// both changes both readings alike.
func (h *history) both(change func(*reading)) {
	change(h.first)
	change(h.second)
}

func (h *history) setCount(n uint64) { h.barriers[len(h.barriers)-1].count = n }

// stranger makes what stands at index i somebody else's.
func stranger(i int) func(*reading) {
	return func(r *reading) { r.messages[i].message, r.messages[i].condition = nobody, foreign }
}

// A case is one small difference to a history in which all was well; want lists what is broken then. For each promise
// there are ways to break it that are easy to miss, each with a twin that looks like it and is right.
var madeCases = []struct {
	name   string
	want   string
	change func(*history)
}{
	{"all is well", "", func(*history) {}},

	// P1
	{"the last accepted message is lost", "P1 P5", func(h *history) { h.drop(h.index(2, 10)); h.setCount(29) }},
	{"twin: it was never accepted, and is unknown", "", func(h *history) {
		h.drop(h.index(2, 10))
		h.appends[h.index(2, 10)].outcome = unknown
		h.setCount(29)
	}},
	{"twin: it is unknown, and there", "", func(h *history) { h.appends[h.index(2, 10)].outcome = unknown }},
	{"twin: it was refused, and is not there", "", func(h *history) {
		h.drop(h.index(2, 10))
		h.appends[h.index(2, 10)].outcome = refused
		h.setCount(29)
	}},
	{"a message in the middle is lost behind the count, and those behind it have moved up", "P1", func(h *history) { h.drop(h.index(0, 6)) }},
	{"a message is not as it was sent", "P1", func(h *history) { h.both(func(r *reading) { r.messages[4].condition = damaged }) }},
	{"a damaged message that cannot be told is there in place of one", "P1", func(h *history) {
		h.both(func(r *reading) { r.messages[4].message, r.messages[4].condition = nobody, damaged })
	}},
	{"all messages are lost", "P1", func(h *history) { h.stand(nil); h.readBacks = nil; h.barriers = h.barriers[1:]; h.setCount(30) }},

	// P2
	{"a message is there again, far behind", "P2", func(h *history) { h.insert(30, h.index(0, 1)); h.appends[0].outcome = unknown; h.setCount(30) }},
	{"a message is there again, right behind itself", "P2", func(h *history) { h.insert(13, h.order()[12]) }},
	{"an unknown message is there twice", "P2", func(h *history) { h.insert(13, h.order()[12]); h.appends[h.order()[12]].outcome = unknown }},
	{"a damaged copy is there too", "P1 P2", func(h *history) {
		h.insert(13, h.order()[12])
		h.both(func(r *reading) { r.messages[13].condition = damaged })
	}},
	{"a refused message is there", "P2 P5", func(h *history) { h.appends[h.index(2, 10)].outcome = refused }},

	// P3
	{"two messages of one client have changed places", "P3", func(h *history) { h.swap(h.index(1, 7), h.index(1, 8)) }},
	{"two messages of two clients, of two rounds, have changed places", "P3", func(h *history) { h.swap(h.index(2, 7), h.index(0, 8)) }},
	{"twin: of one round, which overlap", "", func(h *history) { h.swap(h.index(0, 7), h.index(2, 7)) }},
	{"twin: the answer came when the other one had just been sent", "", func(h *history) {
		h.appends[h.index(2, 7)].answered = h.appends[h.index(0, 8)].sent
		h.swap(h.index(2, 7), h.index(0, 8))
	}},
	{"the answer came just before the other one was sent", "P3", func(h *history) {
		h.appends[h.index(2, 7)].answered = h.appends[h.index(0, 8)].sent - 1
		h.swap(h.index(2, 7), h.index(0, 8))
	}},
	{"twin: an unknown message stands far behind what was sent later", "", func(h *history) { h.toEnd(h.index(0, 2)); h.appends[h.index(0, 2)].outcome = unknown }},
	{"an accepted message stands far behind what was sent after its answer", "P3", func(h *history) { h.toEnd(h.index(0, 2)) }},
	{"an accepted message stands behind an unknown one that was sent later", "P3", func(h *history) {
		h.swap(h.index(1, 7), h.index(1, 8))
		h.appends[h.index(1, 8)].outcome = unknown
	}},
	{"an accepted message stands behind an unknown one that another client sent later", "P3", func(h *history) {
		h.swap(h.index(2, 7), h.index(0, 8))
		h.appends[h.index(0, 8)].outcome = unknown
	}},
	{"a second copy does not count for the order", "P2", func(h *history) { h.insert(30, h.index(1, 3)) }},
	{"two lines of one request have changed places", "P3", func(h *history) { h.oneRequest(1, 7, 8); h.swap(h.index(1, 7), h.index(1, 8)) }},
	{"twin: two lines of one request in order", "", func(h *history) { h.oneRequest(1, 7, 8) }},
	{"twin: two lines of an unknown request have changed places", "", func(h *history) {
		h.oneRequest(1, 7, 8)
		h.swap(h.index(1, 7), h.index(1, 8))
		h.appends[h.index(1, 7)].outcome, h.appends[h.index(1, 8)].outcome = unknown, unknown
	}},

	// P4
	{"a position is left out", "P4", func(h *history) {
		h.both(func(r *reading) {
			for i := 20; i < len(r.messages); i++ {
				r.messages[i].position++
			}
			r.lastPosition++
		})
	}},
	{"the first position is left out", "P4", func(h *history) { h.shift(1); h.readBacks = nil }},
	{"positions go on where they did before the clear", "P4", func(h *history) { h.cleared.last = 0; h.shift(0); h.readBacks = nil }},
	{"the last position is the one from before the clear, though a message came behind it", "P4", func(h *history) {
		h.cleared.last = madeBefore
		h.stand(h.order())
		h.readBacks = nil
	}},
	{"twin: the log was never written to before", "", func(h *history) { h.cleared = &clearCall{before: 0, last: 1}; h.shift(0); h.readBackAgain() }},
	{"two messages have one position", "P4", func(h *history) {
		h.both(func(r *reading) { r.messages[9].position = r.messages[8].position })
		h.readBacks = nil
	}},
	{"the last position is higher than the last message's", "P4", func(h *history) { h.both(func(r *reading) { r.lastPosition++ }) }},
	{"two messages stand the other way round when they are read again", "P4", func(h *history) {
		a, b := &h.second.messages[29], &h.second.messages[28]
		a.message, a.digest, b.message, b.digest = b.message, b.digest, a.message, a.digest
	}},
	{"a message has another id when it is read again", "P4", func(h *history) { h.second.messages[29].digest++ }},
	{"the last message is not there when it is read again", "P4", func(h *history) { h.second.messages = h.second.messages[:29] }},
	{"the first message is not there when it is read again", "P4", func(h *history) { h.second.messages = h.second.messages[1:] }},
	{"a message that was not there comes to be in the middle", "P4", func(h *history) {
		h.first.messages = slices.Delete(h.first.messages, 3, 4)
		h.appends[3].outcome = unknown
	}},
	{"a position has two messages when it is read again", "P4", func(h *history) {
		h.second.messages = slices.Insert(h.second.messages, 3, h.second.messages[3])
	}},
	{"twin: an unknown message comes to be at the end when it is read again", "", func(h *history) {
		h.first.messages, h.first.lastPosition = h.first.messages[:29], h.first.lastPosition-1
		h.appends[29].outcome = unknown
		h.setCount(29)
	}},
	{"a message has moved since it was read back", "P4", func(h *history) { h.readBacks[0].found-- }},

	// P5
	{"the count is short by one when the barrier is reached", "P5", func(h *history) { h.setCount(29) }},
	{"the count is over by one when the barrier is reached", "P5", func(h *history) { h.setCount(31) }},
	{"twin: it is short by an unknown one", "", func(h *history) { h.appends[4].outcome = unknown; h.setCount(29) }},
	{"it is short by more than the unknown ones", "P5", func(h *history) { h.appends[4].outcome = unknown; h.setCount(28) }},
	{"an earlier barrier lacks one that was answered before it was asked for", "P5", func(h *history) { h.barriers[0].count = 11 }},
	{"twin: it lacks those that were under way", "", func(h *history) { h.barriers[0].count = 12 }},
	{"twin: it shows those that were under way", "", func(h *history) { h.barriers[0].count = 15 }},
	{"an earlier barrier shows one that was not sent yet", "P5", func(h *history) { h.barriers[0].count = 16 }},
	{"twin: an earlier barrier's count was not answered", "", func(h *history) { h.barriers[0].count, h.barriers[0].fault = 0, "503" }},
	{"the log is not empty behind the clear", "P5", func(h *history) { h.cleared.count, h.cleared.shown = 1, madeBefore+1 }},
	{"the log shows nothing behind the clear, and counts a message", "P5", func(h *history) { h.cleared.count = 1 }},

	// P6
	{"a read with a receipt lacks its write", "P6", func(h *history) { h.readBacks[0].found = 0; h.readBacks[0].last = 35 }},
	{"it lacks its write though its last position is behind it", "P6", func(h *history) { h.readBacks[0].found = 0 }},
	{"its second page shows the write, and its first one was from before", "P6", func(h *history) { h.readBacks[0].last = h.readBacks[0].found - 1 }},
	{"twin: the write is the last one of that state", "", func(h *history) { h.readBacks[0].last = h.readBacks[0].found }},
	{"twin: the read was refused, another was not", "", func(h *history) {
		h.readBacks = append(h.readBacks, readBack{message: h.index(1, 6), after: 30, refused: true})
	}},
	{"a read lacks a write that is nowhere", "P1 P5 P6", func(h *history) {
		m := h.index(1, 6)
		h.drop(m)
		h.readBacks = []readBack{{message: m, after: 30, last: 40}}
		h.setCount(29)
	}},
	{"twin: the write stands where it was not looked for", "", func(h *history) {
		h.readBacks = append(h.readBacks, readBack{message: h.index(1, 5), after: 40, last: 45})
	}},
}

// swap makes two messages change places.
func (h *history) swap(a, b message) {
	order := h.order()
	i, j := slices.Index(order, a), slices.Index(order, b)
	order[i], order[j] = order[j], order[i]
	h.stand(order)
	h.readBackAgain()
}

// toEnd moves a message to the end.
func (h *history) toEnd(m message) {
	h.stand(append(slices.DeleteFunc(h.order(), func(x message) bool { return x == m }), m))
	h.readBackAgain()
}

// oneRequest makes two messages of a client lines of one request.
func (h *history) oneRequest(client, a, b int) {
	both := appendCall{sent: h.appends[h.index(client, a)].sent, answered: h.appends[h.index(client, b)].answered, outcome: done}
	h.appends[h.index(client, a)], h.appends[h.index(client, b)] = both, both
}

// shift makes the messages stand behind a clear and so many positions.
func (h *history) shift(by uint64) {
	h.cleared.last += by
	h.stand(h.order())
	h.cleared.last -= by
}

func brokenIn(promises []Promise) string { return broken(&Report{Promises: promises}) }

func TestChecksFindWhatIsBrokenAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range madeCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := made()
			c.change(h)
			promises := h.check()
			if got := brokenIn(promises); got != c.want {
				t.Errorf("broken are %q, want %q: %+v", got, c.want, promises)
			}
			report := Report{Promises: promises, Foreign: h.strangers()}
			verdict, reason := verdictOf(&report, "")
			if want := map[bool]Verdict{true: Held, false: Broken}[c.want == ""]; verdict != want {
				t.Errorf("the verdict is %s (%s), want %s", verdict, reason, want)
			}
		})
	}
}

func TestAGapIsOneViolation(t *testing.T) {
	t.Parallel()
	h := made()
	h.both(func(r *reading) {
		for i := 20; i < len(r.messages); i++ {
			r.messages[i].position += 5
		}
		r.lastPosition += 5
	})
	if p := h.check()[3]; p.Violations != 1 || p.Examples[0].Expected != "position 42" || p.Examples[0].Found != "position 47" {
		t.Errorf("promise 4 is %+v", p)
	}
}

func TestStrangersAreNotHeldAgainstTheDeployment(t *testing.T) {
	t.Parallel()
	foreignAt := func(h *history, i int) {
		h.insert(i, nobody)
		h.both(stranger(i))
	}
	cases := []struct {
		name   string
		want   string
		change func(*history)
	}{
		{"a foreign message in the middle, which is counted", "", func(h *history) { foreignAt(h, 12); h.setCount(31) }},
		{"a foreign message that came behind the count", "", func(h *history) { foreignAt(h, 30) }},
		{"a foreign message, and a count that two would make", "P5", func(h *history) { foreignAt(h, 12); h.setCount(32) }},
		{"a foreign message, and one that is lost", "P1", func(h *history) { foreignAt(h, 12); h.drop(5); h.both(stranger(11)) }},
		{"a foreign message, and a clear of all before it", "", func(h *history) {
			foreignAt(h, 12)
			h.both(func(r *reading) { r.messages = r.messages[12:] })
			h.setCount(19)
		}},
		{"a foreign message, and a clear between the two readings", "", func(h *history) {
			foreignAt(h, 12)
			h.second.messages = h.second.messages[20:]
		}},
		{"a foreign message, a clear, and a message twice", "P2", func(h *history) {
			foreignAt(h, 12)
			h.insert(30, 29)
			h.both(stranger(12))
			h.both(func(r *reading) { r.messages = r.messages[12:] })
		}},
		{"no foreign message, and the log begins late", "P1 P4", func(h *history) {
			h.both(func(r *reading) { r.messages = r.messages[12:] })
			h.readBacks = nil
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := made()
			c.change(h)
			report := Report{Promises: h.check(), Foreign: h.strangers()}
			verdict, reason := verdictOf(&report, "")
			want := map[bool]Verdict{true: Inconclusive, false: Broken}[c.want == ""]
			if got := broken(&report); got != c.want || verdict != want {
				t.Errorf("broken are %q, want %q; the verdict is %s (%s), want %s: %+v", got, c.want, verdict, reason, want, report.Promises)
			}
		})
	}
}

func TestWhatWasNotSeenIsNotSaidToHold(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name      string
		unchecked string
		change    func(*history)
	}{
		{"the run ended before the clear was seen", "P1 P2 P3 P4 P5 P6", func(h *history) { *h = history{clients: 3, appends: make([]appendCall, 30)} }},
		{"the log was not read", "P1 P2 P3 P4", func(h *history) { h.first, h.second = nil, nil }},
		{"the log was read once", "P4", func(h *history) { h.second = nil }},
		{"the last barrier was not reached", "P5", func(h *history) { h.barriers, h.final = h.barriers[:1], false }},
		{"the count at the last barrier was not answered", "P5", func(h *history) { h.barriers[1].fault = "503 Service Unavailable" }},
		{"no read with a receipt was answered", "P6", func(h *history) { h.readBacks[0].refused = true }},
		{"there was no read with a receipt", "P6", func(h *history) { h.readBacks = nil }},
		{"nothing was accepted", "P1 P2 P3 P4", func(h *history) {
			for i := range h.appends {
				h.appends[i].outcome = refused
			}
			h.stand(nil)
			h.readBacks[0].found = 36
			h.barriers[0].count = 0
			h.setCount(0)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := made()
			c.change(h)
			report := Report{Promises: h.check(), Foreign: h.strangers()}
			var unchecked []string
			for _, p := range report.Promises {
				if p.State == PromiseUnchecked {
					unchecked = append(unchecked, p.Promise)
				}
			}
			verdict, reason := verdictOf(&report, "")
			if got := strings.Join(unchecked, " "); got != c.unchecked || verdict != Inconclusive || reason == "" {
				t.Errorf("unchecked are %q, want %q; the verdict is %s (%s): %+v", got, c.unchecked, verdict, reason, report.Promises)
			}
		})
	}
}

func TestABarrierThatLiesIsFoundInARunThatWasNotFinished(t *testing.T) {
	t.Parallel()
	h := made()
	h.first, h.second, h.final, h.barriers = nil, nil, false, h.barriers[:1]
	h.barriers[0].count = 11
	report := Report{Promises: h.check()}
	if verdict, reason := verdictOf(&report, "the run's time is over"); verdict != Broken || brokenIn(report.Promises) != "P5" || reason == "" {
		t.Errorf("the verdict is %s (%s): %+v", verdict, reason, report.Promises)
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	h := made()
	h.first.took = 2 * time.Second
	f := h.figures()
	// 30 appends between 10 ms and 107 ms; the last answer to the barrier at 210 ms; 30 messages read in 2 s.
	if f.AcceptP50Ms != 5 || f.AcceptP99Ms != 5 || int(f.AppendsPerSecond) != 309 || f.ReachedAfterMs != 103 || f.MessagesReadPerSec != 15 {
		t.Errorf("the figures are %+v", f)
	}
	if f := (&history{clients: 1, appends: make([]appendCall, 1)}).figures(); f != (Figures{}) {
		t.Errorf("the figures of nothing are %+v", f)
	}
}

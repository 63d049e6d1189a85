package e2e

import (
	"fmt"
	"sync"
	"time"
)

// outcome is what became of an append, as far as its client can know.
type outcome uint8

const (
	refused  outcome = iota // certainly not accepted
	unknown                 // no answer, or one that says that it is not known
	accepted                // answered with success
)

func (o outcome) String() string { return [...]string{"refused", "unknown", "accepted"}[o] }

// appendCall is one append, of one or more messages. A request with a key may have been sent several times.
type appendCall struct {
	log      string
	bodies   []string      // unique in the history
	sent     time.Duration // before the first attempt, since the history began
	answered time.Duration // after the last one; only if accepted
	outcome  outcome
	attempts int
	receipt  string // of the last attempt, if it gave one

	// What the receipt of an unknown append said in the end, before and after everything was read.
	before, after string
}

// barrierCall is a barrier that was reached, and what a read with its receipt showed then.
type barrierCall struct {
	asked time.Duration
	last  map[string]uint64 // by log: the last position of the state that was shown
}

// readBack is a read with the receipt of an accepted append, that was answered.
type readBack struct {
	log, body string
	last      uint64 // the last position of the state that was shown
	found     uint64 // where the message was, 0 for nowhere
}

// pageRead is a read without a receipt.
type pageRead struct {
	at  time.Duration // when it was answered
	err error         // why no page was shown
}

// violation is a broken promise.
type violation struct{ promise, text string }

func (v violation) String() string { return v.promise + ": " + v.text }

// history has everything that the clients saw. Its methods may be called concurrently.
type history struct {
	begun time.Time
	// ordered says that the broker delivers strictly in order. On another one, order is promised only for the appends
	// through one backend.
	ordered bool

	mu        sync.Mutex
	calls     []*appendCall
	barriers  []barrierCall
	readBacks []readBack
	reads     []pageRead
	seen      map[string][]string // by log: the body at each position, from 1, and "" where nobody has looked
	broken    []violation         // seen while it happened
}

func newHistory(ordered bool) *history {
	return &history{begun: time.Now(), ordered: ordered, seen: map[string][]string{}}
}

// now is the time since the history began, on the monotonic clock.
func (h *history) now() time.Duration { return time.Since(h.begun) }

func (h *history) addCall(c *appendCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
}

func (h *history) addBarrier(b barrierCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.barriers = append(h.barriers, b)
}

func (h *history) addReadBack(r readBack) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readBacks = append(h.readBacks, r)
}

func (h *history) addRead(r pageRead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, r)
}

func (h *history) addViolation(v violation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = append(h.broken, v)
}

// observe notes a page that was read from behind a position. It has to go on without a gap, and no message may ever
// have been another one.
func (h *history) observe(log string, after uint64, p page) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, m := range p.Messages {
		if want := after + uint64(i) + 1; m.Position != want {
			h.break4("%s: read from behind %d, message %d of the page is at %d, not at %d", log, after, i+1, m.Position, want)
			return
		}
		if m.Position > p.LastPosition {
			h.break4("%s: position %d is shown, and the last one is said to be %d", log, m.Position, p.LastPosition)
		}
		for uint64(len(h.seen[log])) < m.Position {
			h.seen[log] = append(h.seen[log], "")
		}
		before := &h.seen[log][m.Position-1]
		if *before != "" && *before != m.Body {
			h.break4("%s: position %d was %.40q and is now %.40q", log, m.Position, *before, m.Body)
		}
		*before = m.Body
	}
	if len(p.Messages) == 0 && p.LastPosition > after {
		h.break4("%s: nothing is shown behind %d, and the last position is said to be %d", log, after, p.LastPosition)
	}
}

// break4 notes that P4 is broken. Called with mu held.
func (h *history) break4(format string, args ...any) {
	h.broken = append(h.broken, violation{"P4", fmt.Sprintf(format, args...)})
}

// frontier returns the last position of a log that anybody has seen: whatever is appended from now on stands behind it.
func (h *history) frontier(log string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(len(h.seen[log]))
}

// count returns how many appends had an outcome, among those that were sent between two moments.
func (h *history) count(o outcome, from, to time.Duration) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c.outcome == o && c.sent >= from && c.sent <= to {
			n++
		}
	}
	return n
}

// ever is later than everything.
const ever = time.Duration(1<<63 - 1)

// summary says how much a history has.
func (h *history) summary() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls, messages := [3]int{}, 0
	for _, c := range h.calls {
		calls[c.outcome]++
		messages += len(c.bodies)
	}
	return fmt.Sprintf("%d messages in %d appends (%d accepted, %d refused, %d unknown), %d barriers reached, %d reads with a receipt, %d without",
		messages, len(h.calls), calls[accepted], calls[refused], calls[unknown], len(h.barriers), len(h.readBacks), len(h.reads))
}

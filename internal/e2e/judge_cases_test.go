package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// madeUp is a history that somebody made up, in milliseconds, about one log.
type madeUp struct {
	*history
	final map[string]reading
}

const madeUpLog = "guestbook"

// call makes an append of one or more messages.
func (m *madeUp) call(o outcome, sent, answered int, bodies ...string) *appendCall {
	c := &appendCall{
		log: madeUpLog, bodies: bodies, sent: time.Duration(sent) * time.Millisecond, answered: time.Duration(answered) * time.Millisecond,
		outcome: o, attempts: 1,
	}
	m.addCall(c)
	return c
}

// barrier makes a reached barrier, and what a read with its receipt showed.
func (m *madeUp) barrier(asked int, last uint64) {
	m.addBarrier(barrierCall{time.Duration(asked) * time.Millisecond, map[string]uint64{madeUpLog: last}})
}

// reads makes the final reading, of bodies in their order. All are of the producer p, or of the one named as in "q/body".
func (m *madeUp) reads(bodies ...string) {
	r := reading{last: uint64(len(bodies)), count: uint64(len(bodies))}
	for i, body := range bodies {
		producer := "p"
		if first, rest, ok := strings.Cut(body, "/"); ok {
			producer, body = first, rest
		}
		r.messages = append(r.messages, message{uint64(i + 1), fmt.Sprintf("0-%s-%d", producer, i+1), body})
	}
	m.final[madeUpLog] = r
}

// seenAt makes a page that a reader saw.
func (m *madeUp) seenAt(after, last uint64, messages ...message) {
	m.observe(madeUpLog, after, page{messages, last, last})
}

// sound is a history in which every promise is kept, though much went wrong.
func sound(m *madeUp) {
	m.call(accepted, 1, 3, "a")
	m.call(accepted, 2, 4, "b") // overlaps a
	m.call(accepted, 5, 6, "c1", "c2")
	m.call(refused, 5, 6, "d")
	c := m.call(unknown, 5, 0, "e")
	c.before, c.after = "pending", "pending"
	c = m.call(unknown, 6, 0, "f1", "f2")
	c.before, c.after = "persisted", "persisted"
	c = m.call(unknown, 6, 0, "g")
	c.before, c.after = "pending", "persisted"
	m.call(accepted, 7, 9, "h")
	m.barrier(3, 1)  // nothing was accepted before that
	m.barrier(10, 8) // more than it must
	m.addReadBack(readBack{madeUpLog, "a", 2, 2})
	m.seenAt(0, 2, message{1, "", "b"}, message{2, "", "a"})
	m.seenAt(1, 1) // of a replica that is behind
	m.reads("b", "a", "c1", "c2", "f1", "f2", "h", "g")
}

// judgeCases are histories, by what they show. Each breaks one promise, or none ("").
var judgeCases = map[string]struct {
	promise string
	make    func(*madeUp)
}{
	"a sound history breaks nothing": {"", sound},
	"an accepted append that is not there breaks P1": {"P1", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.reads("a")
	}},
	"a part of an accepted append that is not there breaks P1": {"P1", func(m *madeUp) {
		m.call(accepted, 1, 2, "a1", "a2")
		m.reads("a1")
	}},
	"an unknown append that is not there although its receipt said persisted breaks P1": {"P1", func(m *madeUp) {
		m.call(unknown, 1, 0, "a").before = "persisted"
		m.reads()
	}},
	"an accepted append that is there twice breaks P2": {"P2", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.reads("a", "a")
	}},
	"an unknown append that is there twice breaks P2": {"P2", func(m *madeUp) {
		m.call(unknown, 1, 0, "a")
		m.reads("a", "a")
	}},
	"a refused append that is there breaks P2": {"P2", func(m *madeUp) {
		m.call(refused, 1, 2, "a")
		m.reads("a")
	}},
	"a message that nobody has sent breaks P2": {"P2", func(m *madeUp) { m.reads("a") }},
	"a message in another log than it was sent to breaks P2": {"P2", func(m *madeUp) {
		m.call(unknown, 1, 0, "a").log = "orders"
		m.reads("a")
	}},
	"appends in the wrong order break P3": {"P3", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.reads("b", "a")
	}},
	"an unknown append before one that was answered before it was sent breaks P3": {"P3", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(unknown, 3, 0, "b")
		m.reads("b", "a")
	}},
	"the wrong order is noticed behind appends that were sent early": {"P3", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.call(unknown, 0, 0, "c")
		m.reads("b", "c", "a")
	}},
	"messages of one request in the wrong order break P3": {"P3", func(m *madeUp) {
		m.call(accepted, 1, 2, "a1", "a2", "a3")
		m.reads("a1", "a3", "a2")
	}},
	"without order across backends, appends through two may change places": {"", func(m *madeUp) {
		m.ordered = false
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.reads("q/b", "p/a")
	}},
	"without order across backends, appends through one may not": {"P3", func(m *madeUp) {
		m.ordered = false
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.call(accepted, 1, 2, "c")
		m.reads("p/b", "q/c", "p/a")
	}},
	"a gap in the positions breaks P4": {"P4", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.reads("a", "b")
		m.final[madeUpLog].messages[1].Position = 3
	}},
	"a last position that is not the last one breaks P4": {"P4", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.reads("a")
		r := m.final[madeUpLog]
		r.last = 2
		m.final[madeUpLog] = r
	}},
	"a wrong count breaks P4": {"P4", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.reads("a")
		r := m.final[madeUpLog]
		r.count = 0
		m.final[madeUpLog] = r
	}},
	"a position that showed something else before breaks P4": {"P4", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 1, 2, "b")
		m.seenAt(0, 1, message{1, "", "b"})
		m.reads("a", "b")
	}},
	"a position that two readers saw different messages at breaks P4": {"P4", func(m *madeUp) {
		m.call(unknown, 1, 0, "a")
		m.call(unknown, 1, 0, "b")
		m.seenAt(0, 1, message{1, "", "b"})
		m.seenAt(0, 1, message{1, "", "a"})
		m.reads("a")
	}},
	"a page with a gap breaks P4": {"P4", func(m *madeUp) {
		m.seenAt(1, 3, message{3, "", "a"})
	}},
	"a page that ends before the last position with nothing on it breaks P4": {"P4", func(m *madeUp) { m.seenAt(1, 2) }},
	"a position that was seen and is not there any more breaks P4": {"P4", func(m *madeUp) {
		m.call(unknown, 1, 0, "a")
		m.seenAt(0, 1, message{1, "", "a"})
		m.reads()
	}},
	"a message that was read back at another position breaks P4": {"P4", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 1, 2, "b")
		m.addReadBack(readBack{madeUpLog, "a", 2, 2})
		m.reads("a", "b")
	}},
	"a barrier without an append that was accepted before it breaks P5": {"P5", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.barrier(5, 1)
		m.reads("a", "b")
	}},
	"a receipt that says pending of what is there breaks P5": {"P5", func(m *madeUp) {
		m.call(unknown, 1, 0, "a").after = "pending"
		m.reads("a")
	}},
	"a read with a receipt that does not show its append breaks P6": {"P6", func(m *madeUp) {
		m.call(accepted, 1, 2, "a")
		m.call(accepted, 3, 4, "b")
		m.addReadBack(readBack{madeUpLog, "b", 1, 0})
		m.reads("a", "b")
	}},
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, test := range judgeCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &madeUp{newHistory(true), map[string]reading{}}
			test.make(m)
			var promises []string
			for _, v := range m.judge(m.final) {
				t.Log(v)
				promises = append(promises, v.promise)
			}
			promises = slices.Compact(promises)
			if test.promise == "" && len(promises) > 0 || test.promise != "" && !slices.Equal(promises, []string{test.promise}) {
				t.Errorf("it breaks %v, and should break %q", promises, test.promise)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]outcome{
		200: unknown, 201: accepted, 202: accepted, 302: unknown, 400: refused, 413: refused, 500: unknown, 502: unknown, 503: refused, 504: unknown,
	} {
		if got := outcomeOf(answer{status: status}, nil); got != want {
			t.Errorf("%d is %v, not %v", status, got, want)
		}
	}
	if got := outcomeOf(answer{}, io.ErrUnexpectedEOF); got != unknown {
		t.Errorf("no answer is %v", got)
	}
	_, err := get(t.Context(), "http://127.0.0.1:1/")
	if got := outcomeOf(answer{}, err); got != refused {
		t.Errorf("no connection (%v) is %v", err, got)
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	var found []violation
	for i := range 20 {
		found = append(found, violation{"P1", fmt.Sprint(i)})
	}
	found = append(found, violation{"P2", ""})
	if some := worst(found); len(some) != 6 || some[5].promise != "P2" {
		t.Errorf("the worst are %v", some)
	}
}

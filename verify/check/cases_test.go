package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/verify/history"
)

// judged is a story with what it breaks: nothing if broken is "", or these promises and no others.
type judged struct {
	broken       string
	inconclusive bool // it breaks nothing, and yet not everything could be seen
	tell         func(*story)
}

// many writes the messages of client 0 from one number to another.
func many(from, to int) string {
	var text strings.Builder
	for n := from; n <= to; n++ {
		fmt.Fprintf(&text, "0.%d ", n)
	}
	return text.String()
}

var cases = map[string]judged{
	"a run in which much went wrong, and no promise was broken": {tell: func(s *story) {
		s.append(done, 10, 30, "0.1")
		s.append(done, 20, 40, "1.1") // overlaps, and comes to stand before
		s.append(done, 50, 60, "0.2", 3)
		s.append(refused, 50, 60, "1.2")
		lost := s.append(unknown, 50, 90, "2.1")
		kept := s.append(unknown, 60, 90, "3.1", 2)
		late := s.append(unknown, 60, 90, "1.3")
		s.append(done, 70, 90, "0.5").Attempts = 3
		b := s.barrier(45, 65)
		s.behind(b, 66, 70, 0, 2, "1.1 0.1").Total = 2
		s.page(50, 55, 1, 1, "") // of a replica that is behind
		s.page(50, 55, 0, 0, "")
		s.tail(99, 0, "1.1 0.1 0.2")
		s.tail(100, 3, "0.3 0.4")
		s.reached()
		s.final(1, 1, "1.1 0.1 0.2 0.3 0.4 3.1 3.2 0.5")
		s.settle(lost, "pending")
		s.settle(kept, "persisted")
		s.settle(late, "pending")
		s.final(2, 1, "1.1 0.1 0.2 0.3 0.4 3.1 3.2 0.5 1.3") // it came at last
		s.end()
	}},

	// P1
	"the last message is lost": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.finish("0.1")
	}},
	"the last line of a batch is lost": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.finish("0.1 0.2")
	}},
	"a message that a tail had shown is lost": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.tail(50, 0, "0.1 0.2")
		s.finish("0.1")
	}},
	"a body is damaged": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.finish("0.1 0.2! 0.3")
	}},
	"the body of an unknown append is damaged": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.finish("0.1 1.1!")
	}},
	"an unknown append is not there": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 30, 40, "0.2")
		s.finish("0.1")
	}},
	"a part of an unknown batch is there": {tell: func(s *story) {
		s.append(unknown, 10, 20, "0.1", 3)
		s.append(done, 30, 40, "1.1")
		s.finish("0.1 0.2 1.1")
	}},
	"an unknown append is not there although its receipt said persisted": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		a := s.append(unknown, 30, 40, "0.2", 2)
		s.reached()
		s.final(1, 1, "0.1 0.2")
		s.settle(a, "persisted")
		s.final(2, 1, "0.1 0.2")
		s.end()
	}},
	"an unknown append came behind the final readings, and its receipt says so": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		a := s.append(unknown, 30, 40, "0.2")
		s.finals(1, "0.1")
		s.settle(a, "persisted")
		s.end()
	}},
	"an append that was answered behind the last barrier is not there": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, lastBarrier-1, lastBarrier+1, "1.1")
		s.finish("0.1")
	}},
	"a loss that only the count shows, behind a clear": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.finishFrom(3, "0.4")
	}},
	"a loss behind a clear that a foreign message makes up for": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.finishFrom(3, "0.4 ?")
	}},
	"a clear that was done removed what it may": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.finishFrom(4, "0.4")
	}},
	"a clear removed one message too many": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.append(done, 70, 80, "0.5")
		s.finishFrom(5, "0.5")
	}},
	"a clear removed one message too many that had been seen": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.append(done, 70, 80, "0.5")
		s.tail(90, 3, "0.4 0.5")
		s.finishFrom(5, "0.5")
	}},
	"a clear removed an append that it overlaps": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 60)
		s.append(done, 50, 55, "0.4")
		s.append(done, 70, 80, "0.5")
		s.finishFrom(5, "0.5")
	}},
	"an unknown clear took effect late": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(unknown, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.append(done, 70, 80, "0.5")
		s.finishFrom(5, "0.5")
	}},
	"an earlier attempt of a clear took effect late": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40).Attempts = 2
		s.append(done, 50, 60, "0.4")
		s.append(done, 70, 80, "0.5")
		s.finishFrom(5, "0.5")
	}},
	"a refused clear took effect": {broken: "P1 P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(refused, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.finishFrom(4, "0.4")
	}},
	"a clear of another log excuses nothing": {broken: "P1 P4", tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40).Log = other
		s.reached()
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "").Log = other
		}
		s.append(done, 50, 60, "0.4")
		s.finishFrom(4, "0.4")
	}},

	// P2
	"a message is there once more, 10,000 positions later": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 10_000)
		s.finish(many(1, 10_000) + "0.1")
	}},
	"an unknown append is there twice": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.finish("1.1 0.1 1.1")
	}},
	"an unknown append is there once": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.finish("1.1 0.1")
	}},
	"a refused append is there": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(refused, 10, 20, "1.1")
		s.finish("0.1 1.1")
	}},
	"a refused append was there until a clear: only the count shows it": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(refused, 10, 20, "1.1")
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.2")
		s.finishFrom(3, "0.2")
	}},
	"a conflicting append got in": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2").Conflicts = true
		s.finish("0.1 0.2")
	}},
	"a message that nobody has sent is there": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.finish("0.1 0.2")
	}},
	"a message whose append was on its way when the run was broken off": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.tail(30, 0, "0.1 0.2")
	}},
	"a message is in another log than it was sent to": {broken: "P1 P2", tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2").Log = other
		s.reached()
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "").Log = other
		}
		s.finish("0.1 0.2")
	}},
	"a message is in another log than it was sent to, and an unknown one takes its place": {broken: "P1 P2", tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.append(done, 10, 20, "0.1").Log = other
		s.append(unknown, 10, 20, "1.1").Log = other
		s.append(done, 30, 40, "2.1")
		s.reached()
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "1.1").Log = other
		}
		s.finish("0.1 2.1")
	}},
	"a message is in its log and in another one": {broken: "P2", tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2").Log = other
		s.reached()
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "0.2").Log = other
		}
		s.finish("0.1 0.2")
	}},
	"a foreign message": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.finish("0.1 ? 0.2")
	}},

	// P3
	"two appends in the wrong order": {broken: "P3", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 21, 30, "1.1")
		s.finish("1.1 0.1")
	}},
	"two appends that overlap stand either way round": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 20, 30, "1.1")
		s.finish("1.1 0.1")
	}},
	"an unknown append before one that had been answered when it was sent": {broken: "P3", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 21, 30, "1.1")
		s.finish("1.1 0.1")
	}},
	"an unknown append behind one that was sent after it was given up": {tell: func(s *story) {
		s.append(unknown, 10, 20, "0.1")
		s.append(done, 21, 30, "0.2")
		s.finish("0.2 0.1")
	}},
	"the wrong order behind many appends that were sent early": {broken: "P3", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		s.append(unknown, 5, 90, "2.1")
		s.append(unknown, 6, 90, "3.1")
		s.finish("1.1 2.1 3.1 0.1")
	}},
	"two messages of one request in the wrong order": {broken: "P3", tell: func(s *story) {
		s.append(unknown, 10, 20, "0.1", 3)
		s.append(done, 10, 20, "1.1")
		s.finish("0.1 0.3 1.1 0.2")
	}},
	"a pair of one client in the wrong order, sent at the instant of the answer": {broken: "P3", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 20, 30, "0.2")
		s.finish("0.2 0.1")
	}},
	"a pair of one client in the wrong order, through two backends": {broken: "P3", tell: func(s *story) {
		s.append(done, 10, 20, "0.1").Backend = "b1"
		s.append(done, 21, 30, "0.2").Backend = "b2"
		s.finish("0.2 0.1")
	}},
	"a pair through two backends, where order is promised of each": {tell: func(s *story) {
		s.run.Ordered = false
		s.append(done, 10, 20, "0.1").Backend = "b1"
		s.append(done, 21, 30, "0.2").Backend = "b2"
		s.finish("0.2 0.1")
	}},
	"a pair through one backend, where order is promised of each": {broken: "P3", tell: func(s *story) {
		s.run.Ordered = false
		s.append(done, 10, 20, "0.1").Backend = "b1"
		s.append(done, 12, 18, "1.1").Backend = "b2"
		s.append(done, 21, 30, "2.1").Backend = "b1"
		s.finish("2.1 1.1 0.1")
	}},
	"a pair of which one was sent twice, where order is promised of each backend": {tell: func(s *story) {
		s.run.Ordered = false
		s.append(done, 10, 20, "0.1").Backend = "b1"
		s.append(done, 21, 30, "1.1").Attempts = 2
		s.finish("1.1 0.1")
	}},
}

func init() {
	for _, more := range []map[string]judged{stateCases, otherCases, lastCases} {
		for name, c := range more {
			cases[name] = c
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			c.tell(s)
			r := s.judge()
			if got := broken(r); !slices.Equal(got, strings.Fields(c.broken)) {
				t.Errorf("broken are %q, want %q", got, strings.Fields(c.broken))
			}
			want := Held
			switch {
			case c.broken != "":
				want = Broken
			case c.inconclusive:
				want = Inconclusive
			}
			if r.Verdict != want || r.Verdict == Inconclusive && r.Reason == "" {
				t.Errorf("the verdict is %s (%q), want %s", r.Verdict, r.Reason, want)
			}
			checkExamples(t, r)
			if t.Failed() {
				for _, p := range r.Promises {
					t.Logf("%s %s: %s; %d violations, %+v", p.Promise, p.State, p.Checked, p.Violations, p.Examples)
				}
			}
		})
	}
}

// checkExamples checks that every promise called broken has meaningful examples.
func checkExamples(t *testing.T, r Result) {
	t.Helper()
	for _, p := range r.Promises {
		bad := (p.State == PromiseBroken) != (p.Violations > 0)
		if bad || len(p.Examples) != min(p.Violations, MaxExamples) || p.Checked == "" && p.State != PromiseBroken {
			t.Errorf("%s is %s with %d violations and %d examples, %q", p.Promise, p.State, p.Violations, len(p.Examples), p.Checked)
		}
		for _, e := range p.Examples {
			if e.Log == "" && !strings.Contains(e.Found, " rows; ") || e.Expected == "" || e.Found == "" {
				t.Errorf("%s has an example that does not say what is wrong: %+v", p.Promise, e)
			}
		}
	}
}

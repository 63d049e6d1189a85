package check

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

func init() {
	maps.Copy(cases, availableCases)
	maps.Copy(cases, letterCases)
}

// times are times of a story.
func times(ms ...int) (all []time.Duration) {
	for _, t := range ms {
		all = append(all, at(t))
	}
	return all
}

// fails adds an append whose first attempts ended unknown at these times, and whose last one was accepted.
func (s *story) fails(start, end int, first string, unknownAt ...int) *history.Append {
	a := s.append(done, start, end, first)
	a.UnknownAt, a.Attempts = times(unknownAt...), len(unknownAt)+1
	return a
}

// healthy says that the deployment was found healthy.
func (s *story) healthy(ms int) {
	s.add(history.Line{Health: &history.Health{At: at(ms), When: "between", OK: true}})
}

// availableCases are about P7. In each, something is accepted under each fault, unless that is what it is about.
var availableCases = map[string]judged{
	// Attempts that end unknown
	"an attempt ended unknown while the database was down, and a later one was accepted": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 1100, 1200, "1.1")
		s.fails(2000, 13_000, "0.1", 12_000)
		s.finish("1.1 0.1")
	}},
	"an attempt ended unknown before the database was down, and a later one was accepted": {tell: func(s *story) {
		s.fails(100, 1050, "0.1", 900)
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 1100, 1200, "1.1")
		s.finish("0.1 1.1")
	}},
	"an attempt that had been sent before the database was down ended unknown meanwhile": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.fails(990, 11_500, "0.1", 10_990)
		s.append(done, 1100, 1200, "1.1")
		s.finish("1.1 0.1")
	}},
	"the last attempt while the database was down ended unknown when it was back": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 3000)
		s.append(done, 1100, 1200, "1.1")
		s.fails(2900, 13_000, "0.1", 12_900)
		s.finish("1.1 0.1")
	}},
	"an attempt ended unknown that was sent when the database was being started": {tell: func(s *story) {
		s.fault("no database", true, 1000, 3000)
		s.append(done, 1100, 1200, "1.1")
		s.fails(3000, 13_500, "0.1", 13_000)
		s.finish("1.1 0.1")
	}},
	"an append that the end of the run cut off while the database was down": {tell: func(s *story) {
		s.fault("no database", true, 1000, 3000)
		s.append(done, 1100, 1200, "1.1")
		s.append(unknown, 1300, 1400, "0.1")
		s.finish("1.1")
	}},
	"an append that the end of the run cut off when it had waited for eight seconds": {tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 1100, 1200, "1.1")
		s.append(unknown, 1300, 9300, "0.1")
		s.finish("1.1")
	}},
	"an append that the end of the run cut off after an attempt had ended unknown": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 1100, 1200, "1.1")
		a := s.append(unknown, 1300, 15_000, "0.1")
		a.UnknownAt, a.Attempts = times(11_300), 2
		s.finish("1.1")
	}},

	// Other faults, under which appends need not be accepted
	"an attempt was refused long before the broker was down, and the append retried until then": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 10_000, 29_000)
		s.fault("no broker", false, 30_000, 35_000)
		s.append(done, 11_000, 11_100, "1.1")
		a := s.append(done, 11_500, 36_000, "0.1")
		a.RefusedAt, a.Attempts = times(12_000, 31_000), 3
		s.finish("1.1 0.1")
	}},
	"an attempt was refused while the broker was down too": {tell: func(s *story) {
		s.fault("no database", true, 10_000, 40_000)
		s.fault("no broker", false, 30_000, 35_000)
		s.append(done, 11_000, 11_100, "1.1")
		a := s.append(done, 29_500, 36_000, "0.1")
		a.RefusedAt, a.Attempts = times(31_000), 2
		s.finish("1.1 0.1")
	}},
	"an attempt that was under way when the broker was killed ended unknown when it was back": {tell: func(s *story) {
		s.fault("no database", true, 10_000, 60_000)
		s.fault("no broker", false, 30_000, 35_000)
		s.append(done, 11_000, 11_100, "1.1")
		s.fails(34_900, 46_000, "0.1", 44_900)
		s.finish("1.1 0.1")
	}},
	"an attempt that was sent when the broker was back ended unknown": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 10_000, 60_000)
		s.fault("no broker", false, 30_000, 35_000)
		s.append(done, 11_000, 11_100, "1.1")
		s.fails(35_010, 46_000, "0.1", 45_010)
		s.finish("1.1 0.1")
	}},
	"an attempt that was sent before all was well after the broker's death ended unknown under the next fault": {tell: func(s *story) {
		s.fault("no broker", false, 1000, 2000)
		s.fails(3000, 13_500, "0.1", 13_000)
		s.healthy(4000)
		s.fault("no database", true, 5000, 20_000)
		s.append(done, 6000, 6100, "1.1")
		s.finish("1.1 0.1")
	}},
	"an attempt that was sent when all was well after the broker's death ended unknown under the next fault": {broken: "P7", tell: func(s *story) {
		s.fault("no broker", false, 1000, 2000)
		s.healthy(4000)
		s.fault("no database", true, 5000, 20_000)
		s.fails(4100, 14_500, "0.1", 14_100)
		s.append(done, 6000, 6100, "1.1")
		s.finish("1.1 0.1")
	}},
	"an attempt ended unknown long after the broker was back, with no look at the health before the database was": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 500, 30_000)
		s.fault("no broker", false, 1000, 2000)
		s.append(done, 3000, 3100, "1.1")
		s.fails(4000, 14_500, "0.1", 14_000)
		s.healthy(31_000)
		s.finish("1.1 0.1")
	}},

	// Appends that wait
	"every append waited until the database was back": {broken: "P7", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no database", true, 1000, 5000)
		s.append(done, 990, 5100, "0.2")
		s.append(done, 1500, 5100, "1.1")
		s.finish("0.1 0.2 1.1")
	}},
	"every append waited until the database was back, but for one whose answer was on its way": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 5000)
		s.append(done, 990, 1005, "0.1")
		s.append(done, 1006, 5100, "0.2")
		s.finish("0.1 0.2")
	}},
	"every append waited until the database was back, and then ended unknown for another fault": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 9000)
		s.fails(1500, 11_500, "0.1", 9200)
		s.fault("no backend", false, 9100, 11_000)
		s.finish("0.1")
	}},
	"an append was accepted while another one waited until the database was back": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no database", true, 1000, 5000)
		s.append(done, 990, 5100, "0.2")
		s.append(done, 1500, 2100, "1.1")
		s.finish("0.1 1.1 0.2")
	}},
	"every append to one log waited until the database was back": {broken: "P7", tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.fault("no database", true, 1000, 5000)
		s.append(done, 1100, 5100, "0.1")
		s.append(done, 1500, 2500, "1.1").Log = other
		s.finishTwo(other, "0.1", "1.1")
	}},
	"appends to both logs were accepted, and later ones waited until the database was back": {tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.fault("no database", true, 1000, 9000)
		s.append(done, 1100, 2100, "0.1")
		s.append(done, 1500, 2500, "1.1").Log = other
		s.append(done, 5500, 9100, "0.2")
		s.append(done, 5500, 9100, "1.2").Log = other
		s.finishTwo(other, "0.1 0.2", "1.1 1.2")
	}},
	"a time too short to say whether appends wait for its end": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no database", true, 1000, 3900)
		s.append(done, 990, 4100, "0.2")
		s.append(done, 1500, 4100, "1.1")
		s.finish("0.1 0.2 1.1")
	}},
	"every append waited for exactly three seconds until the database was back": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 5000)
		s.append(done, 1100, 1200, "0.1")
		s.append(done, 2000, 5000, "0.2")
		s.finish("0.1 0.2")
	}},
	"every append waited for almost three seconds until the database was back": {tell: func(s *story) {
		s.fault("no database", true, 1000, 5000)
		s.append(done, 1100, 1200, "0.1")
		s.append(done, 2001, 5000, "0.2")
		s.finish("0.1 0.2")
	}},
	"an append waited to be persisted, as it asked for, until the database was back": {tell: func(s *story) {
		s.fault("no database", true, 1000, 12_500)
		s.append(done, 1100, 1200, "0.1")
		s.append(done, 1500, 12_600, "0.2").Waited = true
		s.finish("0.1 0.2")
	}},
	"nobody asked for nine of ten seconds": {tell: func(s *story) {
		s.fault("no database", true, 1000, 11_000)
		s.append(done, 1100, 1200, "0.1")
		s.append(done, 10_500, 11_100, "0.2")
		s.finish("0.1 0.2")
	}},
	"every append waited that had been sent while the broker was down": {inconclusive: true, tell: func(s *story) {
		s.fault("no broker", false, 500, 800)
		s.append(done, 600, 5100, "0.1")
		s.fault("no database", true, 1000, 5000)
		s.finish("0.1")
	}},
	"every append waited, until the broker was down too": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.fault("no broker", false, 5000, 8000)
		a := s.append(done, 1500, 9000, "0.1")
		a.RefusedAt, a.Attempts = times(5500), 2
		s.append(done, 9500, 9600, "0.2")
		s.finish("0.1 0.2")
	}},
	"an append waited for eleven seconds while others were accepted": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 2000, 13_000, "0.1")
		s.append(done, 3000, 3100, "1.1")
		s.append(done, 12_000, 12_100, "1.2")
		s.finish("1.1 1.2 0.1")
	}},
	"an append waited for ten seconds while others were accepted": {tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 2000, 12_000, "0.1")
		s.append(done, 3000, 3100, "1.1")
		s.finish("1.1 0.1")
	}},
	"an append waited for eleven seconds, of which nine were within the fault": {tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 3000, 3100, "1.1")
		s.append(done, 11_000, 22_000, "0.1")
		s.append(done, 12_000, 12_100, "1.2")
		s.finish("1.1 1.2 0.1")
	}},
	"an append was tried again for eleven seconds, and it is not known since when for the last time": {tell: func(s *story) {
		s.fault("no database", true, 1000, 20_000)
		s.append(done, 2000, 13_000, "0.1").Attempts = 3
		s.append(done, 3000, 3100, "1.1")
		s.finish("1.1 0.1")
	}},

	// Faults that nobody looked at
	"one of two faults came when nobody appended": {inconclusive: true, tell: func(s *story) {
		s.fault("no database", true, 1000, 5000)
		s.append(done, 2000, 2100, "0.1")
		s.fault("no consumer", true, 11_000, 15_000)
		s.append(done, 16_000, 16_100, "0.2")
		s.finish("0.1 0.2")
	}},
	"a fault came a second time when nobody appended": {tell: func(s *story) {
		s.fault("no database", true, 1000, 5000)
		s.append(done, 2000, 2100, "0.1")
		s.fault("no database", true, 11_000, 15_000)
		s.finish("0.1")
	}},
	"a fault that was over when it was done, beside one that was not": {inconclusive: true, tell: func(s *story) {
		s.fault("no database", true, 1000, 5000)
		s.append(done, 2000, 2100, "0.1")
		s.fault("no consumer", true, 11_000, 11_000)
		s.append(done, 10_900, 11_100, "0.2")
		s.finish("0.1 0.2")
	}},
	"a fault during which appends need not be accepted all the time": {inconclusive: true, tell: func(s *story) {
		s.fault("no broker", false, 1000, 6000)
		s.fault("no database", true, 2000, 5000)
		s.append(done, 2500, 2600, "0.1")
		s.finish("0.1")
	}},
}

// letterCases are about P9.
var letterCases = map[string]judged{
	"an accepted message is a dead letter beside one that has to be": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.conflict(50, 60, "0.3")
		s.letter("0.3")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a request with a message that the store refuses": {tell: func(s *story) {
		s.settle(s.unfit("0.1", 3, 2), "rejected")
		s.letter("0.2")
		s.finish("0.1 0.3")
	}},
	"a request with a message that the store refuses, which is in the log": {broken: "P2", tell: func(s *story) {
		s.unfit("0.1", 3, 2)
		s.finish("0.1 0.2 0.3")
	}},
	"a request with a message that the store refuses, which is nowhere": {broken: "P9", tell: func(s *story) {
		s.unfit("0.1", 3, 2)
		s.finish("0.1 0.3")
	}},
	"a request with a message that the store refuses, whose receipt says persisted": {broken: "P9", tell: func(s *story) {
		s.settle(s.unfit("0.1", 3, 2), "persisted")
		s.letter("0.2")
		s.finish("0.1 0.3")
	}},
	"a request with a message that the store refuses, beside which another one is lost": {broken: "P1", tell: func(s *story) {
		s.unfit("0.1", 3, 2)
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a request with a message that the store refuses, beside which another one is a dead letter": {broken: "P9", tell: func(s *story) {
		s.unfit("0.1", 3, 2)
		s.letter("0.2")
		s.letter("0.3")
		s.finish("0.1")
	}},
	"a read with the receipt of a request with a message that the store refuses": {tell: func(s *story) {
		s.unfit("0.1", 3, 2)
		s.letter("0.2")
		s.page(30, 40, 0, 2, "0.1 0.3").Holds = "0.1"
		s.finish("0.1 0.3")
	}},
	"a message of an unknown append is a dead letter": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 30, 40, "0.2")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a message that every answer refused is a dead letter": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(refused, 30, 40, "0.2")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a receipt says rejected of what is not a dead letter": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.settle(s.append(unknown, 30, 40, "0.2"), "rejected")
		s.finish("0.1")
	}},
	"a receipt says rejected of what is in the log": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.settle(s.append(unknown, 30, 40, "0.2"), "rejected")
		s.finish("0.1 0.2")
	}},
	"a receipt says rejected of a batch that is in the log": {broken: "P9", tell: func(s *story) {
		s.settle(s.append(unknown, 30, 40, "0.1", 3), "rejected")
		s.append(done, 50, 60, "1.1")
		s.finish("0.1 0.2 0.3 1.1")
	}},
	"a receipt says rejected of a batch that is in the log but for one message, which is nowhere": {broken: "P9", tell: func(s *story) {
		s.settle(s.append(unknown, 30, 40, "0.1", 3), "rejected")
		s.append(done, 50, 60, "1.1")
		s.finish("0.1 0.2 1.1")
	}},
	"a receipt of another attempt says rejected of what is in the log": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		a := s.append(unknown, 30, 40, "0.2")
		a.Attempts = 2
		s.settle(a, "rejected")
		s.finish("0.1 0.2")
	}},
	"a receipt says rejected of what is not a dead letter, of which not all were listed": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.settle(s.append(unknown, 30, 40, "0.2"), "rejected")
		s.finish("0.1")
		s.lines[len(s.lines)-1].End.Complete = false
	}},
	"a receipt says rejected of what may be the dead letter that cannot be told": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.settle(s.append(unknown, 30, 40, "0.2"), "rejected")
		s.letter("?")
		s.finish("0.1")
	}},
	"a conflicting append of which it is not known whether it was accepted is a dead letter": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		a := s.append(unknown, 30, 40, "0.2")
		a.Conflicts = true
		s.settle(a, "rejected")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a conflicting append of which it was not known whether it was accepted is rejected, and in the log": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		a := s.append(unknown, 30, 40, "0.2")
		a.Conflicts = true
		s.settle(a, "rejected")
		s.finish("0.1 0.2")
	}},
	"a conflicting append of which it was not known whether it was accepted is rejected, and no dead letter": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		a := s.append(unknown, 30, 40, "0.2")
		a.Conflicts = true
		s.settle(a, "rejected")
		s.finish("0.1")
	}},
}

// finishTwo ends a run whose first log and another one have these messages.
func (s *story) finishTwo(other int, messages, others string) {
	s.reached()
	for which := 1; which <= 2; which++ {
		s.final(which, 1, others).Log = other
	}
	s.shown = nil
	s.finish(messages)
}

func TestMostMessagesAreDeadLetters(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1", 51)
	for _, m := range strings.Fields(many(1, 50)) {
		s.letter(m)
		s.letter(m) // the list was read again
	}
	s.finish("0.51")
	if p := promise(t, s.judge(), "P9"); p.Violations != 50 {
		t.Errorf("P9 is %+v", p)
	}
}

func TestADeadLetterThatIsInTheLogIsCountedOnce(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1")
	s.settle(s.append(unknown, 30, 40, "0.2"), "rejected")
	s.letter("0.2")
	s.finish("0.1 0.2")
	if p := promise(t, s.judge(), "P9"); p.Violations != 1 || !strings.HasPrefix(p.Examples[0].Found, "both; ") || p.Examples[0].Position != 2 {
		t.Errorf("P9 is %+v", p)
	}
}

func TestP7SaysWhatHappened(t *testing.T) {
	t.Parallel()
	for want, tell := range map[string]func(*story){
		"not known to be accepted or refused after 10.000 s; a later one was accepted": func(s *story) { s.fails(2000, 13_000, "0.1", 12_000) },
		"or refused (connection reset) after 10.000 s; a later one was accepted": func(s *story) {
			s.fails(2000, 13_000, "0.1", 12_000).UnknownWhy = "connection reset"
		},
		"under way since 2.000 s, for 11.000 s of that time":        func(s *story) { s.append(done, 2000, 13_000, "0.1") },
		"under way since 9.000 s, and not answered before 15.000 s": func(s *story) { s.append(done, 9000, 15_100, "0.1") },
		"not known to be accepted or refused, the last time with status 504: no answer": func(s *story) {
			a := s.append(unknown, 2000, 12_000, "0.1")
			a.UnknownAt, a.Status, a.Error = times(12_000), 504, "no answer"
		},
	} {
		s := newStory(t)
		s.fault("no database", true, 1000, 15_000)
		tell(s)
		s.finish("0.1")
		if p := promise(t, s.judge(), "P7"); p.Violations != 1 || !strings.Contains(p.Examples[0].Found, want) {
			t.Errorf("P7 is %+v, want %q", p, want)
		}
	}
}

func TestP7NamesWhatNobodyLookedAt(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	for i, name := range []string{"a", "b", "a", "c", "c", "b"} {
		s.fault(name, true, 1000+i*2000, 2000+i*2000)
	}
	s.append(done, 1100, 1200, "0.1")
	s.finish("0.1")
	want := `not looked at, for no append was sent and accepted while in force: "b", "c"`
	if p := promise(t, s.judge(), "P7"); p.State != PromiseUnchecked || p.Checked != want {
		t.Errorf("P7 is %+v, want %s", p, want)
	}
	s = newStory(t)
	s.fault("a", true, 1000, 2000)
	s.append(done, 1100, 1200, "0.1")
	s.fault("a", true, 3000, 4000)
	s.finish("0.1")
	want = "1 appends under 1 faults; under 1 more no append was sent and accepted, so they say nothing"
	if p := promise(t, s.judge(), "P7"); p.State != PromiseHeld || p.Checked != want {
		t.Errorf("P7 is %+v, want %s", p, want)
	}
}

package check

import "github.com/drainmark/drainmark/verify/history"

// stateCases are about what states show: P4, P5 and P6.
var stateCases = map[string]judged{
	// P4
	"a position changed its message after a failover": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 30, "0.1")
		s.append(done, 10, 30, "1.1")
		s.append(done, 10, 30, "2.1")
		s.page(40, 50, 0, 2, "0.1 1.1")
		s.finish("0.1 2.1 1.1")
	}},
	"a position changed its message, and the message itself moved to where nobody had looked": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 30, "0.1")
		s.append(done, 10, 30, "1.1")
		s.tail(50, 0, "0.1")
		s.finish("1.1 0.1")
	}},
	"a message changed at its position": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 30, "0.1")
		s.tail(50, 0, "0.1")
		s.finish("0.1~")
	}},
	"the first final reading lacks one message in the middle": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 4)
		first := s.final(1, 1, "0.1 0.2")
		first.Last, first.Total = 4, 4
		gap := s.final(1, 4, "0.4")
		gap.Gap, gap.Total = true, 4
		s.final(2, 1, "0.1 0.2 0.3 0.4")
		s.end()
	}},
	"the first final reading lacks one message between two pages": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 4)
		first := s.final(1, 1, "0.1 0.2")
		first.Last, first.Total, first.Limit = 4, 4, 2
		second := s.final(1, 4, "0.4")
		second.After, second.Total, second.Limit = 2, 4, 2
		s.final(2, 1, "0.1 0.2 0.3 0.4")
		s.end()
	}},
	"a final reading in several pages, of which one was cut short": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 5)
		for i, part := range []string{"0.1 0.2", "0.3", "0.4 0.5"} {
			r := s.final(1, []uint64{1, 3, 4}[i], part)
			r.After, r.Last, r.Total, r.Limit, r.Bytes = r.From-1, 5, 5, 2, pageBytes
		}
		s.final(2, 1, many(1, 5))
		s.end()
	}},
	"a page of small messages lacks its last one": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 5)
		r := s.page(30, 40, 0, 5, "0.1 0.2 0.3 0.4")
		r.Bytes = 400
		s.finish(many(1, 5))
	}},
	"a page of a log that is cleared begins where the log does, and has as much as it may": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 5)
		s.clear(done, 22, 25)
		s.append(done, 30, 35, "1.1", 2)
		r := s.page(40, 50, 0, 7, "1.1 1.2")
		r.From, r.Total, r.Limit = 6, 2, 4
		s.finishFrom(6, "1.1 1.2")
	}},
	"positions began again behind the clear that the run began with": {broken: "P4", tell: func(s *story) {
		s.add(history.Line{Base: &history.Base{Base: 0, Before: 7}})
		s.append(done, 10, 20, "0.1")
		s.finish("0.1")
	}},
	"positions went on behind the clear that the run began with": {tell: func(s *story) {
		s.add(history.Line{Base: &history.Base{Base: 8, Before: 7}})
		s.append(done, 10, 20, "0.1")
		s.finishFrom(9, "0.1")
	}},
	"the clear that the run began with left the message from before it": {broken: "clear", tell: func(s *story) {
		s.add(history.Line{Base: &history.Base{Base: 8, Before: 7, Shown: 8, Count: 1}})
		s.add(history.Line{End: &history.End{At: at(theEnd), Reason: "the log is not empty"}})
	}},
	"somebody else wrote behind the clear that the run began with": {inconclusive: true, tell: func(s *story) {
		s.add(history.Line{Base: &history.Base{Base: 9, Before: 7, Shown: 9, Count: 1}})
		s.add(history.Line{End: &history.End{At: at(theEnd), Reason: "the log is not empty"}})
	}},
	"a page of a log that is cleared lacks one message in the middle": {broken: "P4", tell: func(s *story) {
		s.clear(done, 5, 15)
		s.append(done, 10, 20, "0.1", 3)
		s.page(30, 40, 0, 3, "0.1")
		gap := s.page(30, 40, 0, 3, "0.3")
		gap.From, gap.Gap = 3, true
		s.finish("0.1 0.2 0.3")
	}},
	"an empty page before the end": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.page(30, 40, 1, 2, "")
		s.finish("0.1 0.2")
	}},
	"an empty page before the end of a log that is being cleared": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.clear(done, 35, 50)
		s.page(30, 40, 1, 2, "").Total = 0
		s.append(done, 60, 70, "0.3")
		s.finishFrom(3, "0.3")
	}},
	"a page with more than was asked for": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.page(30, 40, 0, 3, "0.1 0.2 0.3").Limit = 2
		s.finish("0.1 0.2 0.3")
	}},
	"a page with what is not behind the position that was asked for": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.page(30, 40, 1, 3, "0.1 0.2 0.3").From = 1
		s.finish("0.1 0.2 0.3")
	}},
	"a page whose last position is before its own messages": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.page(30, 40, 0, 2, "0.1 0.2 0.3")
		s.finish("0.1 0.2 0.3")
	}},
	"a tail that skips a position": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.tail(30, 0, "0.1")
		s.tail(40, 1, "0.3").From = 3
		s.finish("0.1 0.2 0.3")
	}},
	"a tail that skips what was cleared": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.tail(30, 0, "0.1")
		s.clear(done, 31, 32)
		s.append(done, 33, 34, "0.3")
		s.tail(40, 1, "0.3").From = 3
		s.finishFrom(3, "0.3")
	}},
	"a tail that was ended for its positions": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.tail(30, 1, "").Wrong = "position 1 behind position 1"
		s.finish("0.1")
	}},
	"a second final reading that begins later": {broken: "P1 P4 P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.final(1, 1, "0.1 0.2")
		s.final(2, 2, "0.2")
		s.end()
	}},
	"a second final reading that begins later, for an unknown clear came late": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.clear(unknown, 30, 40)
		s.final(1, 1, "0.1 0.2")
		s.final(2, 2, "0.2")
		s.end()
	}},
	"a second final reading that begins earlier": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 40, "0.1")
		s.append(done, 10, 50, "1.1")
		s.clear(done, 30, 45)
		s.final(1, 2, "0.1")
		s.final(2, 1, "1.1 0.1").Total = 1
		s.end()
	}},
	"a second final reading that begins earlier, of a replica that an unknown clear has not come to": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.clear(unknown, 30, 40)
		s.final(1, 2, "0.2")
		s.final(2, 1, "0.1 0.2")
		s.end()
	}},
	"a second final reading that ends earlier": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.tail(90, 1, "1.1")
		s.final(1, 1, "0.1 1.1")
		s.final(2, 1, "0.1")
		s.end()
	}},
	"a second final reading that ends earlier, of a replica that an unknown append has not come to": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.final(1, 1, "0.1 1.1")
		s.final(2, 1, "0.1")
		s.end()
	}},
	"an unknown append was seen, and its position is gone": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.tail(30, 0, "0.1 1.1")
		s.finish("0.1")
	}},
	"something from before the run in a state of the run": {broken: "P4", tell: func(s *story) {
		s.run.Logs[0].Base = 5
		s.append(done, 10, 20, "0.1")
		s.page(30, 40, 0, 6, "? 0.1").From = 5
		s.finishFrom(6, "0.1")
	}},
	"something from before the run, of a replica that is behind": {tell: func(s *story) {
		s.run.Logs[0].Base = 5
		s.append(done, 10, 20, "0.1")
		s.page(30, 40, 0, 5, "? ?").From = 4
		s.tail(50, 0, "? ? 0.1").From = 4
		s.finishFrom(6, "0.1")
	}},

	// P5
	"a barrier that was one message early": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		b := s.barrier(21, 30)
		s.behind(b, 31, 40, 0, 1, "0.1")
		s.finish("0.1 0.2")
	}},
	"a barrier that was asked for at the instant of an answer": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		b := s.barrier(20, 30)
		s.behind(b, 31, 40, 0, 1, "0.1")
		s.finish("0.1 0.2")
	}},
	"a barrier that was early for one append of many, which was answered first": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 10, 90, "1.1")
		s.append(done, 10, 30, "2.1")
		b := s.barrier(50, 60)
		s.behind(b, 61, 70, 0, 2, "2.1 1.1")
		s.finish("2.1 1.1 0.1")
	}},
	"a barrier, shown by another backend without its receipt": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		b := s.barrier(21, 30)
		r := s.behind(b, 31, 40, 0, 1, "0.1")
		r.Carries, r.Backend = false, "b2"
		s.finish("0.1 0.2")
	}},
	"a barrier that was early, shown by its own backend without its receipt": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		b := s.barrier(21, 30)
		s.behind(b, 31, 40, 0, 1, "0.1").Carries = false
		s.finish("0.1 0.2")
	}},
	"a barrier for another log": {tell: func(s *story) {
		other := s.log(history.Log{Name: "orders"})
		s.append(done, 10, 20, "0.1", 2)
		b := s.barrier(21, 30)
		b.Logs = []int{other}
		s.behind(b, 31, 40, 0, 1, "0.1")
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "").Log = other
		}
		s.finish("0.1 0.2")
	}},
	"a barrier that was not reached": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		b := s.barrier(21, 30)
		b.Outcome, b.State = unknown, "pending"
		s.behind(b, 31, 40, 0, 1, "0.1")
		s.finish("0.1 0.2")
	}},
	"a count behind a barrier that lacks one": {broken: "P5", tell: func(s *story) {
		s.append(done, 5, 10, "0.1")
		s.append(done, 11, 20, "0.2")
		b := s.barrier(21, 30)
		s.behind(b, 31, 40, highest, 2, "").Total = 1
		s.finish("0.1 0.2")
	}},
	"a count behind a barrier that has one too many": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.append(refused, 10, 20, "1.1")
		b := s.barrier(21, 30)
		s.behind(b, 31, 40, highest, 2, "").Total = 3
		s.finish("0.1 0.2")
	}},
	"a count behind a barrier that has what was unknown or sent meanwhile": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.append(unknown, 10, 20, "1.1")
		s.append(done, 35, 45, "2.1")
		b := s.barrier(21, 30)
		s.behind(b, 31, 40, highest, 4, "").Total = 4
		s.finish("0.1 0.2 1.1 2.1")
	}},
	"a final reading that is early": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.final(1, 1, "0.1 0.2")
		s.final(2, 1, "0.1")
		s.end()
	}},
	"a receipt that is pending behind the last barrier, and all is there": {broken: "P5", tell: func(s *story) {
		a := s.append(unknown, 10, 20, "0.1", 2)
		s.append(done, 30, 40, "1.1")
		s.final(1, 1, "0.1 0.2 1.1")
		s.settle(a, "pending")
		s.final(2, 1, "0.1 0.2 1.1")
		s.end()
	}},
	"a receipt that is pending behind the last barrier, of one of several attempts": {tell: func(s *story) {
		a := s.append(unknown, 10, 20, "0.1", 2)
		a.Attempts = 2
		s.append(done, 30, 40, "1.1")
		s.final(1, 1, "0.1 0.2 1.1")
		s.settle(a, "pending")
		s.final(2, 1, "0.1 0.2 1.1")
		s.end()
	}},
	"a receipt that is pending behind the last barrier, and a part is there": {tell: func(s *story) {
		a := s.append(unknown, 10, 20, "0.1", 2)
		s.append(done, 30, 40, "1.1")
		s.final(1, 1, "0.1 1.1")
		s.settle(a, "pending")
		s.final(2, 1, "0.1 1.1")
		s.end()
	}},
	"a receipt that was pending before the message was seen": {tell: func(s *story) {
		a := s.append(unknown, 10, 20, "0.1", 2)
		s.append(done, 30, 40, "1.1")
		s.settle(a, "pending")
		s.finals(1, "0.1 0.2 1.1")
		s.end()
	}},

	// P6
	"a read that went back in time on another replica": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.page(45, 50, 0, 2, "0.1 0.2").Holds = "0.2"
		r := s.page(55, 60, 0, 1, "0.1")
		r.Holds, r.Backend, r.Target = "0.2", "b2", 1
		s.finish("0.1 0.2")
	}},
	"a read that went back in time without a receipt": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.page(45, 50, 0, 2, "0.1 0.2")
		s.page(55, 60, 0, 1, "0.1").Backend = "b2"
		s.finish("0.1 0.2")
	}},
	"a read with a batch's receipt that shows all but its last line": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.page(45, 50, 0, 2, "0.1 0.2").Holds = "0.1"
		s.finish("0.1 0.2 0.3")
	}},
	"a read with the receipt of an unknown append that is nowhere": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 30, 40, "0.2")
		s.page(45, 50, 0, 1, "0.1").Holds = "0.2"
		s.finish("0.1")
	}},
	"a read with the receipt of a message that was cleared before anybody saw it": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 30, 40, "0.2")
		s.clear(done, 42, 44)
		s.page(45, 50, 0, 2, "").Holds = "0.2"
		s.append(done, 60, 70, "0.3")
		s.finishFrom(3, "0.3")
	}},
	"a read with a receipt that was refused": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		r := s.page(45, 50, 0, 0, "")
		r.Holds, r.Outcome, r.Status = "0.1", refused, 412
		s.finish("0.1")
	}},
}

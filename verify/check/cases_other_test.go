package check

import (
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// otherCases are about P7, P9, clears, the model, and what keeps a run from being judged.
var otherCases = map[string]judged{
	// P7
	"one append was refused while the database was down": {broken: "P7", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no database", true, 30, 60)
		s.append(refused, 31, 40, "0.2")
		s.append(done, 41, 50, "0.3")
		s.finish("0.1 0.3")
	}},
	"an append was refused at the last instant of a fault that was never healed": {broken: "P7", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.add(history.Line{Fault: &history.Fault{Name: "no database", Phase: "run", Start: at(25), End: at(30), OK: true, Writes: true}})
		s.append(refused, 90_000, 90_001, "0.2")
		s.finish("0.1")
	}},
	"an append was refused while the fault's command ran, and another when it was being healed": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no database", true, 30, 60)
		s.append(refused, 29, 40, "0.2")
		s.append(done, 41, 50, "0.3")
		s.append(refused, 60, 61, "0.4")
		s.finish("0.1 0.3")
	}},
	"an append was unknown while the database was down": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 30, 60)
		s.append(unknown, 31, 40, "0.1").UnknownAt = []time.Duration{at(40)}
		s.append(done, 41, 50, "0.2")
		s.finish("0.2")
	}},
	"an append was refused while the broker was down": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no broker", false, 30, 60)
		s.append(refused, 31, 40, "0.2")
		s.finish("0.1")
	}},
	"an append was refused while both were down": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no broker", false, 35, 60)
		s.fault("no database", true, 30, 90)
		s.append(refused, 31, 40, "0.2")
		s.append(done, 80, 81, "0.3")
		s.finish("0.1 0.3")
	}},
	"the second of two faults of one name": {broken: "P7", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.fault("no database", true, 30, 40)
		s.append(refused, 45, 46, "0.2")
		s.fault("no database", true, 50, 60)
		s.append(refused, 55, 56, "0.3")
		s.finish("0.1")
	}},

	// P9
	"a conflicting append was rejected, and is a dead letter": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "0.2")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a dead letter that nobody listed": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "0.2")
		s.conflict(50, 60, "0.3")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a barrier that was reached says that nothing is set aside, though a message before it is a dead letter": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "0.2")
		s.barrier(50, 60).SetAside = new(uint64)
		s.letter("0.2")
		s.finish("0.1")
	}},
	"barriers that were reached say what is set aside": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "0.2")
		s.conflict(55, 56, "0.3") // while it was asked for: it may be counted, or not
		one, more := uint64(1), uint64(7)
		s.barrier(50, 60).SetAside = &one
		s.barrier(70, 80).SetAside = &more // somebody else's are among them
		s.barrier(20, 25).SetAside = new(uint64)
		s.barrier(90, 95) // a deployment that does not say
		elsewhere := s.barrier(90, 95)
		elsewhere.Logs, elsewhere.SetAside = []int{1}, new(uint64)
		s.letter("0.2")
		s.letter("0.3")
		s.finish("0.1")
	}},
	"a conflicting append whose receipt says persisted": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.settle(s.conflict(30, 40, "0.2"), "persisted")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"a conflicting append that was not accepted": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 30, 40, "0.2").Conflicts = true
		s.finish("0.1")
	}},
	"an accepted message is a dead letter and not in the log": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.letter("0.2")
		s.finish("0.1")
	}},
	"an accepted message is a dead letter and in the log": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "0.2")
		s.letter("0.2")
		s.finish("0.1 0.2")
	}},

	// Clears
	"a clear left one message": {broken: "clear", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.finishFrom(3, "0.3 0.4")
	}},
	"a clear left a message that it overlaps": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.append(done, 10, 30, "1.1")
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.3")
		s.finishFrom(3, "1.1 0.3")
	}},
	"a clear whose receipt was never persisted left a message": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40).Settled = "pending"
		s.append(done, 50, 60, "0.4")
		s.finishFrom(3, "0.3 0.4")
	}},
	"a page shows what a clear had removed beside what was appended afterwards": {broken: "clear", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.page(70, 80, 2, 4, "0.3 0.4")
		s.finishFrom(4, "0.4")
	}},
	"a page of a replica that is behind shows what a clear had removed": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.4")
		s.page(70, 80, 2, 3, "0.3")
		s.finishFrom(4, "0.4")
	}},
	"a page behind a barrier shows what a clear had removed": {broken: "clear", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.behind(s.barrier(45, 50), 51, 55, 2, 3, "0.3")
		s.append(done, 60, 70, "0.4")
		s.finishFrom(4, "0.4")
	}},
	"the first of two clears left a message": {broken: "clear", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.3")
		s.page(61, 62, 1, 3, "0.2 0.3")
		s.clear(done, 70, 80)
		s.append(done, 90, 95, "0.4")
		s.finishFrom(4, "0.4")
	}},

	"a clear left one message, and one that it overlaps had been sent long before": {broken: "clear", tell: func(s *story) {
		s.clear(done, 1, 70)
		s.append(done, 10, 20, "0.1", 2)
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.3")
		s.append(done, 80, 90, "0.4")
		s.finishFrom(2, "0.2 0.3 0.4")
	}},
	"a page shows what a clear had removed beside the second of two that overlap": {broken: "clear", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 30, 40)
		s.append(done, 50, 65, "0.4")
		s.append(done, 55, 60, "1.1")
		s.page(70, 80, 2, 4, "0.3 1.1")
		s.finishFrom(4, "1.1 0.4")
	}},

	// The model
	"a log whose every strong read is explained": {tell: func(s *story) {
		s.run.Logs[0].Model = true
		s.append(done, 10, 40, "0.1")
		s.append(unknown, 10, 40, "1.1")
		s.behind(s.barrier(15, 20), 21, 25, 0, 0, "")
		s.append(done, 26, 45, "2.1")
		s.behind(s.barrier(50, 55), 56, 60, 0, 2, "0.1 2.1")
		s.clear(done, 57, 70)
		s.clear(unknown, 58, 70)
		s.append(done, 80, 90, "2.2")
		r := s.behind(s.barrier(95, 97), 98, 99, 0, 4, "2.2")
		r.From, r.Total = 4, 1
		s.finishFrom(4, "2.2")
	}},
	"two strong reads that saw two overlapping appends each without the other": {broken: "linearizable", tell: func(s *story) {
		// Nothing else sees it: each read shows what was accepted before its barrier, which is nothing.
		s.run.Logs[0].Model = true
		s.clear(done, 10, 90)
		s.append(done, 10, 90, "0.1")
		s.append(done, 10, 90, "1.1")
		b := s.barrier(20, 25)
		s.behind(b, 26, 30, 0, 1, "0.1")
		r := s.behind(s.barrier(40, 45), 46, 50, 0, 0, "")
		r.Total = 0
		s.finish("0.1 1.1")
	}},
	"a strong read without what an earlier one had cleared": {broken: "linearizable", tell: func(s *story) {
		s.run.Logs[0].Model = true
		s.append(done, 1, 5, "0.1")
		s.clear(done, 10, 90)
		s.behind(s.barrier(20, 25), 26, 30, 0, 1, "")
		s.behind(s.barrier(40, 45), 46, 50, 0, 1, "0.1")
		s.append(done, 91, 92, "0.2")
		s.finishFrom(2, "0.2")
	}},
	"where order is promised of each backend, there is no model": {tell: func(s *story) {
		s.run.Ordered = false
		s.run.Logs[0].Model = true
		s.append(done, 10, 20, "0.1").Backend = "b1"
		s.append(done, 21, 30, "0.2").Backend = "b2"
		s.finish("0.2 0.1")
	}},

	"a clear from before the first append, through another backend, where order is promised of each": {tell: func(s *story) {
		s.run.Ordered = false
		s.clear(done, 5, 8).Backend = "b1"
		s.append(done, 10, 20, "0.1").Backend = "b2"
		s.append(done, 21, 30, "0.2").Backend = "b2"
		s.finishFrom(2, "0.2")
	}},
	"a clear from before the first append, through the same backend, where order is promised of each": {broken: "P1", tell: func(s *story) {
		s.run.Ordered = false
		s.clear(done, 5, 8).Backend = "b1"
		s.append(done, 10, 20, "0.1").Backend = "b1"
		s.append(done, 21, 30, "0.2").Backend = "b1"
		s.finishFrom(2, "0.2")
	}},

	// These keep a run from being judged
	"a run that was broken off": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.finals(1, "0.1")
	}},
	"a run that was not complete": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.finish("0.1")
		s.lines[len(s.lines)-1].End.Complete = false
	}},
	"a loss in a run that was broken off": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.finals(1, "0.1")
	}},
	"a fault that could not be made": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.add(history.Line{Fault: &history.Fault{Name: "no broker", Phase: "run", Start: at(25), End: at(30)}})
		s.finish("0.1")
	}},
	"a deployment that did not work afterwards": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.add(history.Line{Health: &history.Health{At: at(90), When: "after", Detail: "no answer"}})
		s.finish("0.1")
	}},
	"a log that could not be read to its end": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		for final := 1; final <= 2; final++ {
			r := s.final(final, 1, "0.1 0.2")
			r.Last, r.Total, r.Limit = 3, 3, 2
		}
		s.end()
	}},
	"a message twice, of which the copy behind was seen sooner": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		r := s.page(50, 60, 2, 3, "0.1")
		r.Limit = 1
		s.finish("0.1 1.1 0.1")
	}},
	"an attempt refused while the database was away, and accepted later": {broken: "P7", tell: func(s *story) {
		s.fault("no database", true, 100, 900)
		s.append(done, 200, 1500, "0.1").RefusedAt = []time.Duration{at(300)}
		s.finish("0.1")
	}},
	"an attempt refused before the database was away": {tell: func(s *story) {
		s.fault("no database", true, 100, 900)
		s.append(done, 50, 400, "0.1").RefusedAt = []time.Duration{at(60)}
		s.append(done, 200, 400, "1.1")
		s.finish("0.1 1.1")
	}},
	"somebody else cleared the log, and wrote to it": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.append(done, 30, 40, "1.1")
		s.finishFrom(4, "1.1 ?")
	}},
	"a stalled barrier, behind which something is missing that the deployment misses too": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.last = s.barrier(lastBarrier, lastBarrier+1)
		s.last.Outcome, s.last.State, s.last.Missing = unknown, "stalled", 1
		s.finish("0.1 0.2")
	}},
	"a stalled barrier, behind which nothing is missing": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.last = s.barrier(lastBarrier, lastBarrier+1)
		s.last.Outcome, s.last.State, s.last.Missing = unknown, "stalled", 1
		s.finals(1, "0.1 0.2 0.3")
		s.add(history.Line{End: &history.End{At: at(theEnd), Reason: "a barrier is stalled"}})
	}},
	"a stalled barrier of a deployment that misses nothing": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.last = s.barrier(lastBarrier, lastBarrier+1)
		s.last.Outcome, s.last.State = unknown, "stalled"
		s.finish("0.1 0.2")
	}},
	"a last barrier that was not reached": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.reached()
		s.last.Outcome, s.last.State, s.last.Held = unknown, "pending", false
		s.finish("0.1 0.2")
	}},
	"a last barrier that was for another log": {inconclusive: true, tell: func(s *story) {
		s.log(history.Log{Name: "orders"})
		s.append(done, 10, 20, "0.1", 3)
		s.reached()
		s.last.Logs = []int{1}
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "").Log = 1
		}
		s.finish("0.1 0.2")
	}},
	"a log that was read only once": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.final(1, 1, "0.1")
		s.end()
	}},
}

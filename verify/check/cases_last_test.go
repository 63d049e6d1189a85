package check

// lastCases are about what the final readings are held to, and about histories that end early.
var lastCases = map[string]judged{
	"a reading by a backend that is behind, and no last barrier was reached": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		s.page(45, 46, 0, 2, "0.1 1.1")
		s.barrier(50, 55)
		s.last = s.barrier(lastBarrier, lastBarrier+1)
		s.last.Outcome, s.last.State = unknown, "stalled"
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "0.1").Backend = "b2"
		}
		s.end()
	}},
	"a reading by another backend than the one that misses something": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		s.last = s.barrier(lastBarrier, lastBarrier+1)
		s.last.Outcome, s.last.State, s.last.Missing = unknown, "stalled", 1
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "0.1").Backend = "b2"
		}
		s.end()
	}},
	"a reading that carries the receipt of a barrier, another of which is stalled": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		s.reached()
		stalled := s.barrier(lastBarrier+2, lastBarrier+3)
		stalled.Outcome, stalled.State, stalled.Missing = unknown, "stalled", 1
		for final := 1; final <= 2; final++ {
			s.final(final, 1, "0.1").Backend = "b2"
		}
		s.end()
	}},
	"a state without what the same backend had called persisted": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		r := s.page(50, 60, 0, 1, "0.1")
		r.Holds, r.Told = "1.1", "b1"
		s.finish("0.1 1.1")
	}},
	"a state without what another backend had called persisted": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		r := s.page(50, 60, 0, 1, "0.1")
		r.Holds, r.Told = "1.1", "b2"
		s.finish("0.1 1.1")
	}},
	"events that stop before the log's end": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.tail(30, 0, "0.1")
		r := s.tail(90, 1, "")
		r.Outcome, r.Error = unknown, "nothing came for 30s behind position 1, and the log goes on to 3"
		s.finish("0.1 0.2 0.3")
	}},
	"events that skip what a clear has removed": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 21, 22, "1.1")
		s.tail(23, 0, "0.1")
		s.clear(done, 25, 30)
		s.append(done, 31, 40, "2.1")
		s.tail(50, 1, "2.1").From = 3
		s.finishFrom(3, "2.1")
	}},
	"events that skip what nobody has removed": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.tail(30, 0, "0.1")
		s.tail(50, 1, "0.3").From = 3
		s.finish("0.1 0.2 0.3")
	}},
	"a count that has an append that was under way when the run was broken off": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		r := s.behind(s.barrier(30, 40), 41, 50, highest, 1, "")
		r.Total = 2
	}},
	"a count that is too high": {broken: "P5", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		r := s.behind(s.barrier(30, 40), 41, 50, highest, 1, "")
		r.Total = 2
		s.finish("0.1")
	}},
	"a page from where the log begins, with a count that lacks one": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.page(30, 40, 0, 3, "0.1 0.2 0.3").Total = 2
		s.finish("0.1 0.2 0.3")
	}},
	"a page from where a clear has left off, with a count that has what was cleared": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 22, 25)
		s.append(done, 30, 35, "0.4")
		s.page(40, 50, 1, 4, "0.4").From = 4
		s.finishFrom(4, "0.4")
	}},
	"a page from further behind than where the log begins": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.clear(done, 22, 25)
		s.append(done, 30, 35, "0.4", 2)
		s.page(40, 50, 4, 5, "0.5").Total = 2
		s.finishFrom(4, "0.4 0.5")
	}},
	"a page without its first message, when the run that clears was broken off": {inconclusive: true, tell: func(s *story) {
		s.run.Logs[0].Clears = true
		s.append(done, 10, 20, "0.1", 3)
		r := s.page(30, 40, 0, 3, "0.2 0.3")
		r.From, r.Total = 2, 2
	}},
	"a page without its first message, when a run that does not clear was broken off": {broken: "P4", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.page(30, 40, 0, 3, "0.2 0.3").From = 2
	}},
}

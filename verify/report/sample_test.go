package report

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// story writes a history line by line, as a run does, and reads it back.
type story struct {
	out    bytes.Buffer
	writer *history.Writer
}

func newStory(run history.Run) *story {
	s := &story{}
	s.writer = history.NewWriter(&s.out)
	run.Version = history.Version
	s.writer.Write(history.Line{Run: &run})
	return s
}

func (s *story) write(l history.Line) { s.writer.Write(l) }

func (s *story) load(t testing.TB) *history.History {
	t.Helper()
	if err := s.writer.Flush(); err != nil {
		t.Fatal(err)
	}
	h, err := history.Load(&s.out)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// sampleRun is what the long made-up runs have in common.
func sampleRun(clients int) history.Run {
	return history.Run{
		ID: "00c0ffee00c0ffee", StartedAt: time.Date(2026, 11, 22, 9, 38, 4, 0, time.UTC), Seed: 20261122, Clients: clients,
		Targets: []string{"http://127.0.0.1:8081", "http://127.0.0.1:8082"},
		Logs:    []history.Log{{Name: "verify-00c0ffee-a"}, {Name: "verify-00c0ffee-b"}}, Ordered: true,
		Plan: "every 60 s one of: kill the master for 10 s, kill a consumer, cut the broker off for 5 s",
	}
}

// sample is a run of a length with a number of appends, with faults of 10 seconds, evenly spread: in every third the
// database is down, in the others appends are refused or not answered. A tail follows both logs.
func sample(t testing.TB, appends, faults int, length time.Duration) (*history.History, check.Result) {
	t.Helper()
	s := &longRun{story: newStory(sampleRun(sampleClients)), random: rand.New(rand.NewPCG(1, 2)), length: length}
	s.writeFaults(faults)
	for i := range appends {
		at := time.Duration(float64(length) * (float64(i) + .5) / float64(appends) * .97)
		kind, left := s.fault(at)
		s.writeAppend(i, at, kind, left)
		if at-s.counted > length/600 {
			s.writeCount(at, kind)
		}
	}
	s.write(history.Line{Health: &history.Health{At: time.Millisecond, When: "before", OK: true}})
	s.write(history.Line{Health: &history.Health{At: length - time.Second, When: "after", OK: true}})
	s.write(history.Line{End: &history.End{At: length, Complete: true}})
	return s.load(t), s.result(appends)
}

const sampleClients = 64

// longRun is a long made-up run as far as it is written.
type longRun struct {
	*story
	random  *rand.Rand
	length  time.Duration
	windows []check.Window

	tails   [2]history.Read // the last read of each log
	numbers [sampleClients]uint64

	persisted, pending uint64
	counted            time.Duration // when those were written last

	done, refused, unknown int
}

func (s *longRun) writeFaults(faults int) {
	names := []string{"kill master", "cut broker off", "kill backend"}
	for i := range faults {
		from := s.length / time.Duration(faults) * time.Duration(i) * 9 / 10
		from += s.length / time.Duration(faults) / 4
		until := from + min(10*time.Second, s.length/time.Duration(2*faults))
		name := names[i%len(names)]
		s.write(history.Line{Fault: &history.Fault{Name: name, Phase: "run", Start: from, End: from + 50*time.Millisecond, OK: true,
			Output: "stopped process 4711"}})
		s.write(history.Line{Fault: &history.Fault{Name: name, Phase: "heal", Start: until - 50*time.Millisecond, End: until, OK: true}})
		s.windows = append(s.windows, check.Window{Name: name, Writes: i%3 == 0, From: from.Seconds(), Until: until.Seconds(), Healed: true,
			Appends: check.Traffic{Sent: 1200, Done: 1200, LongestGapMs: 18.25}, Reads: check.Traffic{Sent: 420, Done: 420, LongestGapMs: 71}})
	}
}

// fault returns which of the three faults there is at a time, -1 for none, and how long it is still to last.
func (s *longRun) fault(at time.Duration) (kind int, left time.Duration) {
	for i, w := range s.windows {
		if from, until := windowTimes(&w); at >= from && at < until {
			return i % 3, until - at
		}
	}
	return -1, 0
}

// writeAppend writes what becomes of an append.
func (s *longRun) writeAppend(i int, at time.Duration, kind int, left time.Duration) {
	client, log := i%sampleClients, i%2
	s.numbers[client]++
	took := time.Duration(float64(time.Millisecond) * (1 + s.random.ExpFloat64()*2))
	a := history.Append{Call: history.Call{Client: client, Start: at, End: at + took, Target: i % 2, Outcome: history.Done, Status: 202},
		Log: log, First: s.numbers[client], Count: 1}
	seen := at + took + time.Duration(float64(time.Millisecond)*(2+s.random.ExpFloat64()*6))
	switch {
	case kind == 0:
		seen = at + left + time.Duration(s.random.Float64()*float64(800*time.Millisecond))
	case kind == 1 && s.random.IntN(3) == 0:
		a.Outcome, a.Status, a.End = history.Refused, 503, at+2*time.Second
	case kind == 1:
		a.End = at + left + 20*time.Millisecond
		seen = a.End + 8*time.Millisecond
	case kind == 2 && s.random.IntN(5) == 0:
		a.Outcome, a.Status, a.End, a.Error = history.Unknown, 0, at+3*time.Second, "connection reset"
	}
	s.write(history.Line{Append: &a})
	switch a.Outcome {
	case history.Refused:
		s.refused++
	case history.Unknown:
		s.unknown++
	default:
		s.done++
		s.pending++
		s.writeTail(log, seen, history.Message{Client: client, Number: s.numbers[client]})
	}
}

// writeTail writes that the tail of a log has seen a message.
func (s *longRun) writeTail(log int, seen time.Duration, m history.Message) {
	tail := &s.tails[log]
	tail.Call = history.Call{Client: sampleClients - 1, Start: tail.End, End: max(tail.End, seen), Outcome: history.Done}
	tail.Log, tail.Tail, tail.After, tail.From = log, true, tail.From, tail.From+1
	tail.Seen = []string{history.Seen{Message: m, Digest: 7}.String()}
	s.write(history.Line{Read: tail})
}

// writeCount writes how much is persisted, which is nearly everything unless the database is down.
func (s *longRun) writeCount(at time.Duration, kind int) {
	if kind != 0 {
		s.persisted, s.pending = s.persisted+s.pending, uint64(s.random.IntN(4))
	}
	s.write(history.Line{Sample: &history.Sample{At: at, Target: 0, Pending: s.pending, Exact: kind != 1, Persisted: s.persisted, Failed: kind == 2}})
	s.counted = at
}

// result is how the run is judged.
func (s *longRun) result(appends int) check.Result {
	whole := check.Window{Until: s.length.Seconds(), Healed: true, Appends: check.Traffic{Sent: appends, Done: s.done, Refused: s.refused,
		Unknown: s.unknown, LongestGapMs: 3120}, Reads: check.Traffic{Sent: 20_400, Done: 20_391, Refused: 9, LongestGapMs: 411}}
	r := sampleResult()
	r.Appends = check.Appends{Messages: appends, Clients: sampleClients, Requests: appends, Done: s.done, Refused: s.refused, Unknown: s.unknown}
	r.Windows = append([]check.Window{whole}, s.windows...)
	r.Seconds, r.Figures.AppendsPerSecond = s.length.Seconds(), float64(s.done)/s.length.Seconds()
	return r
}

// sampleResult has a broken promise, one that was not checked, and the others held.
func sampleResult() check.Result {
	client := 17
	r := check.Result{
		Verdict: check.Broken, Run: "00c0ffee00c0ffee", StartedAt: time.Date(2026, 11, 22, 9, 38, 4, 0, time.UTC),
		Figures: check.Figures{ReachedAfterMs: 6.2},
	}
	titles := []string{"P1", "accepted is durable", "P2", "exactly once, in effect", "P3", "order", "P4", "positions",
		"P5", "the barrier never lies", "P6", "read your writes", "P7", "writes survive the database", "P9", "nothing vanishes",
		"clear", "a clear removes exactly what precedes it", "linearizable", "one log behind all answers"}
	for i := 0; i < len(titles); i += 2 {
		r.Promises = append(r.Promises, check.Promise{Promise: titles[i], Title: titles[i+1], State: check.PromiseHeld,
			Checked: "58,112 messages of 64 clients in 2 logs"})
	}
	r.Promises[8].State, r.Promises[8].Checked = check.PromiseUnchecked, "no log was cleared in this run"
	two := &r.Promises[1]
	two.State, two.Violations = check.PromiseBroken, 8
	for i := range check.MaxExamples {
		two.Examples = append(two.Examples, check.Violation{Log: "verify-00c0ffee-a", Position: uint64(20_412 + i), Client: &client, Number: uint64(330 + i),
			At: 231.5, Expected: "one place for a message", Found: fmt.Sprintf("the message is at position %d too", 10_408+i)})
	}
	return r
}

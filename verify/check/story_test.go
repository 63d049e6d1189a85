package check

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/verify/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	done    = history.Done
	refused = history.Refused
	unknown = history.Unknown
)

// story is a made-up history. Its times are milliseconds, and its messages are written as in the file: "3.17" is client
// 3's message 17. The results of its methods may be changed until the story is told.
type story struct {
	t        testing.TB
	run      history.Run
	lines    []history.Line
	appends  []*history.Append
	barriers int
	last     *history.Barrier // from behind which the final readings are
	shown    []string         // what the final readings of the first log show
}

// newStory begins a run of four clients on the log guestbook, at two targets.
func newStory(t testing.TB) *story {
	return &story{t: t, run: history.Run{
		Version: history.Version, ID: "00000000000000aa", Targets: []string{"http://one", "http://two"}, Clients: 4, Ordered: true,
		Logs: []history.Log{{Name: "guestbook"}},
	}}
}

// at is a time of the story.
func at(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

func (s *story) add(l history.Line) { s.lines = append(s.lines, l) }

// log adds a log, and returns its index.
func (s *story) log(l history.Log) int {
	s.run.Logs = append(s.run.Logs, l)
	return len(s.run.Logs) - 1
}

// append adds an append of one message, or of as many as count says from that one on.
func (s *story) append(o history.Outcome, start, end int, first string, count ...int) *history.Append {
	m, err := history.ParseMessage(first)
	if err != nil {
		s.t.Fatal(err)
	}
	a := &history.Append{
		Call: history.Call{Client: m.Client, Start: at(start), End: at(end), Outcome: o, Backend: "b1"}, First: m.Number, Count: 1,
	}
	if len(count) > 0 {
		a.Count = count[0]
	}
	s.add(history.Line{Append: a})
	s.appends = append(s.appends, a)
	return a
}

// settle says what an append's receipt said.
func (s *story) settle(a *history.Append, state string) {
	s.add(history.Line{Settle: &history.Settle{Client: a.Client, First: a.First, State: state}})
}

// seen writes messages as they were read. Each has its own digest. "3.17~" is the message 3.17 with another one,
// "3.17!" is damaged, and "?" is somebody else's.
func (s *story) seen(messages string) (all []string) {
	for _, text := range strings.Fields(messages) {
		name, damaged := strings.CutSuffix(text, "!")
		name, other := strings.CutSuffix(name, "~")
		m, err := history.ParseMessage(name)
		if err != nil {
			s.t.Fatal(err)
		}
		digest := uint32(m.Client*1_000_003) + uint32(m.Number)
		if other {
			digest++
		}
		all = append(all, history.Seen{Message: m, Digest: digest, Damaged: damaged}.String())
	}
	return all
}

// page adds a page of the first log, of up to 1,000 messages behind a position.
func (s *story) page(start, end int, after, last uint64, messages string) *history.Read {
	r := &history.Read{
		Call:  history.Call{Client: 9, Start: at(start), End: at(end), Outcome: done, Backend: "b1"},
		After: after, Limit: 1000, Last: last, Total: last, Seen: s.seen(messages),
	}
	if len(r.Seen) > 0 {
		r.From = after + 1
	}
	s.add(history.Line{Read: r})
	return r
}

// tail adds what somebody who follows the first log received.
func (s *story) tail(end int, after uint64, messages string) *history.Read {
	r := s.page(end-1, end, after, 0, messages)
	r.Tail, r.Limit, r.Total = true, 0, 0
	return r
}

// barrier adds a barrier for all logs that was reached.
func (s *story) barrier(start, end int) *history.Barrier {
	s.barriers++
	b := &history.Barrier{
		Call: history.Call{Client: 9, Start: at(start), End: at(end), Outcome: done, Backend: "b1"}, Number: s.barriers, State: "reached",
	}
	s.add(history.Line{Barrier: b})
	return b
}

// behind adds a page from behind a barrier.
func (s *story) behind(b *history.Barrier, start, end int, after, last uint64, messages string) *history.Read {
	r := s.page(start, end, after, last, messages)
	r.Barrier, r.Carries = b.Number, true
	return r
}

// clear adds a clear of the first log.
func (s *story) clear(o history.Outcome, start, end int) *history.Clear {
	c := &history.Clear{Call: history.Call{Client: 8, Start: at(start), End: at(end), Outcome: o, Backend: "b1"}}
	if o == done {
		c.Settled = "persisted"
	}
	s.add(history.Line{Clear: c})
	return c
}

// fault adds a fault, which is in force from its command's end to the start of the one that heals it.
func (s *story) fault(name string, writes bool, from, until int) {
	s.add(history.Line{Fault: &history.Fault{Name: name, Phase: "run", Start: at(from - 5), End: at(from), OK: true, Writes: writes}})
	s.add(history.Line{Fault: &history.Fault{Name: name, Phase: "heal", Start: at(until), End: at(until + 5), OK: true}})
}

// conflict adds an append with another message's key, which was rejected as it must be.
func (s *story) conflict(start, end int, first string) *history.Append {
	a := s.append(done, start, end, first)
	a.Conflicts = true
	s.settle(a, "rejected")
	return a
}

// unfit adds an accepted append of so many messages. The store refuses one of them.
func (s *story) unfit(first string, count int, refused uint64) *history.Append {
	a := s.append(done, 10, 20, first, count)
	a.Unfit = []uint64{refused}
	return a
}

// letter adds a dead letter.
func (s *story) letter(message string) {
	s.add(history.Line{Letter: &history.Letter{Message: message, Reason: "refused"}})
}

// The times of a story's last steps.
const (
	lastBarrier = 100_000
	firstFinal  = 101_000
	secondFinal = 102_000
	theEnd      = 103_000
)

// reached adds the last barrier, whose receipt the final readings carry.
func (s *story) reached() {
	if s.last == nil {
		s.last = s.barrier(lastBarrier, lastBarrier+1)
		s.last.Held = true
	}
}

// final adds one of the two final readings of the first log, from a position on.
func (s *story) final(which int, from uint64, messages string) *history.Read {
	s.reached()
	seen := s.seen(messages)
	last := from + uint64(len(seen)) - 1
	start := map[int]int{1: firstFinal, 2: secondFinal}[which]
	r := s.page(start, start+1, 0, last, messages)
	r.Final, r.Total, r.Target, r.Limit = which, uint64(len(seen)), which-1, max(r.Limit, len(seen))
	s.shown = append(s.shown, strings.Fields(messages)...)
	if len(seen) > 0 {
		r.From = from
	}
	return r
}

// finals adds both final readings of the first log.
func (s *story) finals(from uint64, messages string) {
	s.final(1, from, messages)
	s.final(2, from, messages)
}

// end adds the last line, and before it a read with the receipt of something that is in the log, as every run has some.
func (s *story) end() {
	for _, a := range s.appends {
		last := history.Message{Client: a.Client, Number: a.First + uint64(a.Count) - 1}.String()
		if a.Outcome == done && !a.Conflicts && a.Log == 0 && slices.Contains(s.shown, last) {
			s.page(theEnd-2, theEnd-1, highest, highest, "").Holds = last
			break
		}
	}
	s.add(history.Line{End: &history.End{At: at(theEnd), Complete: true}})
}

// finish ends a run whose log has these messages, from position 1 on.
func (s *story) finish(messages string) { s.finishFrom(1, messages) }

func (s *story) finishFrom(from uint64, messages string) {
	s.finals(from, messages)
	s.end()
}

// told writes the story down.
func (s *story) told() []byte {
	var file bytes.Buffer
	w := history.NewWriter(&file)
	w.Write(history.Line{Run: &s.run})
	for _, l := range s.lines {
		w.Write(l)
	}
	if err := w.Flush(); err != nil {
		s.t.Fatal(err)
	}
	return file.Bytes()
}

// judge writes the story down, reads it back, and judges it.
func (s *story) judge() Result {
	s.t.Helper()
	h, err := history.Load(bytes.NewReader(s.told()))
	if err != nil {
		s.t.Fatal(err)
	}
	return Judge(h, Options{ModelTime: 10 * time.Second})
}

// broken returns the promises that a result says to be broken.
func broken(r Result) (all []string) {
	for _, p := range r.Promises {
		if p.State == PromiseBroken {
			all = append(all, p.Promise)
		}
	}
	return all
}

// promise returns what a result says of a promise.
func promise(t testing.TB, r Result, name string) Promise {
	t.Helper()
	i := slices.IndexFunc(r.Promises, func(p Promise) bool { return p.Promise == name })
	if i < 0 {
		t.Fatalf("the result has no promise %q", name)
	}
	return r.Promises[i]
}

// highest is a position behind every log's end.
const highest = math.MaxInt64

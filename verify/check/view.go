package check

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// never is when something ends that may still happen at any time.
const never = time.Duration(math.MaxInt64)

// view is a history, prepared for several checks.
type view struct {
	*history.History
	logs     []logView
	reached  map[int]*history.Barrier // the barriers that were reached, by their numbers
	tops     []uint64                 // of each append: the highest position of its messages, 0 if none was seen
	lows     []uint64                 // and the lowest
	letters  map[history.Message]bool // dead letters
	strayed  map[history.Message]bool // messages seen first in a log that they were not sent to
	rows     *rows                    // of the user's own table, nil if none was read
	lastCall time.Duration            // when the last call ended
}

// logView is a log, prepared for several checks.
type logView struct {
	*history.LogView
	index    int
	clears   []clearing
	cleared  time.Duration        // when the first of them was sent, never if there are none
	until    time.Duration        // the latest until of them, 0 if there are none
	readings []reading            // the final ones that went on to the end
	barrier  *history.Barrier     // the last one whose promise they are held to, nil if there was none
	from     uint64               // the first position that all of the final readings showed
	last     uint64               // the last position that any of them named
	strange  int                  // messages seen that are not expected: foreign, second copies, refused, …
	foreign  []uint64             // the positions of messages of somebody else
	unnamed  int                  // dead letters that do not say which message they are
	all      *timeline            // of all appends
	groups   map[string]*timeline // of those among which order is promised
}

// clearing is a clear that may have removed messages of the run.
type clearing struct {
	*history.Clear
	until time.Duration // when it had surely been accepted, never if it or another attempt may still come
}

// reading is one final reading of a log.
type reading struct {
	pages []*history.Read
	begun int    // the index of its first page
	from  uint64 // the first position shown
	last  uint64 // the highest last position named
}

// read says whether the log was read to its end behind a barrier.
func (l *logView) read() bool { return len(l.readings) > 0 && l.barrier != nil }

func newView(h *history.History) *view {
	v := &view{
		History: h, logs: make([]logView, len(h.Logs)), reached: map[int]*history.Barrier{},
		letters: map[history.Message]bool{}, strayed: map[history.Message]bool{},
	}
	for i := range h.Logs {
		v.logs[i] = logView{LogView: &h.Logs[i], index: i, cleared: never}
		if l := &v.logs[i]; h.End == nil && l.Clears { // calls under way when the run was broken off are not written
			l.clears = append(l.clears, clearing{&history.Clear{Call: history.Call{Outcome: history.Unknown}, Log: i}, never})
			l.cleared, l.until = 0, never
		}
	}
	for i := range h.Barriers {
		if b := &h.Barriers[i]; b.Outcome == history.Done {
			v.reached[b.Number] = b
		}
	}
	for _, letter := range h.Letters {
		m, err := history.ParseMessage(letter.Message)
		if err != nil || m == history.Nobody {
			v.logs[letter.Log].unnamed++
			continue
		}
		v.letters[m] = true
	}
	v.findStrangers()
	v.findClears()
	v.findForeignClears()
	v.findReadings()
	v.measure()
	v.rows = v.findRows()
	v.findLastCall()
	return v
}

// findStrangers looks for what is not expected in the logs.
func (v *view) findStrangers() {
	for i := range v.logs {
		l := &v.logs[i]
		for at := range l.Places {
			p := &l.Places[at]
			position := l.Base + 1 + uint64(at)
			if !p.Known {
				continue
			}
			if p.Message == history.Nobody {
				l.strange++
				if !p.Damaged {
					l.foreign = append(l.foreign, position)
				}
				continue
			}
			a, was := v.AppendOf(p.Message), v.PositionOf(p.Message)
			first := was == position
			if a == nil || a.Log != i || !first && !l.changed(was) || !expected(a) {
				l.strange++
			}
			if a != nil && a.Log != i && first {
				v.strayed[p.Message] = true
			}
		}
	}
}

// changed says whether a position came to mean something else, or may have: then the message that was there has moved.
func (l *logView) changed(position uint64) bool {
	return l.ChangeCount > len(l.Changes) || slices.ContainsFunc(l.Changes, func(c history.Change) bool { return c.Position == position })
}

// expected says whether an append's messages may be in a log.
func expected(a *history.Append) bool { return a.Outcome != history.Refused && !a.Conflicts }

// hopeless says whether a message of an append can be nothing but a dead letter.
func hopeless(a *history.Append, m history.Message) bool {
	return a.Conflicts || slices.Contains(a.Unfit, m.Number)
}

// findClears finds the clears that may have removed messages of the run. One that was over before the first append was
// sent cannot, unless order is promised of each backend alone. A clear that was sent several times is several clears, and an earlier one may come late.
func (v *view) findClears() {
	begun := make([]time.Duration, len(v.logs))
	for i := range begun {
		begun[i] = never
	}
	for i := range v.Appends {
		a := &v.Appends[i]
		begun[a.Log] = min(begun[a.Log], a.Start)
	}
	for i := range v.Clears {
		c := clearing{Clear: &v.Clears[i], until: never}
		if c.Outcome == history.Refused {
			continue
		}
		if c.Outcome == history.Done && c.Attempts <= 1 {
			c.until = c.End
		}
		if l := &v.logs[c.Log]; c.until > begun[c.Log] || !v.Run.Ordered {
			l.clears = append(l.clears, c)
			l.cleared, l.until = min(l.cleared, c.Start), max(l.until, c.until)
		}
	}
}

// findForeignClears finds logs that somebody else has cleared, who has written to them too: they begin further behind than
// they can. (One who has only cleared cannot be told from a deployment that has lost something.)
func (v *view) findForeignClears() {
	for i := range v.Reads {
		r := &v.Reads[i]
		l := &v.logs[r.Log]
		if len(l.foreign) == 0 || len(l.clears) > 0 || r.Outcome != history.Done || r.N == 0 || r.Gap || r.From <= max(r.After, l.Base)+1 {
			continue
		}
		c := &history.Clear{Call: history.Call{Outcome: history.Unknown}, Log: r.Log}
		l.clears = append(l.clears, clearing{c, never})
		l.cleared, l.until = 0, never
	}
}

// excused says whether a clear may have removed an append's messages. Only one that was accepted before the append was
// sent cannot have done it.
func (v *view) excused(a *history.Append) bool {
	if v.Run.Ordered {
		return a.Start < v.logs[a.Log].until
	}
	return slices.ContainsFunc(v.logs[a.Log].clears, func(c clearing) bool {
		return a.Start < c.until || !v.sameGroup(&a.Call, &c.Call)
	})
}

// group names those among which order is promised that a call belongs to. It is not known for one that was sent several
// times: another attempt than the one answered may have been done.
func (v *view) group(c *history.Call) (name string, known bool) {
	if v.Run.Ordered {
		return "", true
	}
	return c.Backend, c.Backend != "" && c.Attempts <= 1
}

func (v *view) sameGroup(a, b *history.Call) bool {
	x, knownX := v.group(a)
	y, knownY := v.group(b)
	return x == y && knownX && knownY
}

// findReadings puts the final readings together. A reading is the pages of one target.
func (v *view) findReadings() {
	type key struct{ log, final, target int }
	readings := map[key]*reading{}
	var keys []key
	for i := range v.Reads {
		r := &v.Reads[i]
		if r.Final == 0 || r.Outcome != history.Done {
			continue
		}
		l := &v.logs[r.Log]
		if l.barrier == nil {
			l.barrier = v.lastBarrier(l, r.Start)
		}
		if l.barrier != nil && !l.barrier.Held && r.Backend != l.barrier.Backend {
			continue // another backend's state may be older
		}
		k := key{r.Log, r.Final, r.Target}
		if readings[k] == nil {
			readings[k] = &reading{begun: i}
			keys = append(keys, k)
		}
		readings[k].pages = append(readings[k].pages, r)
	}
	for _, k := range keys {
		l, r := &v.logs[k.log], readings[k]
		if !r.complete(l.Base) {
			continue
		}
		l.readings = append(l.readings, *r)
		l.from, l.last = max(l.from, r.from), max(l.last, r.last)
	}
}

// complete says whether a reading goes from the log's beginning to the last position that its first page named.
func (r *reading) complete(base uint64) bool {
	end, aim := base, r.pages[0].Last
	ended := false
	for _, p := range r.pages {
		if p.After > end && !p.Gap {
			return false
		}
		r.last = max(r.last, p.Last)
		if p.N > 0 {
			end = max(end, p.From+uint64(p.N)-1)
		}
		ended = ended || p.N == 0 || end >= aim
	}
	if r.from = aim + 1; r.pages[0].N > 0 {
		r.from = r.pages[0].From
	}
	return ended
}

// lastBarrier returns the barrier for a log, before a time, that its final readings are held to: the last one whose receipt
// they carry, or else the last one behind which nothing can come but what the broker has lost. It may be nil: one that was
// reached before says nothing about what another backend shows, and nothing about what was accepted after it.
func (v *view) lastBarrier(l *logView, before time.Duration) (last *history.Barrier) {
	for i := range v.Barriers {
		b := &v.Barriers[i]
		lossy := b.State == "stalled" && b.Missing > 0 && b.Backend != ""
		if !covers(b, l.index) || b.End > before || !b.Held && !lossy {
			continue
		}
		if last == nil || b.Held && !last.Held || b.Held == last.Held && b.Start > last.Start {
			last = b
		}
	}
	return last
}

func covers(b *history.Barrier, log int) bool {
	return len(b.Logs) == 0 || slices.Contains(b.Logs, log)
}

// barrierOf returns the barrier whose promise holds for a page, or nil. Without its receipt, only the backend that said
// that it is reached must show it.
func (v *view) barrierOf(r *history.Read) *history.Barrier {
	if r.Outcome != history.Done || r.Tail || r.Gap {
		return nil
	}
	if r.Final > 0 {
		if b := v.logs[r.Log].barrier; b != nil && b.Outcome == history.Done {
			return b
		}
		return nil
	}
	b := v.reached[r.Barrier]
	if b == nil || !covers(b, r.Log) || !r.Carries && (r.Backend == "" || r.Backend != b.Backend) {
		return nil
	}
	return b
}

// place returns where a message was seen in the log that it was sent to, 0 for nowhere.
func (v *view) place(m history.Message) uint64 {
	if len(v.strayed) > 0 && v.strayed[m] {
		return 0
	}
	return v.PositionOf(m)
}

// messages calls yield with each message of an append, until it returns false.
func messages(a *history.Append) func(yield func(history.Message) bool) {
	return func(yield func(history.Message) bool) {
		for i := range a.Count {
			if !yield(history.Message{Client: a.Client, Number: a.First + uint64(i)}) {
				return
			}
		}
	}
}

// measure finds the places of each append, and makes the timelines of them.
func (v *view) measure() {
	v.tops, v.lows = make([]uint64, len(v.Appends)), make([]uint64, len(v.Appends))
	for i := range v.logs {
		v.logs[i].all, v.logs[i].groups = &timeline{}, map[string]*timeline{}
	}
	for i := range v.Appends {
		a := &v.Appends[i]
		if !expected(a) {
			continue
		}
		l, accepted := &v.logs[a.Log], 0
		for m := range messages(a) {
			position := v.place(m)
			if l.read() && position > l.last {
				position = 0 // it is gone again
			}
			if position != 0 {
				v.tops[i] = max(v.tops[i], position)
				if v.lows[i] == 0 || position < v.lows[i] {
					v.lows[i] = position
				}
			}
			if position != 0 || !l.read() && !v.letters[m] && !hopeless(a, m) { // messages in no log are P1's matter
				accepted++
			}
		}
		l.all.add(a, i, accepted, v.tops[i], v.lows[i])
		if name, known := v.group(&a.Call); known && !v.Run.Ordered {
			if l.groups[name] == nil {
				l.groups[name] = &timeline{}
			}
			l.groups[name].add(a, i, accepted, v.tops[i], v.lows[i])
		}
	}
	for i := range v.logs {
		l := &v.logs[i]
		l.all.close()
		for _, t := range l.groups {
			t.close()
		}
		if v.Run.Ordered {
			l.groups[""] = l.all
		}
	}
}

func (v *view) findLastCall() {
	for i := range v.Appends {
		v.lastCall = max(v.lastCall, v.Appends[i].End)
	}
	for i := range v.Reads {
		v.lastCall = max(v.lastCall, v.Reads[i].End)
	}
	for i := range v.Barriers {
		v.lastCall = max(v.lastCall, v.Barriers[i].End)
	}
	for i := range v.Clears {
		v.lastCall = max(v.lastCall, v.Clears[i].End)
	}
}

// end is when the run ended, as far as is known.
func (v *view) end() time.Duration {
	if v.End != nil {
		return max(v.End.At, v.lastCall)
	}
	return v.lastCall
}

// complete says whether the run did all its steps.
func (v *view) complete() bool { return v.End != nil && v.End.Complete }

// name is what a message is called in the text of a violation.
func name(m history.Message) string {
	if m == history.Nobody {
		return "a message that cannot be told"
	}
	return fmt.Sprintf("client %d's message %d", m.Client, m.Number)
}

// of makes a violation about a message of a log, which showed at a time.
func (l *logView) of(m history.Message, position uint64, at time.Duration, expected, found string) Violation {
	out := Violation{Log: l.Name, Position: position, At: at.Seconds(), Expected: expected, Found: found}
	if m != history.Nobody {
		client := m.Client
		out.Client, out.Number = &client, m.Number
	}
	return out
}

// seconds writes a time of the run for people.
func seconds(at time.Duration) string { return fmt.Sprintf("%.3f s", at.Seconds()) }

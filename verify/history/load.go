package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"
)

// History is a history in memory, as the checks want it: read by Load, or begun by New and added to. It takes about 250
// bytes a request and 130 a message. It is not to be added to by several goroutines at the same time.
type History struct {
	Run       Run
	Logs      []LogView // as Run.Logs
	Appends   []Append  // of a client, in the order of its messages
	Reads     []Read    // without Seen, which is in Logs
	Resends   int       // how many appends were sent again after they had been accepted
	Repeated  []Resend  // those of them whose marks are known
	Barriers  []Barrier
	Clears    []Clear
	Removals  []Removal
	Samples   []Sample
	Faults    []Fault
	Healths   []Health
	Letters   []Letter
	Table     *Table // nil if no table was looked at, or not yet
	Snapshots []Snapshot
	Names     []Named // what the final readings call the messages, if ids are in the history
	End       *End    // nil if the run was broken off

	byClient  [][]int           // the indexes of each client's appends
	positions [][]uint64        // by client and number: the first position at which the message was seen
	ahead     uint64            // maxAhead
	backends  map[string]string // one copy of each name
}

// LogView is what all reads together have seen of a log. As positions never move, it is one table.
type LogView struct {
	Log
	Places []Place // at the positions Base+1, Base+2, … (Known is false where nobody has looked)
	// Began is what was seen when the run began, nil if it did not get so far: then nothing can be said about positions.
	Began *Base
	// Again are the messages that were seen at a second position.
	Again []Again
	// Changes are the positions at which two reads saw different things: the first maxChanges.
	Changes     []Change
	ChangeCount int
	// Early are reads that showed something from before the run: positions up to Base. They are indexes of Reads.
	Early []int
}

// Named is a message with the id that a final reading has shown it with.
type Named struct {
	ID      string
	Message Message
	Final   int // which reading
}

// maxChanges is how many Changes are kept for a log.
const maxChanges = 100

// Place is what was seen at a position.
type Place struct {
	Seen
	Known bool
	At    time.Duration // when it was first seen: the end of the read
	Fault string        // what is wrong with it, if it is damaged and one of the first few
}

// Again is a message that is somewhere else too.
type Again struct {
	Message  Message
	Position uint64
}

// Change is a position that came to mean something else.
type Change struct {
	Position uint64
	Was, Is  Seen
	Read     int // the index of the read that saw the second thing
}

// maxLine is how long a line may be. A tail's has at most some thousand messages.
const maxLine = 16 << 20

// maxClients is how many clients a history may have, so that a damaged file does not cost all the memory.
const maxClients = 100_000

// maxCount is how many messages an append may have, and maxNumber the highest number of one, for the same reason.
const (
	maxCount  = 1_000_000
	maxNumber = 1 << 62
)

// Load reads a history. A last line that is cut off is left out, as that of a process that was killed.
func Load(from io.Reader) (*History, error) { return load(from, maxAhead) }

func load(from io.Reader, ahead uint64) (*History, error) {
	h, lines := &History{backends: map[string]string{}, ahead: ahead}, 0
	scanner := bufio.NewScanner(from)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	var failed error // of the line before
	for scanner.Scan() {
		if failed != nil {
			return nil, failed
		}
		lines++
		var l Line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			failed = fmt.Errorf("line %d of the history: %w", lines, err)
		} else if err := h.Add(l); err != nil {
			return nil, fmt.Errorf("line %d of the history: %w", lines, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading the history: line %d: %w", lines+1, err)
	}
	if h.Run.Version == 0 {
		return nil, errors.New("this is no history: its first line does not begin a run")
	}
	return h, nil
}

// New begins a history without a file, for a run that is kept in memory.
func New(run Run) (*History, error) {
	h := &History{backends: map[string]string{}, ahead: maxAhead}
	return h, h.begin(run)
}

// Add takes up a line, behind that which begins the run.
func (h *History) Add(l Line) error {
	if (h.Run.Version == 0) != (l.Run != nil) {
		return errors.New("the first line, and no other, must begin a run")
	}
	switch {
	case l.Run != nil:
		return h.begin(*l.Run)
	case l.Base != nil:
		return h.addBase(*l.Base)
	case l.Append != nil:
		return h.addAppend(*l.Append)
	case l.Resend != nil:
		return h.addResend(*l.Resend)
	case l.Settle != nil:
		return h.settle(*l.Settle)
	case l.Read != nil:
		return h.addText(*l.Read)
	case l.Barrier != nil:
		h.intern(&l.Barrier.Call)
		h.Barriers = append(h.Barriers, *l.Barrier)
	case l.Clear != nil:
		h.intern(&l.Clear.Call)
		h.Clears = append(h.Clears, *l.Clear)
		return h.checkLog(l.Clear.Log)
	case l.Removal != nil:
		h.intern(&l.Removal.Call)
		h.Removals = append(h.Removals, *l.Removal)
	case l.Sample != nil:
		h.Samples = append(h.Samples, *l.Sample)
	case l.Fault != nil:
		h.Faults = append(h.Faults, *l.Fault)
	case l.Health != nil:
		h.Healths = append(h.Healths, *l.Health)
	case l.Letter != nil:
		h.Letters = append(h.Letters, *l.Letter)
		return h.checkLog(l.Letter.Log)
	case l.Table != nil:
		return h.addTable(*l.Table)
	case l.Snapshot != nil:
		return h.addSnapshot(*l.Snapshot)
	case l.End != nil:
		h.End = l.End
	}
	return nil // a line of a kind that came later is none of ours
}

func (h *History) begin(r Run) error {
	if r.Version != Version {
		return fmt.Errorf("the history has version %d; this program reads version %d", r.Version, Version)
	}
	if r.Clients < 0 || r.Clients > maxClients {
		return fmt.Errorf("%d clients: there can be %d", r.Clients, maxClients)
	}
	r.Logs = slices.Clone(r.Logs)
	h.Run = r
	h.byClient, h.positions = make([][]int, r.Clients), make([][]uint64, r.Clients)
	for _, log := range r.Logs {
		h.Logs = append(h.Logs, LogView{Log: log})
	}
	return nil
}

func (h *History) checkLog(log int) error {
	if log < 0 || log >= len(h.Logs) {
		return fmt.Errorf("log %d: the run has %d", log, len(h.Logs))
	}
	return nil
}

func (h *History) addBase(b Base) error {
	if err := h.checkLog(b.Log); err != nil {
		return err
	}
	if v := &h.Logs[b.Log]; len(v.Places) == 0 {
		v.Base, h.Run.Logs[b.Log].Base, v.Began = b.Base, b.Base, &b
		return nil
	}
	return errors.New("the log's base comes behind reads of it")
}

// intern keeps one copy of each backend's name.
func (h *History) intern(c *Call) {
	known, ok := h.backends[c.Backend]
	if !ok {
		known = c.Backend
		h.backends[known] = known
	}
	c.Backend = known
}

func (h *History) addAppend(a Append) error {
	if err := h.checkLog(a.Log); err != nil {
		return err
	}
	if a.Client < 0 || a.Client >= len(h.byClient) || a.Count < 1 || a.First < 1 {
		return fmt.Errorf("an append of %d messages from %d on by client %d: the run has %d clients", a.Count, a.First, a.Client, len(h.byClient))
	}
	if a.Count > maxCount || a.First > maxNumber {
		return fmt.Errorf("an append of %d messages from %d on: there can be %d, and numbers up to %d", a.Count, a.First, maxCount, uint64(maxNumber))
	}
	own := h.byClient[a.Client]
	if n := len(own); n > 0 {
		if before := &h.Appends[own[n-1]]; a.First < before.First+uint64(before.Count) {
			return fmt.Errorf("client %d appends message %d behind message %d", a.Client, a.First, before.First+uint64(before.Count)-1)
		}
	}
	if err := checkRuns(a.Marks); err != nil {
		return err
	}
	h.intern(&a.Call)
	h.byClient[a.Client] = append(own, len(h.Appends))
	h.Appends = append(h.Appends, a)
	return nil
}

func (h *History) settle(s Settle) error {
	a := h.AppendOf(Message{s.Client, s.First})
	if a == nil {
		return fmt.Errorf("an append by client %d of message %d is settled, and there is none", s.Client, s.First)
	}
	a.Settled, a.SettledBehind = s.State, len(h.Reads)
	return nil
}

// addText takes up a read as it is in the file.
func (h *History) addText(r Read) error {
	seen := make([]Seen, len(r.Seen))
	for i, text := range r.Seen {
		var err error
		if seen[i], err = parseSeen(text); err != nil {
			return err
		}
	}
	return h.AddRead(r, seen)
}

// AddRead takes up a read, and enters what it saw, which is seen in place of r.Seen, into the log's table.
func (h *History) AddRead(r Read, seen []Seen) error {
	if err := h.checkLog(r.Log); err != nil {
		return err
	}
	if err := checkRuns(r.IDs); err != nil {
		return err
	}
	h.intern(&r.Call)
	v := &h.Logs[r.Log]
	h.name(r.IDs, seen, r.Final)
	r.IDs = nil
	r.Seen, r.N = nil, len(seen)
	index := len(h.Reads)
	h.Reads = append(h.Reads, r)
	if r.N > 0 && r.From <= v.Base {
		v.Early = append(v.Early, index)
	}
	for i, s := range seen {
		position := r.From + uint64(i)
		if position > v.Base {
			if err := h.see(v, position, s, index, r.Faults[position]); err != nil {
				return err
			}
		}
	}
	return nil
}

// name notes what a reading calls the messages that it has seen.
func (h *History) name(runs []string, seen []Seen, final int) {
	i := 0
	for id := range IDs(runs) {
		if i == len(seen) {
			return
		}
		if m := seen[i].Message; m != Nobody && h.possible(m) {
			h.Names = append(h.Names, Named{id, m, final})
		}
		i++
	}
}

func (h *History) addResend(r Resend) error {
	h.Resends++
	if len(r.Marks) > 0 {
		h.intern(&r.Call)
		h.Repeated = append(h.Repeated, r)
	}
	return checkRuns(r.Marks)
}

// maxAhead is how far behind the last known one a position, or a client's message, can be, so that a damaged file does
// not cost all the memory.
const maxAhead = 10_000_000

// see takes one message at a position into the log's table.
func (h *History) see(v *LogView, position uint64, s Seen, read int, fault string) error {
	i := position - v.Base - 1
	if i > uint64(len(v.Places))+h.ahead {
		return fmt.Errorf("position %d is more than %d behind everything seen before", position, h.ahead)
	}
	v.Places = grown(v.Places, i)
	if !h.possible(s.Message) {
		s.Message, s.Damaged = Nobody, true
	}
	p := &v.Places[i]
	if p.Known && p.Seen == s {
		return nil
	}
	if p.Known {
		v.ChangeCount++
		if len(v.Changes) < maxChanges {
			v.Changes = append(v.Changes, Change{Position: position, Was: p.Seen, Is: s, Read: read})
		}
	}
	first := h.PositionOf(s.Message)
	switch {
	case s.Message != Nobody && first == 0:
		h.place(s.Message, position)
	case s.Message != Nobody && !p.Known && position < first && v.At(first).Message == s.Message:
		h.place(s.Message, position) // the copy behind it was only seen sooner
		v.Again = append(v.Again, Again{s.Message, first})
	case s.Message != Nobody && !p.Known:
		v.Again = append(v.Again, Again{s.Message, position})
	}
	if !p.Known {
		*p = Place{Seen: s, Known: true, At: h.Reads[read].End, Fault: fault}
	}
	return nil
}

// possible says whether the run can have such a message. Damage can make one that still reads as a name.
func (h *History) possible(m Message) bool {
	return m.Client < len(h.positions) && (m == Nobody || m.Number <= uint64(len(h.positions[m.Client]))+h.ahead)
}

func (h *History) place(m Message, position uint64) {
	own := &h.positions[m.Client]
	*own = grown(*own, m.Number)
	(*own)[m.Number] = position
}

// grown returns a slice that has the index i.
func grown[T any](s []T, i uint64) []T {
	if more := int(i) + 1 - len(s); more > 0 {
		s = slices.Grow(s, more)[:len(s)+more]
	}
	return s
}

// PositionOf returns the lowest position at which a message was seen in the log in which it was seen first, 0 for nowhere.
func (h *History) PositionOf(m Message) uint64 {
	if m.Client < 0 || m.Client >= len(h.positions) || m.Number >= uint64(len(h.positions[m.Client])) {
		return 0
	}
	return h.positions[m.Client][m.Number]
}

// AppendOf returns the append that a message was sent with, or nil.
func (h *History) AppendOf(m Message) *Append {
	if m.Client < 0 || m.Client >= len(h.byClient) {
		return nil
	}
	own := h.byClient[m.Client]
	i := sort.Search(len(own), func(i int) bool { return h.Appends[own[i]].First > m.Number }) - 1
	if i < 0 {
		return nil
	}
	if a := &h.Appends[own[i]]; m.Number < a.First+uint64(a.Count) {
		return a
	}
	return nil
}

// At returns what was seen at a position of a log. Known is false if nobody has looked there.
func (v *LogView) At(position uint64) Place {
	if position <= v.Base || position > v.Base+uint64(len(v.Places)) {
		return Place{}
	}
	return v.Places[position-v.Base-1]
}

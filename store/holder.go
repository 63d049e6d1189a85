package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
)

// ReasonKeyReused is why an append is refused whose idempotency key was used for another message.
const ReasonKeyReused = "idempotency-key-reused: the key was used before for a different message"

// Commit is one atomic step of a partition.
type Commit struct {
	Partition  int
	Token      uint64 // must be the claim's
	Revision   uint64 // must be the progress's, and the commit makes it one more
	Now        time.Time
	Operations []Operation

	// The new progress, besides its revision and SetAside. Producers has only the entries that change, each
	// whole. SetAside is counted from the dead letters that there are: Letter.Records of each that is not discarded.
	Cursor    drainmark.Cursor
	Producers map[drainmark.ProducerID]drainmark.ProducerProgress
	Rejected  uint64
	Clock     time.Duration // in whole microseconds
	Trouble   *drainmark.Trouble
}

// OperationKind is what an operation does.
type OperationKind uint8

const (
	// Append appends Record to its log, creating it if needed, at the next position, persisted at the commit's Now. If the
	// record has a key that the log knows, nothing is appended if content type, body and headers are those of the record
	// that it is known from, and the operation is refused with ReasonKeyReused if they are not. The trace context does not
	// count, because each attempt has its own. A key is known from the commit that first had it, whose Clock says how old it
	// is, until Sweep deletes it.
	Append OperationKind = iota + 1
	// Clear removes every message of the log, creating it if needed. Positions go on behind the last.
	Clear
	// SetAside stores Letter, in place of the one with the same ID if there is one.
	SetAside
	// Restore removes the dead letter with the ID Letter.ID, because it has been persisted after all.
	Restore
	// Trim removes the messages of the log up to Position, or all if the log is shorter. Of a log that there is not, it
	// removes nothing and makes none.
	Trim
	// Erase replaces body, content type and headers of the message at Position by nothing. The message keeps its place, and
	// nothing happens if there is none there.
	Erase
	// Delete removes every message of the log, and hides the log until something is appended to it or it is cleared.
	// Positions go on behind the last. Of a log that there is not, it makes none.
	Delete
)

// Operation is one step of a commit. Its pointers are read and never changed or kept.
type Operation struct {
	Kind   OperationKind
	Mark   drainmark.Mark        // Append: the message's id
	Record *drainmark.Record     // Append, Clear, Trim, Erase, Delete
	Letter *drainmark.DeadLetter // SetAside, Restore
	// Position is of Trim and Erase, as the record names it.
	Position uint64
}

// Committed tells what a commit did.
type Committed struct {
	KeyDuplicates int // appends that were dropped because their key was known
}

// Holder commits to one partition for its claim's owner: it reads what the commit needs to know, decides what to write,
// and writes that. Nobody else writes to the logs of the partition meanwhile, or the write is fenced. So it remembers
// where they end. Its method must not be called concurrently.
type Holder struct {
	// Unkept says of which logs the messages are given to the store for its effects alone: they take their positions, and
	// are cleared in the same commit. nil if there is no such log. To be set before the first commit.
	Unkept func(log string) bool

	store      Store
	partitions int
	version    drainmark.Version // of the state that heads is of
	heads      map[string]drainmark.LogInfo
	digester   digester
	messages   []NewMessage // of the commit in progress, kept because it is large
}

const (
	maxHeads    = 10_000 // how many logs a holder remembers at most
	maxMessages = 10_000 // for how many messages it keeps room for the next commit
)

// NewHolder returns a holder of one of so many partitions.
func NewHolder(s Store, partitions int) *Holder {
	return &Holder{store: s, partitions: partitions, heads: map[string]drainmark.LogInfo{}}
}

// Commit applies the operations in their order together with the new progress, all or nothing, and durably: it is in
// force when Commit returns nil. It fails with ErrFenced if the claim's token or the progress's revision is not the
// commit's, and with *Refused if an operation can never be applied. Both change nothing. After any other error it may
// or may not be in force. The same commit again then gives nil or ErrFenced.
func (h *Holder) Commit(ctx context.Context, c Commit) (Committed, error) {
	doing := func(err error) error { return fmt.Errorf("committing to partition %d: %w", c.Partition, err) }
	before := drainmark.Version{Token: c.Token, Revision: c.Revision}
	if h.version != before {
		h.version = before
		clear(h.heads)
	}
	d := newDraft(h, &c)
	defer h.forget()
	if want := d.wants(); len(want.Logs) > 0 || len(want.Letters) > 0 {
		found, err := h.store.Find(ctx, c.Partition, want)
		if err != nil {
			return Committed{}, doing(err)
		}
		if found.Version != before {
			return Committed{}, doing(fmt.Errorf("the store is at %v: %w", found.Version, ErrFenced))
		}
		d.take(found)
	}
	d.plan()
	if len(d.refused) > 0 {
		return Committed{}, doing(&Refused{Reasons: d.refused})
	}
	w := d.write()
	if err := h.store.Write(ctx, w); err != nil {
		h.version = drainmark.Version{} // look anew: where logs end may be what is wrong
		return Committed{}, err
	}
	h.remember(d)
	return Committed{KeyDuplicates: d.duplicates}, nil
}

// remember takes up the logs' ends after a commit, and what the commit has found.
func (h *Holder) remember(d *draft) {
	h.version.Revision++
	if len(h.heads)+len(d.order) > maxHeads {
		clear(h.heads)
	}
	for _, l := range d.order {
		if !l.New || l.changes() { // else there still is no such log
			h.heads[l.Name] = l.LogInfo
		}
	}
}

// room returns room for n messages.
func (h *Holder) room(n int) []NewMessage {
	from := len(h.messages)
	h.messages = slices.Grow(h.messages, n)[:from+n]
	return h.messages[from : from : from+n]
}

// forget lets go of the messages of a commit.
func (h *Holder) forget() {
	clear(h.messages)
	if h.messages = h.messages[:0]; cap(h.messages) > maxMessages {
		h.messages = nil
	}
}

// draft is a commit on its way to become a write.
type draft struct {
	holder     *Holder
	commit     *Commit
	logs       map[string]*logDraft
	order      []*logDraft // in the order in which the operations name them
	letters    map[string]*letterDraft
	lettered   []*letterDraft
	keys       []KeyWrite
	refused    map[int]string
	duplicates int
}

// logDraft is a log that the commit writes to.
type logDraft struct {
	LogWrite
	known   bool              // where it ends is known
	foreign string            // why nothing can be written to it, if so
	touched bool              // what is recorded of it changes, besides what is appended
	gone    bool              // it was deleted before
	keys    map[string]Digest // those known, nil if the commit names none
	names   []string          // the keys that the commit names
	appends int               // how many messages there can be
}

// changes says whether anything is written of the log. Otherwise all that there was for it were known keys, or removals
// of what there is not.
func (l *logDraft) changes() bool { return l.touched || len(l.Messages) > 0 }

// letterDraft is a dead letter that the commit sets aside, or restores.
type letterDraft struct {
	id string
	LetterWrite
}

func newDraft(h *Holder, c *Commit) *draft {
	d := &draft{holder: h, commit: c, logs: map[string]*logDraft{}}
	var last *logDraft
	for i := range c.Operations {
		op := &c.Operations[i]
		switch op.Kind {
		case Append, Clear, Trim, Erase, Delete:
			if last == nil || last.Name != op.Record.Log {
				last = d.log(op.Record.Log, i)
			}
			if op.Kind == Append {
				last.appends++
				if op.Record.Key != "" {
					last.names = append(last.names, op.Record.Key)
				}
			}
		case SetAside, Restore:
			d.letter(op.Letter.ID)
		default:
			d.refuse(i, fmt.Sprintf("operation kind %d is unknown", op.Kind))
		}
	}
	return d
}

func (d *draft) refuse(operation int, reason string) {
	if d.refused == nil {
		d.refused = map[int]string{}
	}
	d.refused[operation] = reason
}

func (d *draft) log(name string, operation int) *logDraft {
	if l, ok := d.logs[name]; ok {
		return l
	}
	l := &logDraft{LogWrite: LogWrite{LogInfo: drainmark.LogInfo{Name: name}, Operation: operation}}
	if head, ok := d.holder.heads[name]; ok {
		l.LogInfo, l.known, l.gone = head, true, head.Deleted
	}
	if partition := drainmark.PartitionOf(name, d.holder.partitions); partition != d.commit.Partition {
		l.foreign = fmt.Sprintf("the log is in partition %d", partition)
	}
	d.logs[name] = l
	d.order = append(d.order, l)
	return l
}

func (d *draft) letter(id string) *letterDraft {
	if l, ok := d.letters[id]; ok {
		return l
	}
	if d.letters == nil {
		d.letters = map[string]*letterDraft{}
	}
	l := &letterDraft{id: id}
	d.letters[id] = l
	d.lettered = append(d.lettered, l)
	return l
}

// wants returns what has to be known besides what the holder remembers.
func (d *draft) wants() Want {
	var want Want
	for _, l := range d.order {
		if l.foreign == "" && (!l.known || len(l.names) > 0) {
			slices.Sort(l.names)
			want.Logs = append(want.Logs, WantedLog{Name: l.Name, Keys: slices.Compact(l.names)})
		}
	}
	for _, l := range d.lettered {
		want.Letters = append(want.Letters, l.id)
	}
	return want
}

// take takes up what was found.
func (d *draft) take(found Found) {
	for _, l := range d.order {
		there, ok := found.Logs[l.Name]
		l.keys = there.Keys
		if l.keys == nil && len(l.names) > 0 {
			l.keys = map[string]Digest{}
		}
		if l.known {
			continue
		}
		l.known, l.New = true, !ok
		if ok {
			l.LogInfo, l.gone = there.LogInfo, there.Deleted
		}
	}
	for id, old := range found.Letters {
		if l, ok := d.letters[id]; ok {
			l.Old, l.New = &old, &old
		}
	}
}

// plan decides what the operations do.
func (d *draft) plan() {
	for i := range d.commit.Operations {
		op := &d.commit.Operations[i]
		switch op.Kind {
		case Append:
			d.append(i, op)
		case Clear, Trim, Erase, Delete:
			d.remove(i, op)
		case SetAside:
			d.letters[op.Letter.ID].New = op.Letter
		case Restore:
			d.letters[op.Letter.ID].New = nil
		}
	}
}

// remove decides what an operation does that takes messages away.
func (d *draft) remove(i int, op *Operation) {
	l := d.logs[op.Record.Log]
	switch {
	case l.foreign != "":
		d.refuse(i, l.foreign)
	case op.Kind == Clear:
		l.touched, l.Deleted = true, false
		l.trim(l.LastPosition)
	case l.New && !l.changes(): // there is no such log
	case op.Kind == Trim:
		l.trim(op.Position)
	case op.Kind == Erase:
		l.erase(op.Position)
	case op.Kind == Delete:
		l.touched, l.Deleted = true, true
		l.trim(l.LastPosition)
	}
}

// trim removes the messages up to a position. What is written is where the log begins, however many they are.
func (l *logDraft) trim(through uint64) {
	if through = min(through, l.LastPosition); through > l.ClearedThrough {
		l.ClearedThrough, l.Cleared, l.touched = through, true, true
	}
}

// erase has the message at a position erased, if there is one.
func (l *logDraft) erase(position uint64) {
	if position <= l.ClearedThrough || position > l.LastPosition || slices.Contains(l.Erased, position) {
		return
	}
	l.Erased = append(l.Erased, position)
	l.Erasures++
	l.touched = true
}

func (d *draft) append(i int, op *Operation) {
	l, r := d.logs[op.Record.Log], op.Record
	switch {
	case l.foreign != "":
		d.refuse(i, l.foreign)
		return
	case l.LastPosition == MaxPosition:
		d.refuse(i, fmt.Sprintf("the log is full: its last position is %d, the highest there is", MaxPosition))
		return
	case r.Key != "":
		if !d.use(i, l, r) {
			return
		}
	}
	if l.Messages == nil {
		l.Messages = d.holder.room(l.appends)
	}
	l.LastPosition++
	l.Deleted = false
	l.Messages = append(l.Messages, NewMessage{Operation: i, Key: r.Key, Principal: r.Principal, Message: drainmark.Message{
		Position: l.LastPosition, Mark: op.Mark, Body: r.Body, ContentType: r.ContentType,
		Headers: r.Headers, AcceptedAt: r.AcceptedAt, PersistedAt: d.commit.Now,
	}})
}

// use says whether the record is the first with its key. A record of the same commit may be the first, which the store
// may refuse when it is written. Then nothing is written, and the consumer has the records judged anew that were
// refused because of the first.
func (d *draft) use(i int, l *logDraft, r *drainmark.Record) bool {
	digest := d.holder.digester.of(r)
	switch known, ok := l.keys[r.Key]; {
	case !ok:
		l.keys[r.Key] = digest
		d.keys = append(d.keys, KeyWrite{Log: l.Name, Key: r.Key, Digest: digest})
		return true
	case known.is(digest):
		d.duplicates++
	default:
		d.refuse(i, ReasonKeyReused)
	}
	return false
}

func (d *draft) write() Write {
	c := d.commit
	w := Write{
		Partition: c.Partition, Token: c.Token, Revision: c.Revision, Keys: d.keys,
		Cursor: c.Cursor, Producers: c.Producers, Rejected: c.Rejected, Clock: c.Clock, Trouble: c.Trouble,
		Logs: make([]LogWrite, 0, len(d.order)),
	}
	for _, l := range d.order {
		if len(l.Messages) > 0 && d.holder.Unkept != nil && d.holder.Unkept(l.Name) {
			l.Unkept, l.Cleared, l.ClearedThrough = true, true, l.LastPosition
		}
		// What was trimmed behind an erasure is swept with the rest.
		l.Erased = slices.DeleteFunc(l.Erased, func(position uint64) bool { return position <= l.ClearedThrough })
		l.Returns = l.gone && !l.Deleted
		if l.changes() {
			w.Logs = append(w.Logs, l.LogWrite)
		}
	}
	for _, l := range d.lettered {
		if l.Old == nil && l.New == nil {
			continue
		}
		w.Letters = append(w.Letters, l.LetterWrite)
		w.SetAside += counted(l.New) - counted(l.Old)
	}
	return w
}

// counted is how many records a dead letter, if there is one, counts for.
func counted(l *drainmark.DeadLetter) int64 {
	if l == nil || l.Discarded {
		return 0
	}
	return int64(l.Records())
}

// digester makes digests. It is kept for the next one because making it anew costs more than using it.
type digester struct {
	hash    hash.Hash
	scratch []byte
}

func (d *digester) of(r *drainmark.Record) Digest {
	if d.hash == nil {
		d.hash = sha256.New()
	}
	d.hash.Reset()
	d.scratch = d.scratch[:0]
	if own := r.Headers.WithoutTrace(); !own.IsZero() { // no content type is as long as this begins
		d.scratch = binary.AppendUvarint(binary.AppendUvarint(d.scratch, math.MaxUint64), uint64(own.Size()))
		d.scratch = append(d.scratch, own.String()...)
	}
	d.scratch = binary.AppendUvarint(d.scratch, uint64(len(r.ContentType)))
	d.scratch = append(d.scratch, r.ContentType...)
	d.hash.Write(d.scratch)
	d.hash.Write(r.Body)
	d.scratch = d.hash.Sum(d.scratch[:0])
	return Digest(d.scratch)
}

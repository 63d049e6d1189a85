package redis

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// maxPosition is the highest position that a log can have: Lua shows numbers with 14 digits.
const maxPosition = 99_999_999_999_999

// positionLimit is maxPosition, but for tests.
var positionLimit uint64 = maxPosition

// Commit implements store.Store. The commit is on the master's disk as its appendfsync says, and with WaitReplicas in
// the memory of so many replicas.
func (s *Store) Commit(ctx context.Context, c store.Commit) (store.Committed, error) {
	doing := fmt.Sprintf("committing to partition %d", c.Partition)
	if err := s.ready(ctx); err != nil {
		return store.Committed{}, fmt.Errorf("%s: %w", doing, err)
	}
	d, err := s.known(ctx, doing)
	if err != nil {
		return store.Committed{}, err
	}
	at := s.names.of(c.Partition)
	if at == nil {
		return store.Committed{}, fmt.Errorf("%s: %w", doing, store.ErrFenced)
	}
	e := encoders.Get().(*encoder)
	if err := e.encode(s.names, at, &c, d.Partitions); err != nil {
		e.release()
		return store.Committed{}, fmt.Errorf("%s: %w", doing, err)
	}
	return runSafely(ctx, s, doing, &e.call, func(r reply) (store.Committed, error) {
		e.release() // not before the answer: a call that its context has ended may still be sending
		return readCommitted(r)
	})
}

// ready says at once what a call need not begin with.
func (s *Store) ready(ctx context.Context) error {
	if s.client.closed() {
		return store.ErrClosed
	}
	return ctx.Err()
}

func readCommitted(r reply) (committed store.Committed, err error) {
	switch r.at(0).String() {
	case "ok":
		n, err := r.at(1).number()
		return store.Committed{KeyDuplicates: int(n)}, err
	case "fenced":
		return committed, store.ErrFenced
	case "refused":
		refused := &store.Refused{Reasons: map[int]string{}}
		for i := 1; i+1 < len(r.list()); i += 2 {
			index, err := r.at(i).number()
			if err != nil {
				return committed, err
			}
			reason := store.ReasonKeyReused
			if r.at(i+1).String() == "full" {
				reason = fmt.Sprintf("the log is full: %d is the highest position there is", positionLimit)
			}
			refused.Reasons[int(index)] = reason
		}
		return committed, refused
	}
	return committed, errMalformed
}

// encoder makes a commit the call of a script. It is used again because its memory is large.
type encoder struct {
	call
	logs    map[string]int // the logs that the commit writes to, counted from 1
	order   []string
	scratch []byte
	digests []byte
}

var encoders = sync.Pool{New: func() any { return &encoder{logs: map[string]int{}} }}

// maxKept is the largest memory that an encoder keeps for its next use, in bytes.
const maxKept = 4 << 20

func (e *encoder) release() {
	if cap(e.memory) > maxKept {
		return
	}
	clear(e.args)
	clear(e.logs)
	clear(e.order)
	e.order = e.order[:0]
	encoders.Put(e)
}

// encode writes the commit, or says why it can never be applied.
func (e *encoder) encode(all *names, at *partitionNames, c *store.Commit, partitions int) error {
	if err := e.collect(c, partitions); err != nil {
		return err
	}
	e.call = call{script: scriptCommit, keys: e.keys[:0], args: e.args[:0], memory: e.memory[:0]}
	e.keys = append(e.keys, at.state, at.producers, at.producerAges, at.logs, at.logNames, at.cleared, at.keys, at.keyAges, at.letters,
		at.openLetters, at.discardedLetters, at.letterHeads, at.letterRecords, at.marks, at.spans, at.written)
	for _, log := range e.order {
		e.keys = append(e.keys, at.stream+log)
	}
	e.argNumber(c.Epoch).argNumber(c.Revision).argNumber(c.Revision + 1).arg(string(c.Cursor)).argNumber(c.Rejected)
	e.arg(all.channel).argInt(int64(c.Partition)).argInt(c.Clock.Microseconds()).argNumber(positionLimit)
	e.argInt(store.WrittenKept)
	e.argInt(int64(len(c.Producers)))
	for id, p := range c.Producers {
		e.arg(id.String()).argInt(p.LastAt.Microseconds())
		e.scratch = appendRanges(e.scratch[:0], p.Done)
		e.argBytes(e.scratch)
	}
	e.arg(e.order...)
	e.operations(c)
	return nil
}

// collect finds the logs that the commit writes to, and the operations that no commit can have.
func (e *encoder) collect(c *store.Commit, partitions int) error {
	refused := map[int]string{}
	last := ""
	for i := range c.Operations {
		op := &c.Operations[i]
		switch op.Kind {
		case store.SetAside, store.Restore:
			continue
		case store.Append, store.Clear:
		default:
			refused[i] = fmt.Sprintf("operation kind %d is unknown", op.Kind)
			continue
		}
		log := op.Record.Log
		if log == last && log != "" {
			continue
		}
		if _, ok := e.logs[log]; !ok {
			if partition := drainmark.PartitionOf(log, partitions); partition != c.Partition {
				refused[i] = fmt.Sprintf("the log is in partition %d", partition)
				continue
			}
			e.order = append(e.order, log)
			e.logs[log] = len(e.order)
		}
		last = log
	}
	if len(refused) > 0 {
		return &store.Refused{Reasons: refused}
	}
	return nil
}

// operations writes the operations. Appends without keys that follow each other in one log are one.
func (e *encoder) operations(c *store.Commit) {
	now := c.Now.UnixMicro()
	for i := 0; i < len(c.Operations); {
		op := &c.Operations[i]
		switch op.Kind {
		case store.Append:
			if op.Record.Key != "" {
				e.keyed(op, i, now)
				break
			}
			n := plain(c.Operations[i:])
			e.arg("a").argInt(int64(e.logs[op.Record.Log])).argInt(int64(i)).argInt(int64(n))
			for j := range n {
				e.message(&c.Operations[i+j], now)
			}
			i += n
			continue
		case store.Clear:
			e.arg("c").argInt(int64(e.logs[op.Record.Log]))
		case store.SetAside:
			e.setAside(op.Letter)
		case store.Restore:
			e.arg("r", op.Letter.ID)
		}
		i++
	}
}

// plain returns how many of the operations, from the first on, append to one log without keys.
func plain(operations []store.Operation) int {
	log := operations[0].Record.Log
	for i := 1; i < len(operations); i++ {
		if op := &operations[i]; op.Kind != store.Append || op.Record.Key != "" || op.Record.Log != log {
			return i
		}
	}
	return len(operations)
}

func (e *encoder) message(op *store.Operation, now int64) {
	e.scratch = appendMessage(e.scratch[:0], op, now)
	e.argBytes(e.scratch, op.Record.Body)
}

// keyed writes an append with an idempotency key, which is known as "<log>/<key>". A log's name has no slash.
func (e *encoder) keyed(op *store.Operation, index int, now int64) {
	r := op.Record
	e.arg("k").argInt(int64(e.logs[r.Log])).argInt(int64(index))
	e.scratch = append(append(append(e.scratch[:0], r.Log...), '/'), r.Key...)
	e.argBytes(e.scratch)
	e.digests = digest(e.digests[:0], r)
	e.argBytes(e.digests)
	e.message(op, now)
}

// digestBytes is how much of the hash of a message is kept with its key: enough that nobody finds another message that
// passes for it.
const digestBytes = 16

// digest appends what stands for a record's content type and body.
func digest(dst []byte, r *drainmark.Record) []byte {
	hash := sha256.New()
	hash.Write(binary.AppendUvarint(dst, uint64(len(r.ContentType))))
	hash.Write([]byte(r.ContentType))
	hash.Write(r.Body)
	return hash.Sum(dst)[:len(dst)+digestBytes]
}

func (e *encoder) setAside(l *drainmark.DeadLetter) {
	e.arg("s", l.ID, truthText(!l.Discarded))
	e.scratch = appendHead(e.scratch[:0], l)
	e.argBytes(e.scratch)
	e.scratch = appendRecord(e.scratch[:0], &l.Record)
	e.argBytes(e.scratch, l.Record.Body)
	e.arg(formatMark(l), truthText(l.Run.First < l.Run.Last))
}

package redis

import (
	"context"
	"fmt"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Find implements store.Store.
func (s *Store) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	doing := fmt.Sprintf("reading what a commit to partition %d needs", partition)
	at := s.names.of(partition)
	if at == nil {
		return store.Found{}, s.ready(ctx)
	}
	c := newCall(scriptFind, at.state, at.logs, at.keys, at.letterHeads, at.letterRecords)
	c.argInt(int64(len(w.Logs)))
	keys := 0
	for i := range w.Logs {
		c.arg(w.Logs[i].Name)
		keys += len(w.Logs[i].Keys)
	}
	c.argInt(int64(keys))
	for i := range w.Logs {
		for _, key := range w.Logs[i].Keys {
			c.arg(keyName(w.Logs[i].Name, key))
		}
	}
	c.argInt(int64(len(w.Letters))).arg(w.Letters...)
	return run(ctx, s, doing, c, func(r reply) (store.Found, error) { return readFound(&w, r) })
}

// keyName is what an idempotency key is known as. A log's name has no slash.
func keyName(log, key string) string { return log + "/" + key }

func readFound(w *store.Want, r reply) (found store.Found, err error) {
	if found.Version.Token, err = r.at(0).at(0).number(); err != nil {
		return found, err
	}
	if found.Version.Revision, err = r.at(0).at(1).number(); err != nil {
		return found, err
	}
	found.Logs = make(map[string]store.FoundLog, len(w.Logs))
	key := 0
	for i := range w.Logs {
		known := map[string]store.Digest{}
		for _, name := range w.Logs[i].Keys {
			if value := r.at(2).at(key); !value.isNil() {
				var d store.Digest
				copy(d[:], value.String())
				known[name] = d
			}
			key++
		}
		info := r.at(1).at(i)
		if info.isNil() {
			continue
		}
		l := store.FoundLog{Keys: known}
		if l.LogInfo, err = parseLog(w.Logs[i].Name, info); err != nil {
			return found, err
		}
		found.Logs[l.Name] = l
	}
	found.Letters, err = foundLetters(w.Letters, r.at(3), r.at(4))
	return found, err
}

func foundLetters(ids []string, heads, records reply) (map[string]drainmark.DeadLetter, error) {
	found := make(map[string]drainmark.DeadLetter, len(ids))
	for i, id := range ids {
		if heads.at(i).isNil() {
			continue
		}
		letter, err := parseLetter(id, heads.at(i), records.at(i))
		if err != nil {
			return nil, err
		}
		found[id] = letter
	}
	return found, nil
}

// Write implements store.Store. The write is on the master's disk as its appendfsync says, and with WaitReplicas in the
// memory of so many replicas.
func (s *Store) Write(ctx context.Context, w store.Write) error {
	doing := fmt.Sprintf("committing to partition %d", w.Partition)
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	at := s.names.of(w.Partition)
	if at == nil {
		return fmt.Errorf("%s: %w", doing, store.ErrFenced)
	}
	e := encoders.Get().(*encoder)
	e.encode(s.names, at, &w)
	_, err := runSafely(ctx, s, doing, &e.call, func(r reply) (none struct{}, err error) {
		e.release() // not before the answer: a call that its context has ended may still be sending
		switch r.String() {
		case "ok":
			return none, nil
		case "fenced":
			return none, store.ErrFenced
		}
		return none, errMalformed
	})
	return err
}

// ready says at once what a call need not begin with.
func (s *Store) ready(ctx context.Context) error {
	if s.client.closed() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// encoder makes a write the call of a script. It is used again because its memory is large.
type encoder struct {
	call
	scratch []byte
}

var encoders = sync.Pool{New: func() any { return &encoder{} }}

// maxKept is the largest memory that an encoder keeps for its next use, in bytes.
const maxKept = 4 << 20

func (e *encoder) release() {
	if cap(e.memory) > maxKept {
		return
	}
	clear(e.args)
	encoders.Put(e)
}

func (e *encoder) encode(all *names, at *partitionNames, w *store.Write) {
	e.call = call{script: scriptWrite, keys: e.keys[:0], args: e.args[:0], memory: e.memory[:0]}
	e.keys = append(e.keys, at.state, at.producers, at.producerAges, at.logs, at.logNames, at.cleared, at.keys, at.keyAges, at.letters,
		at.openLetters, at.discardedLetters, at.letterHeads, at.letterRecords, at.marks, at.spans, at.written, at.letterPrincipals)
	for i := range w.Logs {
		e.keys = append(e.keys, at.stream+w.Logs[i].Name)
	}
	for i := range w.Logs {
		e.keys = append(e.keys, at.aside+w.Logs[i].Name)
	}
	e.argNumber(w.Token).argNumber(w.Revision).argNumber(w.Revision + 1).arg(string(w.Cursor)).argNumber(w.Rejected)
	e.arg(all.channel).argInt(int64(w.Partition)).argInt(w.Clock.Microseconds()).argInt(w.SetAside).argInt(store.WrittenKept).arg(w.Trouble.Encode())
	e.argInt(int64(len(w.Producers)))
	for id, p := range w.Producers {
		e.arg(id.String()).argInt(p.LastAt.Microseconds())
		e.scratch = p.Done.AppendText(e.scratch[:0])
		e.argBytes(e.scratch)
	}
	e.argInt(int64(len(w.Logs)))
	for i := range w.Logs {
		e.log(&w.Logs[i])
	}
	e.argInt(int64(len(w.Keys)))
	for i := range w.Keys {
		k := &w.Keys[i]
		e.arg(keyName(k.Log, k.Key)).argBytes(k.Digest[:store.DigestBytes])
	}
	e.argInt(int64(len(w.Letters)))
	for _, l := range w.Letters {
		e.letter(l)
	}
	e.principals(w.Letters)
}

func (e *encoder) log(l *store.LogWrite) {
	// The third number is what older versions need beside a new one: how far the log is swept.
	e.scratch = fmt.Appendf(e.scratch[:0], "%d %d 0", l.LastPosition, l.ClearedThrough)
	if l.Erasures > 0 || l.Deleted {
		e.scratch = fmt.Appendf(e.scratch, " %d %s", l.Erasures, truthText(l.Deleted))
	}
	e.arg(l.Name).argBytes(e.scratch)
	e.arg(listed(l), truthText(l.Cleared))
	messages := l.Messages
	if l.Unkept {
		messages = nil
	}
	e.argNumber(l.LastPosition + 1 - uint64(len(messages))).argInt(int64(len(messages)))
	for i := range messages {
		m := &messages[i].Message
		e.scratch = appendMessage(e.scratch[:0], m)
		e.argBytes(e.scratch, m.Body)
	}
	e.argInt(int64(len(l.Erased)))
	for _, position := range l.Erased {
		e.argNumber(position)
	}
}

// listed says whether a log is to be in the list of logs from now on, or not any more, or as before.
func listed(l *store.LogWrite) string {
	switch {
	case l.Deleted:
		return "-"
	case l.New || l.Returns:
		return "+"
	}
	return ""
}

func (e *encoder) letter(w store.LetterWrite) {
	before := ""
	if w.Old != nil {
		before = formatMark(w.Old)
	}
	e.arg(w.ID(), before)
	l := w.New
	if l == nil {
		e.arg("")
		return
	}
	e.arg(truthText(!l.Discarded))
	e.scratch = appendHead(e.scratch[:0], l)
	e.argBytes(e.scratch)
	e.scratch = appendPayloadHead(e.scratch[:0], l)
	e.argBytes(e.scratch, l.Payload)
	e.arg(formatMark(l), truthText(l.Span.First < l.Span.Last))
}

// principals says how many more open letters each principal has.
func (e *encoder) principals(letters []store.LetterWrite) {
	more := map[string]int64{}
	for _, l := range letters {
		if l.New != nil && !l.New.Discarded {
			more[l.New.Principal]++
		}
		if l.Old != nil && !l.Old.Discarded {
			more[l.Old.Principal]--
		}
	}
	e.argInt(int64(len(more)))
	for principal, n := range more {
		e.arg(principal).argInt(n)
	}
}

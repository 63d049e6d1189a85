package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Find implements store.Store.
func (s *Store) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	found := store.Found{Logs: map[string]store.FoundLog{}, Letters: map[string]drainmark.DeadLetter{}}
	doing := fmt.Sprintf("reading what a commit to partition %d needs", partition)
	err := s.update(ctx, doing, func(current *state) (*state, error) {
		found.Version = current.partition(partition).progress.Version
		for _, wanted := range w.Logs {
			if l, ok := current.logs.get(wanted.Name); ok {
				found.Logs[wanted.Name] = l.found(wanted.Keys)
			}
		}
		for _, id := range w.Letters {
			if letter, err := current.letter(partition, id); err == nil {
				found.Letters[id] = letter
			}
		}
		return current, nil
	})
	return found, err
}

// found says where the log ends, and which keys are known.
func (l *log) found(keys []string) store.FoundLog {
	found := store.FoundLog{LogInfo: l.LogInfo, Keys: map[string]store.Digest{}}
	for _, key := range keys {
		if use, ok := l.keys.get(key); ok {
			found.Keys[key] = use.digest
		}
	}
	return found
}

// Write implements store.Store.
func (s *Store) Write(ctx context.Context, w store.Write) error {
	doing := fmt.Sprintf("committing to partition %d", w.Partition)
	return s.run(ctx, doing, true, func(before *state) (*state, error) { return s.write(ctx, before, &w) })
}

// write returns the state after the write.
func (s *Store) write(ctx context.Context, before *state, w *store.Write) (*state, error) {
	p := *before.partition(w.Partition)
	if p.owner == "" || p.progress.Token != w.Token || p.progress.Revision != w.Revision {
		return before, store.ErrFenced
	}
	applied, err := s.apply(ctx, before, w)
	if err != nil {
		return nil, err
	}
	if refused := s.db.refused(w); refused != nil {
		return before, refused
	}
	setAside := p.progress.SetAside + uint64(w.SetAside)
	p.progress = p.progress.With(w.Producers)
	p.progress.Revision++
	p.progress.Cursor, p.progress.Rejected, p.progress.SetAside, p.progress.Clock = w.Cursor, w.Rejected, setAside, w.Clock
	p.progress.Trouble = w.Trouble
	for _, l := range w.Letters {
		p.replace(l, w.Clock)
	}
	next := applied.withPartition(w.Partition, p)
	for i := range w.Logs {
		next.writeLog(w, &w.Logs[i])
	}
	for _, k := range w.Keys {
		next.writeKey(k, w.Clock)
	}
	return next, nil
}

// refused says which messages the test refuses, if any, unless it wants the database to be a poor witness.
func (db *DB) refused(w *store.Write) error {
	if db.Refuse == nil {
		return nil
	}
	reasons := map[int]string{}
	for i := range w.Logs {
		for j := range w.Logs[i].Messages {
			m := &w.Logs[i].Messages[j]
			if reason, refuse := db.Refuse(w.Logs[i].Name, &m.Message); refuse {
				reasons[m.Operation] = reason
			}
		}
	}
	for _, reason := range reasons {
		if db.RefuseBlindly {
			return &store.Refused{Reason: reason}
		}
		return &store.Refused{Reasons: reasons}
	}
	return nil
}

// stored is a time as a database keeps it: to the microsecond, without a zone.
func stored(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// writeLog puts what a log becomes into a state that nobody else has yet.
func (s *state) writeLog(w *store.Write, l *store.LogWrite) {
	next := log{partition: w.Partition}
	if before, ok := s.logs.get(l.Name); ok {
		next = *before
	}
	next.LogInfo, next.revision = l.LogInfo, w.Revision+1
	messages := l.Messages
	if l.Unkept { // what was not swept before them is cleared too, so that what is left stays in a row
		messages, next.messages, next.dropped = nil, nil, l.LastPosition
	}
	for i := range messages {
		m := messages[i].Message
		m.Body, m.AcceptedAt, m.PersistedAt = bytes.Clone(m.Body), stored(m.AcceptedAt), stored(m.PersistedAt)
		next.messages = append(next.messages, m)
	}
	next.erase(l.Erased)
	s.logs = s.logs.with(l.Name, &next)
}

// erase erases messages, in an array of the log's own: older states have what they had.
func (l *log) erase(positions []uint64) {
	if len(positions) == 0 {
		return
	}
	l.messages = slices.Clone(l.messages)
	for _, position := range positions {
		m := &l.messages[position-l.dropped-1]
		m.Body, m.ContentType, m.Headers, m.Erased = nil, "", drainmark.Headers{}, true
	}
}

func (s *state) writeKey(k store.KeyWrite, clock time.Duration) {
	l, _ := s.logs.get(k.Log)
	next := *l
	next.keys = l.keys.with(k.Key, keyUse{at: clock, digest: k.Digest})
	s.logs = s.logs.with(k.Log, &next)
}

// replace replaces a dead letter.
func (p *partition) replace(w store.LetterWrite, clock time.Duration) {
	ordinal, ok := p.ordinals.get(w.ID())
	if w.New == nil {
		p.letters, p.ordinals = p.letters.without(ordinal), p.ordinals.without(w.Old.ID)
		return
	}
	if !ok {
		p.lastOrdinal++
		ordinal = p.lastOrdinal
		p.ordinals = p.ordinals.with(w.New.ID, ordinal)
	}
	kept := letter{DeadLetter: *w.New, at: clock}
	kept.Payload, kept.SetAsideAt, kept.AcceptedAt = bytes.Clone(w.New.Payload), stored(w.New.SetAsideAt), stored(w.New.AcceptedAt)
	p.letters = p.letters.with(ordinal, &kept)
}

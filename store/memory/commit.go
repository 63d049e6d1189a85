package memory

import (
	"bytes"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// draft is a commit on its way to become the next state.
type draft struct {
	db        *DB
	commit    store.Commit
	partition partition
	before    *state
	logs      map[string]*log // those that change: copies of the ones before
	refused   map[int]string
	committed store.Committed
}

// commit returns the state that the commit makes of s.
func (db *DB) commit(s *state, c store.Commit) (*state, store.Committed, error) {
	p := s.partition(c.Partition)
	if p.owner == "" || p.progress.Epoch != c.Epoch || p.progress.Revision != c.Revision {
		return s, store.Committed{}, store.ErrFenced
	}
	d := draft{db: db, commit: c, partition: *p, before: s, logs: map[string]*log{}, refused: map[int]string{}}
	for i := range c.Operations {
		if reason, refuse := d.apply(&c.Operations[i]); refuse {
			d.refused[i] = reason
		}
	}
	if len(d.refused) > 0 {
		return s, store.Committed{}, d.refusal()
	}
	setAside := d.partition.progress.SetAside
	d.partition.progress = p.progress.With(c.Producers)
	d.partition.progress.SetAside = setAside
	d.partition.progress.Cursor = c.Cursor
	d.partition.progress.Rejected = c.Rejected
	d.partition.progress.Clock = c.Clock
	d.partition.progress.Revision++
	next := s.withPartition(c.Partition, d.partition)
	for name, l := range d.logs {
		l.revision = d.partition.progress.Revision
		next.logs = next.logs.with(name, l)
	}
	return next, d.committed, nil
}

// refusal names the operations at fault, unless the test wants the database to be a poor witness.
func (d *draft) refusal() error {
	if !d.db.RefuseBlindly {
		return &store.Refused{Reasons: d.refused}
	}
	for _, reason := range d.refused {
		if reason != store.ReasonKeyReused {
			return &store.Refused{Reason: reason}
		}
	}
	return &store.Refused{Reasons: d.refused}
}

// apply applies one operation, or says why it never can.
func (d *draft) apply(op *store.Operation) (reason string, refuse bool) {
	if d.db.Refuse != nil {
		if reason, refuse := d.db.Refuse(*op); refuse {
			return reason, true
		}
	}
	switch op.Kind {
	case store.Append:
		return d.append(op)
	case store.Clear:
		l, reason := d.log(op.Record.Log)
		if l == nil {
			return reason, true
		}
		l.ClearedThrough = l.LastPosition
	case store.SetAside:
		d.setAside(op.Letter)
	case store.Restore:
		if ordinal, ok := d.partition.ordinals.get(op.Letter.ID); ok {
			d.uncount(ordinal)
			d.partition.letters = d.partition.letters.without(ordinal)
			d.partition.ordinals = d.partition.ordinals.without(op.Letter.ID)
		}
	default:
		return fmt.Sprintf("operation kind %d is unknown", op.Kind), true
	}
	return "", false
}

func (d *draft) append(op *store.Operation) (reason string, refuse bool) {
	r := op.Record
	l, reason := d.log(r.Log)
	if l == nil {
		return reason, true
	}
	body := bytes.Clone(r.Body)
	if r.Key != "" {
		if use, known := l.keys.get(r.Key); known {
			if use.contentType != r.ContentType || !bytes.Equal(use.body, r.Body) {
				return store.ReasonKeyReused, true
			}
			d.committed.KeyDuplicates++
			return "", false
		}
		l.keys = l.keys.with(r.Key, keyUse{at: d.commit.Clock, contentType: r.ContentType, body: body})
	}
	l.LastPosition++
	l.messages = append(l.messages, drainmark.Message{
		Position: l.LastPosition, Mark: op.Mark, Body: body, ContentType: r.ContentType,
		AcceptedAt: stored(r.AcceptedAt), PersistedAt: stored(d.commit.Now),
	})
	return "", false
}

// stored is a time as a database keeps it: to the microsecond, without a zone.
func stored(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// log returns the commit's own copy of the log, or says why the log is not the partition's.
func (d *draft) log(name string) (l *log, reason string) {
	if l, ok := d.logs[name]; ok {
		return l, ""
	}
	l = &log{LogInfo: drainmark.LogInfo{Name: name}, partition: d.commit.Partition}
	if before, ok := d.before.logs.get(name); ok {
		if before.partition != d.commit.Partition {
			return nil, fmt.Sprintf("the log is in partition %d", before.partition)
		}
		*l = *before
	}
	d.logs[name] = l
	return l, ""
}

func (d *draft) setAside(l *drainmark.DeadLetter) {
	kept := letter{DeadLetter: *l, at: d.commit.Clock}
	kept.Record.Body = bytes.Clone(l.Record.Body)
	kept.SetAsideAt = stored(l.SetAsideAt)
	ordinal, ok := d.partition.ordinals.get(l.ID)
	if !ok {
		d.partition.lastOrdinal++
		ordinal = d.partition.lastOrdinal
		d.partition.ordinals = d.partition.ordinals.with(l.ID, ordinal)
	}
	d.uncount(ordinal)
	if !kept.Discarded {
		d.partition.progress.SetAside += kept.Records()
	}
	d.partition.letters = d.partition.letters.with(ordinal, &kept)
}

// uncount takes the letter at an ordinal, if there is one, out of the count of those that are not discarded.
func (d *draft) uncount(ordinal uint64) {
	if letter, ok := d.partition.letters.get(ordinal); ok && !letter.Discarded {
		d.partition.progress.SetAside -= letter.Records()
	}
}

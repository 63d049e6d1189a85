package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, c store.Commit) (store.Committed, error) {
	var committed store.Committed
	err := s.run(ctx, fmt.Sprintf("committing to partition %d", c.Partition), true, func(conn *conn) error {
		d := draft{conn: conn, commit: &c, logs: map[string]*logDraft{}, producers: map[drainmark.ProducerID]driver.Value{}}
		if err := d.plan(); err != nil {
			return err
		}
		committed = d.committed
		return d.write()
	})
	if err != nil {
		return store.Committed{}, err
	}
	return committed, nil
}

// draft is a commit on its way into the tables. It is planned first, which only reads, and then written; so a commit
// that is fenced or refused has changed nothing, and others in the same transaction go on.
type draft struct {
	conn      *conn
	commit    *store.Commit
	logs      map[string]*logDraft
	order     []*logDraft // the logs in the order in which they were met
	created   int64       // how many of them are new
	keys      []keyDraft  // what the keys of the commit's appends now stand for
	letters   []*store.Operation
	digester  digester
	refused   map[int]string
	committed store.Committed
	producers map[drainmark.ProducerID]driver.Value // their ids in the tables
}

// logDraft is a log that the commit writes to.
type logDraft struct {
	drainmark.LogInfo
	id       int64              // 0 as long as it is not in the tables
	foreign  string             // why nothing can be written to it, if so
	appended []*store.Operation // at the positions that end with LastPosition
	keys     map[string]keyUse
}

// plan finds out what the commit does to what there is.
func (d *draft) plan() error {
	if err := d.checkFence(); err != nil {
		return err
	}
	if err := d.readLogs(); err != nil {
		return err
	}
	for i := range d.commit.Operations {
		if reason := d.planOperation(&d.commit.Operations[i]); reason != "" {
			if d.refused == nil {
				d.refused = map[int]string{}
			}
			d.refused[i] = reason
		}
	}
	if d.refused != nil {
		return &store.Refused{Reasons: d.refused}
	}
	return nil
}

func (d *draft) checkFence() error {
	row, err := d.conn.one(context.Background(), "SELECT owner, epoch, revision FROM partitions WHERE partition = ?", d.commit.Partition)
	if err != nil {
		return fmt.Errorf("reading the claim: %w", err)
	}
	if row == nil || text(row[0]) == "" || number(row[1]) != d.commit.Epoch || number(row[2]) != d.commit.Revision {
		return store.ErrFenced
	}
	return nil
}

// readLogs reads the logs that the commit names, and what is known of the keys of its appends.
func (d *draft) readLogs() error {
	var last *logDraft
	for i := range d.commit.Operations {
		op := &d.commit.Operations[i]
		if op.Kind != store.Append && op.Kind != store.Clear {
			continue
		}
		if last == nil || last.Name != op.Record.Log {
			var err error
			if last, err = d.readLog(op.Record.Log); err != nil {
				return fmt.Errorf("reading log %q: %w", op.Record.Log, err)
			}
		}
		if op.Kind == store.Append && op.Record.Key != "" {
			if last.keys == nil {
				last.keys = map[string]keyUse{}
			}
			last.keys[op.Record.Key] = keyUse{}
		}
	}
	for _, l := range d.order {
		if err := d.readKeys(l); err != nil {
			return fmt.Errorf("reading the keys of log %q: %w", l.Name, err)
		}
	}
	return nil
}

func (d *draft) readLog(name string) (*logDraft, error) {
	if l, ok := d.logs[name]; ok {
		return l, nil
	}
	l := &logDraft{LogInfo: drainmark.LogInfo{Name: name}}
	row, err := d.conn.one(context.Background(), "SELECT id, partition, last_position, cleared_through FROM logs WHERE name = ?", name)
	if err != nil {
		return nil, err
	}
	if row == nil {
		if l.foreign, err = d.roomForLog(); err != nil {
			return nil, err
		}
	} else {
		l.id, l.LastPosition, l.ClearedThrough = integer(row[0]), number(row[2]), number(row[3])
		if partition := integer(row[1]); partition != int64(d.commit.Partition) {
			l.foreign = fmt.Sprintf("the log is in partition %d", partition)
		}
	}
	d.logs[name] = l
	d.order = append(d.order, l)
	return l, nil
}

// roomForLog says why there can be no other log, if so. Anybody can make a log by writing to it.
func (d *draft) roomForLog() (reason string, err error) {
	newest, err := d.conn.number(context.Background(), "SELECT coalesce(max(id), 0) FROM logs")
	if err != nil {
		return "", err
	}
	if d.created++; newest+d.created > logLimit {
		return fmt.Sprintf("the store has %d logs, the most that it can hold", newest), nil
	}
	return "", nil
}

// planOperation plans one operation, or says why it can never be applied.
func (d *draft) planOperation(op *store.Operation) (reason string) {
	switch op.Kind {
	case store.Append, store.Clear:
		l := d.logs[op.Record.Log]
		if l.foreign != "" {
			return l.foreign
		}
		if op.Kind == store.Append {
			return d.planAppend(l, op)
		}
		l.ClearedThrough, l.appended = l.LastPosition, nil
	case store.SetAside, store.Restore:
		d.letters = append(d.letters, op)
	default:
		return fmt.Sprintf("operation kind %d is unknown", op.Kind)
	}
	return ""
}

func (d *draft) planAppend(l *logDraft, op *store.Operation) (reason string) {
	if op.Record.Key != "" {
		known, same := d.planKey(l, op.Record)
		if known && !same {
			return store.ReasonKeyReused
		}
		if known {
			d.committed.KeyDuplicates++
			return ""
		}
	}
	if l.LastPosition == maxPosition {
		return fmt.Sprintf("the log is full: its last position is %d, the highest there is", maxPosition)
	}
	l.LastPosition++
	l.appended = append(l.appended, op)
	return ""
}

// write applies the plan.
func (d *draft) write() error {
	for _, l := range d.order {
		if err := d.writeLog(l); err != nil {
			return fmt.Errorf("writing log %q: %w", l.Name, err)
		}
	}
	if err := d.writeKeys(); err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	for _, op := range d.letters {
		if err := writeLetter(d.conn, d.commit, op); err != nil {
			return fmt.Errorf("writing dead letter %s: %w", op.Letter.ID, err)
		}
	}
	if err := d.writeProgress(); err != nil {
		return fmt.Errorf("writing the progress: %w", err)
	}
	return nil
}

func (d *draft) writeLog(l *logDraft) error {
	ctx := context.Background()
	if l.id == 0 {
		const create = "INSERT INTO logs (name, partition, last_position, cleared_through, swept_through, revision) VALUES (?, ?, ?, ?, 0, ?)"
		inserted, err := d.conn.exec(ctx, create, l.Name, d.commit.Partition, l.LastPosition, l.ClearedThrough, d.commit.Revision+1)
		if err != nil {
			return err
		}
		if l.id, err = inserted.LastInsertId(); err != nil {
			return err
		}
	} else if _, err := d.conn.exec(ctx, "UPDATE logs SET last_position = ?, cleared_through = ?, revision = ? WHERE id = ?",
		l.LastPosition, l.ClearedThrough, d.commit.Revision+1, l.id); err != nil {
		return err
	}
	return d.writeMessages(l)
}

var insertMessages = newBulk(
	"INSERT INTO messages (id, producer, sequence, accepted_at, persisted_at, content_type, body) VALUES", 7, "")

// writeMessages inserts what is appended to the log. Values that are the same from row to row are put into an interface
// once, which saves most of the allocations.
func (d *draft) writeMessages(l *logDraft) error {
	for _, op := range l.appended {
		if _, err := d.producer(op.Mark.Producer); err != nil {
			return err
		}
	}
	first := l.id<<positionBits | int64(l.LastPosition-uint64(len(l.appended))+1)
	persisted := value(d.commit.Now)
	var producer, accepted, contentType driver.Value
	var before *store.Operation
	return insertMessages.insert(d.conn, len(l.appended), func(i int, row []driver.NamedValue) {
		op := l.appended[i]
		if before == nil || before.Mark.Producer != op.Mark.Producer {
			producer = d.producers[op.Mark.Producer]
		}
		if before == nil || !before.Record.AcceptedAt.Equal(op.Record.AcceptedAt) {
			accepted = value(op.Record.AcceptedAt)
		}
		if before == nil || before.Record.ContentType != op.Record.ContentType {
			contentType = op.Record.ContentType
		}
		before = op
		row[0].Value, row[1].Value, row[2].Value = first+int64(i), producer, int64(op.Mark.Sequence)
		row[3].Value, row[4].Value, row[5].Value, row[6].Value = accepted, persisted, contentType, value(op.Record.Body)
	})
}

// producer returns the producer's id in the tables, which it gets if it has none.
func (d *draft) producer(p drainmark.ProducerID) (driver.Value, error) {
	if id, ok := d.producers[p]; ok {
		return id, nil
	}
	return d.nameProducer(p) // apart, because it puts p on the heap
}

func (d *draft) nameProducer(p drainmark.ProducerID) (driver.Value, error) {
	ctx := context.Background()
	row, err := d.conn.one(ctx, "SELECT id FROM producers WHERE producer = ?", p[:])
	if err != nil {
		return nil, err
	}
	if row != nil {
		d.producers[p] = row[0]
		return row[0], nil
	}
	inserted, err := d.conn.exec(ctx, "INSERT INTO producers (producer) VALUES (?)", p[:])
	if err != nil {
		return nil, err
	}
	id, err := inserted.LastInsertId()
	d.producers[p] = id
	return id, err
}

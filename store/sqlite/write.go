package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Write implements store.Store.
func (s *Store) Write(ctx context.Context, w store.Write) error {
	return s.run(ctx, fmt.Sprintf("committing to partition %d", w.Partition), true, func(c *conn) error {
		t := writing{
			conn: c, w: &w, effects: s.effects, logs: make(map[string]int64, len(w.Logs)), producers: map[drainmark.ProducerID]driver.Value{},
		}
		return t.run(ctx)
	})
}

// writing is a write on its way into the tables. The checks that can fence or refuse it come first, and only read. So
// others in the same transaction go on.
type writing struct {
	conn      *conn
	w         *store.Write
	effects   *effect.Set[Tx]  // nil for none
	logs      map[string]int64 // their ids in the tables
	producers map[drainmark.ProducerID]driver.Value
}

func (t *writing) run(ctx context.Context) error {
	if err := t.checkFence(); err != nil {
		return err
	}
	if err := t.checkRoom(); err != nil {
		return err
	}
	if err := t.applyEffects(ctx); err != nil {
		return err
	}
	for i := range t.w.Logs {
		if err := t.writeLog(&t.w.Logs[i]); err != nil {
			return fmt.Errorf("writing log %q: %w", t.w.Logs[i].Name, err)
		}
	}
	if err := t.writeKeys(); err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	for _, l := range t.w.Letters {
		if err := t.writeLetter(l); err != nil {
			return fmt.Errorf("writing dead letter %s: %w", l.ID(), err)
		}
	}
	if err := t.writeProgress(); err != nil {
		return fmt.Errorf("writing the progress: %w", err)
	}
	return nil
}

func (t *writing) checkFence() error {
	row, err := t.conn.one(context.Background(), "SELECT owner, epoch, revision FROM partitions WHERE partition = ?", t.w.Partition)
	if err != nil {
		return fmt.Errorf("reading the claim: %w", err)
	}
	if row == nil || text(row[0]) == "" || number(row[1]) != t.w.Token || number(row[2]) != t.w.Revision {
		return store.ErrFenced
	}
	return nil
}

// checkRoom refuses what is about new logs if there can be no others. Anybody can make a log by writing to it.
func (t *writing) checkRoom() error {
	created := int64(0)
	for i := range t.w.Logs {
		if t.w.Logs[i].New {
			created++
		}
	}
	if created == 0 {
		return nil
	}
	newest, err := t.conn.number(context.Background(), "SELECT coalesce(max(id), 0) FROM logs")
	if err != nil {
		return fmt.Errorf("counting the logs: %w", err)
	}
	reasons := map[int]string{}
	for i := range t.w.Logs {
		l := &t.w.Logs[i]
		if !l.New {
			continue
		}
		if newest++; newest <= logLimit {
			continue
		}
		reason := fmt.Sprintf("the store has %d logs, the most that it can hold", logLimit)
		reasons[l.Operation] = reason
		for _, m := range l.Messages {
			reasons[m.Operation] = reason
		}
	}
	if len(reasons) > 0 {
		return &store.Refused{Reasons: reasons}
	}
	return nil
}

func (t *writing) writeLog(l *store.LogWrite) error {
	id, err := t.writeHead(l)
	if err != nil {
		return err
	}
	t.logs[l.Name] = id
	if l.Unkept {
		return nil
	}
	if err := t.writeMessages(id, l.Messages); err != nil {
		return err
	}
	return t.erase(id, l.Erased)
}

const eraseMessage = "UPDATE messages SET body = x'', content_type = '', headers = NULL, erased = 1 WHERE id = ?"

// erase erases messages. What they held is overwritten with zeros, which SQLite does not do otherwise.
func (t *writing) erase(log int64, positions []uint64) (err error) {
	if len(positions) == 0 {
		return nil
	}
	ctx := context.Background()
	if err := t.conn.script(ctx, "PRAGMA secure_delete = ON"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.conn.script(ctx, "PRAGMA secure_delete = OFF")) }()
	for _, position := range positions {
		if _, err := t.conn.exec(ctx, eraseMessage, log<<positionBits|int64(position)); err != nil {
			return fmt.Errorf("erasing the message at position %d: %w", position, err)
		}
	}
	return nil
}

// writeHead writes where the log ends, and returns its id.
func (t *writing) writeHead(l *store.LogWrite) (int64, error) {
	ctx := context.Background()
	if l.New {
		const create = `INSERT INTO logs (name, partition, last_position, cleared_through, swept_through, revision, erasures, deleted)
			VALUES (?, ?, ?, ?, 0, ?, ?, ?)`
		inserted, err := t.conn.exec(ctx, create, l.Name, t.w.Partition, l.LastPosition, l.ClearedThrough, t.w.Revision+1, l.Erasures, l.Deleted)
		if err != nil {
			return 0, err
		}
		return inserted.LastInsertId()
	}
	const move = `UPDATE logs SET last_position = ?, cleared_through = ?, revision = ?, erasures = ?, deleted = ?
		WHERE name = ? RETURNING id`
	row, err := t.conn.one(ctx, move, l.LastPosition, l.ClearedThrough, t.w.Revision+1, l.Erasures, l.Deleted, l.Name)
	if err != nil {
		return 0, err
	}
	if row == nil {
		return 0, store.Misconfigured("%s has lost the log %q", t.conn.path, l.Name)
	}
	return integer(row[0]), nil
}

var insertMessages = newBulk(
	"INSERT INTO messages (id, producer, sequence, accepted_at, persisted_at, content_type, body, headers) VALUES", 8, "")

// writeMessages inserts what is appended to a log. Values that are the same from row to row are put into an interface
// once, which saves most of the allocations.
func (t *writing) writeMessages(log int64, messages []store.NewMessage) error {
	for i := range messages {
		if _, err := t.producer(messages[i].Mark.Producer); err != nil {
			return err
		}
	}
	var producer, accepted, persisted, contentType, headers driver.Value
	var before *store.NewMessage
	return insertMessages.insert(t.conn, len(messages), func(i int, row []driver.NamedValue) {
		m := &messages[i]
		if before == nil || before.Mark.Producer != m.Mark.Producer {
			producer = t.producers[m.Mark.Producer]
		}
		if before == nil || !before.AcceptedAt.Equal(m.AcceptedAt) {
			accepted = value(m.AcceptedAt)
		}
		if before == nil || !before.PersistedAt.Equal(m.PersistedAt) {
			persisted = value(m.PersistedAt)
		}
		if before == nil || before.ContentType != m.ContentType {
			contentType = m.ContentType
		}
		if before == nil || before.Headers != m.Headers {
			headers = headersValue(m.Headers)
		}
		before = m
		row[0].Value, row[1].Value, row[2].Value = log<<positionBits|int64(m.Position), producer, int64(m.Mark.Sequence)
		row[3].Value, row[4].Value, row[5].Value, row[6].Value = accepted, persisted, contentType, value(m.Body)
		row[7].Value = headers
	})
}

// producer returns the producer's id in the tables, which it gets if it has none.
func (t *writing) producer(p drainmark.ProducerID) (driver.Value, error) {
	if id, ok := t.producers[p]; ok {
		return id, nil
	}
	return t.nameProducer(p) // apart, because it puts p on the heap
}

func (t *writing) nameProducer(p drainmark.ProducerID) (driver.Value, error) {
	ctx := context.Background()
	row, err := t.conn.one(ctx, "SELECT id FROM producers WHERE producer = ?", p[:])
	if err != nil {
		return nil, err
	}
	if row != nil {
		t.producers[p] = row[0]
		return row[0], nil
	}
	inserted, err := t.conn.exec(ctx, "INSERT INTO producers (producer) VALUES (?)", p[:])
	if err != nil {
		return nil, err
	}
	id, err := inserted.LastInsertId()
	t.producers[p] = id
	return id, err
}

var insertKeys = newBulk("INSERT INTO keys (log, key, partition, first_at, digest) VALUES", 5, "")

func (t *writing) writeKeys() error {
	partition, clock := value(t.w.Partition), value(t.w.Clock)
	var log driver.Value
	return insertKeys.insert(t.conn, len(t.w.Keys), func(i int, row []driver.NamedValue) {
		k := &t.w.Keys[i]
		if id := t.logs[k.Log]; log != id {
			log = id
		}
		row[0].Value, row[1].Value, row[2].Value = log, k.Key, partition
		row[3].Value, row[4].Value = clock, k.Digest[:]
	})
}

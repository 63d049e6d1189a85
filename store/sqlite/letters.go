package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// headColumns are the columns that scanHead reads, and letterColumns those that scanLetter reads.
const (
	headColumns = "id, run_partition, producer, first, last, log, reason, set_aside_at, attempts, discarded, accepted_at, principal"

	letterColumns = headColumns + ", payload, ordinal"
)

// scanHead reads a letter without its payload.
func scanHead(row []driver.Value) drainmark.DeadLetter {
	letter := drainmark.DeadLetter{
		ID: text(row[0]), Span: drainmark.Span{Partition: int(integer(row[1])), First: number(row[3]), Last: number(row[4])},
		Log: text(row[5]), Reason: text(row[6]), SetAsideAt: moment(row[7]), Attempts: int(integer(row[8])),
		Discarded: truth(row[9]), AcceptedAt: moment(row[10]), Principal: text(row[11]),
	}
	copy(letter.Span.Producer[:], blob(row[2]))
	return letter
}

func scanLetter(row []driver.Value) store.DeadLetter {
	letter := store.DeadLetter{DeadLetter: scanHead(row), Ordinal: number(row[13])}
	letter.Payload = blob(row[12])
	return letter
}

const upsertLetter = "INSERT INTO dead_letters (" + headColumns + `, payload, partition, aged_from)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (partition, id) DO UPDATE SET run_partition = excluded.run_partition, producer = excluded.producer, first = excluded.first,
	last = excluded.last, log = excluded.log, reason = excluded.reason, set_aside_at = excluded.set_aside_at,
	attempts = excluded.attempts, discarded = excluded.discarded, accepted_at = excluded.accepted_at, principal = excluded.principal,
	payload = excluded.payload, aged_from = excluded.aged_from`

func (t *writing) writeLetter(w store.LetterWrite) error {
	defer t.conn.forget()
	ctx, partition := context.Background(), t.w.Partition
	l := w.New
	if l == nil {
		_, err := t.conn.exec(ctx, "DELETE FROM dead_letters WHERE partition = ? AND id = ?", partition, w.Old.ID)
		return err
	}
	_, err := t.conn.exec(ctx, upsertLetter, l.ID, l.Span.Partition, l.Span.Producer[:], l.Span.First, l.Span.Last, l.Log, l.Reason,
		l.SetAsideAt, l.Attempts, l.Discarded, l.AcceptedAt, l.Principal, l.Payload, partition, t.w.Clock)
	return err
}

// readLetter reads the dead letter with the ID.
func readLetter(ctx context.Context, c *conn, partition int, id string) (drainmark.DeadLetter, error) {
	row, err := c.one(ctx, "SELECT "+letterColumns+" FROM dead_letters WHERE partition = ? AND id = ?", partition, id)
	if err != nil {
		return drainmark.DeadLetter{}, err
	}
	if row == nil {
		return drainmark.DeadLetter{}, store.ErrNotFound
	}
	return scanLetter(row).DeadLetter, nil
}

// DeadLetter implements store.Reader.
func (r *Reader) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	return read(ctx, r, "reading dead letter "+id, func(c *conn) (drainmark.DeadLetter, error) {
		return readLetter(ctx, c, partition, id)
	})
}

// DeadLetters implements store.Reader.
func (r *Reader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	const list = "SELECT " + letterColumns + " FROM dead_letters WHERE partition = ? AND ordinal > ? AND NOT discarded ORDER BY ordinal LIMIT ?"
	return read(ctx, r, "listing dead letters", func(c *conn) (letters []store.DeadLetter, err error) {
		args := []any{partition, min(after, math.MaxInt64), max(limit, 0)}
		size := 0
		err = c.each(ctx, list, args, func(row []driver.Value) error {
			letters = append(letters, scanLetter(row))
			if size += len(letters[len(letters)-1].Payload); size >= store.PageBytes {
				return errEnough
			}
			return nil
		})
		return letters, err
	})
}

// CountDeadLetters implements store.Reader.
func (r *Reader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	const count = "SELECT count(*) FROM (SELECT 1 FROM dead_letters WHERE principal = ? AND NOT discarded LIMIT ?)"
	return read(ctx, r, "counting dead letters", func(c *conn) (int, error) {
		row, err := c.one(ctx, count, principal, max(most, 0))
		if err != nil {
			return 0, err
		}
		return int(integer(row[0])), nil
	})
}

// findRejected finds letters that share a mark with a run: those whose last mark is in the run, and those of several
// marks that begin in or before the run and end behind it. Each half is a range of an index.
const findRejected = "SELECT * FROM (SELECT " + headColumns + ` FROM dead_letters
	WHERE partition = ?1 AND producer = ?2 AND last BETWEEN ?3 AND ?4 ORDER BY last LIMIT ?5)
UNION ALL SELECT * FROM (SELECT ` + headColumns + ` FROM dead_letters
	WHERE partition = ?1 AND producer = ?2 AND first <= ?4 AND last > ?4 AND first < last LIMIT ?5)
LIMIT ?5`

// Rejected implements store.Reader.
func (r *Reader) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	return readSnapshot(ctx, r, "looking for rejected records", func(c *conn) (rejected []drainmark.DeadLetter, err error) {
		for _, span := range spans {
			first, last := max(1, min(span.First, math.MaxInt64)), min(span.Last, math.MaxInt64)
			err := c.each(ctx, findRejected, []any{partition, span.Producer[:], first, last, max(each, 0)}, func(row []driver.Value) error {
				rejected = append(rejected, scanHead(row))
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("run %s: %w", span, err)
			}
		}
		return rejected, nil
	})
}

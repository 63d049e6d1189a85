package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// One Sweep deletes at most sweepRows things of each kind, and of the messages no more than about sweepBytes, so that
// no commit waits for it for long.
const (
	sweepRows  = 500
	sweepBytes = 4 << 20
)

// Sweep implements store.Store.
func (s *Store) Sweep(ctx context.Context, sweep store.Sweep) (bool, error) {
	var more bool
	err := s.run(ctx, fmt.Sprintf("sweeping partition %d", sweep.Partition), false, func(c *conn) (err error) {
		more, err = sweepStep(c, sweep)
		return err
	})
	if err != nil {
		return false, err
	}
	return more, nil
}

func sweepStep(c *conn, s store.Sweep) (more bool, err error) {
	more, err = sweepMessages(c, s.Partition)
	if err != nil {
		return false, fmt.Errorf("cleared messages: %w", err)
	}
	row, err := c.one(context.Background(), "SELECT clock FROM partitions WHERE partition = ?", s.Partition)
	if err != nil || row == nil {
		return more, err
	}
	clock := span(row[0])
	if s.Producers > 0 {
		for _, producer := range s.Forget {
			if _, err := c.exec(context.Background(), sweepProducer, s.Partition, clock-s.Producers, producer[:]); err != nil {
				return false, fmt.Errorf("producers: %w", err)
			}
		}
	}
	for _, step := range []struct {
		what, query string
		age         time.Duration
	}{
		{"keys", sweepKeys, s.Keys},
		{"dead letters", sweepLetters, s.Producers}, // behind the producers: those that are in the progress keep theirs
	} {
		if step.age == 0 {
			continue
		}
		deleted, err := c.exec(context.Background(), step.query, s.Partition, clock-step.age, sweepRows)
		if err != nil {
			return false, fmt.Errorf("%s: %w", step.what, err)
		}
		n, err := deleted.RowsAffected()
		if err != nil {
			return false, fmt.Errorf("%s: %w", step.what, err)
		}
		more = more || n == sweepRows
	}
	if !more {
		return giveBack(c)
	}
	return more, nil
}

// Deleting leaves free pages in the file, which later appends take. Free pages above keepFree bytes are given back
// to the disk, at most givePages pages in one step.
const (
	keepFree  = 16 << 20
	givePages = 500
)

// giveBack gives some of the free pages back. It cannot in a file that an older version made: SQLite must be set so
// before there are tables, or with a VACUUM.
func giveBack(c *conn) (more bool, err error) {
	bg := context.Background()
	row, err := c.one(bg, `SELECT (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_size FROM pragma_page_size),
		(SELECT auto_vacuum FROM pragma_auto_vacuum)`)
	if err != nil || row == nil {
		return false, err
	}
	const incremental = 2
	free, size, mode := integer(row[0]), integer(row[1]), integer(row[2])
	if mode != incremental || free*size <= keepFree {
		return false, nil
	}
	// Each row that is read is a page that was given back.
	err = c.each(bg, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", givePages), nil, func([]driver.Value) error {
		more = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("giving free pages back: %w", err)
	}
	c.gave = c.gave || more
	return more, nil
}

const sweepKeys = `DELETE FROM keys WHERE (log, key) IN (SELECT log, key FROM keys WHERE partition = ? AND first_at < ? LIMIT ?)`

const sweepLetters = `DELETE FROM dead_letters WHERE ordinal IN (
	SELECT d.ordinal FROM dead_letters d
	LEFT JOIN producers p ON p.producer = d.producer
	LEFT JOIN progress g ON g.partition = d.partition AND g.producer = p.id
	WHERE d.partition = ? AND d.discarded AND g.producer IS NULL AND d.aged_from < ? LIMIT ?)`

const sweepProducer = `DELETE FROM progress WHERE partition = ? AND last_at < ? AND producer = (SELECT id FROM producers WHERE producer = ?)`

// Silent implements store.Store.
func (s *Store) Silent(ctx context.Context, partition int, age time.Duration) (silent []drainmark.ProducerID, err error) {
	const query = `SELECT p.producer FROM partitions n JOIN progress g USING (partition) JOIN producers p ON p.id = g.producer
		WHERE n.partition = ? AND g.last_at < n.clock - ? ORDER BY g.last_at LIMIT ?`
	err = s.run(ctx, fmt.Sprintf("asking who is silent in partition %d", partition), false, func(c *conn) error {
		silent = nil
		return c.each(ctx, query, []any{partition, age, store.MaxSilent}, func(row []driver.Value) error {
			var id drainmark.ProducerID
			copy(id[:], blob(row[0]))
			silent = append(silent, id)
			return nil
		})
	})
	return silent, err
}

// sweepMessages deletes some of the cleared messages of one of the partition's logs.
func sweepMessages(c *conn, partition int) (more bool, err error) {
	bg := context.Background()
	const oneLog = `SELECT id, swept_through, cleared_through FROM logs
		WHERE partition = ? AND swept_through < cleared_through LIMIT 1`
	row, err := c.one(bg, oneLog, partition)
	if err != nil || row == nil {
		return false, err
	}
	log, swept, cleared := integer(row[0]), integer(row[1]), integer(row[2])
	first, last := log<<positionBits|swept, log<<positionBits|cleared
	end, rows, size := last, 0, int64(0)
	const lengths = "SELECT id, length(body) FROM messages WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
	err = c.each(bg, lengths, []any{first, last, sweepRows}, func(row []driver.Value) error {
		rows++
		size += integer(row[1])
		if rows == sweepRows || size >= sweepBytes {
			end = integer(row[0])
			return errEnough
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if _, err := c.exec(bg, "DELETE FROM messages WHERE id > ? AND id <= ?", first, end); err != nil {
		return false, err
	}
	_, err = c.exec(bg, "UPDATE logs SET swept_through = ? WHERE id = ?", end&maxPosition, log)
	return true, err
}

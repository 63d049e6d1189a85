package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

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
	for _, step := range []struct {
		what, query string
		age         time.Duration
	}{
		{"keys", sweepKeys, s.Keys},
		{"dead letters", sweepLetters, s.Producers}, // before the producers, whose last record they go by
		{"producers", sweepProducers, s.Producers},
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
	return more, nil
}

const sweepKeys = `DELETE FROM keys WHERE (log, key) IN (SELECT log, key FROM keys WHERE partition = ? AND first_at < ? LIMIT ?)`

// A letter whose producer is forgotten, or was never known, goes by when it was set aside.
const sweepLetters = `DELETE FROM dead_letters WHERE ordinal IN (
	SELECT d.ordinal FROM dead_letters d
	LEFT JOIN producers p ON p.producer = d.producer
	LEFT JOIN progress g ON g.partition = d.partition AND g.producer = p.id
	WHERE d.partition = ? AND d.discarded AND coalesce(g.last_at, d.aged_from) < ? LIMIT ?)`

const sweepProducers = `DELETE FROM progress WHERE (partition, producer) IN (
	SELECT partition, producer FROM progress WHERE partition = ? AND last_at < ? LIMIT ?)`

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

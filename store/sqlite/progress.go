package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// readProgress reads the partition's progress, the zero one if it was never claimed. It is two queries.
func readProgress(ctx context.Context, c *conn, partition int) (drainmark.Progress, error) {
	p := drainmark.Progress{Partition: partition}
	row, err := c.one(ctx, "SELECT epoch, revision, cursor, rejected, set_aside, clock, trouble FROM partitions WHERE partition = ?", partition)
	if err != nil || row == nil {
		return p, err
	}
	p.Version = drainmark.Version{Token: number(row[0]), Revision: number(row[1])}
	p.Cursor, p.Rejected, p.SetAside = drainmark.Cursor(text(row[2])), number(row[3]), number(row[4])
	p.Clock = span(row[5])
	if p.Trouble, err = drainmark.DecodeTrouble(text(row[6])); err != nil {
		return p, store.Misconfigured("the progress of partition %d: %w: Drainmark did not write that", partition, err)
	}
	p.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{}
	const producers = `SELECT p.producer, g.done, g.last_at FROM progress g JOIN producers p ON p.id = g.producer WHERE g.partition = ?`
	err = c.each(ctx, producers, []any{partition}, func(row []driver.Value) error {
		var id drainmark.ProducerID
		copy(id[:], blob(row[0]))
		done, err := drainmark.ParseRanges(text(row[1]))
		if err != nil {
			return store.Misconfigured("the progress of a producer: %w: Drainmark did not write that", err)
		}
		p.Producers[id] = drainmark.ProducerProgress{Done: done, LastAt: span(row[2])}
		return nil
	})
	return p, err
}

var upsertProgress = newBulk("INSERT INTO progress (partition, producer, done, last_at) VALUES", 4,
	"ON CONFLICT DO UPDATE SET done = excluded.done, last_at = excluded.last_at")

func (t *writing) writeProgress() error {
	type entry struct {
		producer driver.Value
		progress drainmark.ProducerProgress
	}
	entries := make([]entry, 0, len(t.w.Producers))
	for p, progress := range t.w.Producers {
		id, err := t.producer(p)
		if err != nil {
			return err
		}
		entries = append(entries, entry{id, progress})
	}
	partition := value(t.w.Partition)
	err := upsertProgress.insert(t.conn, len(entries), func(i int, row []driver.NamedValue) {
		e := entries[i]
		row[0].Value, row[1].Value = partition, e.producer
		row[2].Value, row[3].Value = e.progress.Done.String(), value(e.progress.LastAt)
	})
	if err != nil {
		return err
	}
	const move = "UPDATE partitions SET revision = revision + 1, cursor = ?, rejected = ?, set_aside = set_aside + ?, clock = ?, trouble = ? WHERE partition = ?"
	_, err = t.conn.exec(context.Background(), move, string(t.w.Cursor), t.w.Rejected, t.w.SetAside, t.w.Clock, t.w.Trouble.Encode(), t.w.Partition)
	return err
}

package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Find implements store.Store. It reads on a connection of its own, so that it does not wait for commits of other
// partitions.
func (s *Store) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	doing := fmt.Sprintf("reading what a commit to partition %d needs", partition)
	found, err := readSnapshot(ctx, s.reader, doing, func(c *conn) (found store.Found, err error) {
		row, err := c.one(ctx, "SELECT epoch, revision FROM partitions WHERE partition = ?", partition)
		if err != nil {
			return found, err
		}
		if row != nil {
			found.Version = drainmark.Version{Token: number(row[0]), Revision: number(row[1])}
		}
		found.Logs = make(map[string]store.FoundLog, len(w.Logs))
		for i := range w.Logs {
			if err := findLog(ctx, c, &w.Logs[i], found.Logs); err != nil {
				return found, fmt.Errorf("reading log %q: %w", w.Logs[i].Name, err)
			}
		}
		found.Letters, err = findLetters(ctx, c, partition, w.Letters)
		return found, err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%s: %w", doing, store.Misconfigured("%s is gone, though it had a store: bring it back", s.path))
	}
	return found, err
}

func findLog(ctx context.Context, c *conn, w *store.WantedLog, found map[string]store.FoundLog) error {
	row, err := c.one(ctx, "SELECT id, last_position, cleared_through, erasures, deleted FROM logs WHERE name = ?", w.Name)
	if err != nil || row == nil {
		return err
	}
	l := store.FoundLog{LogInfo: drainmark.LogInfo{
		Name: w.Name, LastPosition: number(row[1]), ClearedThrough: number(row[2]), Erasures: number(row[3]), Deleted: truth(row[4]),
	}}
	if len(w.Keys) > 0 {
		l.Keys = make(map[string]store.Digest, len(w.Keys))
		err = findKeys(ctx, c, integer(row[0]), w.Keys, l.Keys)
	}
	found[w.Name] = l
	return err
}

// keysPerQuery is how many keys are looked up at once.
const keysPerQuery = 64

var selectKeys = "SELECT key, digest FROM keys WHERE log = ? AND key IN (?" + strings.Repeat(", ?", keysPerQuery-1) + ")"

func findKeys(ctx context.Context, c *conn, log int64, keys []string, found map[string]store.Digest) error {
	args := make([]any, 1+keysPerQuery)
	args[0] = log
	for len(keys) > 0 {
		n := min(len(keys), keysPerQuery)
		for i := range keysPerQuery {
			args[1+i] = keys[min(i, n-1)] // the statement always has as many
		}
		keys = keys[n:]
		err := c.each(ctx, selectKeys, args, func(row []driver.Value) error {
			var d store.Digest
			copy(d[:], blob(row[1]))
			found[text(row[0])] = d
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading its keys: %w", err)
		}
	}
	return nil
}

func findLetters(ctx context.Context, c *conn, partition int, ids []string) (map[string]drainmark.DeadLetter, error) {
	found := make(map[string]drainmark.DeadLetter, len(ids))
	for _, id := range ids {
		row, err := c.one(ctx, "SELECT "+letterColumns+" FROM dead_letters WHERE partition = ? AND id = ?", partition, id)
		if err != nil {
			return nil, fmt.Errorf("reading dead letter %s: %w", id, err)
		}
		if row != nil {
			found[id] = scanLetter(row).DeadLetter
		}
	}
	return found, nil
}

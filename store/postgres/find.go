package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Find implements store.Store. It is one round trip, and reads one state.
func (s *Store) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	doing := fmt.Sprintf("reading what a commit to partition %d needs", partition)
	return read(ctx, s.commits, doing, func(ctx context.Context, c *pgx.Conn) (store.Found, error) {
		f := finding{store.Found{Logs: map[string]store.FoundLog{}, Letters: map[string]drainmark.DeadLetter{}}}
		err := snapshot(ctx, c, func(batch *pgx.Batch) {
			const version = "SELECT token, revision FROM drainmark.partitions WHERE partition = $1"
			batch.Queue(s.sql(version), partition).QueryRow(f.scanVersion)
			f.queueLogs(batch, s.dialect, w.Logs)
			if len(w.Letters) > 0 {
				const letters = "SELECT " + letterColumns + " FROM drainmark.dead_letters d WHERE partition = $1 AND id = ANY ($2)"
				batch.Queue(s.sql(letters), partition, w.Letters).Query(f.scanLetters)
			}
		})
		return f.found, err
	})
}

// finding is what Find has found so far.
type finding struct{ found store.Found }

func (f *finding) scanVersion(row pgx.Row) error {
	var token, revision int64
	err := row.Scan(&token, &revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it was never claimed
	}
	f.found.Version = drainmark.Version{Token: uint64(token), Revision: uint64(revision)}
	return err
}

const (
	findLogs = "SELECT name, last_position, cleared_through, erasures, deleted FROM drainmark.logs WHERE name = ANY ($1)"
	findKeys = `SELECT l.name, k.key, k.digest FROM unnest($1::text[], $2::bytea[]) AS u (log, key)
JOIN drainmark.logs l ON l.name = u.log JOIN drainmark.keys k ON k.log = l.id AND k.key = u.key`
)

func (f *finding) queueLogs(batch *pgx.Batch, d *dialect, wanted []store.WantedLog) {
	if len(wanted) == 0 {
		return
	}
	names := make([]string, len(wanted))
	var logs []string
	var keys [][]byte
	for i, w := range wanted {
		names[i] = w.Name
		for _, key := range w.Keys {
			logs, keys = append(logs, w.Name), append(keys, []byte(key))
		}
	}
	batch.Queue(d.sql(findLogs), names).Query(func(rows pgx.Rows) error {
		var name string
		var last, cleared, erasures int64
		var deleted bool
		_, err := pgx.ForEachRow(rows, []any{&name, &last, &cleared, &erasures, &deleted}, func() error {
			info := drainmark.LogInfo{
				Name: name, LastPosition: uint64(last), ClearedThrough: uint64(cleared), Erasures: uint64(erasures), Deleted: deleted,
			}
			f.found.Logs[name] = store.FoundLog{LogInfo: info, Keys: map[string]store.Digest{}}
			return nil
		})
		return err
	})
	if len(keys) > 0 {
		batch.Queue(d.sql(findKeys), logs, keys).Query(f.scanKeys)
	}
}

func (f *finding) scanKeys(rows pgx.Rows) error {
	var name string
	var key, digest []byte
	_, err := pgx.ForEachRow(rows, []any{&name, &key, &digest}, func() error {
		var d store.Digest
		copy(d[:], digest)
		f.found.Logs[name].Keys[string(key)] = d
		return nil
	})
	return err
}

func (f *finding) scanLetters(rows pgx.Rows) error {
	letters, err := pgx.CollectRows(rows, scanLetter)
	for _, letter := range letters {
		f.found.Letters[letter.ID] = letter.DeadLetter
	}
	return err
}

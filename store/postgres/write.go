package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Write implements store.Store. It is one transaction of two round trips, and those of the effects between them:
// the first locks the fence and reads what the rows need, the second writes all rows and commits.
func (s *Store) Write(ctx context.Context, w store.Write) error {
	doing := fmt.Sprintf("committing to partition %d", w.Partition)
	err := s.transact(ctx, s.commits, doing, func(ctx context.Context, tx *transaction) error {
		t := writing{dialect: s.dialect, tx: tx, w: &w, effects: s.effects}
		return t.run(ctx, s.sync)
	})
	if refused := s.refusal(err); refused != nil {
		return fmt.Errorf("%s: %w", doing, refused)
	}
	return err
}

// writing is a write on its way into the tables.
type writing struct {
	*dialect
	tx      *transaction
	w       *store.Write
	effects *effect.Set[Tx]
	ordinal int64            // the last one that a dead letter of the partition has
	logs    map[string]int64 // their ids in the tables
}

// run is the transaction's order: no statement of any other kind runs before the fence is locked and has been checked,
// and none behind what moves the progress. A step that fails rolls back all.
func (t *writing) run(ctx context.Context, sync string) error {
	if err := t.checkContent(); err != nil {
		return err
	}
	if err := t.lock(ctx, sync); err != nil {
		return err
	}
	if err := t.applyEffects(ctx); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	t.writeLogs(batch)
	t.writeMessages(batch)
	t.erase(batch)
	t.writeKeys(batch)
	t.writeLetters(batch)
	t.writeProgress(batch)
	return t.tx.commit(ctx, batch)
}

// checkContent refuses text that PostgreSQL cannot hold. It can say which operation it is of, which the server cannot.
func (t *writing) checkContent() error {
	reasons := map[int]string{}
	for i := range t.w.Logs {
		l := &t.w.Logs[i]
		if !storable(l.Name) {
			reasons[l.Operation] = "the log's name is not text in UTF-8, or has a zero byte: PostgreSQL cannot hold it"
		}
		for k := range l.Messages {
			if m := &l.Messages[k]; !storable(m.ContentType) {
				reasons[m.Operation] = "the content type is not text in UTF-8, or has a zero byte: PostgreSQL cannot hold it"
			}
		}
	}
	if len(reasons) > 0 {
		return &store.Refused{Reasons: reasons}
	}
	return nil
}

func storable(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

// lock locks the partition's row until the transaction ends, and checks that the writer still holds it. Behind the lock
// it reads the ids of the logs, and takes new ones for new logs.
func (t *writing) lock(ctx context.Context, sync string) error {
	idle := idleLimit
	if t.effects.Any(t.w) {
		idle = idleLimitEffect
	}
	batch := t.tx.beginFor(sync, idle)
	var held bool
	var token, revision int64
	const fence = "SELECT held, token, revision, ordinal FROM drainmark.partitions WHERE partition = $1 FOR UPDATE"
	batch.Queue(t.sql(fence), t.w.Partition).QueryRow(func(row pgx.Row) error {
		return row.Scan(&held, &token, &revision, &t.ordinal)
	})
	t.findLogs(batch)
	switch err := t.tx.SendBatch(ctx, batch).Close(); {
	case errors.Is(err, pgx.ErrNoRows):
		return store.ErrFenced
	case err != nil:
		return err
	case !held || uint64(token) != t.w.Token || uint64(revision) != t.w.Revision:
		return store.ErrFenced
	}
	for i := range t.w.Logs {
		if name := t.w.Logs[i].Name; t.logs[name] == 0 {
			return store.Misconfigured("the store has lost the log %q", name)
		}
	}
	return nil
}

// findLogs queues what finds out the logs' ids.
func (t *writing) findLogs(batch *pgx.Batch) {
	t.logs = make(map[string]int64, len(t.w.Logs))
	var known, created []string
	for i := range t.w.Logs {
		if l := &t.w.Logs[i]; l.New {
			created = append(created, l.Name)
		} else {
			known = append(known, l.Name)
		}
	}
	take := func(rows pgx.Rows) error {
		var name string
		var id int64
		_, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error { t.logs[name] = id; return nil })
		return err
	}
	if len(known) > 0 {
		batch.Queue(t.sql("SELECT name, id FROM drainmark.logs WHERE name = ANY ($1)"), known).Query(take)
	}
	if len(created) > 0 {
		batch.Queue(t.sql(`SELECT name, nextval('drainmark.logs_id_seq') FROM unnest($1::text[]) name`), created).Query(take)
	}
}

const upsertLogs = `INSERT INTO drainmark.logs AS l
	(id, name, partition, last_position, cleared_through, swept_through, revision, erasures, deleted)
SELECT u.id, u.name, $4, u.last, u.cleared, 0, $5, u.erasures, u.deleted
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $6::bigint[], $7::bigint[], $8::boolean[])
	AS u (id, name, last, cleared, erasures, deleted)
ON CONFLICT (id) DO UPDATE
SET last_position = excluded.last_position, cleared_through = excluded.cleared_through, revision = excluded.revision,
	erasures = excluded.erasures, deleted = excluded.deleted`

func (t *writing) writeLogs(batch *pgx.Batch) {
	n := len(t.w.Logs)
	if n == 0 {
		return
	}
	ids, names, last, cleared := make([]int64, n), make([]string, n), make([]int64, n), make([]int64, n)
	erasures, deleted := make([]int64, n), make([]bool, n)
	for i := range t.w.Logs {
		l := &t.w.Logs[i]
		ids[i], names[i], last[i], cleared[i] = t.logs[l.Name], l.Name, int64(l.LastPosition), int64(l.ClearedThrough)
		erasures[i], deleted[i] = int64(l.Erasures), l.Deleted
	}
	batch.Queue(t.sql(upsertLogs), ids, names, last, t.w.Partition, int64(t.w.Revision+1), cleared, erasures, deleted)
}

// insertMessages has NULL for headers behind the end of their array, which is empty if there are none.
const insertMessages = `INSERT INTO drainmark.messages
	(log, position, producer, sequence, accepted_at, persisted_at, content_type, body, headers)
SELECT u.log, u.position, u.producer, u.sequence, u.accepted, u.persisted, u.type, u.body, u.headers::jsonb
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::bytea[],
	$9::text[]) AS u (log, position, producer, sequence, accepted, persisted, type, body, headers)`

func (t *writing) writeMessages(batch *pgx.Batch) {
	n := 0
	for i := range t.w.Logs {
		if !t.w.Logs[i].Unkept {
			n += len(t.w.Logs[i].Messages)
		}
	}
	if n == 0 {
		return
	}
	logs, positions, sequences := make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
	producers, types, bodies := make([]pgtype.UUID, 0, n), make([]string, 0, n), make([][]byte, 0, n)
	accepted, persisted := make([]time.Time, 0, n), make([]time.Time, 0, n)
	var headers []pgtype.Text
	for i := range t.w.Logs {
		if t.w.Logs[i].Unkept {
			continue
		}
		id := t.logs[t.w.Logs[i].Name]
		for k := range t.w.Logs[i].Messages {
			m := &t.w.Logs[i].Messages[k]
			logs, positions = append(logs, id), append(positions, int64(m.Position))
			sequences = append(sequences, int64(m.Mark.Sequence))
			producers, types = append(producers, uuid(m.Mark.Producer)), append(types, m.ContentType)
			bodies = append(bodies, notNull(m.Body))
			accepted, persisted = append(accepted, within(m.AcceptedAt)), append(persisted, within(m.PersistedAt))
			if !m.Headers.IsZero() {
				headers = append(headers, make([]pgtype.Text, len(logs)-1-len(headers))...) // of those before, which have none
				headers = append(headers, pgtype.Text{String: string(m.Headers.AppendJSON(nil)), Valid: true})
			}
		}
	}
	batch.Queue(t.sql(insertMessages), logs, positions, producers, sequences, accepted, persisted, types, bodies, headers)
}

const eraseMessages = `UPDATE drainmark.messages m SET body = '', content_type = '', headers = NULL, erased = true
FROM unnest($1::bigint[], $2::bigint[]) AS u (log, position) WHERE m.log = u.log AND m.position = u.position`

// erase queues what erases messages, if any are to be.
func (t *writing) erase(batch *pgx.Batch) {
	var logs, positions []int64
	for i := range t.w.Logs {
		for _, position := range t.w.Logs[i].Erased {
			logs, positions = append(logs, t.logs[t.w.Logs[i].Name]), append(positions, int64(position))
		}
	}
	if len(logs) > 0 {
		batch.Queue(t.sql(eraseMessages), logs, positions)
	}
}

func uuid(p drainmark.ProducerID) pgtype.UUID { return pgtype.UUID{Bytes: p, Valid: true} }

// notNull returns what is NULL for the driver as no bytes.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

const insertKeys = `INSERT INTO drainmark.keys (log, key, partition, first_at, digest)
SELECT u.log, u.key, $2, $3, u.digest FROM unnest($1::bigint[], $4::bytea[], $5::bytea[]) AS u (log, key, digest)`

func (t *writing) writeKeys(batch *pgx.Batch) {
	n := len(t.w.Keys)
	if n == 0 {
		return
	}
	logs, keys, digests := make([]int64, n), make([][]byte, n), make([][]byte, n)
	for i := range t.w.Keys {
		k := &t.w.Keys[i]
		logs[i], keys[i], digests[i] = t.logs[k.Log], []byte(k.Key), k.Digest[:store.DigestBytes]
	}
	batch.Queue(t.sql(insertKeys), logs, t.w.Partition, t.w.Clock.Microseconds(), keys, digests)
}

const (
	upsertProgress = `INSERT INTO drainmark.progress (partition, producer, done, last_at)
SELECT $1, u.producer, u.done::int8multirange, u.last_at
FROM unnest($2::uuid[], $3::text[], $4::bigint[]) AS u (producer, done, last_at)
ON CONFLICT (partition, producer) DO UPDATE SET done = excluded.done, last_at = excluded.last_at`

	noteRecent = `INSERT INTO drainmark.recent (partition, slot, revision, logs) VALUES ($1, $2, $3, $4)
ON CONFLICT (partition, slot) DO UPDATE SET revision = excluded.revision, logs = excluded.logs`

	moveProgress = `UPDATE drainmark.partitions SET revision = $2, cursor = $3, rejected = $4, set_aside = set_aside + $5,
	clock = $6, ordinal = $7, trouble = $8
WHERE partition = $1`
)

// The ring of what the last commits wrote to.
const (
	recentCommits = 256
	recentLogs    = 1000 // more of one commit are not noted
)

// writeProgress queues what moves the partition on. It is the last thing before the commit.
func (t *writing) writeProgress(batch *pgx.Batch) {
	var producers []pgtype.UUID
	var done []string
	var lastAt []int64
	for id, p := range t.w.Producers {
		producers, done = append(producers, uuid(id)), append(done, rangesText(p.Done))
		lastAt = append(lastAt, p.LastAt.Microseconds())
	}
	if len(producers) > 0 {
		batch.Queue(t.sql(upsertProgress), t.w.Partition, producers, done, lastAt)
	}
	revision := int64(t.w.Revision + 1)
	var names []string // nil is NULL
	if len(t.w.Logs) <= recentLogs {
		names = make([]string, 0, len(t.w.Logs))
		for i := range t.w.Logs {
			names = append(names, t.w.Logs[i].Name)
		}
	}
	batch.Queue(t.sql(noteRecent), t.w.Partition, int32(revision%recentCommits), revision, names)
	batch.Queue(t.sql(moveProgress), t.w.Partition, revision, []byte(t.w.Cursor), int64(t.w.Rejected), t.w.SetAside,
		t.w.Clock.Microseconds(), t.ordinal, t.w.Trouble.Encode())
}

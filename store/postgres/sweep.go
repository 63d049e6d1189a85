package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// One Sweep deletes at most sweepRows things of each kind, and of the messages no more than about sweepBytes, so that
// no commit waits for it for long.
const (
	sweepRows  = 500
	sweepBytes = 4 << 20
)

// sweepMessages deletes some of the cleared messages of one of the partition's logs. The first ones are read from the index
// up to the limit (LATERAL): a join would read all that is cleared, for each step again.
const sweepMessages = `WITH l AS (
	SELECT id, swept_through, cleared_through FROM drainmark.logs WHERE partition = $1 AND swept_through < cleared_through
	ORDER BY id LIMIT 1 FOR UPDATE),
doomed AS (
	SELECT position, sum(octet_length(body)) OVER (ORDER BY position) - octet_length(body) AS before FROM (
		SELECT m.position, m.body FROM l CROSS JOIN LATERAL (
			SELECT position, body FROM drainmark.messages
			WHERE log = l.id AND position > l.swept_through AND position <= l.cleared_through ORDER BY position LIMIT $2) m) m),
reached AS (
	SELECT CASE WHEN count(*) < $2 AND coalesce(max(before), 0) < $3 THEN NULL
		ELSE max(position) FILTER (WHERE before < $3) END AS position FROM doomed),
gone AS (
	DELETE FROM drainmark.messages m USING l, reached
	WHERE m.log = l.id AND m.position > l.swept_through AND m.position <= coalesce(reached.position, l.cleared_through))
UPDATE drainmark.logs SET swept_through = coalesce(reached.position, l.cleared_through)
FROM l, reached WHERE logs.id = l.id`

// The others go by the partition's clock, in the statement that deletes.
const (
	sweepProducers = `DELETE FROM drainmark.progress g USING drainmark.partitions n
WHERE n.partition = $1 AND g.partition = n.partition AND g.producer = ANY ($2) AND g.last_at < n.clock - $3`

	sweepKeys = `DELETE FROM drainmark.keys WHERE (log, key) IN (
	SELECT k.log, k.key FROM drainmark.partitions n
	JOIN drainmark.keys k ON k.partition = n.partition AND k.first_at < n.clock - $2
	WHERE n.partition = $1 LIMIT $3)`

	sweepLetters = `DELETE FROM drainmark.dead_letters WHERE (partition, ordinal) IN (
	SELECT d.partition, d.ordinal FROM drainmark.partitions n
	JOIN drainmark.dead_letters d ON d.partition = n.partition AND d.discarded AND d.aged_from < n.clock - $2
	WHERE n.partition = $1 AND NOT EXISTS (
		SELECT FROM drainmark.progress g WHERE g.partition = d.partition AND g.producer = d.producer) LIMIT $3)`
)

// Sweep implements store.Store. A producer that has just published again is kept: the row is looked at again when the
// commit that it waits for has ended.
func (s *Store) Sweep(ctx context.Context, sweep store.Sweep) (more bool, err error) {
	doing := fmt.Sprintf("sweeping partition %d", sweep.Partition)
	err = s.transact(ctx, s.claims, doing, func(ctx context.Context, tx *transaction) error {
		more = false
		note := func(n int64) func(pgconn.CommandTag) error {
			return func(tag pgconn.CommandTag) error { more = more || tag.RowsAffected() >= n; return nil }
		}
		batch := tx.begin(s.sync)
		batch.Queue(s.sql(sweepMessages), sweep.Partition, sweepRows, sweepBytes).Exec(note(1))
		if sweep.Producers > 0 && len(sweep.Forget) > 0 {
			forget := make([]pgtype.UUID, len(sweep.Forget))
			for i, p := range sweep.Forget {
				forget[i] = uuid(p)
			}
			batch.Queue(s.sql(sweepProducers), sweep.Partition, forget, sweep.Producers.Microseconds())
		}
		if sweep.Keys > 0 {
			batch.Queue(s.sql(sweepKeys), sweep.Partition, sweep.Keys.Microseconds(), sweepRows).Exec(note(sweepRows))
		}
		if sweep.Producers > 0 { // behind the producers: those that are in the progress keep theirs
			batch.Queue(s.sql(sweepLetters), sweep.Partition, sweep.Producers.Microseconds(), sweepRows).Exec(note(sweepRows))
		}
		return tx.commit(ctx, batch)
	})
	return more && err == nil, err
}

// Silent implements store.Store.
func (s *Store) Silent(ctx context.Context, partition int, age time.Duration) ([]drainmark.ProducerID, error) {
	const query = `SELECT g.producer FROM drainmark.partitions n JOIN drainmark.progress g USING (partition)
		WHERE n.partition = $1 AND g.last_at < n.clock - $2 ORDER BY g.last_at LIMIT $3`
	doing := fmt.Sprintf("asking who is silent in partition %d", partition)
	return read(ctx, s.claims, doing, func(ctx context.Context, c *pgx.Conn) ([]drainmark.ProducerID, error) {
		rows, err := c.Query(ctx, s.sql(query), partition, age.Microseconds(), store.MaxSilent)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (drainmark.ProducerID, error) {
			var id pgtype.UUID
			err := row.Scan(&id)
			return id.Bytes, err
		})
	})
}

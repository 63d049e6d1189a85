package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// headColumns are the columns that scanHead reads, and letterColumns those that scanLetter reads.
const (
	headColumns = `d.id, d.span_partition, d.producer, d.first, d.last, d.log, d.reason, d.set_aside_at, d.attempts, d.discarded,
	d.accepted_at, d.principal`

	letterColumns = headColumns + ", d.payload, d.ordinal"
)

// head has room for a letter without its payload.
type head struct {
	letter      drainmark.DeadLetter
	producer    pgtype.UUID
	first, last int64
}

// columns are where headColumns go.
func (h *head) columns() []any {
	l := &h.letter
	return []any{
		&l.ID, &l.Span.Partition, &h.producer, &h.first, &h.last, &l.Log, &l.Reason, &l.SetAsideAt, &l.Attempts, &l.Discarded,
		&l.AcceptedAt, &l.Principal,
	}
}

// whole returns the letter when its columns have been read.
func (h *head) whole() drainmark.DeadLetter {
	l := h.letter
	l.Span.Producer, l.Span.First, l.Span.Last = h.producer.Bytes, uint64(h.first), uint64(h.last)
	return l
}

func scanHead(row pgx.CollectableRow) (drainmark.DeadLetter, error) {
	var h head
	err := row.Scan(h.columns()...)
	return h.whole(), err
}

func scanLetter(row pgx.CollectableRow) (store.DeadLetter, error) {
	var h head
	var payload []byte
	var ordinal int64
	err := row.Scan(append(h.columns(), &payload, &ordinal)...)
	letter := store.DeadLetter{DeadLetter: h.whole(), Ordinal: uint64(ordinal)}
	letter.Payload = payload
	return letter, err
}

const upsertLetter = `INSERT INTO drainmark.dead_letters AS d (partition, ordinal, id, span_partition, producer, first, last,
	log, reason, set_aside_at, attempts, discarded, accepted_at, payload, aged_from, principal)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (partition, id) DO UPDATE SET span_partition = excluded.span_partition, producer = excluded.producer,
	first = excluded.first, last = excluded.last, log = excluded.log, reason = excluded.reason,
	set_aside_at = excluded.set_aside_at, attempts = excluded.attempts, discarded = excluded.discarded,
	accepted_at = excluded.accepted_at, payload = excluded.payload, aged_from = excluded.aged_from,
	principal = excluded.principal`

// writeLetters queues the dead letters. A letter is never refused: what is set aside must not be set aside again for
// that.
func (t *writing) writeLetters(batch *pgx.Batch) {
	for _, w := range t.w.Letters {
		l := w.New
		if l == nil {
			batch.Queue(t.sql("DELETE FROM drainmark.dead_letters WHERE partition = $1 AND id = $2"), t.w.Partition, w.Old.ID)
			continue
		}
		t.ordinal++
		batch.Queue(t.sql(upsertLetter), t.w.Partition, t.ordinal, l.ID, l.Span.Partition, uuid(l.Span.Producer),
			int64(l.Span.First), int64(l.Span.Last), clean(l.Log), clean(l.Reason), within(l.SetAsideAt), l.Attempts, l.Discarded,
			within(l.AcceptedAt), l.Payload, t.w.Clock.Microseconds(), clean(l.Principal))
	}
}

// clean replaces what text in PostgreSQL cannot have. It is for what people read.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// The times that PostgreSQL can hold reach further than these.
var earliest, latest = time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(200000, 1, 1, 0, 0, 0, 0, time.UTC)

// within returns the nearest time that can be held.
func within(t time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}

// DeadLetter implements store.Reader.
func (r *Reader) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	const query = "SELECT " + letterColumns + " FROM drainmark.dead_letters d WHERE partition = $1 AND id = $2"
	doing := "reading dead letter " + id
	return readFrom(ctx, r, doing, func(ctx context.Context, c *pgx.Conn) (drainmark.DeadLetter, error) {
		rows, err := c.Query(ctx, r.sql(query), partition, id)
		if err != nil {
			return drainmark.DeadLetter{}, err
		}
		letter, err := pgx.CollectExactlyOneRow(rows, scanLetter)
		if errors.Is(err, pgx.ErrNoRows) {
			err = store.ErrNotFound
		}
		return letter.DeadLetter, err
	})
}

// listLetters ends a list when it is large: the lengths of payloads are known without reading them.
const listLetters = "SELECT " + letterColumns + ` FROM (
	SELECT *, sum(coalesce(octet_length(payload), 0)) OVER (ORDER BY ordinal) - coalesce(octet_length(payload), 0) AS before
	FROM (SELECT * FROM drainmark.dead_letters WHERE partition = $1 AND ordinal > $2 AND NOT discarded
		ORDER BY ordinal LIMIT $3) n
) d WHERE d.before < $4 ORDER BY d.ordinal`

// DeadLetters implements store.Reader.
func (r *Reader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	return readFrom(ctx, r, "listing dead letters", func(ctx context.Context, c *pgx.Conn) ([]store.DeadLetter, error) {
		rows, err := c.Query(ctx, r.sql(listLetters), partition, int64(min(after, math.MaxInt64)), max(limit, 0), store.PageBytes)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, scanLetter)
	})
}

// countLetters has an order because the index has it. Without one the planner may read the whole table. Before the table is
// analyzed for the first time it may still read all of the principal's open letters.
const countLetters = `SELECT count(*) FROM (
	SELECT FROM drainmark.dead_letters WHERE principal = $1 AND NOT discarded ORDER BY ordinal LIMIT $2
) n`

// CountDeadLetters implements store.Reader.
func (r *Reader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return readFrom(ctx, r, "counting dead letters", func(ctx context.Context, c *pgx.Conn) (n int, err error) {
		return n, c.QueryRow(ctx, r.sql(countLetters), clean(principal), max(most, 0)).Scan(&n)
	})
}

// findRejected finds letters that share a mark with a span: those whose last mark is in it, and those of several marks
// that begin in or before it and end behind it. Each half is a range of an index.
const findRejected = "SELECT " + headColumns + `
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS s (producer, first, last, n)
CROSS JOIN LATERAL (
	(SELECT * FROM drainmark.dead_letters WHERE partition = $1 AND producer = s.producer
		AND last BETWEEN s.first AND s.last ORDER BY last LIMIT $5)
	UNION ALL
	(SELECT * FROM drainmark.dead_letters WHERE partition = $1 AND producer = s.producer
		AND first <= s.last AND last > s.last AND first < last LIMIT $5)
	LIMIT $5) d ORDER BY s.n`

// Rejected implements store.Reader.
func (r *Reader) Rejected(
	ctx context.Context, partition int, spans []drainmark.Span, each int,
) ([]drainmark.DeadLetter, error) {
	producers, first, last := make([]pgtype.UUID, len(spans)), make([]int64, len(spans)), make([]int64, len(spans))
	for i, s := range spans {
		producers[i] = uuid(s.Producer)
		first[i], last[i] = int64(max(1, min(s.First, math.MaxInt64))), int64(min(s.Last, math.MaxInt64))
	}
	doing := fmt.Sprintf("looking for rejected records of %d spans", len(spans))
	return readFrom(ctx, r, doing, func(ctx context.Context, c *pgx.Conn) ([]drainmark.DeadLetter, error) {
		rows, err := c.Query(ctx, r.sql(findRejected), partition, producers, first, last, max(each, 0))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, scanHead)
	})
}

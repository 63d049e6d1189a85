package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/internal/sqltext"
	"github.com/drainmark/drainmark/store"
)

// Tx is the transaction of a commit, as an effect gets it. It has pgx's methods that run statements, and is good until the
// handler returns. Statements that would end the transaction are refused. A statement that fails has spoiled the
// transaction, as always in PostgreSQL: a handler that goes on and returns nil fails nevertheless.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
}

// kind is what effects call this store.
const kind = "postgres"

// Effect makes an effect of the logs, for a store in PostgreSQL. The limits of effect.Options are checked when a store is
// opened with it.
func Effect(logs string, handler effect.Handler[Tx], o effect.Options) effect.Effect {
	return effect.New(kind, logs, handler, nil, o)
}

// Statement makes an effect of a statement, for a store in PostgreSQL. The records are the relation records:
//
//	log text, id text, position bigint, body bytea, json jsonb, content_type text, headers jsonb, key text, principal text,
//	accepted_at timestamptz
//
// json is the body if it is JSON, headers is an object of strings, key is the idempotency key, and principal is who sent it.
// They are NULL otherwise. A key that is not text in UTF-8 is NULL too.
func Statement(s effect.Statement) effect.Effect {
	query := withRecords(s.SQL)
	return effect.New(kind, s.Logs, func(ctx context.Context, tx Tx, records []effect.Record) error {
		_, err := tx.(*lentTx).tx.Exec(ctx, query, arguments(records)...)
		return err
	}, func(ctx context.Context, tx Tx) error {
		if _, err := tx.(*lentTx).tx.conn.Prepare(ctx, "", query); err != nil {
			return fmt.Errorf("%s: %w", s.At, err)
		}
		return nil
	}, s.Options)
}

// recordsRelation has arrays of what differs from record to record. The positions follow one another. What is missing at the
// end of an array is NULL: then the value of all records holds, or there is none.
const recordsRelation = `(
SELECT $1::text AS log, r.id, $2::bigint + r.n - 1 AS position, r.body,
	CASE WHEN coalesce(r.is_json, $3::boolean) THEN convert_from(r.body, 'UTF8')::jsonb END AS json,
	coalesce(r.content_type, $4::text) AS content_type, r.headers::jsonb AS headers, r.key,
	nullif(coalesce(r.principal, $5::text), '') AS principal, r.accepted_at
FROM unnest($6::text[], $7::bytea[], $8::timestamptz[], $9::boolean[], $10::text[], $11::text[], $12::text[], $13::text[])
	WITH ORDINALITY AS r (id, body, accepted_at, is_json, content_type, headers, key, principal, n))`

// withRecords puts the relation before a statement, which may have others of its own. One that looks at json several times
// has the relation made once, or each look would read the text anew. Otherwise only what is used of it is made.
func withRecords(statement string) string {
	relation := "records AS " + recordsRelation
	if strings.Count(strings.ToLower(statement), "json") > 1 {
		relation = "records AS MATERIALIZED " + recordsRelation
	}
	word, rest := sqltext.First(statement)
	if word != "WITH" {
		return "WITH " + relation + "\n" + statement
	}
	with := "WITH "
	if word, more := sqltext.First(statement[rest:]); word == "RECURSIVE" {
		with, rest = "WITH RECURSIVE ", rest+more
	}
	return with + relation + "," + statement[rest:]
}

// arguments are those of a statement with the relation.
func arguments(records []effect.Record) []any {
	n, first := len(records), &records[0]
	ids, bodies, accepted := make([]string, n), make([][]byte, n), make([]time.Time, n)
	firstIsJSON := json.Valid(first.Body)
	var isJSON []pgtype.Bool
	var types, headers, keys, principals []pgtype.Text
	for i := range records {
		r := &records[i]
		ids[i], bodies[i], accepted[i] = r.ID, notNull(r.Body), within(r.AcceptedAt)
		if is := json.Valid(r.Body); is != firstIsJSON {
			isJSON = append(padded(isJSON, i), pgtype.Bool{Bool: is, Valid: true})
		}
		if r.ContentType != first.ContentType {
			types = append(padded(types, i), pgtype.Text{String: r.ContentType, Valid: true})
		}
		if r.Key != "" && storable(r.Key) {
			keys = append(padded(keys, i), pgtype.Text{String: r.Key, Valid: true})
		}
		if r.Principal != first.Principal {
			principals = append(padded(principals, i), pgtype.Text{String: r.Principal, Valid: true})
		}
		if !r.Headers.IsZero() {
			headers = append(padded(headers, i), pgtype.Text{String: string(r.Headers.AppendJSON(nil)), Valid: true})
		}
	}
	return []any{
		first.Log, int64(first.Position), firstIsJSON, first.ContentType, first.Principal,
		ids, bodies, accepted, isJSON, types, headers, keys, principals,
	}
}

// padded returns the values with NULL behind them, up to n.
func padded[T any](values []T, n int) []T { return append(values, make([]T, n-len(values))...) }

// applyEffects applies the effects to the write, behind the fence.
func (t *writing) applyEffects(ctx context.Context) error {
	if !t.effects.Any(t.w) {
		return nil
	}
	return t.tx.lend(ctx, func(ctx context.Context, tx Tx) error { return t.effects.Apply(ctx, tx, t.w) })
}

// lend gives the transaction to others' code.
func (t *transaction) lend(ctx context.Context, use func(context.Context, Tx) error) error {
	tx := &lentTx{tx: t}
	defer tx.over.Store(true)
	return use(ctx, tx)
}

// lentTx is a Tx.
type lentTx struct {
	tx   *transaction
	over atomic.Bool
}

// refuse says why a statement is not run, if it is not.
func (t *lentTx) refuse(sql string) error {
	if t.over.Load() {
		return pgx.ErrTxClosed
	}
	for _, statement := range sqltext.Split(sql) {
		switch word, _ := sqltext.First(statement); word {
		case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE", "LISTEN", "UNLISTEN", "DISCARD":
			return &leavingError{word}
		}
	}
	return nil
}

// leavingError is of a statement that an effect may not run.
type leavingError struct{ word string }

func (e *leavingError) Error() string {
	return e.word + " is refused: an effect's transaction and session are Drainmark's"
}

func (t *lentTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.refuse(sql); err != nil {
		return pgconn.CommandTag{}, err
	}
	return t.tx.Exec(ctx, sql, args...)
}

func (t *lentTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := t.refuse(sql); err != nil {
		return refusedRows{err}, err
	}
	return t.tx.Query(ctx, sql, args...)
}

func (t *lentTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := t.refuse(sql); err != nil {
		return refusedRow{err}
	}
	return t.tx.QueryRow(ctx, sql, args...)
}

func (t *lentTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	for _, q := range b.QueuedQueries {
		if err := t.refuse(q.SQL); err != nil {
			return refusedBatch{err}
		}
	}
	return t.tx.SendBatch(ctx, b)
}

func (t *lentTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if t.over.Load() {
		return 0, pgx.ErrTxClosed
	}
	return t.tx.CopyFrom(ctx, table, columns, source)
}

// refusedRows are the rows of a statement that was not run: none, and why. The driver never returns nil either.
type refusedRows struct{ err error }

func (refusedRows) Close()                                       {}
func (r refusedRows) Err() error                                 { return r.err }
func (refusedRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (refusedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (refusedRows) Next() bool                                   { return false }
func (r refusedRows) Scan(...any) error                          { return r.err }
func (r refusedRows) Values() ([]any, error)                     { return nil, r.err }
func (refusedRows) RawValues() [][]byte                          { return nil }
func (refusedRows) Conn() *pgx.Conn                              { return nil }
func (refusedRows) TypeMap() *pgtype.Map                         { return nil }

// refusedRow is the row of a statement that was not run.
type refusedRow struct{ err error }

func (r refusedRow) Scan(...any) error { return r.err }

// refusedBatch are the results of a batch that was not sent.
type refusedBatch struct{ err error }

func (r refusedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err }
func (r refusedBatch) Query() (pgx.Rows, error)         { return refusedRows(r), r.err }
func (r refusedBatch) QueryRow() pgx.Row                { return refusedRow(r) }
func (r refusedBatch) Close() error                     { return r.err }

// intact says what a handler that has returned nil has passed over.
func intact(tx Tx) error {
	switch tx.(*lentTx).tx.conn.PgConn().TxStatus() {
	case 'T':
		return nil
	case 'E':
		return errors.New("it has passed over an error of the database, which has spoiled the transaction")
	}
	return errors.New("it has ended the transaction, or left something unread")
}

// judge says what an error means for the records that an effect was called with.
func judge(tx Tx, err error) effect.Verdict {
	var leaving *leavingError
	e := said(err)
	switch {
	case errors.As(err, &leaving):
		return effect.Deployment
	case e == nil && (tx.(*lentTx).tx.conn.IsClosed() || pgconn.SafeToRetry(err)):
		return effect.Database
	case e == nil:
		return effect.Content
	}
	return ofStatement(e)
}

// ofStatement says what an error of the server means for the statement that it is of.
func ofStatement(e *pgconn.PgError) effect.Verdict {
	if e.Severity == "FATAL" || outdated(e) {
		return effect.Database
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "25", "40", "53", "55", "57", "58", "XX":
		if e.Code == "25P02" { // it has gone on behind an error
			return effect.Content
		}
		return effect.Database
	case "0A", "26", "28", "3D", "3F", "42":
		return effect.Deployment
	}
	return effect.Content
}

// violated returns the constraint and the SQLSTATE that an error of the server is of.
func violated(err error) (names []string, reason string) {
	if e := said(err); e != nil {
		return []string{e.ConstraintName, e.Code}, e.Message
	}
	return nil, ""
}

// openEffects makes what the store applies.
func (o Options) openEffects() (*effect.Set[Tx], error) {
	if len(o.Effects) == 0 {
		return nil, nil
	}
	return effect.NewSet(kind, o.Effects, effect.Use[Tx]{Judge: judge, Violated: violated, Intact: intact, Observe: o.ObserveEffects, Logger: o.Logger})
}

// checkEffects runs the setup, and asks each effect whether it fits the database.
func (s *Store) checkEffects(ctx context.Context) error {
	if s.effects == nil {
		return nil
	}
	if s.setup != "" {
		err := s.transact(ctx, s.claims, "preparing for the effects", func(ctx context.Context, tx *transaction) error {
			if err := tx.setup(ctx, s.sync, s.setup); err != nil {
				return err
			}
			return tx.commit(ctx, &pgx.Batch{})
		})
		if err != nil {
			return err
		}
	}
	return s.undone(ctx, "checking the effects", "", func(ctx context.Context, tx *transaction) error {
		return asDeployment(tx.lend(ctx, s.effects.Check))
	})
}

// CheckEffects says whether the effects fit the database as it is when their setup has been run. It changes nothing.
func (s *Store) CheckEffects(ctx context.Context) error {
	return s.undone(ctx, "checking the effects", s.setup, func(ctx context.Context, tx *transaction) error {
		return asDeployment(tx.lend(ctx, s.effects.Check))
	})
}

// undone does something behind a setup, in a transaction that is rolled back.
func (s *Store) undone(ctx context.Context, doing, setup string, do func(context.Context, *transaction) error) error {
	err := s.transact(ctx, s.claims, doing, func(ctx context.Context, tx *transaction) error {
		if err := tx.setup(ctx, s.sync, setup); err != nil {
			return err
		}
		if err := do(ctx, tx); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

// errUndo ends a transaction of which nothing is to be kept.
var errUndo = errors.New("nothing is to be kept")

// setup begins the transaction and runs SQL of the user's own, if there is some. Only one consumer does so at a time: two
// that make the same table would fail.
func (t *transaction) setup(ctx context.Context, sync, setup string) error {
	batch := t.beginFor(sync, idleLimitEffect)
	if setup != "" {
		batch.Queue("SELECT pg_advisory_xact_lock(hashtext('drainmark setup'))")
	}
	if err := t.SendBatch(ctx, batch).Close(); err != nil || setup == "" {
		return err
	}
	err := t.lend(ctx, func(ctx context.Context, tx Tx) error {
		_, err := tx.Exec(ctx, setup, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if err != nil {
		return asDeployment(fmt.Errorf("the setup of the effects: %w", err))
	}
	return nil
}

// asDeployment makes an error that is about SQL of the user's own one that somebody has to repair. It has no SQLSTATE, which
// would be taken for that of a statement of ours.
func asDeployment(err error) error {
	var leaving *leavingError
	if e := said(err); errors.As(err, &leaving) || e != nil && ofStatement(e) != effect.Database {
		return store.Misconfigured("%s", err)
	}
	return err
}

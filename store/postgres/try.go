package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// TryEffects applies the effects to messages of a log, returns what that changes in the user's tables, and rolls everything
// back. Before it, the setup of the effects is run, and rolled back as well. It fails as Write does if an effect does not
// let the messages pass.
//
// The changes are in the order of their tables, not in that of the statements. To find them, the tables that changed are
// read whole.
func (s *Store) TryEffects(ctx context.Context, log string, messages []store.NewMessage) (changes []effect.Change, err error) {
	w := store.Write{Logs: []store.LogWrite{{Messages: messages}}}
	w.Logs[0].Name = log
	if !s.effects.Any(&w) {
		return nil, nil
	}
	err = s.undone(ctx, "trying the effects", s.setup, func(ctx context.Context, tx *transaction) error {
		if err := tx.lend(ctx, func(ctx context.Context, lent Tx) error { return s.effects.Apply(ctx, lent, &w) }); err != nil {
			return err
		}
		changes, err = s.changes(ctx, tx)
		return err
	})
	return changes, err
}

// changedTables are the tables of the user's own that the transaction has changed rows of, and the columns of their keys.
const changedTables = `SELECT s.relid::regclass::text, coalesce((
	SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
	WHERE i.indrelid = s.relid AND i.indisprimary), '{}')
FROM pg_stat_xact_user_tables s WHERE s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0 AND s.schemaname <> $1 ORDER BY 1`

// changes returns what the transaction has changed.
func (s *Store) changes(ctx context.Context, tx *transaction) ([]effect.Change, error) {
	type table struct {
		name string
		key  []string
	}
	var tables []table
	rows, err := tx.Query(ctx, changedTables, s.schema)
	if err != nil {
		return nil, err
	}
	var t table
	if _, err := pgx.ForEachRow(rows, []any{&t.name, &t.key}, func() error { tables = append(tables, t); t = table{}; return nil }); err != nil {
		return nil, err
	}
	var changes []effect.Change
	for _, t := range tables {
		of, err := s.changesOf(ctx, tx, t.name, t.key)
		if err != nil {
			return nil, fmt.Errorf("looking for changes of %s: %w", t.name, err)
		}
		changes = append(changes, of...)
	}
	return changes, nil
}

// changesOf returns the changes of a table. A row that was made or changed has the transaction in xmin. One that was changed
// or deleted is seen by others, and has it in xmax there; rows that were only locked are there too, and are still seen here.
func (s *Store) changesOf(ctx context.Context, tx *transaction, table string, key []string) ([]effect.Change, error) {
	const made = "SELECT to_jsonb(t), t.ctid::text FROM %s t WHERE t.xmin::text = (pg_current_xact_id()::text::bigint %% 4294967296)::text"
	const gone = "SELECT to_jsonb(t), t.ctid::text FROM %s t WHERE t.xmax::text = $1"
	var xid string
	if err := tx.QueryRow(ctx, "SELECT (pg_current_xact_id()::text::bigint % 4294967296)::text").Scan(&xid); err != nil {
		return nil, err
	}
	after, err := rowsOf(ctx, tx.conn, fmt.Sprintf(made, table))
	if err != nil {
		return nil, err
	}
	before, err := attempt(ctx, s.commits, func(ctx context.Context, conn *pgx.Conn) ([]oneRow, error) {
		return rowsOf(ctx, conn, fmt.Sprintf(gone, table), xid)
	})
	if missing(err) { // the setup has made it just now
		before, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	seen, err := rowsOf(ctx, tx.conn, fmt.Sprintf("SELECT to_jsonb(t), t.ctid::text FROM %s t WHERE t.ctid = ANY ($1::text[]::tid[])", table), places(before))
	if err != nil {
		return nil, err
	}
	return paired(table, key, before, after, places(seen)), nil
}

// oneRow is a row of a table, and the place where it stands.
type oneRow struct {
	values map[string]any
	at     string
}

func rowsOf(ctx context.Context, conn *pgx.Conn, query string, args ...any) (found []oneRow, err error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var text []byte
	var at string
	_, err = pgx.ForEachRow(rows, []any{&text, &at}, func() error {
		row := oneRow{at: at}
		found = append(found, row)
		return json.Unmarshal(text, &found[len(found)-1].values)
	})
	return found, err
}

func places(rows []oneRow) []string {
	all := make([]string, len(rows))
	for i := range rows {
		all[i] = rows[i].at
	}
	return all
}

// paired makes a change of the row before and the row after that have the same key.
func paired(table string, key []string, before, after []oneRow, locked []string) []effect.Change {
	of := func(row map[string]any) string {
		if len(key) == 0 {
			return ""
		}
		values := make([]any, len(key))
		for i, column := range key {
			values[i] = row[column]
		}
		return fmt.Sprint(values...)
	}
	changes := make([]effect.Change, 0, len(after))
	at := map[string]int{}
	for _, row := range after {
		at[of(row.values)] = len(changes)
		changes = append(changes, effect.Change{Table: table, What: "insert", After: row.values})
	}
	only := map[string]bool{}
	for _, place := range locked {
		only[place] = true
	}
	for _, row := range before {
		i, changed := at[of(row.values)]
		switch {
		case only[row.at]:
		case changed && len(key) > 0:
			changes[i].What, changes[i].Before = "update", row.values
		default:
			changes = append(changes, effect.Change{Table: table, What: "delete", Before: row.values})
		}
	}
	return changes
}

// Package table reads a table of the user's own, which an effect fills, with plain SQL: what verify compares with the
// messages that were accepted (IDs), and with what the same state of the database says that it holds (Snapshot). It knows
// PostgreSQL and SQLite, and of Drainmark only what any application may ask: drainmark.holds, or the statement that stands
// for it in SQLite.
package table

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// MaxRows is how many rows a select may have.
const MaxRows = 10_000_000

// Table is a select on a database. It is for one goroutine at a time.
type Table struct {
	db        *sql.DB
	query     string
	statement string         // of Snapshot
	serial    *sql.TxOptions // nil where the connection cannot write anyway
	limit     string         // makes the server end a statement of the transaction that takes too long, "" if the driver does
}

// ordered finds an ORDER BY, wherever it is.
var ordered = regexp.MustCompile(`(?i)\border\s+by\b`)

// Open prepares to run a select on the database of a URL: postgres://… or postgresql://… as libpq takes it, or sqlite: and
// the path of a file. Like a store's, a URL of PostgreSQL may name the schema of Drainmark's tables (schema=…). It connects to
// nothing yet. Errors have no password in them.
func Open(where, query string) (*Table, error) {
	query = strings.TrimRight(strings.TrimSpace(query), "; \n\t")
	if query == "" {
		return nil, errors.New("there is no select")
	}
	scheme, path, _ := strings.Cut(where, ":")
	switch scheme {
	case "postgres", "postgresql":
		config, err := pgx.ParseConfig(where)
		if err != nil {
			return nil, errors.New("the URL is not one of PostgreSQL, as in postgres://user@host:5432/database")
		}
		schema := cmp.Or(config.RuntimeParams["schema"], "drainmark")
		delete(config.RuntimeParams, "schema")
		config.DefaultQueryExecMode = pgx.QueryExecModeExec // through any pooler
		return &Table{
			db: stdlib.OpenDB(*config), query: query, serial: &sql.TxOptions{ReadOnly: true},
			limit: fmt.Sprintf("SET LOCAL statement_timeout = %d", snapshotTime.Milliseconds()),
			statement: snapshot(query, "SELECT json_array_elements_text($1::json)",
				pgx.Identifier{schema, "holds"}.Sanitize()+"(asked.id)", "id::text"),
		}, nil
	case "sqlite":
		if path == "" {
			return nil, errors.New("sqlite: must be followed by the path of a file")
		}
		u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)"}
		if !strings.HasPrefix(path, "/") {
			u.Path, u.Opaque = "", url.PathEscape(path)
		}
		db, err := sql.Open("sqlite", u.String())
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
		return &Table{db: db, query: query, statement: snapshot(query, "SELECT value FROM json_each($1)", sqliteHolds, "id")}, nil
	}
	return nil, errors.New("the URL must begin with postgres:// or sqlite:, and a path")
}

// Ordered says whether the select orders its rows.
func (t *Table) Ordered() bool { return ordered.MatchString(t.query) }

// Close closes the connections.
func (t *Table) Close() error { return t.db.Close() }

// IDs returns the first column of the rows, in their order, from one state of the database. It must be the only one, and
// have a value.
func (t *Table) IDs(ctx context.Context) ([]string, error) {
	tx, err := t.db.BeginTx(ctx, t.serial)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it has only read
	rows, err := tx.QueryContext(ctx, t.query)
	if err != nil {
		return nil, fmt.Errorf("running the select: %w", err)
	}
	defer rows.Close()
	if columns, err := rows.Columns(); err == nil && len(columns) != 1 {
		return nil, fmt.Errorf("the select has %d columns: it must have one, the id", len(columns))
	}
	var ids []string
	for rows.Next() {
		var id sql.NullString
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("reading row %d: %w", len(ids)+1, err)
		}
		if !id.Valid {
			return nil, fmt.Errorf("row %d has no id: it is NULL", len(ids)+1)
		}
		if len(ids) == MaxRows {
			return nil, fmt.Errorf("the select has more than %d rows", MaxRows)
		}
		ids = append(ids, id.String)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading row %d: %w", len(ids)+1, err)
	}
	return ids, nil
}

package effecttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver by which tables are read

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// SQLite is a file for each case, in a directory of the test's. The schema is SQL that makes the tables of the effect, and
// puts into them what it needs.
func SQLite(schema string) Database { return &sqliteDatabase{schema: schema} }

type sqliteDatabase struct{ schema string }

func (d *sqliteDatabase) statement(s effect.Statement) effect.Effect { return sqlite.Statement(s) }

func (d *sqliteDatabase) begin(_ tb, setup string) engine {
	return &sqliteEngine{schema: d.schema, setup: setup}
}

// sqliteEngine makes files.
type sqliteEngine struct {
	schema, setup string
	base          string            // the file that new ones are copied from
	ours          map[string]*table // Drainmark's tables
}

func (s *sqliteEngine) prepare(t tb, e effect.Effect) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	opened, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err == nil {
		_, err = opened.Init(t.Context(), deployment)
		err = errors.Join(err, opened.Close())
	}
	if err != nil {
		t.Fatalf("making a store: %v", err)
	}
	s.ours = s.tables(t, path)
	db := s.connect(t, path)
	_, err = db.ExecContext(t.Context(), s.schema)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatalf("making the tables: the schema: %v", err)
	}
	if err := s.open(t, path, e).Close(); err != nil { // with the setup of its file
		t.Fatalf("closing the store: %v", err)
	}
	s.base = path
}

func (s *sqliteEngine) fresh(t tb, _ effect.Effect) string {
	t.Helper()
	return s.copy(t, s.base)
}

func (s *sqliteEngine) connect(t tb, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(10000)"}).String())
	if err != nil {
		t.Fatalf("opening the file: %v", err)
	}
	return db
}

// copy copies the file. The last connection to it has been closed, so all is in there.
func (s *sqliteEngine) copy(t tb, at string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	content, err := os.ReadFile(at)
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatalf("copying the database: %v", err)
	}
	return path
}

func (s *sqliteEngine) open(t tb, at string, e effect.Effect) store.Store {
	t.Helper()
	opened, err := sqlite.Open(t.Context(), at, sqlite.Options{Effects: effect.List{e}, Setup: s.setup})
	if err != nil {
		t.Fatalf("opening the store with the effect: %v", err)
	}
	return opened
}

func (s *sqliteEngine) wrap(e effect.Effect, h *hook) (effect.Effect, bool) {
	return effect.Wrap(e, around(h, func(tx sqlite.Tx, fail func() error) sqlite.Tx { return &failingSQLite{tx, fail} }))
}

// waiting is nil: SQLite has one writer at a time.
func (*sqliteEngine) waiting() func(context.Context, string) (bool, error) { return nil }

func (s *sqliteEngine) tables(t tb, at string) map[string]*table {
	t.Helper()
	db := s.connect(t, at)
	defer db.Close()
	tables, err := s.read(t.Context(), db)
	if err != nil {
		t.Fatalf("reading the tables: %v", err)
	}
	return tables
}

func (s *sqliteEngine) read(ctx context.Context, db *sql.DB) (map[string]*table, error) {
	tables := map[string]*table{}
	const names = `SELECT name FROM pragma_table_list
		WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`
	listed, err := texts(ctx, db, 1, names)
	if err != nil {
		return nil, err
	}
	for _, row := range listed {
		if name := row[0]; s.ours[name] == nil {
			if tables[name], err = readTable(ctx, db, name); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return tables, nil
}

func readTable(ctx context.Context, db *sql.DB, name string) (*table, error) {
	t := &table{}
	columns, err := texts(ctx, db, 2, "SELECT name, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1", name)
	if err != nil {
		return nil, err
	}
	var literals []string
	for i, column := range columns {
		t.columns = append(t.columns, column[0])
		literals = append(literals, "quote("+quoted(column[0])+")")
		if column[1] != "0" {
			t.key = append(t.key, i)
		}
	}
	t.rows, err = texts(ctx, db, len(columns), "SELECT "+strings.Join(literals, ", ")+" FROM "+quoted(name))
	return t, err
}

// quoted is a name as an identifier.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// texts returns the rows of a query, with so many columns.
func texts(ctx context.Context, db *sql.DB, columns int, query string, args ...any) ([][]string, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	for rows.Next() {
		row, into := make([]string, columns), make([]any, columns)
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// failingSQLite is a transaction whose statements fail when fail says so.
type failingSQLite struct {
	sqlite.Tx
	fail func() error
}

func (f *failingSQLite) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Tx.ExecContext(ctx, query, args...)
}

func (f *failingSQLite) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext fails with context.Canceled: nothing else can be put into a row.
func (f *failingSQLite) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := f.fail(); err != nil {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		ctx = ended
	}
	return f.Tx.QueryRowContext(ctx, query, args...)
}

func (f *failingSQLite) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Tx.PrepareContext(ctx, query)
}

package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/store/storetest"
)

// effectFile is a file with a table of the user's own.
type effectFile struct {
	path  string
	clock storetest.Clock
}

func (f *effectFile) Store(t storetest.T) store.Store {
	s, err := sqlite.Open(t.Context(), f.path, sqlite.Options{Now: f.clock.Now})
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	f.exec(t, "CREATE TABLE IF NOT EXISTS texts (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (value <> 'refused'))")
	return s
}

func (f *effectFile) Reader(t storetest.T) store.Reader {
	r, err := sqlite.OpenReader(t.Context(), f.path, sqlite.Options{})
	if err != nil {
		t.Fatalf("opening the reader: %v", err)
	}
	return r
}
func (f *effectFile) Restart(storetest.T)                     {}
func (f *effectFile) SetBack(_ storetest.T, by time.Duration) { f.clock.SetBack(by) }

func (f *effectFile) StoreWith(t storetest.T, log string, o effect.Options, apply storetest.Apply) store.Store {
	with := sqlite.Effect(log, func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
		return apply(ctx, texts{tx}, records)
	}, o)
	s, err := sqlite.Open(t.Context(), f.path, sqlite.Options{Effects: effect.List{with}})
	if err != nil {
		t.Fatalf("opening the store with effects: %v", err)
	}
	return s
}

// texts is the table in a transaction.
type texts struct{ tx sqlite.Tx }

func (t texts) Get(ctx context.Context, key string) (value string, err error) {
	err = t.tx.QueryRowContext(ctx, "SELECT value FROM texts WHERE key = ?", []byte(key)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return value, err
}

func (t texts) Put(ctx context.Context, key, value string) error {
	_, err := t.tx.ExecContext(ctx, "INSERT OR REPLACE INTO texts VALUES (?, ?)", []byte(key), value)
	return err
}

// exec runs a statement on a connection of its own, as the user's own programs do.
func (f *effectFile) exec(t storetest.T, query string) {
	db := f.open(t)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (f *effectFile) open(t storetest.T) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatalf("opening the file: %v", err)
	}
	return db
}

func (f *effectFile) Rows(t storetest.T) map[string]string {
	db := f.open(t)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT key, value FROM texts")
	if err != nil {
		t.Fatalf("reading the table: %v", err)
	}
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			t.Fatalf("reading the table: %v", err)
		}
		found[key] = value
	}
	return found
}

func TestEffects(t *testing.T) {
	t.Parallel()
	storetest.RunEffects(t, storetest.Harness{New: func(t storetest.T) storetest.Database {
		return &effectFile{path: filepath.Join(t.TempDir(), "store.db")}
	}})
}

// anEffect is a store whose effect of a log runs what a test says.
type anEffect struct {
	*filler
	file *effectFile
	do   func(ctx context.Context, tx sqlite.Tx) error
}

func newEffect(t *testing.T) *anEffect {
	e := &anEffect{file: &effectFile{path: newFile(t)}}
	closeWell(t, e.file.Store(t))
	with := sqlite.Effect(logIn(0), func(ctx context.Context, tx sqlite.Tx, _ []effect.Record) error { return e.do(ctx, tx) }, effect.Options{})
	e.filler = newFiller(t, openStore(t, e.file.path, sqlite.Options{Effects: effect.List{with}}), 0)
	return e
}

// fault has the effect run statements, which must fail the commit, and returns the effect's error.
func (e *anEffect) fault(queries ...string) *store.EffectError {
	e.t.Helper()
	e.do = func(ctx context.Context, tx sqlite.Tx) error {
		for _, query := range queries {
			if _, err := tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		return nil
	}
	var failed *store.EffectError
	if err := e.commit(e.next(1)); !errors.As(err, &failed) {
		e.t.Fatalf("%q: got error %v", queries, err)
	}
	if rows := e.file.Rows(e.t.(*testing.T)); len(rows) != 0 {
		e.t.Fatalf("%q has left %v", queries, rows)
	}
	return failed
}

const insert = "INSERT INTO texts VALUES ('a', 'b')"

func TestWhatAnErrorOfSQLiteMeans(t *testing.T) {
	t.Parallel()
	e := newEffect(t)
	for query, fault := range map[string]store.EffectFault{
		"INSERT INTO texts VALUES ('x', 'refused')":                          store.FaultContent,
		"INSERT INTO texts VALUES ('a', 'again')":                            store.FaultContent,
		"INSERT INTO texts VALUES ('x', NULL)":                               store.FaultContent,
		"INSERT INTO texts SELECT 'x', json_extract('{', '$.a')":             store.FaultContent,
		"INSERT INTO texts SELECT 'x', abs(-9223372036854775807 - 1)":        store.FaultContent,
		"INSERT INTO orders VALUES (1)":                                      store.FaultDeployment,
		"INSERT INTO texts (sku) VALUES (1)":                                 store.FaultDeployment,
		"INSERT INTO texts VALUES (1)":                                       store.FaultDeployment,
		"INSERT INTO texts VALUES ('x', no_such())":                          store.FaultDeployment,
		"INSERT INTO texts VALUES ('x', sku)":                                store.FaultDeployment,
		"INSRT INTO texts VALUES (1, 2)":                                     store.FaultDeployment,
		"INSERT INTO texts VALUES ('x', 'y') ON CONFLICT (value) DO NOTHING": store.FaultDeployment,
	} {
		if failed := e.fault(insert, query); failed.Fault != fault {
			t.Errorf("%s: the fault is %d, not %d: %s", query, failed.Fault, fault, failed.Reason)
		}
	}
}

// An effect can neither end the transaction nor leave it, nor write to what Drainmark keeps there.
func TestAnEffectCannotLeaveItsTransaction(t *testing.T) {
	t.Parallel()
	e := newEffect(t)
	for _, query := range []string{
		"COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "BEGIN", "PRAGMA synchronous = OFF", "ATTACH ':memory:' AS other",
		"UPDATE partitions SET revision = 7", "DELETE FROM messages", "DROP TABLE keys", "ALTER TABLE logs RENAME TO gone",
		"INSERT INTO texts VALUES ('x', 'y'); COMMIT", "DROP INDEX open_letters",
		"CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no'); END",
	} {
		if failed := e.fault(insert, query); failed.Fault != store.FaultDeployment || !strings.Contains(failed.Reason, "not authorized") {
			t.Errorf("%s: the error is %+v", query, failed)
		}
	}
	e.do = func(ctx context.Context, tx sqlite.Tx) error {
		_, err := tx.ExecContext(ctx, insert+"; INSERT INTO texts SELECT name, 'x' FROM logs")
		return err
	}
	e.must(e.next(1))
	e.must(e.next(0))
}

// SQLite rolls back by itself after some errors. An effect that goes on would write outside of any transaction.
func TestAnEffectThatPassesOverARollbackFails(t *testing.T) {
	t.Parallel()
	e := newEffect(t)
	e.do = func(ctx context.Context, tx sqlite.Tx) error {
		_, err := tx.ExecContext(ctx, insert)
		_, rolledBack := tx.ExecContext(ctx, "INSERT OR ROLLBACK INTO texts VALUES ('a', 'b')")
		_, outside := tx.ExecContext(ctx, "INSERT INTO texts VALUES ('c', 'd')")
		if err != nil || rolledBack == nil || outside == nil {
			return fmt.Errorf("%v, %v, %v", err, rolledBack, outside)
		}
		return nil
	}
	var failed *store.EffectError
	if err := e.commit(e.next(1)); !errors.As(err, &failed) || !strings.Contains(failed.Reason, "rolled back the transaction") {
		t.Errorf("the error is %v", err)
	}
	if rows := e.file.Rows(t); len(rows) != 0 {
		t.Errorf("it has left %v", rows)
	}
}

// What a handler leaves open is closed, and its transaction is of no use behind it.
func TestATransactionThatIsKept(t *testing.T) {
	t.Parallel()
	e := newEffect(t)
	var kept sqlite.Tx
	var rows *sql.Rows
	var row *sql.Row
	e.do = func(ctx context.Context, tx sqlite.Tx) (err error) {
		kept = tx
		row = tx.QueryRowContext(context.Background(), "SELECT 1")
		rows, err = tx.QueryContext(context.Background(), "SELECT name FROM sqlite_schema")
		rows.Next()
		return err
	}
	e.must(e.next(1))
	if rows.Next() {
		t.Error("rows can be read behind the transaction")
	}
	if _, err := kept.ExecContext(t.Context(), insert); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("a statement behind the transaction: %v", err)
	}
	var one int
	if err := row.Scan(&one); err == nil {
		t.Error("a row can be read behind the transaction")
	}
	e.must(e.next(1))
}

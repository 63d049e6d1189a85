package effecttest

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/sqlite"
)

// The names of the cases.
const (
	alone         = "each record is applied by itself"
	together      = "together as by themselves"
	halves        = "in halves as by themselves"
	inOrder       = "in the order of the log"
	redelivery    = "a record that comes again is dropped"
	rolledBack    = "a roll back behind the effect leaves nothing"
	passedOn      = "an error of the database is passed on"
	setAsides     = "a record that is set aside leaves nothing"
	lostTail      = "a lost tail is applied again"
	handedOver    = "another consumer takes over"
	zombies       = "a commit of a former consumer changes nothing"
	atOnce        = "two partitions at the same time"
	deterministic = "the same records give the same tables"
)

type handlerSQLite = effect.Handler[sqlite.Tx]

// each makes a handler of what is to be done for each record.
func each(do func(context.Context, sqlite.Tx, effect.Record) error) handlerSQLite {
	return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
		for _, r := range records {
			if err := do(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	}
}

// also makes a handler that notes something for each record besides what is right.
func also(what func(effect.Record) string) handlerSQLite {
	return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
		if err := takeSQLite(ctx, tx, r); err != nil {
			return err
		}
		return noteSQLite(ctx, tx, what(r))
	})
}

// wrong is a handler that is wrong on purpose, and a case that it must fail.
type wrong struct {
	name  string
	make  func(t *testing.T) handlerSQLite
	fails string
	says  string
}

var wrongHandlers = []wrong{
	{"keeps in memory what it has seen", func(*testing.T) handlerSQLite {
		seen := map[string]bool{}
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			if seen[r.ID] {
				return nil
			}
			seen[r.ID] = true
			return takeSQLite(ctx, tx, r)
		})
	}, rolledBack, "table orders: the row (id='"},

	{"keeps a total in memory", func(*testing.T) handlerSQLite {
		total := 0
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			if err := takeSQLite(ctx, tx, r); err != nil {
				return err
			}
			total++
			_, err := tx.ExecContext(ctx, "UPDATE stock SET last = ? WHERE sku = 'hat'", total)
			return err
		})
	}, lostTail, "table stock, row (sku='hat'): column last is"},

	{"keeps the records' memory", func(*testing.T) handlerSQLite {
		var last []byte
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if last != nil {
				if err := noteSQLite(ctx, tx, string(last)); err != nil {
					return err
				}
			}
			last = records[len(records)-1].Body
			return rightSQLite(ctx, tx, records)
		}
	}, handedOver, "journal"},

	{"reads the clock", func(*testing.T) handlerSQLite {
		return also(func(effect.Record) string { return time.Now().Format(time.RFC3339Nano) })
	}, deterministic, "table journal, row (number=2): column what is '20"},

	{"reads the date", func(*testing.T) handlerSQLite {
		return also(func(effect.Record) string { return "on " + time.Now().Format(time.DateOnly) })
	}, deterministic, "the wall clock is in the tables"},

	{"reads the clock in seconds", func(*testing.T) handlerSQLite {
		return also(func(effect.Record) string { return fmt.Sprint(time.Now().Unix()) })
	}, deterministic, "the wall clock is in the tables"},

	{"counts seconds in a way of its own", func(*testing.T) handlerSQLite {
		return also(func(effect.Record) string { return fmt.Sprint("second ", time.Now().Unix()%3600) })
	}, deterministic, "applied twice to the same tables"},

	{"takes random numbers", func(*testing.T) handlerSQLite {
		return also(func(effect.Record) string { return fmt.Sprint(rand.Uint64()) })
	}, deterministic, "applied twice to the same tables"},

	{"ranges over a map", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if err := rightSQLite(ctx, tx, records); err != nil {
				return err
			}
			words := map[string]bool{}
			for _, r := range records {
				for word := range strings.FieldsSeq(string(r.Body)) {
					words[word] = true
				}
			}
			for word := range words {
				if err := noteSQLite(ctx, tx, word); err != nil {
					return err
				}
			}
			return nil
		}
	}, deterministic, "table journal, row (number="},

	{"counts its calls", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if _, err := tx.ExecContext(ctx, "UPDATE stock SET left = left + 1 WHERE sku = 'hat'"); err != nil {
				return err
			}
			return rightSQLite(ctx, tx, records)
		}
	}, halves, "table stock, row (sku='hat'): column left is"},

	{"applies the first record only", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			return rightSQLite(ctx, tx, records[:1])
		}
	}, together, "table orders: the row"},

	{"takes one record only", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if len(records) > 1 {
				return fmt.Errorf("%d records", len(records))
			}
			return rightSQLite(ctx, tx, records)
		}
	}, together, "fail when they come together"},

	{"writes a sum for each call", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if err := rightSQLite(ctx, tx, records); err != nil {
				return err
			}
			return noteSQLite(ctx, tx, fmt.Sprintf("%d records", len(records)))
		}
	}, halves, "table journal"},

	{"sets back by an upsert what has moved on", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if o, err := orderOf(records[0]); err == nil {
				const begin = "INSERT INTO stock (sku, left) VALUES (?, 10) ON CONFLICT DO UPDATE SET left = excluded.left"
				if _, err := tx.ExecContext(ctx, begin, o.SKU); err != nil {
					return err
				}
			}
			return rightSQLite(ctx, tx, records)
		}
	}, halves, "table stock, row (sku='net'): column left is"},

	{"goes from the last to the first", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			for _, r := range slices.Backward(records) {
				if err := takeSQLite(ctx, tx, r); err != nil {
					return err
				}
			}
			return nil
		}
	}, together, "column last is 'first', not 'last'"},

	{"goes by the time", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			slices.SortStableFunc(records, func(a, b effect.Record) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
			return each(takeSQLite)(ctx, tx, records)
		}
	}, inOrder, "column last is 'first', not 'last'"},

	{"swallows errors", func(*testing.T) handlerSQLite {
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			_ = takeSQLite(ctx, tx, r)
			return nil
		})
	}, passedOn, "statement 1 of the call fails"},

	{"hides the cause of errors", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			if err := rightSQLite(ctx, tx, records); err != nil {
				return fmt.Errorf("it did not work: %v", err)
			}
			return nil
		}
	}, passedOn, "wrap it"},

	{"rejects when the database does not answer", func(*testing.T) handlerSQLite {
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			for i, r := range records {
				if err := takeSQLite(ctx, tx, r); err != nil {
					return effect.Reject(map[int]string{i: err.Error()})
				}
			}
			return nil
		}
	}, passedOn, "and the handler returns: 1 records are rejected"},

	{"notes in a database of its own what is done", func(t *testing.T) handlerSQLite {
		own := ownDatabase(t)
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			result, err := own.ExecContext(ctx, "INSERT OR IGNORE INTO done VALUES (?)", r.ID)
			if err != nil {
				return err
			}
			if n, _ := result.RowsAffected(); n == 0 {
				return nil
			}
			return takeSQLite(ctx, tx, r)
		})
	}, zombies, "died in a commit"},

	{"writes through a connection of its own", func(t *testing.T) handlerSQLite {
		own := ownDatabase(t)
		return each(func(ctx context.Context, _ sqlite.Tx, r effect.Record) error {
			_, err := own.ExecContext(ctx, "INSERT OR IGNORE INTO done VALUES (?)", r.ID)
			return err
		})
	}, alone, "no table has changed"},

	{"changes its mind about what it has once rejected", func(*testing.T) handlerSQLite {
		asked := map[string]bool{}
		return func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
			own := slices.Clone(records)
			for i, r := range own {
				if o, err := orderOf(r); err == nil && o.Count > 10 && asked[r.ID] {
					own[i].Body = []byte(`{"order": "o4", "sku": "ball", "count": 1}`)
				}
				asked[r.ID] = true
			}
			return rightSQLite(ctx, tx, own)
		}
	}, setAsides, "should not be there"},

	{"skips what comes to an earlier position than it has seen", func(*testing.T) handlerSQLite {
		var last atomic.Uint64
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			if r.Position < last.Load() {
				return nil
			}
			last.Store(r.Position)
			return takeSQLite(ctx, tx, r)
		})
	}, redelivery, "the row"},

	{"asks for time", func(*testing.T) handlerSQLite {
		return func(context.Context, sqlite.Tx, []effect.Record) error { return effect.Wait(time.Second, "closed") }
	}, alone, `the effect asks to be called later ("closed")`},

	{"fails for all", func(*testing.T) handlerSQLite {
		return func(context.Context, sqlite.Tx, []effect.Record) error { return fmt.Errorf("a null pointer") }
	}, alone, "no record is applied. For the first one the effect says: a null pointer"},

	{"writes to a table that there is not", func(*testing.T) handlerSQLite {
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO order_s VALUES (?)", r.ID)
			return err
		})
	}, alone, "no such table: order_s"},

	{"keeps a total for all partitions in memory", func(*testing.T) handlerSQLite {
		left := map[string]int{}
		return each(func(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
			if err := takeSQLite(ctx, tx, r); err != nil {
				return err
			}
			left[r.Log]++
			return noteSQLite(ctx, tx, fmt.Sprint(slices.Sorted(maps.Values(left))))
		})
	}, atOnce, "table journal"},
}

// ownDatabase is one that the suite knows nothing of.
func ownDatabase(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "own.db"))
	if err == nil {
		_, err = db.Exec("CREATE TABLE done (id TEXT PRIMARY KEY)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestWrongHandlersFail(t *testing.T) {
	t.Parallel()
	for _, w := range wrongHandlers {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := Suite{
				Database: SQLite(shopSQLite), Effect: sqlite.Effect("orders.*", w.make(t), effect.Options{}), Records: Bodies(samples...),
			}
			failsFor(t, s, w.fails, w.says)
		})
	}
}

// Statements that are wrong on purpose, and the case that each must fail.
func TestWrongStatementsFail(t *testing.T) {
	t.Parallel()
	for _, w := range []struct{ name, sql, fails, says string }{
		{"now", "INSERT INTO journal (what) SELECT id || datetime('now') FROM records ORDER BY position", deterministic, "the wall clock is in the tables"},
		{"default now", "INSERT INTO arrivals (id) SELECT id FROM records ORDER BY position", deterministic, "column at is '20"},
		{"random", "INSERT INTO journal (what) SELECT random() FROM records ORDER BY position", deterministic, "table journal, row (number=1): column what is"},
		{"no order", "INSERT INTO journal (what) SELECT body FROM records ORDER BY id DESC", together, "table journal, row (number=1): column what is"},
		{"a sum for each call", "INSERT INTO journal (what) SELECT count(*) FROM records", halves, "table journal: the row (number="},
		{"an order by the time", "INSERT INTO journal (what) SELECT id FROM records ORDER BY accepted_at", inOrder, "ORDER BY position"},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			const schema = "CREATE TABLE arrivals (id TEXT PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);"
			path := effectFile(t, "effects:\n  - logs: orders\n    sql: "+w.sql)
			failsFor(t, FromFile(t, SQLite(shopSQLite+schema), path, "orders", samples...), w.fails, w.says)
		})
	}
}

// A setup that does not find what it has made, and resets it with each consumer that begins.
func TestASetupThatResetsFails(t *testing.T) {
	t.Parallel()
	path := effectFile(t, `
setup: |
  CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY, n INTEGER NOT NULL);
  INSERT OR REPLACE INTO total VALUES (1, 0);
effects:
  - logs: orders
    sql: UPDATE total SET n = n + (SELECT count(*) FROM records)
`)
	failsFor(t, FromFile(t, SQLite(""), path, "orders", samples...), handedOver, "table total, row (one=1): column n is")
}

package effecttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/postgres"
	"github.com/drainmark/drainmark/test/servers"
)

// shopPostgres is what shopSQLite is, with a table in a schema of its own.
const shopPostgres = `
CREATE SCHEMA shop;
CREATE TABLE stock (sku text PRIMARY KEY, "left" int NOT NULL CHECK ("left" >= 0));
CREATE TABLE shop.orders (id text PRIMARY KEY, sku text NOT NULL REFERENCES stock, count int NOT NULL, at timestamptz NOT NULL);
CREATE TABLE journal (number bigserial PRIMARY KEY, what text);
CREATE TABLE visits (id text NOT NULL, note text);
INSERT INTO stock VALUES ('ball', 10), ('net', 10), ('shoe', 10), ('hat', 10);
`

type handlerPostgres = effect.Handler[postgres.Tx]

// withEach makes a handler that is right of what it does besides for each record.
func withEach(also func(context.Context, postgres.Tx, effect.Record, order) error) handlerPostgres {
	return func(ctx context.Context, tx postgres.Tx, records []effect.Record) error {
		for i, r := range records {
			o, err := orderOf(r)
			if err != nil {
				return effect.Reject(map[int]string{i: "no order"})
			}
			taken, err := tx.Exec(ctx, `UPDATE stock SET "left" = "left" - $1 WHERE sku = $2`, o.Count, o.SKU)
			if err != nil {
				return err
			}
			if taken.RowsAffected() == 0 {
				return fmt.Errorf("there is no %q", o.SKU)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO shop.orders VALUES ($1, $2, $3, $4)", r.ID, o.SKU, o.Count, r.AcceptedAt); err != nil {
				return err
			}
			if err := also(ctx, tx, r, o); err != nil {
				return err
			}
		}
		return nil
	}
}

// reading is right too, with all that a transaction has.
func reading(ctx context.Context, tx postgres.Tx, r effect.Record, o order) error {
	var before int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM shop.orders WHERE id = $1", r.ID).Scan(&before); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "SELECT sku FROM stock WHERE sku = $1", o.SKU)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"visits"}, []string{"id", "note"}, pgx.CopyFromRows([][]any{{r.ID, fmt.Sprint(before, found)}})); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue("UPDATE visits SET note = note || '\\' WHERE id = $1", r.ID)
	batch.Queue("INSERT INTO visits VALUES ($1, NULL)", r.ID)
	return tx.SendBatch(ctx, batch).Close()
}

// withOwnConnection writes what is not part of the transaction.
func withOwnConnection(server string) handlerPostgres {
	return withEach(func(ctx context.Context, tx postgres.Tx, r effect.Record, _ order) error {
		var database string
		if err := tx.QueryRow(ctx, "SELECT current_database()").Scan(&database); err != nil {
			return err
		}
		own, err := pgx.Connect(ctx, strings.Replace(server, "/postgres?", "/"+database+"?", 1))
		if err != nil {
			return err
		}
		_, err = own.Exec(ctx, "INSERT INTO visits VALUES ($1)", r.ID)
		return errors.Join(err, own.Close(ctx))
	})
}

// readThenWrite loses an update when another transaction has changed meanwhile what it has read.
func readThenWrite(ctx context.Context, tx postgres.Tx, records []effect.Record) error {
	var left int
	if err := tx.QueryRow(ctx, `SELECT "left" FROM stock WHERE sku = 'shoe'`).Scan(&left); err != nil {
		return err
	}
	for _, r := range records {
		if o, err := orderOf(r); err == nil && o.SKU == "shoe" {
			left -= o.Count
		}
	}
	_, err := tx.Exec(ctx, `UPDATE stock SET "left" = $1 WHERE sku = 'shoe'`, left)
	return err
}

// swallowing passes over what the database says, and leaves the transaction spoiled.
func swallowing(ctx context.Context, tx postgres.Tx, r effect.Record, _ order) error {
	_, _ = tx.Exec(ctx, "INSERT INTO visits VALUES ($1)", r.ID)
	return nil
}

func noting(sql string) func(context.Context, postgres.Tx, effect.Record, order) error {
	return func(ctx context.Context, tx postgres.Tx, _ effect.Record, _ order) error {
		_, err := tx.Exec(ctx, sql)
		return err
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t, servers.PostgresOptions{Settings: []string{"full_page_writes = on", "deadlock_timeout = 100ms"}})
	server.Do("CREATE ROLE shopkeeper LOGIN CREATEDB")
	url := server.URL("shopkeeper")
	suite := func(h handlerPostgres) Suite {
		return Suite{Database: Postgres(url, shopPostgres), Effect: postgres.Effect("orders.*", h, effect.Options{}), Records: Bodies(samples...)}
	}
	t.Run("a right handler passes", func(t *testing.T) { suite(withEach(reading)).Run(t) })
	t.Run("a right statement passes", func(t *testing.T) {
		RunFile(t, Postgres(url, shopPostgres), effectFile(t, `
setup: CREATE TABLE IF NOT EXISTS sold (sku text PRIMARY KEY, n bigint NOT NULL)
effects:
  - logs: orders
    sql: |
      WITH taken AS (SELECT id, json->>'sku' AS sku, (json->>'count')::int AS count, accepted_at FROM records),
      put AS (INSERT INTO shop.orders SELECT * FROM taken),
      sold AS (INSERT INTO sold SELECT sku, sum(count) FROM taken GROUP BY sku ON CONFLICT (sku) DO UPDATE SET n = sold.n + excluded.n)
      UPDATE stock SET "left" = "left" - n FROM (SELECT sku, sum(count)::int AS n FROM taken GROUP BY sku) t WHERE t.sku = stock.sku
`), "orders", samples...)
	})
	serial := suite(withEach(noting("INSERT INTO journal (what) VALUES ('x')")))
	t.Run("a sequence", func(t *testing.T) { failsFor(t, serial, rolledBack, "table journal: the row (number=") })
	serial.Ignore = []string{"journal.number"}
	t.Run("a sequence whose numbers are ignored passes", func(t *testing.T) {
		b := serial.begin(t)
		b.alone(t)
		b.rollback(t)
	})
	for name, w := range map[string]struct {
		handler handlerPostgres
		fails   string
		says    []string
	}{
		"writes through a connection of its own": {withOwnConnection(server.URL(servers.PostgresUser)), rolledBack, []string{"table visits: the row (id="}},
		"reads, then writes":                     {readThenWrite, atOnce, []string{"row (sku='shoe'): column left is '9', not '8'"}},
		"swallows errors":                        {withEach(swallowing), passedOn, []string{"statement 3 of the call fails"}},
		"a date":                                 {withEach(noting("INSERT INTO visits VALUES ('a', current_date)")), deterministic, []string{"wall clock"}},
	} {
		t.Run(name, func(t *testing.T) { failsFor(t, suite(w.handler), w.fails, w.says...) })
	}
	t.Run("a statement with now", func(t *testing.T) {
		path := effectFile(t, "effects:\n  - logs: orders\n    sql: INSERT INTO visits SELECT id, now() FROM records")
		failsFor(t, FromFile(t, Postgres(url, shopPostgres), path, "orders", samples...), deterministic, "table visits", "wall clock")
	})
	t.Run("a statement that takes no two of the same", func(t *testing.T) {
		path := effectFile(t, `
effects:
  - logs: orders
    sql: |
      INSERT INTO stock SELECT json->>'sku', 1 FROM records WHERE json IS NOT NULL
      ON CONFLICT (sku) DO UPDATE SET "left" = stock."left" + 1
`)
		failsFor(t, FromFile(t, Postgres(url, shopPostgres), path, "orders", samples...), together, "fail when they come together", "a second time")
	})
	t.Run("a session that ends late is waited for", func(t *testing.T) { copyWhileUsed(t, server, url) })
	if left := server.Do("SELECT count(*) FROM pg_database WHERE datname LIKE 'effecttest%'")[0]; left != "0" {
		t.Errorf("%s databases are left", left)
	}
}

// copyWhileUsed copies a database that somebody uses until the server has refused that once.
func copyWhileUsed(t *testing.T, server *servers.Postgres, url string) {
	p := Postgres(url, "").begin(t, "").(*postgresEngine)
	at := p.create(t, "")
	session, err := p.connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	var released sync.WaitGroup
	released.Go(func() {
		defer session.Close(context.WithoutCancel(t.Context()))
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		deadline := time.After(patience)
		for began := false; ; {
			select {
			case <-tick.C:
			case <-deadline:
				t.Error("the copy was not refused")
				return
			}
			running, err := server.Try("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE DATABASE%'")
			if err != nil {
				t.Error(err)
				return
			}
			if began = began || running[0] != "0"; began && running[0] == "0" {
				return
			}
		}
	})
	p.copy(t, at)
	released.Wait()
}

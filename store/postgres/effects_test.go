package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// effectSchema is a schema with a table of the user's own beside Drainmark's, in another schema.
type effectSchema struct{ database }

func newEffectSchema(t servers.T, primary, standby *servers.Postgres) effectSchema {
	d := effectSchema{newDatabase(t, primary, standby, newSchema())}
	primary.Do(fmt.Sprintf(`CREATE SCHEMA own_%[1]s; GRANT USAGE ON SCHEMA own_%[1]s TO %[2]s;
		CREATE TABLE own_%[1]s.texts (key bytea PRIMARY KEY, value text NOT NULL CHECK (value <> 'refused'));
		GRANT SELECT, INSERT, UPDATE ON own_%[1]s.texts TO %[2]s`, d.schema, appConsumer))
	return d
}

func (d effectSchema) table() string { return "own_" + d.schema + ".texts" }

func (d effectSchema) open(t storetest.T, effects ...effect.Effect) *Store {
	s, err := Open(t.Context(), d.primary.URL(appConsumer)+"&schema="+d.schema, Options{Connections: 4, Effects: effects})
	if err != nil {
		t.Fatalf("opening the store with effects: %v", err)
	}
	return s
}

func (d effectSchema) StoreWith(t storetest.T, log string, o effect.Options, apply storetest.Apply) store.Store {
	return d.open(t, Effect(log, func(ctx context.Context, tx Tx, records []effect.Record) error {
		return apply(ctx, texts{tx, d.table()}, records)
	}, o))
}

func (d effectSchema) Rows(storetest.T) map[string]string {
	rows := map[string]string{}
	for _, row := range d.primary.Do("SELECT encode(key, 'escape') || '=' || value FROM " + d.table()) {
		key, value, _ := strings.Cut(row, "=")
		rows[key] = value
	}
	return rows
}

// texts is the table in a transaction.
type texts struct {
	tx   Tx
	name string
}

func (t texts) Get(ctx context.Context, key string) (value string, err error) {
	err = t.tx.QueryRow(ctx, "SELECT value FROM "+t.name+" WHERE key = $1", []byte(key)).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return value, err
}

func (t texts) Put(ctx context.Context, key, value string) error {
	_, err := t.tx.Exec(ctx, "INSERT INTO "+t.name+" VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2", []byte(key), value)
	return err
}

func TestEffects(t *testing.T) {
	t.Parallel()
	primary, standby := startPair(t)
	t.Run("suite", func(t *testing.T) {
		storetest.RunEffects(t, storetest.Harness{New: func(t storetest.T) storetest.Database {
			return newEffectSchema(t, primary, standby)
		}})
	})
	for name, test := range map[string]func(*testing.T, effectSchema){
		"what an error of PostgreSQL means":              errorsOfEffects,
		"an effect cannot leave its transaction":         leavingEffects,
		"a statement is applied to the records":          statementOfRecords,
		"a statement that does not fit is refused":       statementsThatDoNotFit,
		"trying effects changes nothing":                 triedEffects,
		"an effect that takes long keeps its connection": effectThatTakesLong,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newEffectSchema(t, primary, standby))
		})
	}
}

// anEffect is a store whose effect runs what a test says.
type anEffect struct {
	*filler
	effectSchema
	do func(ctx context.Context, tx Tx) error
}

func (d effectSchema) effect(t *testing.T) *anEffect {
	e := &anEffect{effectSchema: d}
	s := d.open(t, Effect("guestbook", func(ctx context.Context, tx Tx, _ []effect.Record) error { return e.do(ctx, tx) }, effect.Options{}))
	t.Cleanup(func() { _ = s.Close() })
	e.filler = newFiller(t, s)
	return e
}

// fault has the effect run statements, which must fail the commit, and returns the effect's error.
func (e *anEffect) fault(t *testing.T, queries ...string) *store.EffectError {
	t.Helper()
	e.do = func(ctx context.Context, tx Tx) error {
		for _, query := range queries {
			if _, err := tx.Exec(ctx, strings.ReplaceAll(query, "texts", e.table())); err != nil {
				return err
			}
		}
		return nil
	}
	var failed *store.EffectError
	if err := e.commit(t.Context(), e.next(1, 10)); !errors.As(err, &failed) {
		t.Fatalf("%q: got error %v", queries, err)
	}
	if rows := e.Rows(t); len(rows) != 0 {
		t.Fatalf("%q has left %v", queries, rows)
	}
	return failed
}

const insertText = "INSERT INTO texts VALUES ('a', 'b')"

func errorsOfEffects(t *testing.T, d effectSchema) {
	e := d.effect(t)
	for query, fault := range map[string]store.EffectFault{
		"INSERT INTO texts VALUES ('x', 'refused')":                          store.FaultContent,
		"INSERT INTO texts VALUES ('a', 'again')":                            store.FaultContent,
		"INSERT INTO texts VALUES ('x', NULL)":                               store.FaultContent,
		"SELECT '{'::jsonb":                                                  store.FaultContent,
		"SELECT 1 / 0":                                                       store.FaultContent,
		"DO $$ BEGIN RAISE 'no'; END $$":                                     store.FaultContent,
		"INSERT INTO orders VALUES (1)":                                      store.FaultDeployment,
		"INSERT INTO texts (sku) VALUES (1)":                                 store.FaultDeployment,
		"INSRT INTO texts VALUES (1, 2)":                                     store.FaultDeployment,
		"DELETE FROM texts":                                                  store.FaultDeployment, // it has no right to
		"INSERT INTO texts VALUES ('x', 'y') ON CONFLICT (value) DO NOTHING": store.FaultDeployment,
	} {
		if failed := e.fault(t, insertText, query); failed.Fault != fault {
			t.Errorf("%s: the fault is %d, not %d: %s", query, failed.Fault, fault, failed.Reason)
		}
	}
	e.do = func(ctx context.Context, tx Tx) error { // and goes on as if nothing were
		_, _ = tx.Exec(ctx, "SELECT 1 / 0")
		return nil
	}
	var failed *store.EffectError
	if err := e.commit(t.Context(), e.next(1, 10)); !errors.As(err, &failed) || failed.Fault != store.FaultContent || !strings.Contains(failed.Reason, "passed over") {
		t.Errorf("an error that is passed over: %v", err)
	}
	e.do = func(ctx context.Context, tx Tx) error {
		_, err := tx.Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
		return err
	}
	if err := e.commit(t.Context(), e.next(1, 10)); err == nil || errors.As(err, &failed) && failed.Reason != "it has passed over an error of the database, which has spoiled the transaction" {
		t.Errorf("a connection that is cut: %v", err)
	}
	e.do = func(context.Context, Tx) error { return nil }
	e.must(t, e.next(1, 10))
}

func leavingEffects(t *testing.T, d effectSchema) {
	e := d.effect(t)
	for _, query := range []string{
		"COMMIT", "END", "rollback", "SAVEPOINT a", "BEGIN", "SELECT 1; /* a */ COMMIT", "LISTEN a", "DISCARD ALL", "PREPARE TRANSACTION 'a'",
	} {
		if failed := e.fault(t, insertText, query); failed.Fault != store.FaultDeployment || !strings.Contains(failed.Reason, "is refused") {
			t.Errorf("%s: the error is %+v", query, failed)
		}
	}
	var kept Tx
	e.do = func(ctx context.Context, tx Tx) error {
		kept = tx
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1")
		batch.Queue("COMMIT")
		var one int
		rows, _ := tx.Query(ctx, "COMMIT")
		_, queried := pgx.CollectRows(rows, pgx.RowTo[int])
		for _, err := range []error{queried, tx.QueryRow(ctx, "COMMIT").Scan(&one), tx.SendBatch(ctx, batch).Close()} {
			if err == nil || !strings.Contains(err.Error(), "is refused") {
				return fmt.Errorf("COMMIT is not refused: %w", err)
			}
		}
		return nil
	}
	e.must(t, e.next(1, 10))
	if _, err := kept.Exec(t.Context(), "SELECT 1"); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("a statement behind the transaction: %v", err)
	}
}

// loadEffects reads a file of effects.
func loadEffects(t *testing.T, text string) (list effect.List, setup string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "effects.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := effect.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range file.Effects {
		list = append(list, Statement(s))
	}
	return list, file.Setup
}

// shop is a file of effects, with its tables in a schema of their own.
const shop = `
setup: |
  CREATE TABLE IF NOT EXISTS SCHEMA.stock (sku text PRIMARY KEY, remaining int NOT NULL CHECK (remaining >= 0));
  CREATE TABLE IF NOT EXISTS SCHEMA.orders (id text PRIMARY KEY, sku text NOT NULL REFERENCES SCHEMA.stock, count int NOT NULL CHECK (count > 0),
    tenant text, at timestamptz NOT NULL);
  INSERT INTO SCHEMA.stock VALUES ('ball', 10) ON CONFLICT DO NOTHING;
effects:
  - logs: LOG
    name: orders
    rejects: [orders_count_check, P0001]
    sql: |
      WITH made AS (
        INSERT INTO SCHEMA.orders SELECT id, json->>'sku', (json->>'count')::int, coalesce(principal || ':', '') || (headers->>'tenant'), accepted_at FROM records ORDER BY position
        RETURNING sku, count), sums AS (SELECT sku, sum(count) AS count FROM made GROUP BY sku)
      UPDATE SCHEMA.stock s SET remaining = remaining - sums.count FROM sums WHERE sums.sku = s.sku
`

func (d effectSchema) shop() string {
	d.primary.Do(fmt.Sprintf("GRANT CREATE ON SCHEMA own_%s TO %s", d.schema, appConsumer))
	return strings.NewReplacer("SCHEMA", "own_"+d.schema, "LOG", "guestbook").Replace(shop)
}

func (d effectSchema) openShop(t *testing.T, text string) (*Store, error) {
	list, setup := loadEffects(t, text)
	return Open(t.Context(), d.primary.URL(appConsumer)+"&schema="+d.schema, Options{Connections: 4, Effects: list, Setup: setup})
}

func statementOfRecords(t *testing.T, d effectSchema) {
	s, err := d.openShop(t, d.shop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := newFiller(t, s)
	tenant, err := drainmark.NewHeaders(drainmark.Header{Name: "tenant", Value: "7"})
	if err != nil {
		t.Fatal(err)
	}
	order := func(bodies ...string) store.Commit {
		c := f.next(len(bodies), 1)
		for i, body := range bodies {
			c.Operations[i].Record.Body, c.Operations[i].Record.Headers, c.Operations[i].Record.Principal = []byte(body), tenant, "shop"
		}
		return c
	}
	c := order(`{"sku": "ball", "count": 2}`, `{"sku": "ball", "count": 3}`)
	f.must(t, c)
	at := c.Operations[0].Record.AcceptedAt.UTC().Format("2006-01-02 15:04:05.000000")
	want := fmt.Sprintf("%s 5 shop:7 %s 5", c.Operations[0].Mark, at)
	got := d.primary.Do(fmt.Sprintf(`SELECT min(id) || ' ' || sum(count) || ' ' || min(tenant) || ' ' ||
		to_char(min(at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || ' ' || (SELECT remaining FROM own_%[1]s.stock) FROM own_%[1]s.orders`, d.schema))
	if got[0] != want {
		t.Errorf("the orders are %q, not %q", got[0], want)
	}
	var refused *store.EffectError
	err = f.commit(t.Context(), order(`{"sku": "ball", "count": 0}`))
	if !errors.As(err, &refused) || !refused.Rejects || !strings.HasPrefix(refused.Reason, "rejected: new row for relation") {
		t.Errorf("an order of none: %v", err)
	}
	for body, reason := range map[string]string{
		`{"sku": "ball", "count": 6}`: "stock_remaining_check", "no JSON": "null value", `{"sku": "ball", "count": "many"}`: "many",
		`{"sku": "none", "count": 1}`: "orders_sku_fkey", `{"sku": "\u0000"}`: "Unicode",
	} {
		var failed *store.EffectError
		if err := f.commit(t.Context(), order(body)); !errors.As(err, &failed) || failed.Fault != store.FaultContent || failed.Rejects || !strings.Contains(failed.Reason, reason) {
			t.Errorf("%s: the error is %v", body, err)
		}
	}
}

func statementsThatDoNotFit(t *testing.T, d effectSchema) {
	text := d.shop()
	for change, says := range map[[2]string]string{
		{"FROM records", "FROM record_s"}:          "effects.yaml:8: ",
		{"json->>'sku'", "json->>'sku', 1"}:        "more expressions",
		{"CREATE TABLE IF NOT", "CREATE TABLE IF"}: "the setup of the effects: ",
	} {
		_, err := d.openShop(t, strings.Replace(text, change[0], change[1], 1))
		if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: the error is %v", change, err)
		}
	}
}

func triedEffects(t *testing.T, d effectSchema) {
	list, setup := loadEffects(t, d.shop())
	for _, there := range []bool{false, true} { // whether the tables are
		if there {
			s, err := d.openShop(t, d.shop())
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
		}
		s, err := Open(t.Context(), d.primary.URL(appConsumer)+"&schema="+d.schema, Options{Connections: 4, Effects: list, Setup: setup, Trial: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		if err := s.CheckEffects(t.Context()); err != nil {
			t.Error(err)
		}
		message := store.NewMessage{Message: drainmark.Message{
			Position: 1, Body: []byte(`{"sku": "ball", "count": 2}`), AcceptedAt: time.Date(2026, 1, 31, 12, 30, 45, 123456000, time.UTC),
		}}
		orders := map[string]any{
			"id": message.Mark.String(), "sku": "ball", "count": 2.0, "tenant": nil, "at": "2026-01-31T12:30:45.123456+00:00",
		}
		want := []effect.Change{
			{Table: "own_" + d.schema + ".orders", What: "insert", After: orders},
			{Table: "own_" + d.schema + ".stock", What: "insert", After: map[string]any{"sku": "ball", "remaining": 8.0}},
		}
		if there {
			want[1].What, want[1].Before = "update", map[string]any{"sku": "ball", "remaining": 10.0}
		}
		for range 2 {
			got, err := s.TryEffects(t.Context(), "guestbook", []store.NewMessage{message})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("the changes are %+v (%v), not %+v", got, err, want)
			}
		}
		message.Body = []byte(`{"sku": "ball", "count": 20}`)
		var failed *store.EffectError
		if _, err := s.TryEffects(t.Context(), "guestbook", []store.NewMessage{message}); !errors.As(err, &failed) {
			t.Errorf("an order of too many: %v", err)
		}
	}
}

func effectThatTakesLong(t *testing.T, d effectSchema) {
	e := d.effect(t)
	e.do = func(ctx context.Context, tx Tx) error {
		var limit string
		if err := tx.QueryRow(ctx, "SHOW idle_in_transaction_session_timeout").Scan(&limit); err != nil || limit != "10s" {
			return fmt.Errorf("a transaction may be idle for %s: %w", limit, err)
		}
		return nil
	}
	e.must(t, e.next(1, 10))
}

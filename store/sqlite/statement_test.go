package sqlite_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// load writes a file of effects and reads it.
func load(t *testing.T, text string) (effect.File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "effects.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return effect.Load(path)
}

// withFile are the options of a store with the effects of a file.
func withFile(f effect.File) sqlite.Options {
	o := sqlite.Options{Setup: f.Setup}
	for _, s := range f.Effects {
		o.Effects = append(o.Effects, sqlite.Statement(s))
	}
	return o
}

// shopFile is a shop's, whose orders are the log of partition 0.
var shopFile = `
setup: |
  CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, left INTEGER NOT NULL CHECK (left >= 0));
  CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, sku TEXT NOT NULL REFERENCES stock, count INTEGER NOT NULL CHECK (count > 0),
    tenant TEXT, at TEXT NOT NULL) STRICT;
  CREATE TRIGGER IF NOT EXISTS take AFTER INSERT ON orders BEGIN
    UPDATE stock SET left = left - NEW.count WHERE sku = NEW.sku;
  END;
  INSERT OR IGNORE INTO stock VALUES ('ball', 10);
effects:
  - logs: ` + logIn(0) + `
    name: orders
    rejects: ["count > 0"]
    sql: |
      -- an order takes from the stock
      INSERT INTO orders SELECT id, json->>'sku', json->>'count', coalesce(principal || ':', '') || (headers->>'tenant'), accepted_at FROM records ORDER BY position;
`

// order returns a commit of one order each.
func (f *filler) orders(bodies ...string) store.Commit {
	c := f.next(len(bodies))
	tenant, err := drainmark.NewHeaders(drainmark.Header{Name: "tenant", Value: "7"})
	if err != nil {
		f.t.Fatal(err)
	}
	for i, body := range bodies {
		c.Operations[i].Record.Body, c.Operations[i].Record.Headers, c.Operations[i].Record.Principal = []byte(body), tenant, "shop"
	}
	return c
}

func TestAStatementIsAppliedToTheRecords(t *testing.T) {
	t.Parallel()
	loaded, err := load(t, shopFile)
	if err != nil {
		t.Fatal(err)
	}
	path := newFile(t)
	f := newFiller(t, openStore(t, path, withFile(loaded)), 0)
	c := f.orders(`{"sku": "ball", "count": 2}`, `{"sku": "ball", "count": 3}`)
	f.must(c)
	db := (&effectFile{path: path}).open(t)
	defer db.Close()
	var id, tenant, at string
	var sum, left int
	row := db.QueryRow("SELECT min(id), sum(count), min(tenant), min(at), (SELECT left FROM stock) FROM orders")
	if err := row.Scan(&id, &sum, &tenant, &at, &left); err != nil {
		t.Fatal(err)
	}
	accepted := c.Operations[0].Record.AcceptedAt.UTC().Format("2006-01-02T15:04:05.000000Z")
	if id != c.Operations[0].Mark.String() || sum != 5 || left != 5 || tenant != "shop:7" || at != accepted {
		t.Errorf("the orders are %s, %d, tenant %s, accepted %s, and %d are left", id, sum, tenant, at, left)
	}
	var refused *store.EffectError
	err = f.commit(f.orders(`{"sku": "ball", "count": 0}`))
	if !errors.As(err, &refused) || !refused.Rejects || refused.Reason != "rejected: CHECK constraint failed: count > 0" {
		t.Errorf("an order of none: %v", err)
	}
	for body, reason := range map[string]string{
		`{"sku": "ball", "count": 6}`: "left >= 0", "no JSON": "orders.sku", `{"sku": "ball", "count": "many"}`: "TEXT value in INTEGER column", `{"sku": "ball"}`: "orders.count",
	} {
		var failed *store.EffectError
		if err := f.commit(f.orders(body)); !errors.As(err, &failed) || failed.Fault != store.FaultContent || failed.Rejects || !strings.Contains(failed.Reason, reason) {
			t.Errorf("%s: the error is %v", body, err)
		}
	}
}

func TestTryingAnEffectChangesNothing(t *testing.T) {
	t.Parallel()
	loaded, err := load(t, shopFile)
	if err != nil {
		t.Fatal(err)
	}
	o := withFile(loaded)
	o.Trial = true
	s := openStore(t, newFile(t), o)
	newFiller(t, s, 0)
	if err := s.CheckEffects(t.Context()); err != nil {
		t.Error(err)
	}
	at := time.Date(2026, 1, 31, 12, 30, 45, 123456000, time.UTC)
	message := store.NewMessage{Message: drainmark.Message{Position: 1, Body: []byte(`{"sku": "ball", "count": 2}`), AcceptedAt: at}}
	var want []effect.Change
	expect := `[
		{"table": "orders", "what": "insert", "after": {"id": "ID", "sku": "ball", "count": 2, "tenant": null, "at": "2026-01-31T12:30:45.123456Z"}},
		{"table": "stock", "what": "update", "before": {"sku": "ball", "left": 10}, "after": {"sku": "ball", "left": 8}}]`
	if err := json.Unmarshal([]byte(strings.Replace(expect, "ID", message.Mark.String(), 1)), &want); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := s.TryEffects(t.Context(), logIn(0), []store.NewMessage{message})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("the changes are %+v (%v), not %+v", got, err, want)
		}
	}
	message.Body = []byte(`{"sku": "ball", "count": 20}`)
	var failed *store.EffectError
	if _, err := s.TryEffects(t.Context(), logIn(0), []store.NewMessage{message}); !errors.As(err, &failed) {
		t.Errorf("an order of too many: %v", err)
	}
}

// What does not fit the schema is said when the store is opened, with the place where it stands.
func TestAStatementThatDoesNotFitIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	for change, says := range map[[2]string]string{
		{"INSERT INTO orders SELECT id,", "INSERT INTO order_s SELECT id,"}: "effects.yaml:11: ",
		{"json->>'sku'", "json->>'sku', 1"}:                                 "6 values",
		{"CREATE TABLE IF NOT EXISTS stock", "CREATE TABLE stock IF"}:       "the setup of the effects: ",
		{"    sql: |", "    timeout: 1h\n    sql: |"}:                       "it can be 1ms to 8s",
	} {
		loaded, err := load(t, strings.Replace(shopFile, change[0], change[1], 1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = sqlite.Open(t.Context(), newFile(t), withFile(loaded))
		if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: the error is %v", change, err)
		}
	}
}

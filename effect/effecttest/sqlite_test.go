package effecttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/sqlite"
)

func TestARightHandlerPassesOnSQLite(t *testing.T) {
	t.Parallel()
	Run(t, SQLite(shopSQLite), sqlite.Effect("orders.*", rightSQLite, effect.Options{Unkept: true}), samples...)
}

func TestARightStatementPassesOnSQLite(t *testing.T) {
	t.Parallel()
	RunFile(t, SQLite(""), effectFile(t, `
setup: |
  CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, sku TEXT NOT NULL, count INTEGER NOT NULL CHECK (count < 100), at TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, sold INTEGER NOT NULL);
  CREATE TRIGGER IF NOT EXISTS sell AFTER INSERT ON orders BEGIN
    INSERT INTO stock VALUES (NEW.sku, NEW.count) ON CONFLICT DO UPDATE SET sold = sold + excluded.sold;
  END;
effects:
  - logs: orders.*
    sql: INSERT INTO orders SELECT id, json->>'sku', json->>'count', accepted_at FROM records ORDER BY position
`), "orders.eu", samples...)
}

func effectFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "effects.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

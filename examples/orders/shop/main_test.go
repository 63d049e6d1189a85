package main

import (
	"os"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/effect/effecttest"
	"github.com/drainmark/drainmark/store/postgres"
	"github.com/drainmark/drainmark/test/servers"
)

// orders are samples: some want the same goods, some are rejected.
var orders = []string{
	`{"customer":"ann","sku":"plum","count":2}`, `{"customer":"bob","sku":"pear","count":1}`,
	`{"customer":"bob","sku":"plum","count":4}`, // more than are left
	`{"customer":"ann","sku":"pear","count":3}`, `{"customer":"bob","sku":"plum","count":3}`,
	`{"customer":"cleo","sku":"plum","count":1}`, // none is left
	`{"customer":"cleo","sku":"melon","count":1}`, `{"customer":"ann","sku":"pear","count":0}`, `nobody's`,
	`{"customer":"cleo","sku":"pear","count":2}`,
}

// TestShop tests the handler as anybody tests one, and both statements.
func TestShop(t *testing.T) {
	t.Parallel()
	t.Run("the statement for SQLite", func(t *testing.T) {
		t.Parallel()
		effecttest.RunFile(t, effecttest.SQLite(""), "../sqlite.yaml", "orders", orders...)
	})
	schema, err := os.ReadFile("../schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	tables, _, _ := strings.Cut(string(schema), "-- Who may do what.") // roles are of the whole server
	database := effecttest.Postgres(servers.StartPostgres(t, servers.PostgresOptions{}).URL(servers.PostgresUser), tables)
	t.Run("the statement for PostgreSQL", func(t *testing.T) {
		effecttest.RunFile(t, database, "../postgres.yaml", "orders", orders...)
	})
	t.Run("the handler", func(t *testing.T) {
		effecttest.Run(t, database, postgres.Effect("orders", apply, effect.Options{}), orders...)
	})
}

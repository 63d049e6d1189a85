package effecttest_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/effect/effecttest"
	"github.com/drainmark/drainmark/store/sqlite"
)

// The tables of a shop.
const schema = `
CREATE TABLE stock (sku TEXT PRIMARY KEY, count INTEGER NOT NULL CHECK (count >= 0));
CREATE TABLE orders (id TEXT PRIMARY KEY, sku TEXT NOT NULL, count INTEGER NOT NULL, at TEXT NOT NULL);
INSERT INTO stock VALUES ('ball', 10), ('net', 3);`

// apply takes what is ordered from the stock.
func apply(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
	rejected := map[int]string{}
	for i, r := range records {
		var order struct {
			SKU   string
			Count int
		}
		if err := json.Unmarshal(r.Body, &order); err != nil {
			rejected[i] = err.Error()
			continue
		}
		const take = "UPDATE stock SET count = count - ?1 WHERE sku = ?2 AND count >= ?1"
		taken, err := tx.ExecContext(ctx, take, order.Count, order.SKU)
		if err != nil {
			return err
		}
		if n, err := taken.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			rejected[i] = "sold out"
			continue
		}
		const insert = "INSERT INTO orders VALUES (?, ?, ?, ?)"
		if _, err := tx.ExecContext(ctx, insert, r.ID, order.SKU, order.Count, r.AcceptedAt.UTC().String()); err != nil {
			return err
		}
	}
	if len(rejected) > 0 {
		return effect.Reject(rejected) // all that was done is rolled back, and done again without these
	}
	return nil
}

// testOrders is the test. In a file of yours it would be called TestOrders.
func testOrders(t *testing.T) {
	effecttest.Run(t, effecttest.SQLite(schema), sqlite.Effect("orders", apply, effect.Options{}),
		`{"sku": "ball", "count": 2}`,
		`{"sku": "net", "count": 3}`,
		`{"sku": "ball", "count": 1}`,
		`{"sku": "net", "count": 1}`, // sold out
		`{"sku": "ball", "count": 7}`,
		`an order of nobody's`)
}

// The whole test of a handler in Go: tables, the handler, and the bodies of some records.
func Example() {
	_ = testing.InternalTest{Name: "TestOrders", F: testOrders}
}

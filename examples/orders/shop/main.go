// Command shop is drainmark, with the orders of a shop applied by its consumers: each takes its goods out of the stock,
// and is added to what its customer owes. docs/your-service.md explains it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/app"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/postgres"
)

func main() { app.Main(postgres.Effect("orders", apply, effect.Options{})) }

type order struct {
	Customer string `json:"customer"`
	SKU      string `json:"sku"`
	Count    int64  `json:"count"`
}

const mostPieces = 1_000_000 // of an order

// apply is the effect. What it decides follows from the records and the tables alone, one record after the other.
func apply(ctx context.Context, tx postgres.Tx, records []effect.Record) error {
	orders, rejected := read(records)
	stock, err := lockStock(ctx, tx, orders)
	if err != nil {
		return err
	}
	var done rows
	for i, o := range orders {
		if _, is := rejected[i]; is {
			continue
		}
		if why := stock.take(o); why != "" {
			rejected[i] = why
			continue
		}
		done.add(records[i], o, stock[o.SKU].price*o.Count)
	}
	if len(rejected) > 0 {
		return effect.Reject(rejected) // the rest is given to apply again, in a new transaction
	}
	return done.write(ctx, tx, stock)
}

// read decodes the orders, and says which of them are none.
func read(records []effect.Record) (orders []order, rejected map[int]string) {
	orders, rejected = make([]order, len(records)), map[int]string{}
	for i, r := range records {
		o := &orders[i]
		switch err := json.Unmarshal(r.Body, o); {
		case err != nil:
			rejected[i] = "not an order: " + err.Error()
		case o.Customer == "":
			rejected[i] = "not an order: it names no customer"
		case o.Count < 1 || o.Count > mostPieces:
			rejected[i] = fmt.Sprintf("not an order: %d pieces, and it can be 1 to %d", o.Count, mostPieces)
		}
	}
	return orders, rejected
}

// goods are what the shop has of one kind.
type goods struct{ price, available int64 }

type stock map[string]*goods

// lockStock reads what there is of the goods that are ordered. They are locked in one order, so that two that want the
// same goods do not wait for each other.
func lockStock(ctx context.Context, tx postgres.Tx, orders []order) (stock, error) {
	skus := make([]string, len(orders))
	for i, o := range orders {
		skus[i] = o.SKU
	}
	const query = "SELECT sku, price, available FROM shop.stock WHERE sku = ANY ($1) ORDER BY sku FOR UPDATE"
	rows, err := tx.Query(ctx, query, skus)
	if err != nil {
		return nil, err
	}
	s := stock{}
	var sku string
	var g goods
	_, err = pgx.ForEachRow(rows, []any{&sku, &g.price, &g.available}, func() error {
		s[sku] = &goods{g.price, g.available}
		return nil
	})
	return s, err
}

// take takes the goods of an order, or says why not.
func (s stock) take(o order) string {
	g := s[o.SKU]
	switch {
	case g == nil:
		return fmt.Sprintf("there is no %q", o.SKU)
	case g.available < o.Count:
		return fmt.Sprintf("sold out: %d %s were ordered, and %d are left", o.Count, o.SKU, g.available)
	}
	g.available -= o.Count
	return ""
}

// rows are the orders as they are written, by columns.
type rows struct {
	numbers, ids, customers, skus []string
	counts, totals                []int64
	at                            []time.Time
}

func (w *rows) add(r effect.Record, o order, total int64) {
	number := r.Key
	if number == "" {
		number = r.ID
	}
	w.numbers, w.ids, w.at = append(w.numbers, number), append(w.ids, r.ID), append(w.at, r.AcceptedAt)
	w.customers, w.skus = append(w.customers, o.Customer), append(w.skus, o.SKU)
	w.counts, w.totals = append(w.counts, o.Count), append(w.totals, total)
}

// write writes everything with one round trip.
func (w *rows) write(ctx context.Context, tx postgres.Tx, left stock) error {
	skus := slices.Sorted(maps.Keys(left))
	available := make([]int64, len(skus))
	for i, sku := range skus {
		available[i] = left[sku].available
	}
	var b pgx.Batch
	b.Queue(`UPDATE shop.stock s SET available = l.available
		FROM unnest($1::text[], $2::bigint[]) AS l (sku, available) WHERE s.sku = l.sku`, skus, available)
	b.Queue(`INSERT INTO shop.orders (number, id, customer, sku, count, total, at)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::timestamptz[])`,
		w.numbers, w.ids, w.customers, w.skus, w.counts, w.totals, w.at)
	b.Queue(`INSERT INTO shop.balances AS b (customer, owed)
		SELECT customer, sum(total) FROM unnest($1::text[], $2::bigint[]) AS t (customer, total) GROUP BY customer
		ON CONFLICT (customer) DO UPDATE SET owed = b.owed + excluded.owed`, w.customers, w.totals)
	return tx.SendBatch(ctx, &b).Close()
}

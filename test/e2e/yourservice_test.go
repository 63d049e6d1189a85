package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/client"
)

// TestYourService does what docs/your-service.md says. At its end a consumer in Go and a service in Python run, on a
// primary and a standby. Then the consumer is killed under load.
func TestYourService(t *testing.T) {
	t.Parallel()
	d := openDocument(t, "../../examples/orders")
	d.run("../../docs/your-service.md")
	if t.Failed() {
		return
	}
	sent := d.orderWhileKilled(400)
	primary, standby := d.connect("5432", "postgres"), d.connect("5433", "shop_service")
	for where, db := range map[string]*pgx.Conn{"the primary": primary, "the standby": standby} {
		var held, ordered, rejected, twice int
		err := db.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE drainmark.holds(s.id)), count(o),
			count(drainmark.rejected(s.id)), count(*) FILTER (WHERE (o IS NULL) = (drainmark.rejected(s.id) IS NULL))
			FROM unnest($1::text[], $2::text[]) s (id, number) LEFT JOIN shop.orders o USING (number)`, sent.ids, sent.numbers,
		).Scan(&held, &ordered, &rejected, &twice)
		if err != nil || held != len(sent.ids) || ordered+rejected != held || rejected == 0 || twice != 0 {
			t.Errorf("of %d accepted orders %s holds %d: %d are ordered and %d rejected, %d neither or both (%v)",
				len(sent.ids), where, held, ordered, rejected, twice, err)
		}
		var wrong int
		err = db.QueryRow(t.Context(), `SELECT
			(SELECT count(*) FROM shop.balances b
				WHERE owed <> (SELECT sum(total) FROM shop.orders o WHERE o.customer = b.customer))
			+ (SELECT count(DISTINCT customer) FROM shop.orders) - (SELECT count(*) FROM shop.balances)
			+ (SELECT count(*) FROM (VALUES ('pear', 1000), ('plum', 5)) had (sku, count) JOIN shop.stock s USING (sku)
				WHERE s.available <> had.count
					- (SELECT coalesce(sum(o.count), 0) FROM shop.orders o WHERE o.sku = s.sku))`).Scan(&wrong)
		if err != nil || wrong != 0 {
			t.Errorf("on %s %d balances and stocks do not add up (%v)", where, wrong, err)
		}
	}
}

// sent is what was accepted: the ids of records, and the orders' numbers.
type sent struct {
	mu           sync.Mutex
	ids, numbers []string
}

// orderWhileKilled sends orders while the consumer is killed and started again, and returns when all are in the tables.
func (d *document) orderWhileKilled(orders int64) *sent {
	d.t.Helper()
	c, err := client.New(client.Config{URL: "http://127.0.0.1:" + d.ports["8080"], Retry: client.DefaultRetry})
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	var next atomic.Int64
	var done sync.WaitGroup
	half := make(chan struct{})
	var all sent
	defer done.Wait()
	for range 8 {
		done.Go(func() {
			for i := next.Add(1); i <= orders; i = next.Add(1) {
				if i == orders/2 {
					close(half)
				}
				d.order(c, i, &all)
			}
		})
	}
	<-half
	consumer := d.terminals["consumer"]
	consumer.end(syscall.SIGKILL)
	d.start("consumer", consumer.text)
	done.Wait()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*patience)
	defer cancel()
	if s, err := c.WaitBarrier(ctx); err != nil {
		d.t.Fatalf("the barrier is %+v: %v\n%s", s, err, d.said())
	}
	return &all
}

// order sends one order, of a pear or two mostly.
func (d *document) order(c *client.Client, i int64, to *sent) {
	number, sku := fmt.Sprintf("killed-%d", i), "pear"
	if i%20 == 0 {
		sku = "plum"
	}
	body := fmt.Appendf(nil, `{"customer":"customer %d","sku":%q,"count":%d}`, i%7, sku, 1+i%2)
	s, err := c.Append(d.t.Context(), "orders", client.Message{Body: body, ContentType: "application/json", Key: number}, 0)
	if err != nil {
		d.t.Errorf("order %d: %v", i, err)
		return
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	to.ids, to.numbers = append(to.ids, s.ID), append(to.numbers, number)
}

// connect connects to one of the servers.
func (d *document) connect(port, user string) *pgx.Conn {
	d.t.Helper()
	db, err := pgx.Connect(d.t.Context(), fmt.Sprintf("postgres://%s@127.0.0.1:%s/postgres?sslmode=disable", user, d.ports[port]))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

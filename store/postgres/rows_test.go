package postgres

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/test/servers"
)

// TestRowsChangeInPlace: the rows that every commit changes stay on their pages (HOT), and so need no new entries in
// indexes.
func TestRowsChangeInPlace(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	f := newFiller(t, openStore(t, urlIn(p, "inplace"), Options{}))
	const commits = 3 * recentCommits
	for range commits {
		f.must(t, f.next(1, 10))
	}
	for range 100 {
		if _, err := f.store.Heartbeat(t.Context(), "filler", patience); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.store.Close(); err != nil { // PostgreSQL 14 counts what a connection did last when that ends
		t.Fatal(err)
	}
	for table, atLeast := range map[string]int{
		"partitions": commits, "progress": commits - 1, "logs": commits - 1, "recent": commits - recentCommits, "claims": 100, "owners": 99,
	} {
		query := func(column string) int {
			n, _ := strconv.Atoi(p.Do(fmt.Sprintf("SELECT %s FROM pg_stat_user_tables WHERE schemaname = 'inplace' AND relname = '%s'", column, table))[0])
			return n
		}
		eventually(t, "the server has counted the changes to "+table, func() bool { return query("n_tup_upd") >= atLeast })
		if all, hot := query("n_tup_upd"), query("n_tup_hot_upd"); hot < all*9/10 {
			t.Errorf("of %d changes to rows of %s, %d were in place", all, table, hot)
		}
	}
}

// roundTrips counts what a connection sends. It is for one goroutine.
type roundTrips struct{ batches, queries int }

func (r *roundTrips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	r.batches++
	return ctx
}
func (r *roundTrips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (r *roundTrips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
func (r *roundTrips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData)     {}
func (r *roundTrips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.queries++
	return ctx
}

// TestACommitIsTwoRoundTrips: and a commit of a log that the holder knows needs none besides.
func TestACommitIsTwoRoundTrips(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	target, err := parseURL(urlIn(p, "trips"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFiller(t, openStore(t, urlIn(p, "trips"), Options{}))
	trips := &roundTrips{}
	config := target.primary()
	config.ConnConfig.Tracer = trips
	f.store.commits.close()
	if f.store.commits, err = newClient(config, 1, patience); err != nil {
		t.Fatal(err)
	}
	f.must(t, f.next(500, 10)) // the connection, and what the driver learns of the statements
	*trips = roundTrips{}
	f.must(t, f.next(500, 10))
	if trips.batches != 2 || trips.queries != 0 {
		t.Errorf("a commit is %d batches and %d queries", trips.batches, trips.queries)
	}
}

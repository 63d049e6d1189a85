package table

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/postgres"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/test/servers"
)

var producer = drainmark.ProducerID{0xa, 15: 0xf}

// hold writes down that a new store holds the marks 1 to 9 and 12 of the producer, in partition 0.
func hold(t *testing.T, s store.Store, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, initial := s.Init(ctx, drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 1})
	p, claimed := s.Claim(ctx, store.Claim{Owner: "owner", Token: 7}, time.Minute)
	var marks drainmark.ProducerProgress
	marks.Done = marks.Done.Add(1, 9).Add(12, 12)
	written := s.Write(ctx, store.Write{
		Token: p.Version.Token, Revision: p.Version.Revision, Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{producer: marks},
	})
	for _, err := range []error{initial, claimed, written, s.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// One statement says of each id whether it is held and whether it has a row, whatever the select is like.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	id := func(partition, sequence int) string { return fmt.Sprintf("%d-%s-%d", partition, producer, sequence) }
	made := fmt.Sprintf("CREATE TABLE orders (number integer, id text); INSERT INTO orders VALUES (1, '%s'), (2, '%s'), (3, '%s')", id(0, 1), id(0, 10), id(0, 12))
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	hold(t, s, err)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(made); err != nil {
		t.Fatal(err)
	}
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	server.Do(made)
	at := server.URL(servers.PostgresUser) + "&schema=a%20schema"
	p, err := postgres.Open(t.Context(), at, postgres.Options{})
	hold(t, p, err)
	want := map[string]Answer{}
	var ids []string
	for _, a := range []Answer{
		{id(0, 1), true, true}, {id(0, 2), true, false}, {id(0, 10), false, true}, {id(0, 11), false, false}, {id(0, 12), true, true},
		{id(0, 13), false, false}, {id(1, 1), false, false}, {"0-" + drainmark.ProducerID{}.String() + "-1", false, false},
	} {
		want[a.ID], ids = a, append(ids, a.ID)
	}
	for _, where := range []string{"sqlite:" + path, at} {
		for _, query := range []string{
			"SELECT id FROM orders", "SELECT id FROM orders ORDER BY number; ", "SELECT id FROM orders -- all\n UNION ALL SELECT id FROM orders -- again",
			"WITH all_of AS (SELECT * FROM orders) SELECT id AS drainmark FROM all_of", "SELECT id FROM (VALUES (1)) AS asked (n), orders",
		} {
			if query == "SELECT id FROM (VALUES (1)) AS asked (n), orders" && strings.HasPrefix(where, "sqlite:") {
				continue // it is not SQLite's SQL
			}
			checkSnapshot(t, where, query, ids, want)
		}
	}
}

func checkSnapshot(t *testing.T, where, query string, ids []string, want map[string]Answer) {
	t.Helper()
	table, err := Open(where, query)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	answers, err := table.Snapshot(t.Context(), ids)
	if err != nil || len(answers) != len(ids) {
		t.Errorf("%s on %.6s: %d answers, %v", query, where, len(answers), err)
	}
	for _, a := range answers {
		if a != want[a.ID] {
			t.Errorf("%s on %.6s: %+v, want %+v", query, where, a, want[a.ID])
		}
	}
	if answers, err := table.Snapshot(t.Context(), nil); err != nil || len(answers) != 0 {
		t.Errorf("%s on %.6s, of no ids: %v, %v", query, where, answers, err)
	}
}

// The server itself ends a statement that takes too long, and a database without the function is told at once.
func TestSnapshotThatCannotBe(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	s, err := postgres.Open(t.Context(), server.URL(servers.PostgresUser), postgres.Options{})
	hold(t, s, err)
	server.Do("CREATE ROLE poor LOGIN")
	for query, says := range map[string]string{
		"SELECT 'x' FROM (SELECT pg_sleep(60)) s": "57014",
		"SELECT id FROM missing":                  "missing",
	} {
		table, err := Open(server.URL(servers.PostgresUser), query)
		if err != nil {
			t.Fatal(err)
		}
		if answers, err := table.snapshotWithin(context.Background(), time.Minute, []string{"0-" + producer.String() + "-1"}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", query, answers, err)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
	for url, says := range map[string]string{
		server.URL("poor"): "permission denied", server.URL(servers.PostgresUser) + "&schema=elsewhere": "elsewhere",
	} {
		table, err := Open(url, "SELECT 'x'")
		if err != nil {
			t.Fatal(err)
		}
		if answers, err := table.Snapshot(t.Context(), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, %v", answers, err)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}

package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// TestNoStatementScansALargeTable asks SQLite how it carries out every statement there is: none may read a table whole
// that can be large.
func TestNoStatementScansALargeTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := OpenReader(ctx, path, Options{Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	useEverything(t, s, r)

	explained := 0
	explain := func(c *conn) error {
		for query := range c.statements {
			if strings.HasPrefix(query, "EXPLAIN") {
				continue
			}
			explained++
			err := c.each(ctx, "EXPLAIN QUERY PLAN "+query, unbound(query), func(row []driver.Value) error {
				detail := text(row[3])
				t.Log(detail)
				for _, small := range []string{"sqlite_master", "sqlite_schema", "owners", "deployment", "partitions", "CONSTANT ROW", "(subquery", "pragma_"} {
					if strings.HasPrefix(detail, "SCAN "+small) || strings.Contains(detail, "VALUES CLAUSE") {
						return nil
					}
				}
				if strings.HasPrefix(detail, "SCAN") {
					t.Errorf("%s: %s", detail, query)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", query, err)
			}
		}
		return nil
	}
	if err := s.run(ctx, "explaining", false, explain); err != nil {
		t.Fatal(err)
	}
	if _, err := read(ctx, r, "explaining", func(c *conn) (struct{}, error) { return struct{}{}, explain(c) }); err != nil {
		t.Fatal(err)
	}
	if explained < 30 {
		t.Errorf("only %d statements were met", explained)
	}
}

// unbound returns an argument for each parameter of the query.
func unbound(query string) []any {
	n := strings.Count(query, "?")
	for i := 9; i > 0; i-- { // numbered ones may be there several times
		if strings.Contains(query, fmt.Sprint("?", i)) {
			n = i
			break
		}
	}
	args := make([]any, n)
	for i := range args {
		args[i] = 1
	}
	return args
}

// useEverything makes the store and the reader run every statement they have.
func useEverything(t *testing.T, s *Store, r *Reader) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Init(ctx, drainmark.Deployment{Partitions: 1})
	must(err)
	_, err = s.Claim(ctx, store.Claim{Owner: "owner", Token: 1}, time.Hour)
	must(err)
	record := &drainmark.Record{Log: "log", Key: "key", Body: []byte("x")}
	letter := &drainmark.DeadLetter{ID: "letter"}
	operations := []store.Operation{
		{Kind: store.Append, Record: record}, {Kind: store.SetAside, Letter: letter},
	}
	producers := map[drainmark.ProducerID]drainmark.ProducerProgress{{1}: {}}
	for revision := range uint64(3) {
		_, err = store.NewHolder(s, 1).Commit(ctx, store.Commit{Token: 1, Revision: revision, Operations: operations, Producers: producers})
		must(err)
		operations = []store.Operation{{Kind: store.Append, Record: &drainmark.Record{Log: "log"}}}
		if revision == 1 {
			_, err = r.Messages(ctx, "log", 0, 1)
			must(err)
			operations = append(operations, store.Operation{Kind: store.Clear, Record: record}, store.Operation{Kind: store.Restore, Letter: letter})
		}
	}
	_, err = r.DeadLetter(ctx, 0, "letter")
	if !unchanged(err) {
		t.Fatal(err)
	}
	_, err = s.Silent(ctx, 0, 0)
	must(err)
	_, err = s.Sweep(ctx, store.Sweep{Keys: 1, Producers: 1, Forget: []drainmark.ProducerID{{1}}})
	must(err)
	_, err = s.Heartbeat(ctx, "owner", time.Hour)
	must(err)
	must(s.Release(ctx, "owner", 0))
	must(s.Leave(ctx, "owner"))
	_, err = r.Progress(ctx, 0)
	must(err)
	_, err = r.Written(ctx, 0, 0, 10)
	must(err)
	_, err = r.Claims(ctx)
	must(err)
	_, err = r.Logs(ctx, "", 1)
	must(err)
	_, err = r.DeadLetters(ctx, 0, 0, 1)
	must(err)
	_, err = r.CountDeadLetters(ctx, "", 1)
	must(err)
	_, err = r.Rejected(ctx, 0, []drainmark.Span{{First: 1, Last: 2}}, 1)
	must(err)
	_, err = r.Deployment(ctx)
	must(err)
}

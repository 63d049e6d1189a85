package table

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// The ids come in the order of the select, from both kinds of databases, and nothing is written.
func TestIDs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a store %41?#.db")
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const made = "CREATE TABLE orders (number integer, id text); INSERT INTO orders VALUES (2, 'b'), (1, 'a'), (3, 'a')"
	if _, err := db.Exec(made); err != nil {
		t.Fatal(err)
	}
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	server.Do(made)
	for _, at := range []string{"sqlite:" + path, server.URL(servers.PostgresUser)} {
		for query, want := range map[string]string{
			"SELECT id FROM orders ORDER BY number;":            "a b a",
			"SELECT id FROM orders\norder\tby number DESC\n;":   "a b a",
			"SELECT id FROM orders WHERE number > 9":            "",
			"SELECT id, number FROM orders":                     "! it must have one",
			"SELECT NULL FROM orders":                           "! NULL",
			"SELECT id FROM missing":                            "! missing",
			"INSERT INTO orders (id) VALUES ('x') RETURNING id": "! read",
		} {
			table, err := Open(at, query)
			if err != nil {
				t.Fatal(err)
			}
			ids, err := table.IDs(t.Context())
			if says, fails := strings.CutPrefix(want, "! "); fails {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %q, %v", query, ids, err)
				}
			} else if err != nil || !slices.Equal(ids, strings.Fields(want)) {
				t.Errorf("%s: %q, %v", query, ids, err)
			}
			if is := strings.Contains(strings.ToLower(query), "by"); table.Ordered() != is {
				t.Errorf("%s: ordered is %v", query, table.Ordered())
			}
			if err := table.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

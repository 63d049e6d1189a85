package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// pooled is a database whose stores and readers reach it through a pooler.
type pooled struct {
	database
	pooler *servers.PgBouncer
}

func (p pooled) url() string { return p.pooler.URL() + "&schema=" + p.schema }

func (p pooled) Store(t storetest.T) store.Store {
	s, err := Open(t.Context(), p.url(), Options{Connections: 4})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func (p pooled) Reader(t storetest.T) store.Reader {
	r, err := OpenReader(t.Context(), p.url(), Options{Connections: 4})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

// TestThroughPgBouncer runs a part of the suite behind a pooler. In transaction mode it has fewer connections than
// there are handles, so that each transaction is likely to get another one than the one before.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	for _, c := range []struct {
		mode  string
		size  int
		about []string // what the names of its cases have in them
	}{
		{"session", 100, []string{"a commit's messages", "can be taken over", "is signalled after a commit"}},
		{"transaction", 4, []string{"claim", "fenced", "is signalled", "is found", "comes back", "at once", "closed", "a large commit", "from one state"}},
	} {
		pooler := servers.StartPgBouncer(t, server, c.mode, c.size)
		t.Run(c.mode, func(t *testing.T) {
			for _, one := range storetest.Cases() {
				named := func(about string) bool { return strings.Contains(one.Name, about) }
				if strings.Contains(one.Name, "restart") || !slices.ContainsFunc(c.about, named) {
					continue
				}
				t.Run(one.Name, func(t *testing.T) {
					t.Parallel()
					one.Run(t, storetest.Harness{New: func(storetest.T) storetest.Database {
						return pooled{database{server, server, newSchema()}, pooler}
					}})
				})
			}
		})
	}
}

// TestAPoolerThatIsKilled: its end is like the server's.
func TestAPoolerThatIsKilled(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	pooler := servers.StartPgBouncer(t, server, "transaction", 4)
	f := newFiller(t, openStore(t, pooler.URL(), Options{}))
	r := openReader(t, pooler.URL(), Options{})
	f.must(t, f.next(1, 10))
	pooler.Kill()
	if err := f.commit(t.Context(), f.next(1, 10)); err == nil || isErr(err, store.ErrMisconfigured) || isErr(err, store.ErrFenced) {
		t.Errorf("a commit without the pooler: %v", err)
	}
	pooler.Start()
	f.claimAtLast(t, 7)
	eventually(t, "commits go on", func() bool { return f.commit(t.Context(), f.next(1, 10)) == nil })
	if n, _ := f.count(t, r); n != 2 {
		t.Errorf("there are %d messages", n)
	}
}

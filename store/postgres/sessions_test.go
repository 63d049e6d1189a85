package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/test/servers"
)

// modeOf returns how statements are sent by a store.
func modeOf(t *testing.T, s *Store) pgx.QueryExecMode {
	t.Helper()
	mode, err := use(t.Context(), s.commits, "looking", func(_ context.Context, c *pgx.Conn) (pgx.QueryExecMode, error) {
		return c.Config().DefaultQueryExecMode, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return mode
}

func TestStatementsArePreparedWhereNoPoolerIs(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	if mode := modeOf(t, openStore(t, urlIn(server, newSchema()), Options{})); mode != pgx.QueryExecModeCacheStatement {
		t.Errorf("straight to the server the mode is %v", mode)
	}
	for _, mode := range []string{"session", "transaction"} {
		pooler := servers.StartPgBouncer(t, server, mode, 4)
		if mode := modeOf(t, openStore(t, pooler.URL()+"&schema="+newSchema(), Options{})); mode != pgx.QueryExecModeCacheDescribe {
			t.Errorf("through a pooler the mode is %v", mode)
		}
	}
	url := urlIn(server, newSchema()) + "&default_query_exec_mode=cache_describe"
	if mode := modeOf(t, openStore(t, url, Options{})); mode != pgx.QueryExecModeCacheDescribe {
		t.Errorf("where the URL says so, the mode is %v", mode)
	}
}

// TestATableGetsAColumn changes what a prepared statement of an effect returns. The server refuses it then, once for each
// connection, which is nobody's fault.
func TestATableGetsAColumn(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	server.Do("CREATE TABLE prices (a int); INSERT INTO prices VALUES (1)")
	s := openStore(t, urlIn(server, newSchema()), Options{Effects: effect.List{Effect("guestbook",
		func(ctx context.Context, tx Tx, _ []effect.Record) error {
			rows, err := tx.Query(ctx, "SELECT * FROM prices")
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			return err
		}, effect.Options{})}})
	f := newFiller(t, s)
	for range 3 {
		f.must(t, f.next(1, 10))
	}
	server.Do("ALTER TABLE prices ADD b int")
	f.must(t, f.next(1, 10))
}

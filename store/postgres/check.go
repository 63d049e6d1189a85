package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/store"
)

// oldest is the oldest version that has multiranges, as server_version_num tells it.
const oldest = 140000

// checkServer asks what the server is and how it is set. store.ErrMisconfigured if it would not keep a commit, or is
// something else than PostgreSQL. The text says how to mend that.
func checkServer(ctx context.Context, c *pgx.Conn) error {
	const settings = `SELECT version(), current_setting('server_version_num')::int, current_setting('server_version'),
		current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding')`
	var version, short, fsync, pages, encoding string
	var number int
	if err := c.QueryRow(ctx, settings).Scan(&version, &number, &short, &fsync, &pages, &encoding); err != nil {
		return err
	}
	const remedy = "ALTER SYSTEM SET %[1]s = on; SELECT pg_reload_conf()"
	switch {
	case !strings.HasPrefix(version, "PostgreSQL ") || strings.Contains(version, "-YB-"):
		return store.Misconfigured("this server is not PostgreSQL, but something that speaks its protocol")
	case number < oldest:
		return store.Misconfigured("this is PostgreSQL %s: it must be 14 or later", short)
	case fsync != "on":
		return store.Misconfigured("the server has fsync off, and would lose commits: "+remedy, "fsync")
	case pages != "on":
		return store.Misconfigured("the server has full_page_writes off, and a crash would damage its tables: "+remedy,
			"full_page_writes")
	case encoding != "UTF8":
		return store.Misconfigured("the database has the encoding %s: "+
			"make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

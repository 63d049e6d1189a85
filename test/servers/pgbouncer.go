package servers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PgBouncer is a pooler before a PostgreSQL server.
type PgBouncer struct {
	*Process
	Port int
}

// StartPgBouncer starts a pooler in a mode, session or transaction, with so many connections to the server, and waits
// until it answers.
func StartPgBouncer(t T, server *Postgres, mode string, size int) *PgBouncer {
	t.Helper()
	b := &PgBouncer{Port: Port(t)}
	b.Process = newProcess(t, fmt.Sprintf("pgbouncer on port %d", b.Port), program(t, "pgbouncer", "pgbouncer"))
	dir, err := os.MkdirTemp("", "drainmark-pgbouncer-")
	if err != nil {
		t.Fatalf("making the pooler's directory: %v", err)
	}
	t.Cleanup(func() { b.Kill(); _ = os.RemoveAll(dir) })
	b.dir, b.who = dir, ownedBy(t, dir)
	users, config := filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.ini")
	write(t, users, `"`+PostgresUser+`" ""`+"\n")
	write(t, config, strings.Join([]string{
		"[databases]", fmt.Sprintf("* = host=%s port=%d user=%s", Host, server.Public, PostgresUser), "[pgbouncer]",
		"listen_addr = " + Host, "listen_port = " + strconv.Itoa(b.Port), "unix_socket_dir =", "auth_type = any",
		"auth_file = " + users, "pool_mode = " + mode, "default_pool_size = " + strconv.Itoa(size), "max_client_conn = 500",
	}, "\n")+"\n")
	// "any" logs everybody in as the user of the database's line.
	for _, path := range []string{users, config} {
		if b.who != nil {
			if err := os.Chown(path, int(b.who.Uid), int(b.who.Gid)); err != nil {
				t.Fatalf("giving %s to the pooler: %v", path, err)
			}
		}
	}
	b.args = []string{config}
	b.ready = func(ctx context.Context) error {
		config, err := pgx.ParseConfig(b.URL())
		if err != nil {
			return err
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		c, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		return c.Ping(ctx)
	}
	b.Start()
	return b
}

// URL returns the URL of the server's superuser through the pooler.
func (b *PgBouncer) URL() string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", PostgresUser, address(b.Port))
}

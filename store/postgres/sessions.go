package postgres

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// sessions finds out whether connections lead to a server directly. Then statements are prepared once a connection, which
// saves the server half of the work of a small commit. A pooler in between may give each transaction another session,
// where they are not prepared: so each statement is sent whole. Its methods may be called concurrently.
type sessions struct{ pooled atomic.Bool }

// errPooled: the connection leads to a pooler, and was made for a server. The next one will do.
var errPooled = errors.New("there is a pooler before the server")

// prepare is called before a connection is made.
func (s *sessions) prepare(_ context.Context, c *pgx.ConnConfig) error {
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	if s.pooled.Load() {
		c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return nil
}

// look is called with a new connection. The number that a server gives it for cancelling requests is that of its process.
// A pooler has to make one up, since it may use several servers' processes for it.
func (s *sessions) look(ctx context.Context, c *pgx.Conn) error {
	if c.Config().DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return nil
	}
	var process uint32
	if err := c.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&process); err != nil {
		return err
	}
	if process != c.PgConn().PID() {
		s.pooled.Store(true)
		return errPooled
	}
	return nil
}

package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/drainmark/drainmark/store"
)

// client is a pool of connections that all go to the same place. Its methods may be called concurrently.
type client struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	ctx     context.Context // has ended when the client is closed
	cancel  context.CancelFunc
	wires   context.Context // has ended when the client's connections are cut
	cut     context.CancelFunc

	mu     sync.Mutex
	under  sync.WaitGroup // what is under way
	closed bool
}

func newClient(config *pgxpool.Config, connections int, timeout time.Duration) (*client, error) {
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(connections), 0, 0
	c := &client{timeout: timeout}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wires, c.cut = context.WithCancel(context.Background())
	config.ConnConfig.DialFunc = c.dialer(config.ConnConfig.DialFunc)
	var err error
	if c.pool, err = pgxpool.NewWithConfig(c.ctx, config); err != nil {
		c.cancel()
		c.cut()
		return nil, fmt.Errorf("making a pool of connections: %w", explain(err))
	}
	return c, nil
}

// begin says whether something can still begin, which must then call under.Done at its end.
func (c *client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.under.Add(1)
	}
	return !c.closed
}

// dialer returns a dialer whose connections are cut when the client has waited for their end for long enough. The driver
// would ask a server that hangs, on another connection, to give up what it is doing, and wait for that.
func (c *client) dialer(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.wires, cancel)()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &wire{conn, context.AfterFunc(c.wires, func() { _ = conn.Close() })}, nil
	}
}

// wire is a connection that the client's end cuts, until it is closed.
type wire struct {
	net.Conn
	keep func() bool
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.keep()
	return w.Conn.Close()
}

// closeTime is how long connections may take to end in order.
const closeTime = time.Second

// close ends what is under way, and returns when nothing is.
func (c *client) close() {
	c.mu.Lock()
	c.closed = true
	c.cancel()
	c.mu.Unlock()
	limit := time.AfterFunc(closeTime, c.cut)
	c.under.Wait()
	c.pool.Close()
	limit.Stop()
	c.cut()
}

// use runs do on a connection, for no longer than the context or the server's time to answer lasts. The error says what
// was being done, and what it means.
func use[T any](ctx context.Context, c *client, doing string, do func(context.Context, *pgx.Conn) (T, error)) (T, error) {
	found, err := attempt(ctx, c, do)
	if err == nil {
		return found, nil
	}
	var none T
	return none, fmt.Errorf("%s: %w", doing, explain(err))
}

func attempt[T any](ctx context.Context, c *client, do func(context.Context, *pgx.Conn) (T, error)) (found T, err error) {
	if err := ctx.Err(); err != nil {
		return found, err
	}
	if !c.begin() {
		return found, store.ErrClosed
	}
	defer c.under.Done()
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	conn, err := c.pool.Acquire(limited)
	if errors.Is(err, errPooled) {
		conn, err = c.pool.Acquire(limited)
	}
	if err != nil {
		err = c.explainHangUp(limited, err)
	} else {
		found, err = do(limited, conn.Conn())
		conn.Release()
	}
	switch {
	case err == nil:
		return found, nil
	case c.ctx.Err() != nil:
		return found, store.ErrClosed
	case ctx.Err() != nil:
		return found, ctx.Err()
	case limited.Err() != nil:
		return found, fmt.Errorf("%w within %v: %w", errUnanswered, c.timeout, withoutContext{err})
	}
	if broken(err) {
		c.pool.Reset() // the others are likely to be as useless
	}
	return found, err
}

// explainHangUp finds out whether a server has hung up because of our certificate. With TLS 1.3 it judges that after
// the handshake, and its reason is lost if we have sent something meanwhile.
func (c *client) explainHangUp(ctx context.Context, err error) error {
	config := c.pool.Config().ConnConfig.Config.Copy()
	if !hungUp(err) || config.TLSConfig == nil || len(config.TLSConfig.Certificates) == 0 {
		return err
	}
	config.TLSConfig.MaxVersion = tls.VersionTLS12
	config.Fallbacks = nil
	again, reason := pgconn.ConnectConfig(ctx, config)
	if reason == nil {
		_ = again.Close(ctx)
	}
	if explainTLS(reason) != nil {
		return reason
	}
	return err
}

// withoutContext is an error of our own limit. The caller's context has not ended.
type withoutContext struct{ err error }

func (e withoutContext) Error() string { return explain(e.err).Error() }

// tries is how often something is tried that the server has refused because of what others did at the same time.
const tries = 6

// retry runs do again, with a little pause, as long as only others are in its way.
func retry(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if n == tries || !inTheWay(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(rand.Int64N(int64(n) * int64(5*time.Millisecond)))):
		}
	}
}

// read runs do, which must only read, on a connection. It runs it again if a standby has cut it off because of what it
// replays, or if the connection was gone before.
func read[T any](
	ctx context.Context, c *client, doing string, do func(context.Context, *pgx.Conn) (T, error),
) (found T, err error) {
	err = retry(ctx, func() (err error) {
		found, err = use(ctx, c, doing, do)
		if broken(err) && ctx.Err() == nil {
			found, err = use(ctx, c, doing, do)
		}
		return err
	})
	return found, err
}

// snapshot runs a batch, all of whose statements see one state.
func snapshot(ctx context.Context, c *pgx.Conn, fill func(*pgx.Batch)) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	fill(batch)
	batch.Queue("COMMIT")
	return c.SendBatch(ctx, batch).Close()
}

// transaction is a transaction that writes. It has what the driver has for statements, and no other way to its end than
// commit: that of the store. It is for one goroutine.
type transaction struct {
	conn *pgx.Conn
	open bool
}

// Exec, Query, QueryRow, SendBatch and CopyFrom are the driver's.
func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.conn.Exec(ctx, sql, args...)
}

// Query is the driver's.
func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.conn.Query(ctx, sql, args...)
}

// QueryRow is the driver's.
func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.conn.QueryRow(ctx, sql, args...)
}

// SendBatch is the driver's.
func (t *transaction) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.conn.SendBatch(ctx, b)
}

// CopyFrom is the driver's.
func (t *transaction) CopyFrom(
	ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource,
) (int64, error) {
	return t.conn.CopyFrom(ctx, table, columns, source)
}

// These are how long the server lets a transaction wait for its client, in milliseconds: a process that is stopped, or
// cut off, must not hold a partition's row for longer than its lease. An effect may take its time.
const (
	idleLimit       = "5000"
	idleLimitEffect = "10000"
)

// begin returns a batch that begins the transaction. Whatever the role or the database has as its defaults, these
// count.
func (t *transaction) begin(sync string) *pgx.Batch { return t.beginFor(sync, idleLimit) }

func (t *transaction) beginFor(sync, idle string) *pgx.Batch {
	t.open = true
	batch := &pgx.Batch{}
	batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	const settings = `SELECT set_config('synchronous_commit', $1, true), set_config('idle_in_transaction_session_timeout', $2, true)`
	batch.Queue(settings, sync, idle)
	return batch
}

// commit sends the batch with a COMMIT behind it, and returns nil only if the server has confirmed that as it should.
func (t *transaction) commit(ctx context.Context, batch *pgx.Batch) error {
	said := t.conn.PgConn().CustomData()
	delete(said, unconfirmed)
	batch.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		t.open = false
		if tag.String() != "COMMIT" {
			return fmt.Errorf("COMMIT was answered by %s: %w", tag, pgx.ErrTxCommitRollback)
		}
		return nil
	})
	err := t.conn.SendBatch(ctx, batch).Close()
	if said[unconfirmed] != nil {
		delete(said, unconfirmed)
		return errors.Join(errUnconfirmed, err)
	}
	return err
}

// unconfirmed is the key of a connection's data that tells of a commit which was not replicated.
const unconfirmed = "unconfirmed"

// noteNotice takes note when the server has given up waiting for its synchronous standbys. It commits then all the
// same, and says so in a warning alone, whose text may be in any language.
func noteNotice(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[unconfirmed] = true
	}
}

// rollbackTime is how long a transaction's end may take. A connection whose transaction has not ended is closed.
const rollbackTime = time.Second

// transact runs do in a transaction, again if others were in its way. do must end it with commit, or with an error:
// then nothing was changed, unless it is commit's.
func (s *Store) transact(ctx context.Context, c *client, doing string, do func(context.Context, *transaction) error) error {
	return retry(ctx, func() error {
		_, err := use(ctx, c, doing, func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
			tx := &transaction{conn: conn}
			err := do(ctx, tx)
			if err != nil && tx.open && !conn.IsClosed() {
				ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
				_, _ = conn.Exec(ending, "ROLLBACK") // if it cannot, the pool closes the connection, which does the same
				cancel()
			}
			return struct{}{}, err
		})
		return err
	})
}

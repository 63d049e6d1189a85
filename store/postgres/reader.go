package postgres

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Nodes returns the addresses of the URL's hosts, as Options.Node takes them: host:port, each once.
func Nodes(url string) ([]string, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	return t.nodes(), nil
}

// Reader reads from one server, a hot standby or the primary, and never from another one. Each method is one statement,
// or one transaction of one snapshot. See store.Reader.
type Reader struct {
	*dialect
	client   *client
	watchers store.Watchers
	seen     atomic.Bool // a deployment was seen once
	polling  sync.Once
	close    func()
}

var _ store.Reader = (*Reader)(nil)

// OpenReader opens a reader, whose server need not be reachable yet. store.ErrMisconfigured if the URL is malformed, or
// the server will not let us in.
func OpenReader(ctx context.Context, url string, o Options) (*Reader, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if o.Node == "" {
		o.Node = t.nodes()[0]
	}
	config, err := t.node(o.Node)
	if err != nil {
		return nil, err
	}
	logIn(config, o.Credentials)
	r := &Reader{dialect: newDialect(t.schema)}
	if r.client, err = newClient(config, o.Connections, o.Timeout); err != nil {
		return nil, err
	}
	r.close = sync.OnceFunc(func() {
		r.watchers.Close()
		r.client.close()
	})
	// An error that would come later is better given now.
	if _, err := r.Deployment(ctx); errors.Is(err, store.ErrMisconfigured) {
		r.close()
		return nil, err
	}
	return r, nil
}

// Close implements store.Reader.
func (r *Reader) Close() error {
	r.close()
	return nil
}

// readFrom is read for readers: there is nothing to find where there are no tables.
func readFrom[T any](ctx context.Context, r *Reader, doing string, do func(context.Context, *pgx.Conn) (T, error)) (T, error) {
	return read(ctx, r.client, doing, func(ctx context.Context, c *pgx.Conn) (T, error) {
		found, err := do(ctx, c)
		if missing(err) && !r.seen.Load() {
			err = emptyIfMissing(err)
		}
		return found, err
	})
}

// Ping implements store.Reader.
func (r *Reader) Ping(ctx context.Context) error {
	_, err := read(ctx, r.client, "pinging", func(ctx context.Context, c *pgx.Conn) (int, error) {
		var one int
		return one, c.QueryRow(ctx, "SELECT 1").Scan(&one)
	})
	return err
}

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	return readFrom(ctx, r, "reading the deployment", func(ctx context.Context, c *pgx.Conn) (drainmark.Deployment, error) {
		if _, err := r.readVersion(ctx, c); err != nil {
			return drainmark.Deployment{}, err
		}
		d, err := r.readDeployment(ctx, c)
		if err == nil {
			r.seen.Store(true)
		}
		return d, err
	})
}

// Progress implements store.Reader.
func (r *Reader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return readFrom(ctx, r, "reading the progress", func(ctx context.Context, c *pgx.Conn) (drainmark.Progress, error) {
		p := drainmark.Progress{Partition: partition}
		rows, err := c.Query(ctx, r.sql(selectProgress), partition)
		if err != nil {
			return p, err
		}
		return p, scanProgress(rows, &p)
	})
}

// Claims implements store.Reader. The clock of the reader's server tells what has expired.
func (r *Reader) Claims(ctx context.Context) ([]store.Claim, error) {
	return readFrom(ctx, r, "reading the claims", func(ctx context.Context, c *pgx.Conn) ([]store.Claim, error) {
		rows, err := c.Query(ctx, r.sql(inForce))
		if err != nil {
			return nil, err
		}
		var claims []store.Claim
		return claims, scanClaims(&claims)(rows)
	})
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	const list = `SELECT name, last_position, cleared_through, erasures FROM drainmark.logs
		WHERE name > $1 AND NOT deleted ORDER BY name LIMIT $2`
	return readFrom(ctx, r, "listing the logs", func(ctx context.Context, c *pgx.Conn) ([]drainmark.LogInfo, error) {
		rows, err := c.Query(ctx, r.sql(list), clean(after), max(limit, 0))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (info drainmark.LogInfo, err error) {
			var last, cleared, erasures int64
			err = row.Scan(&info.Name, &last, &cleared, &erasures)
			info.LastPosition, info.ClearedThrough, info.Erasures = uint64(last), uint64(cleared), uint64(erasures)
			return info, err
		})
	})
}

// selectWritten takes the names from the ring if it has all commits that are asked for, and looks at every log of the
// partition if not.
const selectWritten = `SELECT p.token, p.revision, CASE
	WHEN $2 >= p.revision THEN '{}'
	WHEN p.revision - $2 = (
		SELECT count(r.logs) FROM drainmark.recent r WHERE r.partition = p.partition AND r.revision > $2)
	THEN ARRAY(SELECT DISTINCT n.name FROM drainmark.recent r, unnest(r.logs) AS n (name)
		WHERE r.partition = p.partition AND r.revision > $2 LIMIT $3)
	ELSE ARRAY(SELECT l.name FROM drainmark.logs l WHERE l.partition = p.partition AND l.revision > $2 LIMIT $3) END
FROM drainmark.partitions p WHERE p.partition = $1`

// Written implements store.Reader. It names as many logs as are asked for.
func (r *Reader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	const doing = "looking for logs that were written to"
	return readFrom(ctx, r, doing, func(ctx context.Context, c *pgx.Conn) (w store.Written, err error) {
		var token, revision int64
		limit := max(limit, 0)
		row := c.QueryRow(ctx, r.sql(selectWritten), partition, int64(min(since, math.MaxInt64)), limit+1)
		err = row.Scan(&token, &revision, &w.Logs)
		if errors.Is(err, pgx.ErrNoRows) {
			return w, nil // it was never claimed
		}
		w.Version = drainmark.Version{Token: uint64(token), Revision: uint64(revision)}
		if len(w.Logs) > limit {
			w.Logs, w.Incomplete = nil, true
		}
		return w, err
	})
}

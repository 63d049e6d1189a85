package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	codes "modernc.org/sqlite/lib"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Pragmas of the connections that read.
var readerPragmas = []string{
	"busy_timeout = 1000", // milliseconds (readers wait only while the file is made or recovered)
	"query_only = TRUE",
	"cache_size = -2000", // kilobytes
	"temp_store = MEMORY",
}

// defaultReaders is how many reads run at the same time.
const defaultReaders = 4

// Reader is a replica: its own connections to the file, which can only read. See store.Reader.
type Reader struct {
	path     string
	now      func() time.Time
	hub      *hub
	identity *identity
	turns    chan struct{} // has something in it for every read under way
	idle     chan *conn    // the open connections that are not in use
	watchers store.Watchers

	closing chan struct{}
	close   func() error
}

var _ store.Reader = (*Reader)(nil)

// OpenReader opens a reader of the file, which need not exist yet: until it does, and a Store has made its tables,
// every read gives store.ErrNotFound.
func OpenReader(ctx context.Context, path string, o Options) (*Reader, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	n := o.Readers
	if n < 1 {
		n = defaultReaders
	}
	r := &Reader{path: path, now: o.now(), identity: &identity{}, turns: make(chan struct{}, n), idle: make(chan *conn, n), closing: make(chan struct{})}
	// An error that would come later is better given now.
	if _, err := attempt(ctx, r, r.newConn, ping(ctx)); errors.Is(explain(path, err), store.ErrMisconfigured) {
		return nil, errors.Join(explain(path, err), r.closeIdle())
	}
	r.hub = attach(path)
	r.close = sync.OnceValue(r.shut)
	return r, nil
}

// shut ends the reader when the reads under way have ended.
func (r *Reader) shut() error {
	close(r.closing)
	r.hub.unwatch(r)
	r.hub.release()
	r.watchers.Close()
	for range cap(r.turns) {
		r.turns <- struct{}{} // when the reads have ended, nobody gets a turn
	}
	return r.closeIdle()
}

// closeIdle closes the connections when nobody uses any.
func (r *Reader) closeIdle() error {
	close(r.idle)
	var failures []error
	for c := range r.idle {
		failures = append(failures, c.close())
	}
	return errors.Join(failures...)
}

func (r *Reader) closed() bool {
	select {
	case <-r.closing:
		return true
	default:
		return false
	}
}

// read runs do on a connection of its own. If that turns out to be broken, do is run once more on a new one: the file
// may be another by now. The result must be made by that run of do alone.
func read[T any](ctx context.Context, r *Reader, doing string, do func(*conn) (T, error)) (T, error) {
	found, err := attempt(ctx, r, r.conn, do)
	if broken(err) && ctx.Err() == nil {
		found, err = attempt(ctx, r, r.newConn, do)
	}
	switch {
	case err == nil:
		return found, nil
	case code(err) == codes.SQLITE_INTERRUPT && ctx.Err() != nil:
		err = ctx.Err()
	default:
		err = explain(r.path, err)
	}
	var none T
	return none, fmt.Errorf("%s: %w", doing, err)
}

// readSnapshot runs do on a connection on which all queries see one state.
func readSnapshot[T any](ctx context.Context, r *Reader, doing string, do func(*conn) (T, error)) (T, error) {
	return read(ctx, r, doing, func(c *conn) (found T, err error) {
		err = c.snapshot(ctx, func() (err error) {
			found, err = do(c)
			return err
		})
		return found, err
	})
}

// attempt runs do when it is its turn, on a connection that take returns.
func attempt[T any](
	ctx context.Context, r *Reader, take func(context.Context) (*conn, error), do func(*conn) (T, error),
) (found T, err error) {
	if err := ctx.Err(); err != nil {
		return found, err
	}
	if r.closed() {
		return found, store.ErrClosed
	}
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return found, ctx.Err()
	case <-r.closing:
		return found, store.ErrClosed
	}
	c, err := take(ctx)
	if err != nil {
		return found, err
	}
	if found, err = do(c); broken(err) {
		c.close()
		return found, err
	}
	r.idle <- c
	return found, err
}

// conn takes an idle connection, or opens one.
func (r *Reader) conn(ctx context.Context) (*conn, error) {
	select {
	case c := <-r.idle:
		if !c.moved() {
			return c, nil
		}
		c.close()
	default:
	}
	return openReading(ctx, r.path, r.identity)
}

// newConn opens a connection in place of an idle one, which is likely to be as broken as the one before.
func (r *Reader) newConn(ctx context.Context) (*conn, error) {
	select {
	case c := <-r.idle:
		c.close()
	default:
	}
	return openReading(ctx, r.path, r.identity)
}

// openReading opens a connection that can only read.
func openReading(ctx context.Context, path string, known *identity) (*conn, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		if err := known.lost(path, "is gone"); err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, os.ErrNotExist) {
			return nil, cannotOpen(path, err)
		}
		return nil, fmt.Errorf("%s: %w: there is no such file yet", path, store.ErrNotFound)
	case err != nil:
		return nil, cannotOpen(path, err)
	case !info.Mode().IsRegular():
		return nil, noFile(path, info)
	}
	c, err := connect(ctx, path, "ro", readerPragmas...)
	if err != nil {
		return nil, err
	}
	version, err := checkSchema(ctx, c)
	switch {
	case err != nil:
	case version == 0:
		if err = known.lost(path, "is empty"); err == nil {
			err = fmt.Errorf("%s: %w: the file is still empty", path, store.ErrNotFound)
		}
	case version < schemaVersion:
		err = fmt.Errorf("%s has schema version %d, made by an older Drainmark; it gets version %d when a consumer of this one opens it",
			path, version, schemaVersion)
	default:
		if err = checkTables(ctx, c); err == nil {
			err = known.check(ctx, c)
		}
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	d, err := read(ctx, r, "reading the deployment", func(c *conn) (drainmark.Deployment, error) {
		return readDeployment(ctx, c)
	})
	if err == nil {
		r.identity.note(d)
	}
	return d, err
}

// Progress implements store.Reader.
func (r *Reader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return readSnapshot(ctx, r, "reading the progress", func(c *conn) (drainmark.Progress, error) {
		return readProgress(ctx, c, partition)
	})
}

// Claims implements store.Reader.
func (r *Reader) Claims(ctx context.Context) ([]store.Claim, error) {
	return read(ctx, r, "reading the claims", func(c *conn) ([]store.Claim, error) {
		return readClaims(ctx, c, r.now())
	})
}

// Messages implements store.Reader.
func (r *Reader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return readSnapshot(ctx, r, "reading messages", func(c *conn) (store.Page, error) {
		return readPage(ctx, c, log, after, limit)
	})
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	const list = "SELECT name, last_position, cleared_through, erasures FROM logs WHERE name > ? AND NOT deleted ORDER BY name LIMIT ?"
	return read(ctx, r, "listing the logs", func(c *conn) (logs []drainmark.LogInfo, err error) {
		err = c.each(ctx, list, []any{after, max(limit, 0)}, func(row []driver.Value) error {
			logs = append(logs, drainmark.LogInfo{
				Name: text(row[0]), LastPosition: number(row[1]), ClearedThrough: number(row[2]), Erasures: number(row[3]),
			})
			return nil
		})
		return logs, err
	})
}

// Written implements store.Reader.
func (r *Reader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	return readSnapshot(ctx, r, "looking for logs that were written to", func(c *conn) (store.Written, error) {
		return readWritten(ctx, c, partition, since, max(limit, 0))
	})
}

const queryWritten = "SELECT name FROM logs WHERE partition = ? AND revision > ? LIMIT ?"

func readWritten(ctx context.Context, c *conn, partition int, since uint64, limit int) (w store.Written, err error) {
	row, err := c.one(ctx, "SELECT epoch, revision FROM partitions WHERE partition = ?", partition)
	if err != nil || row == nil {
		return w, err
	}
	w.Version = drainmark.Version{Token: number(row[0]), Revision: number(row[1])}
	if since >= w.Version.Revision {
		return w, nil
	}
	err = c.each(ctx, queryWritten, []any{partition, since, limit + 1}, func(row []driver.Value) error {
		w.Logs = append(w.Logs, text(row[0]))
		return nil
	})
	if len(w.Logs) > limit {
		w.Logs, w.Incomplete = nil, true
	}
	return w, err
}

// Changes implements store.Reader.
func (r *Reader) Changes(ctx context.Context) (<-chan struct{}, error) {
	changes, err := r.watchers.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	r.hub.watch(r)
	return changes, nil
}

// Ping implements store.Reader.
func (r *Reader) Ping(ctx context.Context) error {
	_, err := read(ctx, r, "pinging", ping(ctx))
	return err
}

func ping(ctx context.Context) func(*conn) (int64, error) {
	return func(c *conn) (int64, error) { return c.number(ctx, "SELECT count(*) FROM deployment") }
}

// Close implements store.Reader.
func (r *Reader) Close() error { return r.close() }

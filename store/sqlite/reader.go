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

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Pragmas of the connections that read.
var readerPragmas = []string{
	"busy_timeout = 1000", // milliseconds; readers wait only while the file is made or recovered
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
		return nil, fmt.Errorf("opening a reader: %w", err)
	}
	n := o.Readers
	if n < 1 {
		n = defaultReaders
	}
	r := &Reader{path: path, now: o.now(), turns: make(chan struct{}, n), idle: make(chan *conn, n), closing: make(chan struct{})}
	// What will not work later is better said now.
	if err := r.Ping(ctx); errors.Is(err, store.ErrMisconfigured) {
		return nil, fmt.Errorf("opening a reader: %w", err)
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
		r.turns <- struct{}{} // when the reads have ended, nobody gets a turn any more
	}
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

// read runs do on a connection of its own.
func (r *Reader) read(ctx context.Context, doing string, do func(*conn) error) error {
	if err := r.withConn(ctx, do); err != nil {
		return fmt.Errorf("%s: %w", doing, explain(err))
	}
	return nil
}

// readSnapshot runs do on a connection on which all queries see one state.
func (r *Reader) readSnapshot(ctx context.Context, doing string, do func(*conn) error) error {
	return r.read(ctx, doing, func(c *conn) error {
		return c.snapshot(ctx, func() error { return do(c) })
	})
}

func (r *Reader) withConn(ctx context.Context, do func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.closed() {
		return store.ErrClosed
	}
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return ctx.Err()
	case <-r.closing:
		return store.ErrClosed
	}
	c, err := r.conn(ctx)
	if err != nil {
		return err
	}
	err = do(c)
	if broken(err) {
		c.close()
		return err
	}
	r.idle <- c
	return err
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
	return openReading(ctx, r.path)
}

// openReading opens a connection that can only read.
func openReading(ctx context.Context, path string) (*conn, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s: %w: there is no such file yet", path, store.ErrNotFound)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s cannot be opened: it is no file", store.ErrMisconfigured, path)
	}
	c, err := connect(ctx, path, "ro", readerPragmas...)
	if err != nil {
		return nil, err
	}
	version, err := checkSchema(ctx, c)
	switch {
	case err == nil && version == 0:
		err = fmt.Errorf("%s: %w: the file is still empty", path, store.ErrNotFound)
	case err == nil && version < schemaVersion:
		err = fmt.Errorf("%s has schema version %d, made by an older Drainmark; it gets version %d when a consumer of this one opens it",
			path, version, schemaVersion)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (d drainmark.Deployment, err error) {
	err = r.read(ctx, "reading the deployment", func(c *conn) (err error) {
		d, err = readDeployment(ctx, c)
		return err
	})
	return d, err
}

// Progress implements store.Reader.
func (r *Reader) Progress(ctx context.Context, partition int) (p drainmark.Progress, err error) {
	err = r.readSnapshot(ctx, "reading the progress", func(c *conn) (err error) {
		p, err = readProgress(ctx, c, partition)
		return err
	})
	return p, err
}

// Claims implements store.Reader.
func (r *Reader) Claims(ctx context.Context) (claims []store.Claim, err error) {
	err = r.read(ctx, "reading the claims", func(c *conn) (err error) {
		claims, err = readClaims(ctx, c, r.now())
		return err
	})
	return claims, err
}

// Messages implements store.Reader.
func (r *Reader) Messages(ctx context.Context, log string, after uint64, limit int) (page store.Page, err error) {
	err = r.readSnapshot(ctx, "reading messages", func(c *conn) (err error) {
		page, err = readPage(ctx, c, log, after, limit)
		return err
	})
	return page, err
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) (logs []drainmark.LogInfo, err error) {
	const list = "SELECT name, last_position, cleared_through FROM logs WHERE name > ? ORDER BY name LIMIT ?"
	err = r.read(ctx, "listing the logs", func(c *conn) error {
		return c.each(ctx, list, []any{after, max(limit, 0)}, func(row []driver.Value) error {
			logs = append(logs, drainmark.LogInfo{Name: text(row[0]), LastPosition: number(row[1]), ClearedThrough: number(row[2])})
			return nil
		})
	})
	return logs, err
}

// Written implements store.Reader.
func (r *Reader) Written(ctx context.Context, partition int, since uint64, limit int) (written store.Written, err error) {
	err = r.readSnapshot(ctx, "looking for logs that were written to", func(c *conn) (err error) {
		written, err = readWritten(ctx, c, partition, since, max(limit, 0))
		return err
	})
	return written, err
}

const queryWritten = "SELECT name FROM logs WHERE partition = ? AND revision > ? LIMIT ?"

func readWritten(ctx context.Context, c *conn, partition int, since uint64, limit int) (w store.Written, err error) {
	row, err := c.one(ctx, "SELECT epoch, revision FROM partitions WHERE partition = ?", partition)
	if err != nil || row == nil {
		return w, err
	}
	w.Version = drainmark.Version{Epoch: number(row[0]), Revision: number(row[1])}
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
	return r.read(ctx, "pinging", func(c *conn) error {
		_, err := c.number(ctx, "SELECT count(*) FROM deployment")
		return err
	})
}

// Close implements store.Reader.
func (r *Reader) Close() error { return r.close() }

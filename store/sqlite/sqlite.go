// Package sqlite keeps a store in one SQLite file, in WAL mode: one Store writes at a time, any number of Readers read
// meanwhile. A commit is durable when it returns: the file system has been told to write it to the disk.
//
// Several processes on one machine may open the file, and every process may write. SQLite's locks keep them apart. The
// file must be on a local disk. People can query it with the sqlite3 program. See schema.go for the tables, and the
// view log_messages.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Options are what can be set. The zero value is good.
type Options struct {
	// MaxSize is how large the database file may grow, in bytes. 0 is as large as the disk allows. A commit that needs
	// more fails, and succeeds again when there is room again.
	MaxSize int64
	// Readers is how many reads of a Reader run at the same time: 4 unless it is set. Others wait for their turn.
	Readers int
	// Now is this process' wall clock, on which leases run: time.Now unless it is set.
	Now func() time.Time
	// Setup is SQL that is run by a Store when it is opened, before the effects are checked: see effect.File.
	Setup string
	// Trial says that neither is done when the store is opened: both are for CheckEffects and TryEffects, which change nothing.
	Trial bool
	// Effects are applied by a Store to what is committed. ObserveEffects is told of each call, nil for nobody.
	Effects        effect.List
	ObserveEffects func(effect.Call)
	// Logger is told by a Store when everybody on the host can read the file, and that it waits for a lock, nil for
	// nobody.
	Logger *slog.Logger
}

func (o Options) now() func() time.Time {
	if o.Now == nil {
		return time.Now
	}
	return o.Now
}

// Pragmas of the connection that writes. FULL is what makes a commit durable.
var writerPragmas = []string{
	"busy_timeout = 200", // milliseconds (after that the caller's context is checked)
	"synchronous = FULL",
	"cache_size = -8000", // kilobytes
	"temp_store = MEMORY",
}

// Store is the master. See store.Store.
type Store struct {
	path    string
	maxSize int64
	now     func() time.Time
	hub     *hub
	jobs    chan *job
	lock    *lockWatch
	reader  *Reader // for what commits are planned from
	effects *effect.Set[Tx]
	setup   string
	trial   bool

	identity identity

	closing context.Context // has ended when Close has been called
	close   func() error
}

var _ store.Store = (*Store)(nil)

// Open opens the file, with all its tables, creating it if needed: then its owner alone can read it.
// store.ErrMisconfigured if the file is something else, was made by a newer version, is damaged, or cannot be written.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, setup: o.Setup, trial: o.Trial, maxSize: o.MaxSize, now: o.now(), jobs: make(chan *job), lock: newLockWatch(path, o.Logger)}
	if s.effects, err = o.openEffects(); err != nil {
		return nil, err
	}
	if err := createPrivate(path); err != nil {
		return nil, cannotOpen(path, err)
	}
	c, err := s.open(ctx, "rwc")
	if err != nil {
		return nil, explain(path, err)
	}
	o.warnIfOpen(c.file)
	if s.reader, err = OpenReader(ctx, path, o); err != nil {
		return nil, errors.Join(err, c.close())
	}
	s.reader.identity = &s.identity
	s.hub = attach(path)
	closing, cancel := context.WithCancel(context.Background())
	s.closing = closing
	ended := make(chan error, 1)
	w := &writer{store: s, conn: c}
	go func() { ended <- w.run() }()
	s.close = sync.OnceValue(func() error {
		err := s.reader.Close() // before the one that writes: the last connection to be closed copies the log into the file
		cancel()
		err = errors.Join(err, <-ended)
		s.hub.release()
		return err
	})
	return s, nil
}

// createPrivate creates the file if there is none, so that its owner alone can read it: SQLite would let everybody. Its
// other files get the permissions of this one.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return err
}

// warnIfOpen says that everybody on the host can read the file, as one that was made by an older version may be.
func (o Options) warnIfOpen(file os.FileInfo) {
	if o.Logger != nil && file.Mode().Perm()&0o004 != 0 {
		o.Logger.Warn("everybody on this host can read the store; chmod o= would end that", "file", file.Name(),
			"mode", file.Mode().Perm().String())
	}
}

// open opens the connection that writes, and makes the file a store if it is new.
func (s *Store) open(ctx context.Context, mode string) (*conn, error) {
	c, err := connect(ctx, s.path, mode, writerPragmas...)
	if err != nil {
		return nil, err
	}
	// Several processes may do this to a new file at the same time, and not every lock waits for its turn.
	if err := s.retry(ctx, func() error { return s.prepare(ctx, c) }); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (s *Store) prepare(ctx context.Context, c *conn) error {
	version, err := checkSchema(ctx, c)
	if err == nil && version == 0 {
		err = s.identity.lost(s.path, "is empty")
	}
	if err != nil {
		return err
	}
	if version == 0 { // only a file without tables takes it: see giveBack
		if err := c.script(ctx, "PRAGMA auto_vacuum = INCREMENTAL"); err != nil {
			return err
		}
	}
	row, err := c.one(ctx, "PRAGMA journal_mode = WAL")
	if err != nil {
		return fmt.Errorf("switching to WAL mode: %w", err)
	}
	if row == nil || text(row[0]) != "wal" {
		return store.Misconfigured("%s does not take WAL mode; it must be on a local disk", s.path)
	}
	if err := createSchema(ctx, c); err != nil {
		return fmt.Errorf("creating the tables: %w", err)
	}
	if err := checkTables(ctx, c); err != nil {
		return err
	}
	if err := s.identity.check(ctx, c); err != nil {
		return err
	}
	if err := s.checkEffects(ctx, c); err != nil {
		return err
	}
	if s.maxSize > 0 {
		size, err := c.number(ctx, "PRAGMA page_size")
		if err != nil {
			return err
		}
		return c.script(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", max(1, s.maxSize/size)))
	}
	return nil
}

// retry runs do again while all that is wrong is that the file is locked.
func (s *Store) retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return s.lock.ended(err)
		}
		s.lock.note(busy(err))
		if !busy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return s.lock.ended(ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Close implements store.Store.
func (s *Store) Close() error { return s.close() }

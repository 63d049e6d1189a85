package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// openShell opens the file as the sqlite3 program does: anybody's connection.
func openShell(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWell(t, db) })
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWell(t, c) })
	return c
}

func run(t *testing.T, c *sql.Conn, query string) {
	t.Helper()
	if _, err := c.ExecContext(context.WithoutCancel(t.Context()), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func count(t *testing.T, c *sql.Conn, query string) (n int) {
	t.Helper()
	if err := c.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func large(c store.Commit, size int) store.Commit {
	for _, op := range c.Operations {
		op.Record.Body = bytes.Repeat([]byte("x"), size)
	}
	return c
}

func TestAFullDatabaseFailsCleanlyAndRecovers(t *testing.T) {
	t.Parallel()
	s, r := openBoth(t, sqlite.Options{MaxSize: 4 << 20})
	f := newFiller(t, s, 0)
	f.must(f.next(10))
	err := f.commit(large(f.next(100), 256<<10))
	if err == nil || !strings.Contains(err.Error(), "maximum size") || errors.Is(err, store.ErrFenced) {
		t.Fatalf("committing more than fits: %v", err)
	}
	if p, err := r.Progress(t.Context(), 0); err != nil || p.Revision != 1 {
		t.Errorf("after that the revision is %d, error %v", p.Revision, err)
	}
	for err = error(nil); err == nil; {
		err = f.commit(large(f.next(1), 256<<10))
	}
	full := f.progress.Revision
	if full < 10 {
		t.Errorf("full after %d commits", full)
	}

	clearing := f.next(1)
	clearing.Operations[0].Kind = store.Clear
	f.must(clearing)
	for more := true; more; {
		if more, err = s.Sweep(t.Context(), store.Sweep{}); err != nil {
			t.Fatal(err)
		}
	}
	for range full / 2 {
		f.must(large(f.next(1), 256<<10))
	}
}

func TestACommitThatDoesNotFitDoesNotSpoilTheOthers(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, r := openStore(t, path, sqlite.Options{MaxSize: 4 << 20}), openReader(t, path, sqlite.Options{})
	fillers := make([]*filler, 4)
	for i := range fillers {
		fillers[i] = newFiller(t, s, i)
	}
	// While the file is locked the commits gather, and then share a transaction.
	shell := openShell(t, path)
	run(t, shell, "BEGIN IMMEDIATE")
	errs := make([]error, len(fillers))
	var committers sync.WaitGroup
	for i, f := range fillers {
		c := f.next(20)
		if i == 1 {
			c = large(c, 1<<20)
		}
		committers.Go(func() { errs[i] = f.commit(c) })
	}
	run(t, shell, "COMMIT")
	committers.Wait()
	for i, err := range errs {
		page, _ := r.Messages(t.Context(), fillers[i].log, 0, 100)
		if i == 1 && (err == nil || len(page.Messages) > 0) {
			t.Errorf("the commit that does not fit: %v, %d messages", err, len(page.Messages))
		}
		if i != 1 && (err != nil || len(page.Messages) != 20) {
			t.Errorf("commit %d: %v, %d messages", i, err, len(page.Messages))
		}
	}
}

func TestACommitWaitsForALockAsLongAsItsContextLasts(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, r := openStore(t, path, sqlite.Options{}), openReader(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	f.must(f.next(1))
	shell := openShell(t, path)
	run(t, shell, "BEGIN IMMEDIATE")

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := store.NewHolder(s, partitions).Commit(ctx, f.next(1))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > time.Minute {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
	if page, err := r.Messages(t.Context(), f.log, 0, 10); err != nil || len(page.Messages) != 1 {
		t.Errorf("reading while the file is locked: %d messages, error %v", len(page.Messages), err)
	}

	waiting := make(chan error, 1)
	go func() { waiting <- f.commit(f.next(1)) }()
	run(t, shell, "COMMIT")
	if err := <-waiting; err != nil {
		t.Errorf("committing when the lock was given back: %v", err)
	}
	// The commit that was given up must not have been applied in the meantime.
	if page, err := r.Messages(t.Context(), f.log, 0, 10); err != nil || len(page.Messages) != 2 {
		t.Errorf("%d messages, error %v", len(page.Messages), err)
	}
}

// watchedContext tells when it is waited for more often than three callers do before one's commit is under way.
type watchedContext struct {
	context.Context
	asked   atomic.Int32
	waiting chan struct{}
}

func (c *watchedContext) Done() <-chan struct{} {
	if c.asked.Add(1) == 4 {
		close(c.waiting)
	}
	return c.Context.Done()
}

func TestClosingEndsWhatWaitsForALock(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s := openStore(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	shell := openShell(t, path)
	run(t, shell, "BEGIN IMMEDIATE")
	var committers sync.WaitGroup
	ctx := &watchedContext{Context: t.Context(), waiting: make(chan struct{})}
	for range 3 {
		committers.Go(func() {
			if _, err := store.NewHolder(s, partitions).Commit(ctx, f.next(1)); !errors.Is(err, store.ErrClosed) {
				t.Errorf("a commit that waits when the store is closed: %v", err)
			}
		})
	}
	<-ctx.waiting
	begun := time.Now()
	closeWell(t, s)
	committers.Wait()
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("closing took %s", took)
	}
	run(t, shell, "COMMIT")
}

// TestAnEndedContextGivesTheMemoryBack lets contexts end at any moment of a commit and then writes into the commit's
// memory, which the race detector watches.
func TestAnEndedContextGivesTheMemoryBack(t *testing.T) {
	t.Parallel()
	s, r := openBoth(t, sqlite.Options{})
	f := newFiller(t, s, 0)
	inForce := 0
	for i := range 200 {
		c := large(f.next(20), 100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
		_, err := store.NewHolder(s, partitions).Commit(ctx, c)
		cancel()
		for _, op := range c.Operations {
			copy(op.Record.Body, "overwritten")
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err == nil {
			inForce++
		}
		if f.progress, err = s.Claim(t.Context(), store.Claim{Owner: "filler", Token: uint64(i + 1)}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if inForce == 0 || inForce == 200 {
		t.Logf("%d of 200 commits were in time, which tells less than it could", inForce)
	}
	page, err := r.Messages(t.Context(), f.log, 0, 10_000)
	if err != nil || len(page.Messages) != 20*int(page.Version.Revision) || int(page.Version.Revision) < inForce {
		t.Fatalf("%d messages, revision %d, %d commits in time, error %v", len(page.Messages), page.Version.Revision, inForce, err)
	}
	for _, m := range page.Messages {
		if !bytes.Equal(m.Body, bytes.Repeat([]byte("x"), 100)) {
			t.Fatalf("message %d is %q", m.Position, m.Body)
		}
	}
}

func TestWhatIsNotAStoreIsNotOpened(t *testing.T) {
	t.Parallel()
	shell := func(script string) func(*testing.T, string) {
		return func(t *testing.T, path string) { run(t, openShell(t, path), script) }
	}
	for _, c := range []struct {
		name, says string
		make       func(t *testing.T, path string)
	}{
		{"text", "not a SQLite database", func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("this is no database\n"), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"something else's database", "something else", shell("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")},
		{"a newer store", "made by a newer", shell("PRAGMA application_id = 0x444d524b; PRAGMA user_version = 999; CREATE TABLE t (x)")},
		{"a folder", "is a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			c.make(t, path)
			_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("opening a store: %v", err)
			}
			_, err = sqlite.OpenReader(t.Context(), path, sqlite.Options{})
			if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("opening a reader: %v", err)
			}
		})
	}
	t.Run("a folder that does not exist", func(t *testing.T) {
		t.Parallel()
		_, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "missing", "store.db"), sqlite.Options{})
		if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), "directory does not exist") {
			t.Error(err)
		}
	})
}

func TestADamagedFileIsReported(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := newFiller(t, s, 0)
	f.fill(10_000)
	closeWell(t, s)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 200_000; i < 1_200_000; i++ {
		data[i] = byte(i * 7)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := openReader(t, path, sqlite.Options{})
	for after := uint64(0); after < 10_000; after += 100 {
		if _, err = r.Messages(t.Context(), f.log, after, 100); err != nil {
			break
		}
	}
	if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("reading a damaged file: %v", err)
	}
	if _, err := r.Progress(t.Context(), 0); err != nil {
		t.Errorf("reading what is not damaged: %v", err)
	}
}

func TestAReaderWaitsForItsFile(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	r := openReader(t, path, sqlite.Options{})
	notYet := func(when string) {
		t.Helper()
		_, err := r.Deployment(t.Context())
		_, err2 := r.Messages(t.Context(), "log", 0, 1)
		for _, err := range []error{err, err2, r.Ping(t.Context())} {
			if when != "" && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	signals, err := r.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	notYet("before there is a file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	notYet("while the file is empty")
	s := openStore(t, path, sqlite.Options{})
	if _, err := r.Deployment(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the deployment is recorded: %v", err)
	}
	if err := r.Ping(t.Context()); err != nil {
		t.Errorf("when there are tables: %v", err)
	}
	if _, err := s.Init(t.Context(), drainmark.Deployment{Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	awaitSignal(t, signals)
	if d, err := r.Deployment(t.Context()); err != nil || d.Partitions != 3 {
		t.Errorf("got %+v, error %v", d, err)
	}
}

func TestAFullLogRefusesMore(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, r := openStore(t, path, sqlite.Options{}), openReader(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	f.must(f.next(1))
	const last = 1<<40 - 1
	run(t, openShell(t, path), fmt.Sprintf("UPDATE logs SET last_position = %d, cleared_through = %d", last-1, last-1))
	f.holder = store.NewHolder(s, partitions)
	f.must(f.next(1))
	page, err := r.Messages(t.Context(), f.log, 0, 10)
	if err != nil || len(page.Messages) != 1 || page.Messages[0].Position != last {
		t.Errorf("the last position: %+v, error %v", page, err)
	}
	err = f.commit(f.next(2))
	var refused *store.Refused
	if !errors.As(err, &refused) || len(refused.Reasons) != 2 || !strings.Contains(refused.Reasons[0], fmt.Sprint(last)) {
		t.Errorf("one more: %v", err)
	}
}

func TestSweepingDeletesWhatWasCleared(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s := openStore(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	f.fill(3000)
	c := f.next(2)
	c.Operations[0].Kind = store.Clear
	f.must(c)
	shell := openShell(t, path)
	const messages = "SELECT count(*) FROM messages"
	if n := count(t, shell, messages); n != 3001 {
		t.Errorf("a clear itself deletes nothing, and there are %d rows", n)
	}
	before, steps := 3001, 0
	for more := true; more; steps++ {
		var err error
		if more, err = s.Sweep(t.Context(), store.Sweep{}); err != nil {
			t.Fatal(err)
		}
		n := count(t, shell, messages)
		if before-n > 500 {
			t.Errorf("one step deleted %d rows", before-n)
		}
		before = n
	}
	if before != 1 || steps < 6 {
		t.Errorf("after %d steps there are %d rows", steps, before)
	}
}

func TestAPersonCanReadTheMessages(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s := openStore(t, path, sqlite.Options{})
	f := newFiller(t, s, 2)
	f.must(f.next(1))
	c := f.next(2)
	c.Now = time.Date(2026, 2, 3, 4, 5, 6, 78000, time.UTC)
	c.Operations[0].Kind = store.Clear
	c.Operations[1].Record.Body = []byte("grüße")
	c.Operations[1].Record.AcceptedAt = c.Now.Add(-time.Second)
	f.must(c)
	other := newFiller(t, s, 3)
	other.must(other.next(1))
	row := openShell(t, path).QueryRowContext(t.Context(), `SELECT log, position, body, content_type, accepted_at, persisted_at, id
		FROM log_messages WHERE log = ?`, f.log)
	var log, text, contentType, accepted, persisted, id string
	var position int
	if err := row.Scan(&log, &position, &text, &contentType, &accepted, &persisted, &id); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(log, position, text, contentType, accepted, persisted, id)
	want := fmt.Sprint(f.log, 2, "grüße", "text/plain", "2026-02-03T04:05:05.000078Z", "2026-02-03T04:05:06.000078Z", c.Operations[1].Mark)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestACommitToARemovedFileFails(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, r := openStore(t, path, sqlite.Options{}), openReader(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	f.must(f.next(5))
	if page, err := r.Messages(t.Context(), f.log, 0, 10); err != nil || len(page.Messages) != 5 {
		t.Fatalf("%d messages, error %v", len(page.Messages), err)
	}
	aside := path + ".aside"
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+end, aside+end); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.commit(f.next(1)); err == nil || !strings.Contains(err.Error(), "removed or replaced") {
		t.Errorf("the first commit after that: %v", err)
	}
	if err := f.commit(f.next(1)); !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("the next commit: %v", err)
	}
	if _, err := r.Messages(t.Context(), f.log, 0, 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("reading: %v", err)
	}

	another := newFiller(t, openStore(t, path, sqlite.Options{}), 0)
	another.must(another.next(2))
	if err := f.commit(f.next(1)); !errors.Is(err, store.ErrFenced) {
		t.Errorf("committing to the file that is there instead: %v", err)
	}
	if page, err := r.Messages(t.Context(), f.log, 0, 10); err != nil || len(page.Messages) != 2 {
		t.Errorf("reading the file that is there instead: %d messages, error %v", len(page.Messages), err)
	}
}

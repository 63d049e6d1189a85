package sqlite_test

import (
	"context"
	"database/sql"
	"os"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store/sqlite"
)

// TestTheWriteAheadLogStaysBounded commits while there is always somebody who reads: the next one begins before the last
// one ends. Then SQLite by itself can never begin the log anew.
func TestTheWriteAheadLogStaysBounded(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s := openStore(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	f.must(f.next(1))

	done := make(chan struct{})
	ended := make(chan error, 1)
	shells := [2]*sql.Conn{openShell(t, path), openShell(t, path)}
	go func() { ended <- relay(done, shells) }()
	const total, most = 64 << 20, 32 << 20
	largest := int64(0)
	for range total / (100 * 4096) {
		f.must(large(f.next(100), 4096))
		if info, err := os.Stat(path + "-wal"); err == nil {
			largest = max(largest, info.Size())
		}
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if largest > most {
		t.Errorf("the write-ahead log had %d bytes, which is more than %d", largest, most)
	}
	t.Logf("of %d bytes written, the write-ahead log had %d at most", total, largest)
}

// relay keeps at least one of the two in a transaction that reads, each for a while.
func relay(done chan struct{}, shells [2]*sql.Conn) error {
	ctx := context.Background()
	for i := 0; ; i++ {
		for _, step := range []struct {
			shell *sql.Conn
			query string
		}{{shells[i%2], "BEGIN"}, {shells[i%2], "SELECT count(*) FROM logs"}, {shells[(i+1)%2], "COMMIT"}} {
			if i == 0 && step.query == "COMMIT" {
				continue
			}
			if _, err := step.shell.ExecContext(ctx, step.query); err != nil {
				return err
			}
		}
		select {
		case <-time.After(20 * time.Millisecond): // for some commits
		case <-done:
			_, err := shells[i%2].ExecContext(ctx, "COMMIT")
			return err
		}
	}
}

// TestTheWriteAheadLogShrinksWhenAReaderLetsGo has a reader pin it while it grows, so that it cannot be emptied then.
func TestTheWriteAheadLogShrinksWhenAReaderLetsGo(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	f := newFiller(t, openStore(t, path, sqlite.Options{}), 0)
	f.must(f.next(1))
	shell := openShell(t, path)
	run := func(query string) {
		t.Helper()
		if _, err := shell.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	run("BEGIN")
	run("SELECT count(*) FROM logs")
	const peak = 24 << 20
	for size() < peak {
		f.must(large(f.next(100), 4096))
	}
	run("COMMIT")
	for deadline := time.Now().Add(time.Minute); size() >= peak; { // small commits, as heartbeats are
		if time.Now().After(deadline) {
			t.Fatalf("the write-ahead log still has %d bytes", size())
		}
		f.must(f.next(1))
	}
}

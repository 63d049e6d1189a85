package sqlite_test

import (
	"os"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// sizes fills a file, clears most messages, sweeps, waits for a while until it is as small as wanted, and returns its
// sizes before and after.
func sizes(t *testing.T, path string, want int64) (before, after int64) {
	t.Helper()
	s, r := openStore(t, path, sqlite.Options{}), openReader(t, path, sqlite.Options{})
	f := newFiller(t, s, 0)
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for range 100 {
		f.must(large(f.next(100), 4096))
	}
	before = size()
	c := f.next(1)
	c.Operations = []store.Operation{{Kind: store.Clear, Record: &drainmark.Record{Kind: drainmark.Clear, Log: f.log}}}
	f.must(c)
	f.must(large(f.next(5), 4096))
	steps := 0
	for more := true; more; steps++ {
		var err error
		if more, err = s.Sweep(t.Context(), store.Sweep{Partition: 0}); err != nil {
			t.Fatal(err)
		}
		f.must(f.next(1)) // commits go on between its steps
	}
	t.Logf("%d steps", steps)
	// The file becomes smaller when the write-ahead log is copied into it, behind some commit.
	commits := steps
	for deadline := time.Now().Add(shrinkTime); size() > want && time.Now().Before(deadline); commits++ {
		f.must(f.next(1))
		<-time.After(10 * time.Millisecond)
	}
	page, err := r.Messages(t.Context(), f.log, 0, 1000)
	if want := 5 + commits; err != nil || page.Log.Count() != uint64(want) || len(page.Messages) == 0 || len(page.Messages[0].Body) != 4096 {
		t.Errorf("there are %d messages, not %d; %v", page.Log.Count(), want, err)
	}
	return before, size()
}

// shrinkTime is how long a file may take to become smaller.
const shrinkTime = time.Minute

func TestWhatIsClearedGoesBackToTheDisk(t *testing.T) {
	t.Parallel()
	const most = 18 << 20 // 16 MiB are kept, and there are some messages
	before, after := sizes(t, newFile(t), most)
	t.Logf("%d bytes, and then %d", before, after)
	if before < 40<<20 || after > most {
		t.Errorf("the file had %d bytes, and when nearly all was cleared it has %d", before, after)
	}
}

// A file that was made without it keeps its size, and works.
func TestAFileThatCannotShrinkKeepsItsSize(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	closeWell(t, openStore(t, path, sqlite.Options{}))
	shell := openShell(t, path)
	for _, query := range []string{"PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM"} {
		if _, err := shell.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if before, after := sizes(t, path, 1<<40); after < before {
		t.Errorf("the file had %d bytes, and has %d", before, after)
	}
}

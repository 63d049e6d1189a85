package sqlite_test

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

var body = bytes.Repeat([]byte("x"), 200)

// filler commits messages to a log.
type filler struct {
	t        testing.TB
	store    *sqlite.Store
	holder   *store.Holder
	log      string
	producer drainmark.ProducerID
	progress drainmark.Progress
}

// partitions is how many the tests' deployments have.
const partitions = 64

// logIn returns the name of a log of the partition.
func logIn(partition int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("log-%d", i); drainmark.PartitionOf(name, partitions) == partition {
			return name
		}
	}
}

func newFiller(t testing.TB, s *sqlite.Store, partition int) *filler {
	t.Helper()
	claim := store.Claim{Partition: partition, Owner: "filler", Token: uint64(time.Now().UnixNano())}
	p, err := s.Claim(t.Context(), claim, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &filler{t: t, store: s, holder: store.NewHolder(s, partitions), log: logIn(partition), producer: drainmark.NewProducerID(), progress: p}
}

// next returns the commit of n messages that comes next.
func (f *filler) next(n int) store.Commit {
	return nextCommit(f.progress, f.log, f.producer, n)
}

// nextCommit returns the commit that appends n messages of the producer to the log.
func nextCommit(p drainmark.Progress, log string, producer drainmark.ProducerID, n int) store.Commit {
	now := time.Now()
	first := p.Next(producer)
	records := make([]drainmark.Record, n)
	operations := make([]store.Operation, n)
	for i := range operations {
		records[i] = drainmark.Record{Kind: drainmark.Append, Log: log, ContentType: "text/plain", Body: body, AcceptedAt: now.Add(time.Duration(i))}
		mark := drainmark.Mark{Partition: p.Partition, Producer: producer, Sequence: first + uint64(i)}
		operations[i] = store.Operation{Kind: store.Append, Mark: mark, Record: &records[i]}
	}
	done := p.Producers[producer].Done.Add(first, first+uint64(n)-1)
	return store.Commit{
		Partition: p.Partition, Token: p.Token, Revision: p.Revision, Now: now,
		Operations: operations, Cursor: drainmark.Cursor(fmt.Sprint(p.Revision)),
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{producer: {Done: done, LastAt: time.Hour}},
	}
}

func (f *filler) commit(c store.Commit) error {
	if _, err := f.holder.Commit(f.t.Context(), c); err != nil {
		return err
	}
	f.progress = f.progress.With(c.Producers)
	f.progress.Revision++
	return nil
}

func (f *filler) must(c store.Commit) {
	f.t.Helper()
	if err := f.commit(c); err != nil {
		f.t.Fatal(err)
	}
}

// fill brings the log to n messages.
func (f *filler) fill(n int) {
	f.t.Helper()
	for left := n; left > 0; left -= 2000 {
		f.must(f.next(min(left, 2000)))
	}
}

// openBoth opens a new file.
func openBoth(t testing.TB, o sqlite.Options) (*sqlite.Store, *sqlite.Reader) {
	t.Helper()
	path := newFile(t)
	return openStore(t, path, o), openReader(t, path, o)
}

func newFile(t testing.TB) string { return filepath.Join(t.TempDir(), "store.db") }

func openStore(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWell(t, s) })
	return s
}

func openReader(t testing.TB, path string, o sqlite.Options) *sqlite.Reader {
	t.Helper()
	r, err := sqlite.OpenReader(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWell(t, r) })
	return r
}

func closeWell(t testing.TB, c io.Closer) {
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// patience is for how long a test waits for what must happen in the end.
const patience = time.Minute

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited %v in vain until %s", patience, what)
		case <-tick.C:
		}
	}
}

// fails fails the test unless err is want and says so, and never says what nobody may read.
func fails(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), says) {
		t.Fatalf("the error is %v; it must be %q and say %q", err, want, says)
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "@") {
		t.Fatalf("the error tells a password or a URL: %v", err)
	}
}

// secret is in passwords that no error may tell.
const secret = "s3cret-w@rd"

// filler makes commits of one producer in one partition.
type filler struct {
	holder   *store.Holder
	store    *Store
	progress drainmark.Progress
	producer drainmark.ProducerID
	log      string
}

var deployment = drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1}

func newFiller(t testing.TB, s *Store) *filler {
	t.Helper()
	if _, err := s.Init(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	f := &filler{holder: store.NewHolder(s, 1), store: s, producer: drainmark.NewProducerID(), log: "guestbook"}
	f.claim(t, 1<<63)
	return f
}

// claim takes the partition for the filler's owner, once more perhaps.
func (f *filler) claim(t testing.TB, token uint64) {
	t.Helper()
	p, err := f.store.Claim(t.Context(), store.Claim{Owner: "filler", Token: token}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.progress = p
}

// claimAtLast does it as soon as the server, which was away, answers again.
func (f *filler) claimAtLast(t *testing.T, token uint64) {
	t.Helper()
	eventually(t, "the partition is claimed", func() bool {
		p, err := f.store.Claim(t.Context(), store.Claim{Owner: "filler", Token: token}, time.Hour)
		if isErr(err, store.ErrMisconfigured) || isErr(err, store.ErrHeld) {
			t.Fatal(err)
		}
		f.progress = p
		return err == nil
	})
}

// next returns a commit of n messages of so many bytes each.
func (f *filler) next(n, size int) store.Commit {
	now := time.Now()
	first := f.progress.Next(f.producer)
	records := make([]drainmark.Record, n)
	operations := make([]store.Operation, n)
	body := make([]byte, size)
	for i := range operations {
		records[i] = drainmark.Record{
			Kind: drainmark.Append, Log: f.log, ContentType: "text/plain; charset=utf-8", Body: body, AcceptedAt: now.Add(time.Duration(i)),
		}
		mark := drainmark.Mark{Producer: f.producer, Sequence: first + uint64(i)}
		operations[i] = store.Operation{Kind: store.Append, Mark: mark, Record: &records[i]}
	}
	done := f.progress.Producers[f.producer].Done
	if n > 0 {
		done = done.Add(first, first+uint64(n)-1)
	}
	return store.Commit{
		Token: f.progress.Token, Revision: f.progress.Revision, Now: now, Operations: operations,
		Cursor:    drainmark.Cursor(fmt.Sprint(f.progress.Revision)),
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{f.producer: {Done: done, LastAt: time.Hour}},
	}
}

func (f *filler) commit(ctx context.Context, c store.Commit) error {
	if _, err := f.holder.Commit(ctx, c); err != nil {
		return err
	}
	f.progress = f.progress.With(c.Producers)
	f.progress.Revision++
	return nil
}

func (f *filler) must(t testing.TB, c store.Commit) {
	t.Helper()
	if err := f.commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// count returns how many messages the log has in a reader, and the progress's revision.
func (f *filler) count(t testing.TB, r *Reader) (messages, revision uint64) {
	t.Helper()
	page, err := r.Messages(t.Context(), f.log, 0, 1)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	p, err := r.Progress(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return page.Log.LastPosition, p.Revision
}

func openStore(t testing.TB, url string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openReader(t testing.TB, url string, o Options) *Reader {
	t.Helper()
	r, err := OpenReader(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// urlIn returns the URL of a schema for the superuser.
func urlIn(p *servers.Postgres, schema string) string {
	return p.URL(servers.PostgresUser) + "&schema=" + schema
}

// lasting returns a context for a call that must not take longer.
func lasting(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// inBackground runs do and returns its error when it has ended. The test waits for it.
func inBackground(t *testing.T, do func() error) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { ended <- do() })
	t.Cleanup(running.Wait)
	return ended
}

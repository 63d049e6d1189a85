package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

const (
	partitions = 4
	longLease  = time.Hour              // does not expire during a case
	shortLease = 300 * time.Millisecond // does
)

// world is what a case plays in: a database, a handle of each kind on it, and a clock that stands still.
type world struct {
	T
	ctx        context.Context
	db         Database
	store      store.Store
	reader     store.Reader
	deployment drainmark.Deployment
	empty      error // what Deployment of the new store gave
	now        time.Time
	clock      time.Duration // the partitions' own
	patience   time.Duration
	names      int
}

func newWorld(t T, h Harness) *world {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, db: h.New(t), now: time.Now().Truncate(time.Microsecond), clock: 1000*time.Hour + time.Microsecond}
	w.patience = cmp.Or(h.Patience, time.Minute)
	w.deployment = drainmark.Deployment{ID: drainmark.DeploymentID{1, 2, 3}, Partitions: partitions}
	w.store = w.openStore()
	_, w.empty = w.store.Deployment(ctx)
	if _, err := w.store.Init(ctx, w.deployment); err != nil {
		t.Fatalf("Init: %v", err)
	}
	w.reader = w.openReader()
	w.eventually("the reader shows the deployment", func() bool {
		_, err := w.reader.Deployment(ctx)
		return err == nil
	})
	return w
}

func (w *world) openStore() store.Store {
	w.Helper()
	s := w.db.Store(w)
	w.Cleanup(func() { w.must("closing a store", s.Close()) })
	return s
}

func (w *world) openReader() store.Reader {
	w.Helper()
	r := w.db.Reader(w)
	w.Cleanup(func() { w.must("closing a reader", r.Close()) })
	return r
}

// restart closes the handles, restarts the database and opens others.
func (w *world) restart() {
	w.Helper()
	w.must("closing the store", w.store.Close())
	w.must("closing the reader", w.reader.Close())
	w.db.Restart(w)
	w.store, w.reader = w.openStore(), w.openReader()
}

// logIn returns the name of a log of the partition, another one every time.
func (w *world) logIn(partition int) string {
	for {
		w.names++
		if name := fmt.Sprintf("log-%d", w.names); drainmark.PartitionOf(name, partitions) == partition {
			return name
		}
	}
}

// lease tokens are never used twice.
var tokens atomic.Uint64

func newClaim(partition int, owner string) store.Claim {
	// The highest bit is set because a real lease token is any 64 bits.
	return store.Claim{Partition: partition, Owner: owner, Token: 1<<63 | tokens.Add(1)}
}

// session is a consumer's hold on a partition: it commits as a consumer does.
type session struct {
	*world
	claim    store.Claim
	progress drainmark.Progress
	producer drainmark.ProducerID
}

// hold claims a partition for an owner of its own.
func (w *world) hold(partition int) *session {
	w.Helper()
	return w.holdAs(newClaim(partition, fmt.Sprintf("owner-%d", tokens.Add(1))))
}

func (w *world) holdAs(claim store.Claim) *session {
	w.Helper()
	progress, err := w.store.Claim(w.ctx, claim, longLease)
	w.must("claiming", err)
	w.equal("the epoch of the progress that Claim returns", progress.Token, claim.Token)
	return &session{world: w, claim: claim, progress: progress, producer: drainmark.NewProducerID()}
}

// next returns the commit of the operations that follows the session's progress. Each append is one record of the
// session's producer.
func (s *session) next(operations ...store.Operation) store.Commit {
	sequence := s.progress.Next(s.producer)
	c := store.Commit{
		Partition: s.claim.Partition, Token: s.claim.Token, Revision: s.progress.Revision, Now: s.now, Clock: s.clock,
		Operations: operations, Rejected: s.progress.Rejected,
		Cursor: drainmark.Cursor("cursor-" + strconv.FormatUint(s.progress.Revision+1, 10)),
	}
	for i := range operations {
		operations[i].Mark = drainmark.Mark{Partition: c.Partition, Producer: s.producer, Sequence: sequence + uint64(i)}
		if operations[i].Kind == store.SetAside {
			c.Rejected++
		}
	}
	done := s.progress.Producers[s.producer].Done
	if n := uint64(len(operations)); n > 0 {
		done = done.Add(sequence, sequence+n-1)
	}
	c.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{s.producer: {Done: done, LastAt: s.clock}}
	return c
}

// put commits c, which must succeed, and waits until the reader shows it.
func (s *session) put(c store.Commit) store.Committed {
	s.Helper()
	committed, err := s.commitTo(s.ctx, s.store, c)
	s.must("committing", err)
	s.progress = after(s.progress, c)
	s.shown(s.progress)
	return committed
}

// commit commits the operations as put does.
func (s *session) commit(operations ...store.Operation) store.Committed {
	s.Helper()
	return s.put(s.next(operations...))
}

// refused commits the operations, which must be refused, and returns the refusal.
func (s *session) refused(operations ...store.Operation) *store.Refused {
	s.Helper()
	_, err := s.commitTo(s.ctx, s.store, s.next(operations...))
	var refused *store.Refused
	if !errors.As(err, &refused) {
		s.Fatalf("a commit that must be refused: %v", err)
	}
	return refused
}

// commitTo commits as a holder does that takes what it was told for the newest: it is the adapter that has to marker.
func (w *world) commitTo(ctx context.Context, s store.Store, c store.Commit) (store.Committed, error) {
	version := drainmark.Version{Token: c.Token, Revision: c.Revision}
	return store.NewHolder(believing{s, version}, partitions).Commit(ctx, c)
}

// believing is a Store that says to be at a version.
type believing struct {
	store.Store
	version drainmark.Version
}

func (b believing) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	found, err := b.Store.Find(ctx, partition, w)
	found.Version = b.version
	return found, err
}

// after returns the progress after a commit.
func after(p drainmark.Progress, c store.Commit) drainmark.Progress {
	p = p.With(c.Producers)
	p.Revision++
	p.Cursor, p.Rejected, p.Clock, p.Trouble = c.Cursor, c.Rejected, c.Clock, c.Trouble
	return p
}

// shown waits until the reader shows a state that includes the progress.
func (w *world) shown(p drainmark.Progress) {
	w.Helper()
	w.shownBy(w.reader, p)
}

func (w *world) shownBy(r store.Reader, p drainmark.Progress) {
	w.Helper()
	w.eventually("the reader shows a commit", func() bool {
		got, err := r.Progress(w.ctx, p.Partition)
		w.must("reading the progress", err)
		return got.Includes(p.Version)
	})
}

// eventually waits until ok returns true.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	if ok() {
		return
	}
	deadline := time.After(w.patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-deadline:
			w.Fatalf("waited %s in vain until: %s", w.patience, what)
		case <-tick.C:
			if ok() {
				return
			}
		}
	}
}

// must fails the case if err is not nil.
func (w *world) must(doing string, err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", doing, err)
	}
}

// fails fails the case unless err is want.
func (w *world) fails(doing string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%s: got error %v, want %v", doing, err, want)
	}
}

// equal fails the case unless got is want. Empty and nil are the same.
func (w *world) equal(what string, got, want any) {
	w.Helper()
	if !(empty(got) && empty(want)) && !reflect.DeepEqual(got, want) {
		w.Fatalf("%s: got %+v, want %+v", what, got, want)
	}
}

func empty(x any) bool {
	v := reflect.ValueOf(x)
	return !v.IsValid() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

// sameTime fails the case unless got is want, to the microsecond.
func (w *world) sameTime(what string, got, want time.Time) {
	w.Helper()
	if got.UnixMicro() != want.UnixMicro() {
		w.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// sameProgress fails the case unless got is want.
func (w *world) sameProgress(got, want drainmark.Progress) {
	w.Helper()
	w.equal("the progress's version", got.Version, want.Version)
	w.equal("the progress's cursor", got.Cursor, want.Cursor)
	w.equal("the progress's clock", got.Clock, want.Clock)
	w.equal("the progress's count of rejected records", got.Rejected, want.Rejected)
	w.equal("why the partition does not go on", got.Trouble, want.Trouble)
	w.equal("how many producers the progress has", len(got.Producers), len(want.Producers))
	for id, p := range want.Producers {
		if !slices.Equal(got.Producers[id].Done, p.Done) {
			w.Fatalf("what is done of producer %s: got %v, want %v", id, got.Producers[id].Done, p.Done)
		}
		w.equal("when producer "+id.String()+" was last heard of", got.Producers[id].LastAt, p.LastAt)
	}
}

// progressOf reads the partition's progress.
func (w *world) progressOf(partition int) drainmark.Progress {
	w.Helper()
	p, err := w.reader.Progress(w.ctx, partition)
	w.must("reading the progress", err)
	return p
}

// page reads a page.
func (w *world) page(log string, after uint64, limit int) store.Page {
	w.Helper()
	page, err := w.reader.Messages(w.ctx, log, after, limit)
	w.must("reading messages", err)
	return page
}

// messages reads the whole log, page by page.
func (w *world) messages(log string) []drainmark.Message {
	w.Helper()
	var all []drainmark.Message
	for after := uint64(0); ; {
		page := w.page(log, after, 100)
		if len(page.Messages) == 0 {
			return all
		}
		all = append(all, page.Messages...)
		after = page.Messages[len(page.Messages)-1].Position
	}
}

// holds fails the case unless the log has just these bodies, at positions that begin behind cleared.
func (w *world) holds(log string, cleared uint64, bodies ...string) {
	w.Helper()
	messages := w.messages(log)
	var got []string
	for i, m := range messages {
		got = append(got, string(m.Body))
		w.equal("the position of message "+strconv.Itoa(i), m.Position, cleared+1+uint64(i))
	}
	w.equal("the bodies in the log", got, bodies)
	want := drainmark.LogInfo{Name: log, LastPosition: cleared + uint64(len(bodies)), ClearedThrough: cleared}
	w.equal("what the page says of the log", w.page(log, 0, 1).Log, want)
}

// unknown fails the case if there is such a log.
func (w *world) unknown(log string) {
	w.Helper()
	_, err := w.reader.Messages(w.ctx, log, 0, 1)
	w.fails("reading a log that nobody has written to", err, store.ErrNotFound)
}

func (w *world) append(log, body string) store.Operation {
	return w.keyed(log, "", body)
}

func (w *world) keyed(log, key, body string) store.Operation {
	return store.Operation{Kind: store.Append, Record: &drainmark.Record{
		Kind: drainmark.Append, Log: log, ContentType: "text/plain", Body: []byte(body), Key: key, AcceptedAt: w.now,
	}}
}

func (w *world) clear(log string) store.Operation {
	return store.Operation{Kind: store.Clear, Record: &drainmark.Record{Kind: drainmark.Clear, Log: log, AcceptedAt: w.now}}
}

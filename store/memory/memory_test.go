package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type database struct {
	db    *memory.DB
	clock *storetest.Clock
}

func newDatabase() database {
	d := database{memory.NewDB(), &storetest.Clock{}}
	d.db.Now = d.clock.Now
	return d
}

func (d database) Store(storetest.T) store.Store   { return d.db.Store() }
func (d database) Reader(storetest.T) store.Reader { return d.db.Reader() }
func (d database) Restart(storetest.T)             {} // it lives as long as the process

// SetBack sets the clock back.
func (d database) SetBack(_ storetest.T, by time.Duration) { d.clock.SetBack(by) }

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{New: func(storetest.T) storetest.Database { return newDatabase() }})
}

const log = "guestbook"

// writer commits to partition 0.
type writer struct {
	t        testing.TB
	store    *memory.Store
	progress drainmark.Progress
}

func newWriter(t testing.TB, db *memory.DB, owner string) *writer {
	t.Helper()
	w := &writer{t: t, store: db.Store()}
	p, err := w.store.Claim(t.Context(), store.Claim{Owner: owner, Token: uint64(time.Now().UnixNano())}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.progress = p
	return w
}

func (w *writer) commit(operations ...store.Operation) error {
	_, err := store.NewHolder(w.store, 1).Commit(w.t.Context(), store.Commit{
		Token: w.progress.Token, Revision: w.progress.Revision, Now: time.Now(), Operations: operations,
	})
	if err == nil {
		w.progress.Revision++
	}
	return err
}

func (w *writer) must(operations ...store.Operation) {
	w.t.Helper()
	if err := w.commit(operations...); err != nil {
		w.t.Fatal(err)
	}
}

func message(body string) store.Operation {
	return store.Operation{Kind: store.Append, Record: &drainmark.Record{Log: log, Body: []byte(body)}}
}

// shows fails the test unless the reader shows these messages, joined.
func shows(t testing.TB, r *memory.Reader, want string) {
	t.Helper()
	page, err := r.Messages(t.Context(), log, 0, 1000)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	var bodies []string
	for i, m := range page.Messages {
		if m.Position != uint64(i+1) {
			t.Errorf("position %d stands at %d", m.Position, i)
		}
		bodies = append(bodies, string(m.Body))
	}
	if got := strings.Join(bodies, " "); got != want {
		t.Errorf("the reader shows %q, want %q", got, want)
	}
}

func TestReplicaLagsUnderControl(t *testing.T) {
	db := memory.NewDB()
	w := newWriter(t, db, "owner")
	replica := db.Replica()
	r := replica.Reader()
	defer r.Close()
	signals, err := r.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signalled := func() bool {
		select {
		case <-signals:
			return true
		default:
			return false
		}
	}

	w.must(message("a"))
	shows(t, r, "a")
	if !signalled() {
		t.Error("no signal of what shows at once")
	}
	replica.Pause()
	w.must(message("b"))
	shows(t, r, "a")
	if signalled() {
		t.Error("a signal of what does not show")
	}
	replica.CatchUp()
	shows(t, r, "a b")
	if !signalled() {
		t.Error("no signal of what shows after catching up")
	}
	w.must(message("c"))
	shows(t, r, "a b")
	replica.Resume()
	shows(t, r, "a b c")
	w.must(message("d"))
	shows(t, r, "a b c d")
	shows(t, db.Reader(), "a b c d")
}

func TestRollbackTakesCommitsAndClaimsBack(t *testing.T) {
	db := memory.NewDB()
	first := newWriter(t, db, "first")
	for _, body := range []string{"a", "b", "c"} {
		first.must(message(body))
	}
	lagging := db.Replica()
	lagging.Pause()
	if err := first.store.Release(t.Context(), "first", 0); err != nil {
		t.Fatal(err)
	}
	second := newWriter(t, db, "second")
	second.must(message("d"))

	if err := db.Rollback(2); err != nil {
		t.Fatal(err)
	}
	shows(t, db.Reader(), "a b")
	shows(t, lagging.Reader(), "a b c")
	if err := second.commit(message("x")); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a commit under an epoch that was taken back: %v", err)
	}
	first.progress.Revision = 2
	first.must(message("C"), message("D"))
	shows(t, db.Reader(), "a b C D")
	shows(t, lagging.Reader(), "a b c")
	lagging.Resume()
	shows(t, lagging.Reader(), "a b C D")
	if err := db.Rollback(4); err == nil {
		t.Error("more commits were taken back than there are")
	}
}

func TestRollbackReachesAsFarAsHistory(t *testing.T) {
	db := memory.NewDB()
	w := newWriter(t, db, "owner")
	for range memory.History + 10 {
		w.must(message("a"))
	}
	if err := db.Rollback(memory.History + 1); err == nil {
		t.Error("more commits were taken back than are remembered")
	}
	if err := db.Rollback(memory.History); err != nil {
		t.Error(err)
	}
	shows(t, db.Reader(), strings.TrimSpace(strings.Repeat("a ", 10)))
}

func TestRefuse(t *testing.T) {
	for _, blindly := range []bool{false, true} {
		t.Run(fmt.Sprintf("blindly %v", blindly), func(t *testing.T) {
			db := memory.NewDB()
			db.RefuseBlindly = blindly
			db.Refuse = func(log string, m *drainmark.Message) (string, bool) {
				return "it is bad", strings.HasPrefix(string(m.Body), "bad")
			}
			w := newWriter(t, db, "owner")
			w.must(message("a"))
			err := w.commit(message("b"), message("bad 1"), message("c"), message("bad 2"))
			var refused *store.Refused
			if !errors.As(err, &refused) {
				t.Fatalf("got error %v", err)
			}
			named := len(refused.Reasons) == 2 && refused.Reasons[1] == "it is bad" && refused.Reasons[3] == "it is bad"
			blind := len(refused.Reasons) == 0 && refused.Reason == "it is bad"
			if blindly && !blind || !blindly && !named {
				t.Errorf("got %+v", refused)
			}
			shows(t, db.Reader(), "a")
		})
	}
}

func TestLeasesRunOnVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := memory.NewDB()
		s, r := db.Store(), db.Reader()
		ctx, cancel := context.WithCancel(t.Context())
		signals, err := r.Changes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		claim := func(owner string) error {
			_, err := s.Claim(ctx, store.Claim{Owner: owner, Token: uint64(time.Now().UnixNano())}, 5*time.Second)
			return err
		}
		if err := claim("first"); err != nil {
			t.Fatal(err)
		}
		<-signals
		time.Sleep(5*time.Second - 1)
		if err := claim("second"); !errors.Is(err, store.ErrHeld) {
			t.Errorf("just before the lease ends: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if err := claim("second"); err != nil {
			t.Errorf("when the lease has ended: %v", err)
		}
		<-signals
		cancel()
		synctest.Wait()
		if _, open := <-signals; open {
			t.Error("the channel is not closed when its context has ended")
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("log of %d", size), func(b *testing.B) {
			db := memory.NewDB()
			w := newWriter(b, db, "owner")
			for range size / 1000 {
				operations := make([]store.Operation, 1000)
				for i := range operations {
					operations[i] = message("hello")
				}
				w.must(operations...)
			}
			op := message("hello")
			b.ReportAllocs()
			for b.Loop() {
				w.must(op)
			}
		})
	}
}

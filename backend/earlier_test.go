package backend

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/test/testbed"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// lives are the lives of one process, one after the other, on the same broker, database and directory.
type lives struct {
	*system
	dir      string
	broker   broker.Broker // of the next life, if it is not a new connection
	unaccept func()        // stops the backend
}

func oneProcess(t *testing.T, test func(*lives)) {
	testbed.Run(t, brokermemory.Options{Ordered: true, Replays: true}, func(b *testbed.Bed) {
		l := &lives{system: &system{Bed: b}, dir: filepath.Join(t.TempDir(), "ledger")}
		l.begin()
		test(l)
		l.die() // before its directory goes
	})
}

// begin begins the next life, without a consumer.
func (l *lives) begin() {
	l.Helper()
	if l.broker == nil {
		l.broker = l.Server.Connect()
	}
	var err error
	l.Backend, err = New(Config{Broker: l.broker, Reader: l.Reader, Deployment: l.Deployment, Ledger: l.dir, Logger: l.Logger()})
	if err != nil {
		l.Fatal(err)
	}
	l.broker = nil
	l.unaccept = l.Start(l.Backend.Run)
}

// die ends the life. The ledger has what was confirmed without that: see TestTheNextProcessReadsWhatWasNoted.
func (l *lives) die() {
	l.unaccept()
	if l.undrain != nil {
		l.undrain()
	}
}

// lose takes away what no consumer has been given.
func (l *lives) lose() {
	l.Helper()
	if err := l.Server.Purge(0); err != nil {
		l.Fatal(err)
	}
}

// reckon begins the next life with a consumer, asks for a barrier at once, and returns what it says in the end.
func (l *lives) reckon() Status {
	l.Helper()
	l.die()
	l.begin()
	l.drain()
	r, err := l.Barrier(l.Context(), nil)
	if err != nil {
		l.Fatal(err)
	}
	status, err := l.Status(l.Context(), r, time.Minute)
	if err != nil {
		l.Fatal(err)
	}
	return status
}

func (l *lives) ledgers() int {
	l.Helper()
	files, err := os.ReadDir(l.dir)
	if err != nil {
		l.Fatal(err)
	}
	return len(files)
}

// A write that was accepted before the death of a process, and is gone when it is started again, is missing: the first barrier
// says so, and how many records that are.
func TestWhatAnEarlierProcessHadAcceptedIsAccountedFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before  func(l *lives)
		missing uint64
		markers float64
	}{
		"all is persisted": {func(l *lives) {
			l.drain()
			l.state(l.append("log", "a", "b"), time.Minute)
		}, 0, 0},
		"all is in the queue": {func(l *lives) { l.append("log", "a", "b") }, 0, 0},
		"all of it is gone": {func(l *lives) {
			l.append("log", "a", "b")
			l.append("log", "c")
			l.lose()
		}, 3, 1},
		"its end is gone": {func(l *lives) {
			l.drain()
			l.state(l.append("log", "a", "b"), time.Minute)
			l.undrain()
			l.append("log", "c", "d", "e")
			l.lose()
		}, 3, 1},
		"the end of the process before that is gone": {func(l *lives) {
			l.append("log", "a", "b")
			l.lose()
			l.die()
			l.begin()
			l.append("log", "c")
		}, 2, 1},
		"receipts were given out of what was in doubt, which must not pass for persisted": {func(l *lives) {
			l.append("log", "a", "b")
			l.accounting.own.Promised(0, 5)
			l.lose()
		}, 5, 1},
		"what was in doubt is there": {func(l *lives) {
			l.append("log", "a", "b")
			l.accounting.own.Confirmed(0, 1)
			l.accounting.own.Promised(0, 2)
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oneProcess(t, func(l *lives) {
				test.before(l)
				status := l.reckon()
				want := Persisted
				if test.missing > 0 {
					want = Stalled
				}
				if status.State != want || status.Missing != test.missing {
					l.Errorf("the barrier is %s, %d missing: %s", status.State, status.Missing, status.Reason)
				}
				time.Sleep(time.Minute)
				if n := testutil.ToFloat64(l.metrics.markers); n != test.markers {
					l.Errorf("%v markers were sent, not %v", n, test.markers)
				}
				if n := l.ledgers(); n != 1 { // this life's
					l.Errorf("%d ledgers are left", n)
				}
				if lines := l.Logged.About("level=ERROR"); len(lines) != int(test.markers) {
					l.Errorf("it logged %q", lines)
				}
			})
		})
	}
}

// A process that dies before it has put a settled ledger away finds nothing new.
func TestALossIsToldOnce(t *testing.T) {
	t.Parallel()
	oneProcess(t, func(l *lives) {
		l.append("log", "a", "b")
		kept := filepath.Join(t.TempDir(), "kept")
		if err := os.CopyFS(kept, os.DirFS(l.dir)); err != nil {
			t.Fatal(err)
		}
		l.lose()
		for range 2 {
			if status := l.reckon(); status.State != Stalled || status.Missing != 2 {
				l.Errorf("the barrier is %s, %d missing: %s", status.State, status.Missing, status.Reason)
			}
			l.die()
			if err := os.RemoveAll(l.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(l.dir, os.DirFS(kept)); err != nil {
				t.Fatal(err)
			}
		}
		l.begin()
		if lines := l.Logged.About("level=ERROR"); len(lines) != 1 {
			l.Errorf("it logged %q", lines)
		}
	})
}

// While it is not known whether all is there, no barrier is reached, and it says why.
func TestNoBarrierIsReachedBeforeAllIsAccountedFor(t *testing.T) {
	t.Parallel()
	oneProcess(t, func(l *lives) {
		l.append("log", "a")
		l.lose()
		l.die()
		l.begin()
		l.drain()
		r, err := l.Barrier(l.Context(), nil)
		if err != nil {
			l.Fatal(err)
		}
		for range 1000 {
			status, err := l.Status(l.Context(), r, 0)
			if err != nil {
				l.Fatal(err)
			}
			if status.State == Stalled && status.Missing == 1 {
				return
			}
			if status.State == Persisted || l.tracker.partitions[0].snapshot().Holds(r.Spans[0]) && !strings.Contains(status.Reason, "before the start") {
				l.Fatalf("the barrier is %s: %s", status.State, status.Reason)
			}
			time.Sleep(10 * time.Millisecond)
		}
		l.Error("the loss is never told")
	})
}

// The receipt of records whose outcome is not known never says that they are persisted if they are not, although a
// marker was sent behind them.
func TestWhatIsInDoubtDoesNotPassForPersisted(t *testing.T) {
	t.Parallel()
	oneProcess(t, func(l *lives) {
		l.die()
		m := &moody{Broker: l.Server.Connect()}
		l.broker = m
		l.begin()
		l.append("log", "a")
		m.from(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		ctx, cancel := context.WithTimeout(l.Context(), time.Second)
		defer cancel()
		receipt, err := l.Append(ctx, "log", []drainmark.Record{{Kind: drainmark.Append, Log: "log"}, {Kind: drainmark.Append, Log: "log"}})
		if drainmark.KindOf(err) != drainmark.KindOutcomeUnknown {
			l.Fatal(err)
		}
		l.lose()
		if status := l.reckon(); status.State != Stalled || status.Missing != 3 {
			l.Errorf("the barrier is %s, %d missing: %s", status.State, status.Missing, status.Reason)
		}
		if state := l.state(receipt, time.Second); state == Persisted || state == Rejected {
			l.Errorf("the receipt is %s", state)
		}
	})
}

// A ledger that cannot be read, or made, is told, and keeps nobody from working.
func TestALedgerThatIsOfNoUseIsTold(t *testing.T) {
	t.Parallel()
	oneProcess(t, func(l *lives) {
		l.die()
		if err := os.RemoveAll(l.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		l.Logged.About("")
		l.begin()
		l.append("log", "a")
		if lines := l.Logged.About("level=ERROR"); len(lines) != 2 {
			l.Errorf("it logged %q", lines)
		}
	})
}

// A consumer beside the backend needs no dead letter for what its broker has lost if the backend knows what was
// accepted. A store that lacks records in the ledger may also lack records in an older ledger.
func TestTheBackendKnowsWhetherAllIsAccountedFor(t *testing.T) {
	t.Parallel()
	oneProcess(t, func(l *lives) {
		read := func() drainmark.Progress {
			l.Helper()
			p, err := l.Reader.Progress(l.Context(), 0)
			if err != nil {
				l.Fatal(err)
			}
			return p
		}
		knows := func(want bool, what string, p drainmark.Progress) {
			l.Helper()
			if l.Accounts(p) != want {
				l.Errorf("%s: that all is accounted for is %v", what, !want)
			}
		}
		knows(false, "the first process, of a store that shows nothing", read())
		l.drain()
		l.state(l.append("log", "a", "b"), time.Minute)
		first := read()
		knows(true, "the first process, of a store that has something of it", first)
		l.die()
		l.begin()
		knows(true, "the second process, of a store that has all of the first", first)
		l.append("log", "c")
		l.die()
		l.begin()
		knows(false, "the third process, of a store that has nothing of the second", first)
		knows(false, "the third process, of a store that shows nothing", drainmark.Progress{})
		l.drain()
		l.state(l.append("log", "d"), time.Minute)
		time.Sleep(time.Minute)
		knows(true, "when the second is accounted for", read())
		last := read()
		l.die()
		if err := os.Truncate(filepath.Join(l.dir, l.ID().String()), 70); err != nil {
			l.Fatal(err)
		}
		l.begin()
		knows(false, "a ledger is damaged", last)
		l.die()
		if err := os.RemoveAll(l.dir); err != nil {
			l.Fatal(err)
		}
		l.begin()
		knows(false, "there is no ledger", last)
		time.Sleep(time.Minute)
		knows(false, "there was no ledger", last)
	})
}

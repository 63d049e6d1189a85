package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store in memory, and a janitor that looks at it. What it sends is committed at once, unless held is set.
type world struct {
	*testing.T
	path    string
	holder  *store.Holder
	reader  *memory.Reader
	version drainmark.Version
	held    atomic.Bool
	failing atomic.Bool

	mu    sync.Mutex // the janitor may look just when the test commits
	sent  []drainmark.Record
	reads int
}

// play runs a test in a bubble, whose clock moves only while everything sleeps.
func play(t *testing.T, rules string, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		db := memory.NewDB()
		s := db.Store()
		w := &world{T: t, path: filepath.Join(t.TempDir(), "retention.yaml"), holder: store.NewHolder(s, 1), reader: db.Reader()}
		if _, err := s.Init(t.Context(), drainmark.Deployment{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		p, err := s.Claim(t.Context(), store.Claim{Owner: "test", Token: 1}, 1000*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		w.version = p.Version
		w.write(rules)
		j, err := New(Config{Path: w.path, Reader: w, Publish: w.publish, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { j.Run(ctx); close(ended) }()
		test(w)
		cancel()
		<-ended
	})
}

func (w *world) write(rules string) {
	if err := os.WriteFile(w.path, []byte(rules), 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *world) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	if w.failing.Load() {
		return nil, errors.New("the store does not answer")
	}
	return w.reader.Logs(ctx, after, limit)
}

func (w *world) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	page, err := w.reader.Messages(ctx, log, after, limit)
	w.mu.Lock()
	w.reads += len(page.Messages)
	w.mu.Unlock()
	return page, err
}

func (w *world) publish(_ context.Context, r drainmark.Record) (drainmark.Receipt, error) {
	w.mu.Lock()
	w.sent = append(w.sent, r)
	w.mu.Unlock()
	if position, err := r.Position(); !w.held.Load() && err == nil {
		w.commit(store.Operation{Kind: store.Trim, Record: &r, Position: position})
	}
	return drainmark.Receipt{}, nil
}

func (w *world) commit(operations ...store.Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := store.Commit{Token: w.version.Token, Revision: w.version.Revision, Now: time.Now(), Operations: operations}
	if _, err := w.holder.Commit(context.Background(), c); err != nil {
		w.Error(err)
	}
	w.version.Revision++
}

// append appends so many messages of so many bytes.
func (w *world) append(log string, n, bytes int) {
	operations := make([]store.Operation, n)
	for i := range operations {
		operations[i] = store.Operation{Kind: store.Append, Record: &drainmark.Record{Kind: drainmark.Append, Log: log, Body: make([]byte, bytes)}}
	}
	w.commit(operations...)
}

// looked waits until the janitor has looked once more at least.
func (w *world) looked() {
	time.Sleep(3 * lookEvery)
	synctest.Wait()
}

// begins fails the test unless a log begins and ends there.
func (w *world) begins(log string, first, last uint64) {
	w.Helper()
	page, err := w.reader.Messages(w.Context(), log, 0, 1)
	if err != nil || page.Log.ClearedThrough+1 != first || page.Log.LastPosition != last {
		w.Errorf("%s begins with %d and ends with %d, not from %d to %d (%v)", log, page.Log.ClearedThrough+1, page.Log.LastPosition, first, last, err)
	}
}

// read returns how many messages the janitor has read.
func (w *world) read() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}

// trims returns what the janitor has sent.
func (w *world) trims() []drainmark.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

func TestACountOfMessagesStays(t *testing.T) {
	t.Parallel()
	play(t, "retention: [{logs: few, count: 10}, {logs: 'all.*'}, {logs: '*', count: 100}]", func(w *world) {
		for _, log := range []string{"few", "all.of", "others", "short"} {
			w.append(log, 150, 1)
		}
		w.append("little", 5, 1)
		w.looked()
		w.begins("few", 141, 150)
		w.begins("all.of", 1, 150)
		w.begins("others", 51, 150)
		w.begins("little", 1, 5)
		w.append("few", 1, 1)
		w.looked()
		w.begins("few", 142, 151)
		if n := len(w.trims()); n != 4 || w.trims()[0].Principal != Principal || w.read() > 0 {
			t.Errorf("%d trims were sent, the first as %q, and %d messages were read", n, w.trims()[0].Principal, w.read())
		}
	})
}

func TestMessagesThatAreTooOldGo(t *testing.T) {
	t.Parallel()
	play(t, "retention: [{logs: '*', age: 24h}]", func(w *world) {
		for range 100 {
			w.append("log", 100, 1)
			time.Sleep(time.Hour)
		}
		w.looked()
		page, err := w.reader.Messages(t.Context(), "log", 0, 1)
		if oldest := time.Since(page.Messages[0].PersistedAt); err != nil || oldest > 24*time.Hour+3*lookEvery || oldest < 22*time.Hour {
			t.Errorf("the oldest message is %s old (%v)", oldest, err)
		}
		if w.read() > 20*100 {
			t.Errorf("%d messages were read in 100 hours, for 76 trims", w.read())
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		w.begins("log", 10_001, 10_000)
		before := w.read()
		w.append("log", 1, 1)
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		w.begins("log", 10_001, 10_001)
		if w.read() > before+1 {
			t.Errorf("the same message was read %d times, though it cannot be too old yet", w.read()-before)
		}
	})
}

func TestSoManyBytesStay(t *testing.T) {
	t.Parallel()
	play(t, "retention: [{logs: '*', bytes: 1MB}]", func(w *world) {
		w.append("log", 20_000, 100) // 2 MB, in parts of 100 kB
		w.looked()
		w.begins("log", 10_001, 20_000)
		for range 30 {
			w.append("log", 500, 100)
			w.looked()
			page, _ := w.reader.Messages(t.Context(), "log", 0, 1)
			if bytes := page.Log.Count() * 100; bytes < 1_000_000 || bytes > 1_150_000 {
				t.Fatalf("the log keeps %d bytes", bytes)
			}
		}
		if w.read() > 10_000+15_000 {
			t.Errorf("%d messages were read, of which there were 25,000 to measure", w.read())
		}
		w.commit(store.Operation{Kind: store.Clear, Record: &drainmark.Record{Log: "log"}})
		w.append("log", 9_999, 100)
		w.looked()
		w.begins("log", 35_001, 44_999)
	})
}

// A trim of somebody else's, or for another limit of the rule, ends in the middle of what was measured together. What is
// behind it stays: the log has fewer bytes than it keeps.
func TestWhatATrimHasLeftOfAPartStays(t *testing.T) {
	t.Parallel()
	play(t, "retention: [{logs: '*', bytes: 1MB, count: 2400}]", func(w *world) {
		w.append("log", 2_500, 100) // of which 100 are too many
		w.looked()
		w.looked()
		w.begins("log", 101, 2_500)
		w.commit(store.Operation{Kind: store.Trim, Record: &drainmark.Record{Log: "log"}, Position: 700})
		w.looked()
		w.begins("log", 701, 2_500)
		w.append("log", 9_000, 1_000) // 9 MB, of which 1 MB stays, in parts
		w.looked()
		page, _ := w.reader.Messages(t.Context(), "log", 0, 1)
		if n := page.Log.Count(); n < 1_000 || n > 2_000 {
			t.Errorf("the log keeps %d messages of 1,000 bytes", n)
		}
	})
}

func TestATrimThatIsOnItsWayIsNotSentAgain(t *testing.T) {
	t.Parallel()
	play(t, "retention: [{logs: '*', count: 10}]", func(w *world) {
		w.held.Store(true)
		w.append("log", 20, 1)
		for range 10 {
			w.looked()
			w.append("log", 1, 1)
		}
		if len(w.trims()) != 1 {
			t.Errorf("%d trims were sent, and none was persisted", len(w.trims()))
		}
		time.Sleep(resendAfter)
		w.looked()
		if len(w.trims()) != 2 || w.trims()[1].Target != "20" {
			t.Errorf("after an hour these were sent: %+v", w.trims())
		}
	})
}

func TestTheFileIsReadAgain(t *testing.T) {
	t.Parallel()
	play(t, "retention: [{logs: '*', count: 100}]", func(w *world) {
		w.append("log", 50, 1)
		w.looked()
		w.write("retention: [{logs: '*', count: 0}]") // which is wrong
		w.looked()
		w.begins("log", 1, 50)
		w.failing.Store(true)
		w.write("retention: [{logs: '*', count: 20}]")
		w.looked()
		w.begins("log", 1, 50)
		w.failing.Store(false)
		w.looked()
		w.begins("log", 31, 50)
	})
}

func TestFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"":                                                   "no rules",
		"retention: []":                                      "no rules",
		"retention:\n- {count: 1}":                           "line 2: logs",
		"retention:\n- {logs: 'a*', count: 1}":               "line 2: logs",
		"retention:\n- {logs: a, size: 1}":                   "line 2: a rule has no size",
		"retention:\n- {logs: a, age: 5}":                    "line 2: age is",
		"retention:\n- {logs: a, age: 59s}":                  "1m0s or more",
		"retention:\n- {logs: a, count: -1}":                 "line 2: count is",
		"retention:\n- {logs: a, bytes: 1 pint}":             "line 2: bytes is",
		"rules: []":                                          "rules",
		"retention:\n- {logs: a, count: }":                   "line 2: count has no value",
		"retention:\n- {logs: a}\n---\nretention: []":        "line 3: a second document begins",
		"retention:\n- {logs: '*'}\n- {logs: a.b, count: 1}": "line 3: the rule for a.b never counts: * stands before it",
	} {
		path := filepath.Join(t.TempDir(), "retention.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q gives %v", text, err)
		}
	}
	if _, err := New(Config{Path: fmt.Sprint(t.TempDir(), "/none"), Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there gives %v", err)
	}
}

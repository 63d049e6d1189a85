package effecttest

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/test/servers"
)

func TestMain(m *testing.M) {
	servers.ForgetSettings()
	goleak.VerifyTestMain(m)
}

// recorder is a tb that notes failures instead of failing the test.
type recorder struct {
	*testing.T
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

// record runs do and returns how it failed, "" if it passed.
func record(t *testing.T, do func(tb)) string {
	r := &recorder{T: t}
	r.finish(func() { do(r) })
	for _, cleanup := range slices.Backward(r.cleanups) {
		r.finish(cleanup)
	}
	return strings.Join(r.failures, "\n")
}

// finish runs do to its end or to its Fatalf.
func (r *recorder) finish(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// failsFor fails the test unless the suite fails a case, and says so with all the words.
func failsFor(t *testing.T, s Suite, name string, says ...string) {
	t.Helper()
	b := s.begin(t)
	for i, c := range b.cases() {
		if i > 0 && c.name != name {
			continue
		}
		said := record(t, func(t tb) { c.check(b, t) })
		if c.name != name {
			if said != "" {
				t.Fatalf("the case %q fails already: %s", c.name, said)
			}
			continue
		}
		t.Logf("it says: %s", said)
		if said == "" {
			t.Errorf("the case %q passes", name)
			return
		}
		for _, words := range says {
			if !strings.Contains(said, words) {
				t.Errorf("the case %q fails without saying %q", name, words)
			}
		}
		return
	}
	t.Errorf("there is no case %q", name)
}

// order is what the samples are.
type order struct {
	Order string `json:"order"`
	SKU   string `json:"sku"`
	Count int    `json:"count"`
	Note  string `json:"note"`
}

func orderOf(r effect.Record) (o order, err error) {
	err = json.Unmarshal(r.Body, &o)
	return o, err
}

// samples are orders of a shop: some of the same things, some that there is too little of, and one that is none.
var samples = []string{
	`{"order": "o1", "sku": "ball", "count": 2, "note": "first"}`,
	`{"order": "o2", "sku": "net", "count": 1, "note": "a"}`,
	`{"order": "o3", "sku": "ball", "count": 3, "note": "b"}`,
	`{"order": "o4", "sku": "ball", "count": 100, "note": "too many"}`,
	`{"order": "o5", "sku": "shoe", "count": 1, "note": "c"}`,
	`{"order": "o6", "sku": "hat", "count": 1, "note": "d"}`,
	`no order at all`,
	`{"order": "o7", "sku": "net", "count": 2, "note": "e"}`,
	`{"order": "o8", "sku": "none", "count": 2, "note": "there is no such thing"}`,
	`{"order": "o9", "sku": "ball", "count": 1, "note": "last"}`,
}

// shopSQLite has a stock, which knows who ordered last, orders, and a journal in the order of the log.
const shopSQLite = `
CREATE TABLE stock (sku TEXT PRIMARY KEY, left INTEGER NOT NULL CHECK (left >= 0), last TEXT NOT NULL DEFAULT '');
CREATE TABLE orders (id TEXT PRIMARY KEY, sku TEXT NOT NULL REFERENCES stock, count INTEGER NOT NULL, at TEXT NOT NULL) STRICT;
CREATE TABLE journal (number INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL);
INSERT INTO stock (sku, left) VALUES ('ball', 10), ('net', 10), ('shoe', 10), ('hat', 10);
`

// takeSQLite applies one record as it should be done.
func takeSQLite(ctx context.Context, tx sqlite.Tx, r effect.Record) error {
	o, err := orderOf(r)
	if err != nil {
		return err
	}
	taken, err := tx.ExecContext(ctx, "UPDATE stock SET left = left - ?, last = ? WHERE sku = ?", o.Count, o.Note, o.SKU)
	if err != nil {
		return err
	}
	if n, err := taken.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("there is no %q (%v)", o.SKU, err)
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO orders VALUES (?, ?, ?, ?)", r.ID, o.SKU, o.Count, r.AcceptedAt.UTC().Format("15:04:05.000")); err != nil {
		return err
	}
	return noteSQLite(ctx, tx, o.Order)
}

func noteSQLite(ctx context.Context, tx sqlite.Tx, what string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO journal (what) VALUES (?)", what)
	return err
}

// rightSQLite is a handler that is right. What is too much it rejects.
func rightSQLite(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
	rejected := map[int]string{}
	for i, r := range records {
		if o, err := orderOf(r); err == nil && o.Count > 10 {
			rejected[i] = "nobody needs so many"
		} else if err := takeSQLite(ctx, tx, r); err != nil {
			return err
		}
	}
	if len(rejected) > 0 {
		return effect.Reject(rejected)
	}
	return nil
}

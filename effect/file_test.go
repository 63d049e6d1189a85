package effect

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, says string }{
		{"", "it has no effects"},
		{"effects: []", "it has no effects"},
		{"effects:\n  - logs: a\n    sql: SELECT 1\nmore: 1", "more"},
		{"effects:\n  - logs: a\n    sqll: SELECT 1", "line 3: an effect has no sqll"},
		{"effects:\n  - logs: a", "line 2: the effect of a: its sql has 0 statements"},
		{"effects:\n  - logs: a\n    sql: SELECT 1; SELECT 2", "2 statements"},
		{"effects:\n  - logs: a\n    sql: DROP TABLE orders", `begins with "DROP"`},
		{"effects:\n  - logs: a\n    timeout: soon\n    sql: SELECT 1", "soon"},
		{"effects: {", "line 2"},
		{strings.Repeat("#", maxFile+1), "more than 1048576 bytes"},
	} {
		path := filepath.Join(t.TempDir(), "effects.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.60q: the error is %v, and should say %q", c.text, err, c.says)
		}
	}
	if _, err := Load("no such file"); !errors.Is(err, store.ErrMisconfigured) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestLoadTakesEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "effects.yaml")
	text := `
setup: CREATE TABLE a (b)
effects:
  - {logs: orders, sql: "INSERT INTO a SELECT id FROM records;"}
  - logs: audit.*
    name: audit
    keep: false
    rejects: [no_room, P0001]
    attempts: 9
    timeout: 1500ms
    sql: SELECT audit(r) FROM records r
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	want := File{Setup: "CREATE TABLE a (b)", Effects: []Statement{
		{Logs: "orders", SQL: "INSERT INTO a SELECT id FROM records", At: path + ":4"},
		{
			Logs: "audit.*", SQL: "SELECT audit(r) FROM records r", At: path + ":5",
			Options: Options{Name: "audit", Unkept: true, Rejects: []string{"no_room", "P0001"}, Attempts: 9, Timeout: 1500 * time.Millisecond},
		},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the file is %+v (%v), not %+v", got, err, want)
	}
}

func TestWhichEffectIsOfALog(t *testing.T) {
	t.Parallel()
	var l List
	for _, logs := range []string{"orders", "orders.*", "orders.eu.*", "a.b"} {
		l = append(l, Effect{Logs: logs})
	}
	for log, want := range map[string]string{
		"orders": "orders", "orders.1": "orders.*", "orders.eu.1": "orders.eu.*", "orders.eu": "orders.*", "orders-1": "", "a": "", "a.b": "a.b", "a.b.c": "",
	} {
		got := ""
		if e := l.Of(log); e != nil {
			got = e.Logs
		}
		if got != want {
			t.Errorf("the effect of %s is that of %q, not of %q", log, got, want)
		}
	}
}

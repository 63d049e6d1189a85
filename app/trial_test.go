package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/sqlite"
)

// ordersFile is a shop's file of effects.
const ordersFile = `
setup: |
  CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, left INTEGER NOT NULL CHECK (left >= 0));
  CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, sku TEXT NOT NULL, count INTEGER NOT NULL CHECK (count > 0)) STRICT;
  CREATE TRIGGER IF NOT EXISTS take AFTER INSERT ON orders BEGIN
    UPDATE stock SET left = left - NEW.count WHERE sku = NEW.sku;
  END;
  INSERT OR IGNORE INTO stock VALUES ('ball', 10);
effects:
  - logs: orders
    attempts: 2
    sql: INSERT INTO orders SELECT id, json->>'sku', json->>'count' FROM records ORDER BY position
`

// fileOf writes a file of effects.
func fileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "effects.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// outcomeOf runs the program with an input, and returns what it prints and its exit code.
func outcomeOf(t *testing.T, input string, arguments ...string) (printed string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], arguments...)
	cmd.Env, cmd.Stdin = append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1"), strings.NewReader(input)
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(output), cmd.ProcessState.ExitCode()
}

// Effects of a file are applied by up, refused orders are told to who sent them, and the same file can be checked and tried
// on the database while it is in use.
func TestEffectsOfAFile(t *testing.T) {
	t.Parallel()
	file, data := fileOf(t, ordersFile), t.TempDir()
	p := start(t, "up", "--data", data, "--effects", file, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	var done, refused struct{ State, Reason, ID string }
	p.want(201, "POST", "/v1/logs/orders/messages", `{"sku": "ball", "count": 3}`, "Prefer", "wait=30").decode(t, &done)
	p.want(202, "POST", "/v1/logs/orders/messages", `{"sku": "ball", "count": 8}`, "Prefer", "wait=30").decode(t, &refused)
	if done.State != "persisted" || refused.State != "rejected" || !strings.Contains(refused.Reason, "left >= 0") {
		t.Errorf("the answers are %+v and %+v", done, refused)
	}
	p.findAdmin()
	if metrics := p.want(200, "GET", "/metrics", "").body; !bytes.Contains(metrics, []byte(`drainmark_effect_records_total{effect="orders"} 1`)) {
		t.Error("no metric says that a record was applied")
	}
	url := "sqlite:" + filepath.Join(data, "store.db")
	if printed, code := outcomeOf(t, "", "effects", "check", file, "--store", url); code != 0 || !strings.Contains(printed, "applies the log orders") ||
		!strings.Contains(printed, "They fit the database.") {
		t.Errorf("effects check: exit code %d, %s", code, printed)
	}
	lines := `{"body": "{\"sku\": \"ball\", \"count\": 2}"}` + "\n" + `{"body": "{\"sku\": \"ball\", \"count\": 9}"}` + "\n"
	want := `insert orders: {"count":2,"id":"0-00000000000000000000000000000000-1","sku":"ball"}
update stock: {"left":7,"sku":"ball"} -> {"left":5,"sku":"ball"}
record 2 is set aside: constraint failed: CHECK constraint failed: left >= 0 (275) (after 2 attempts)
1 of 2 records would be applied. Nothing was changed.
`
	for range 2 {
		if printed, code := outcomeOf(t, lines, "effects", "try", file, "--store", url, "--log", "orders"); code != 1 || printed != want {
			t.Errorf("effects try: exit code %d, %s", code, printed)
		}
	}
	printed, code := outcomeOf(t, lines[:strings.Index(lines, "\n")], "effects", "try", file, "--store", url, "--log", "orders", "--json")
	var change effect.Change
	if err := json.NewDecoder(strings.NewReader(printed)).Decode(&change); err != nil || code != 0 || change.Table != "orders" || change.What != "insert" {
		t.Errorf("effects try --json: exit code %d, %s", code, printed)
	}
}

// Every command that takes effects says at the start what is wrong with them.
func TestEffectsThatCannotBe(t *testing.T) {
	t.Parallel()
	good, wrong := fileOf(t, ordersFile), fileOf(t, strings.Replace(ordersFile, "FROM records", "FROM record", 1))
	url := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
	up := start(t, "up", "--data", filepath.Dir(strings.TrimPrefix(url, "sqlite:")), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	up.kill()
	for _, c := range []struct {
		says      string
		arguments []string
	}{
		{"no such table: record", []string{"up", "--data", filepath.Dir(strings.TrimPrefix(url, "sqlite:")), "--effects", wrong, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}},
		{"no such table: record", []string{"effects", "check", wrong, "--store", url}},
		{"no such file", []string{"effects", "check", "none.yaml"}},
		{"name a file", []string{"effects", "check"}},
		{"no effect is of the log other", []string{"effects", "try", good, "--store", url, "--log", "other"}},
		{"no such file", []string{"effects", "try", good, "--store", url + "s", "--log", "orders"}},
		{"a store at redis:… can apply none", []string{"consumer", "--broker", "nats://127.0.0.1:1", "--store", "redis://127.0.0.1:1", "--effects", good, "--admin-listen", "127.0.0.1:0"}},
	} {
		if printed, code := outcomeOf(t, `{"body": "{}"}`, c.arguments...); code != exitUsage || !strings.Contains(printed, c.says) {
			t.Errorf("%q: exit code %d, %s", c.arguments, code, printed)
		}
	}
	if printed, code := outcomeOf(t, `{"json": 1}`, "effects", "try", good, "--store", url, "--log", "orders"); code != exitUsage || !strings.Contains(printed, "line 1") {
		t.Errorf("records that cannot be read: exit code %d, %s", code, printed)
	}
}

// ownEffect is a role of this test: a program of somebody's own, which is drainmark with an effect in Go.
var ownEffect = testRole("own", func() {
	os.Args = append(os.Args[:1], os.Args[2:]...)
	Main(sqlite.Effect("notes", func(ctx context.Context, tx sqlite.Tx, records []effect.Record) error {
		if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, text TEXT)"); err != nil {
			return err
		}
		rejected := map[int]string{}
		for i, r := range records {
			if len(r.Body) == 0 {
				rejected[i] = "an empty note"
				continue
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO notes VALUES (?, ?)", r.ID, string(r.Body)); err != nil {
				return err
			}
		}
		if len(rejected) > 0 {
			return effect.Reject(rejected)
		}
		return nil
	}, effect.Options{Unkept: true}))
})

func TestAProgramWithEffectsOfItsOwn(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := launch(t, ownEffect, "up", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	p.findAPI()
	var refused struct{ State, Reason string }
	p.want(201, "POST", "/v1/logs/notes/messages", "hello", "Prefer", "wait=30")
	p.want(202, "POST", "/v1/logs/notes/messages", "", "Prefer", "wait=30").decode(t, &refused)
	if refused.State != "rejected" || refused.Reason != "rejected: an empty note" {
		t.Errorf("the answer to an empty note is %+v", refused)
	}
	if log := p.readAll("notes"); len(log.Messages) != 0 || log.Last != 1 {
		t.Errorf("the log shows %+v", log)
	}
	if printed, code := outcomeOf(t, "", ownEffect, "effects", "check"); code != 0 || !strings.Contains(printed, "applies the log notes; messages are not kept") {
		t.Errorf("effects check: exit code %d, %s", code, printed)
	}
	took, code := p.stop()
	if code != 0 || took > time.Minute {
		t.Errorf("it ended with exit code %d after %s", code, took)
	}
}

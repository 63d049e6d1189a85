package app

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// keepingFile is a file of effects that write the ids of the logs of verify into a table.
const keepingFile = `
setup: CREATE TABLE IF NOT EXISTS written (number INTEGER PRIMARY KEY, id TEXT NOT NULL)
effects:
  - logs: shop.*
    sql: INSERT INTO written (id) SELECT id FROM records ORDER BY position
`

// keepingPostgresFile is the same in PostgreSQL.
var keepingPostgresFile = strings.Replace(keepingFile, "number INTEGER PRIMARY KEY", "number bigserial PRIMARY KEY", 1)

const selectWritten = "SELECT id FROM written ORDER BY number"

// verifyTable verifies a table that an effect of up fills, and returns what it prints and its exit code.
func verifyTable(t *testing.T, effects string, flags ...string) (printed string, code int) {
	t.Helper()
	data := t.TempDir()
	p := start(t, "up", "--data", data, "--effects", fileOf(t, effects), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	arguments := []string{"verify", "--url", p.api, "--log", "shop.verify", "--concurrency", "4", "--sql", "sqlite:" + filepath.Join(data, "store.db")}
	return outcomeOf(t, "", append(arguments, flags...)...)
}

// A table that an effect fills has every accepted message once, in order, and a second run does not take the rows of the
// first for its own.
func TestVerifyLooksAtATable(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, "up", "--data", data, "--effects", fileOf(t, keepingFile), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	for i := range 2 {
		report := filepath.Join(t.TempDir(), "report")
		printed, code := outcomeOf(t, "", "verify", "--url", p.api, "--log", "shop.verify", "--concurrency", "4", "--messages", "300",
			"--sql", "sqlite:"+filepath.Join(data, "store.db"), "--select", selectWritten, "--report", report)
		if code != exitOK || !strings.Contains(printed, " rows of the table") {
			t.Fatalf("run %d: exit code %d, %s", i+1, code, printed)
		}
		if again, code := outcomeOf(t, "", "verify", "recheck", report); code != exitOK || !strings.Contains(again, " rows of the table") {
			t.Errorf("recheck: exit code %d, %s", code, again)
		}
	}
}

// Effects that are wrong are found by the table they fill, though the logs are as they should be.
func TestVerifyFindsWrongEffects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ statement, broken string }{
		"one is lost":        {"INSERT INTO written (id) SELECT id FROM records WHERE position % 50 > 0 ORDER BY position", "P1"},
		"one is there twice": {"INSERT INTO written (id) SELECT r.id FROM records r, json_each('[1, 2]') o WHERE o.value = 1 OR position % 50 = 0 ORDER BY position", "P2"},
		"an upsert on what is no id": {"INSERT INTO written (number, id) SELECT length(body), id FROM records WHERE true ORDER BY position " +
			"ON CONFLICT DO UPDATE SET id = excluded.id", "P1"},
		"in no order": {"INSERT INTO written (number, id) SELECT abs(random()), id FROM records", "P3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := strings.Replace(keepingFile, "INSERT INTO written (id) SELECT id FROM records ORDER BY position", fmt.Sprintf("%q", c.statement), 1)
			printed, code := verifyTable(t, file, "--messages", "200", "--workload", "appends", "--settle", "3s", "--select", selectWritten)
			if code != exitFailed || !strings.Contains(verdictOf(printed, c.broken), "BROKEN") {
				t.Errorf("exit code %d, %s", code, printed)
			}
		})
	}
}

// verdictOf returns the line of a promise.
func verdictOf(printed, promise string) string {
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(line, "  "+promise+" ") {
			return line
		}
	}
	return ""
}

// The command says that it cannot read a table before it judges anything, and does not show the password.
func TestVerifyOfATableThatCannotBe(t *testing.T) {
	t.Parallel()
	for says, flags := range map[string][]string{
		"go together":            {"--sql", "sqlite:/tmp/x.db"},
		"must begin with":        {"--sql", "mysql://user:secret@host/x", "--select", "SELECT 1"},
		"not one of PostgreSQL":  {"--sql", "postgres://user:secret@host:port/x", "--select", "SELECT 1"},
		"no such table: missing": {"--select", "SELECT id FROM missing"},
		"has 2 columns":          {"--select", "SELECT id, number FROM written"},
		"readonly":               {"--select", "INSERT INTO written (id) VALUES ('x') RETURNING id"},
	} {
		printed, code := "", 0
		if flags[0] == "--select" {
			printed, code = verifyTable(t, keepingFile, append(flags, "--messages", "20")...)
		} else {
			printed, code = outcomeOf(t, "", append([]string{"verify"}, flags...)...)
		}
		if code != exitUsage || !strings.Contains(printed, says) || strings.Contains(printed, "secret") {
			t.Errorf("%q: exit code %d, %s", flags, code, printed)
		}
	}
}

package app

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// migrates runs the command and returns its exit code and what it said.
func migrates(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), append([]string{"migrate"}, args...), &out, &err)
	return code, out.String(), err.String()
}

// TestMigrate: an administrator makes the tables, by the command or by the SQL that it prints, and a consumer and a backend
// that may make nothing work with them.
func TestMigrate(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	p.Do("CREATE ROLE owner LOGIN CREATEROLE; CREATE ROLE poor LOGIN")
	p.Do("GRANT CREATE ON DATABASE postgres TO owner")
	owner, poor := p.URL("owner"), p.URL("poor")

	code, stdout, stderr := migrates(t, "--store", owner)
	if code != exitOK || !strings.Contains(stdout, "the tables are made") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = migrates(t, "--store", owner)
	if code != exitOK || !strings.Contains(stdout, "up to date") {
		t.Errorf("once more: exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = migrates(t, "--store", poor+"&schema=other")
	if code != exitUsage || !strings.Contains(stderr, "--print") {
		t.Errorf("without the right: exit code %d: %s%s", code, stdout, stderr)
	}

	code, script, stderr := migrates(t, "--store", "postgres://nobody:secret@nowhere/nothing?schema=printed", "--print", "--roles")
	if code != exitOK || strings.Contains(script, "secret") {
		t.Fatalf("exit code %d: %s%s", code, script, stderr)
	}
	for range 2 {
		p.Do(script)
	}
	p.Do("CREATE ROLE consumer LOGIN; GRANT drainmark_consumer TO consumer; CREATE ROLE backend LOGIN; GRANT drainmark_backend TO backend")
	broker := startNATS(t, filepath.Join(t.TempDir(), "nats"))
	launch(t, "consumer", "--broker", broker, "--store", p.URL("consumer")+"&schema=printed", "--admin-listen", "127.0.0.1:0").find("(consumer is running)")
	b := start(t, append([]string{"backend", "--broker", broker, "--replica", p.URL("backend") + "&schema=printed"}, free...)...)
	b.want(202, "POST", "/v1/logs/log/messages", "hello")
	b.barrier()
	if got := bodies(b.readAll("log")); got != "hello" {
		t.Errorf("the log has %q", got)
	}
}

func TestMigrateOfOtherStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--store", "sqlite:" + filepath.Join(dir, "none.db")}, exitOK, "there is nothing to do"},
		{[]string{"--store", "redis://h"}, exitOK, "there is nothing to do"},
		{[]string{"--store", "redis://h", "--print"}, exitUsage, "--print"},
		{[]string{"--store", "postgres://h/d", "--roles"}, exitUsage, "--print"},
		{[]string{"--store", "postgres://h/d", "--timeout", "0s"}, exitUsage, "--timeout"},
		{[]string{"--store", "postgres://u:secret@h:x/d", "--print"}, exitUsage, "libpq"},
		{[]string{"--store", "mysql://h"}, exitUsage, "--store"},
		{[]string{"--store", "postgres://127.0.0.1:1/d?sslmode=disable"}, exitUnavailable, "connection refused"},
	} {
		code, stdout, stderr := migrates(t, c.args...)
		if said := stdout + stderr; code != c.code || !strings.Contains(said, c.says) || strings.Contains(said, "secret") {
			t.Errorf("%v: exit code %d: %s", c.args, code, said)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(found) > 0 {
		t.Errorf("there are %v, %v", found, fmt.Sprint(err))
	}
}

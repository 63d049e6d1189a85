package app

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/test/servers"
)

// unprivileged starts a process that file permissions hold for, whoever runs the tests.
func unprivileged(cmd *exec.Cmd) {
	if os.Getuid() != 0 {
		return
	}
	setpriv, err := exec.LookPath("setpriv") // of util-linux
	if err != nil {
		cmd.Err = err
		return
	}
	cmd.Path = setpriv
	cmd.Args = append([]string{setpriv, "--bounding-set=-dac_override,-dac_read_search", os.Args[0]}, cmd.Args[1:]...)
}

// saidTwice returns three words in a row that a text has twice, or nothing.
func saidTwice(text string) string {
	words := strings.Fields(strings.NewReplacer(":", " ", ",", " ", ";", " ").Replace(text))
	seen := map[string]bool{}
	for i := 0; i+3 <= len(words); i++ {
		three := strings.Join(words[i:i+3], " ")
		if seen[three] {
			return three
		}
		seen[three] = true
	}
	return ""
}

// files makes what the mistakes below are about, in a new directory.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fail(os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("this is no database\n", 100)), 0o600))
	fail(os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	for _, name := range []string{"secret", "readonly", "closed", "beside", "damaged", "indexless"} {
		fail(os.Mkdir(filepath.Join(dir, name), 0o700))
		s, err := sqlite.Open(t.Context(), filepath.Join(dir, name, "store.db"), sqlite.Options{})
		fail(err)
		_, err = s.Init(t.Context(), drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 4})
		fail(errors.Join(err, s.Close()))
	}
	fail(os.Chmod(filepath.Join(dir, "secret", "store.db"), 0))
	fail(os.Chmod(filepath.Join(dir, "readonly", "store.db"), 0o400))
	fail(os.Chmod(filepath.Join(dir, "closed"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o700) })
	fail(os.WriteFile(filepath.Join(dir, "beside", "store.db-wal"), nil, 0))
	changeDatabase(t, filepath.Join(dir, "other"), "CREATE TABLE theirs (x)")
	changeDatabase(t, filepath.Join(dir, "indexless", "store.db"), "DROP INDEX keys_by_age")
	overwrite(t, filepath.Join(dir, "damaged", "store.db"), 100) // behind the header
	return dir
}

// The error about an unusable store gives the reason and the file, once, and the exit code is 2.
func TestWhatIsSaidOfAStoreThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := files(t)
	replica := servers.StartRedis(t, servers.RedisOptions{ReplicaOf: servers.StartRedis(t, servers.RedisOptions{})})
	const consumer, backend = "consumer --broker nats://127.0.0.1:1", "backend --broker nats://127.0.0.1:1"
	const path = "a path follows sqlite: and nothing else, as in sqlite:/var/lib/drainmark/store.db"
	for _, c := range []struct{ command, store, says string }{
		{consumer, "sqlite:DIR/missing/store.db", "opening the store: DIR/missing/store.db cannot be opened: its directory does not exist"},
		{backend, "sqlite:DIR/missing/store.db", "opening the replica: DIR/missing/store.db cannot be opened: its directory does not exist"},
		{consumer, "sqlite:DIR/directory", "opening the store: DIR/directory is a directory, and must be a file"},
		{backend, "sqlite:DIR/directory", "opening the replica: DIR/directory is a directory, and must be a file"},
		{consumer, "sqlite:DIR/text/store.db", "opening the store: DIR/text/store.db cannot be opened: not a directory"},
		{backend, "sqlite:DIR/text/store.db", "opening the replica: DIR/text/store.db cannot be opened: not a directory"},
		{consumer, "sqlite:DIR/text", "opening the store: DIR/text is not a SQLite database"},
		{backend, "sqlite:DIR/text", "opening the replica: DIR/text is not a SQLite database"},
		{consumer, "sqlite:DIR/other", "opening the store: DIR/other is a database of something else than Drainmark"},
		{backend, "sqlite:DIR/other", "opening the replica: DIR/other is a database of something else than Drainmark"},
		{consumer, "sqlite:DIR/secret/store.db", "opening the store: DIR/secret/store.db cannot be opened: permission denied"},
		{backend, "sqlite:DIR/secret/store.db", "opening the replica: DIR/secret/store.db cannot be opened: permission denied"},
		{consumer, "sqlite:DIR/readonly/store.db", "opening the store: DIR/readonly/store.db cannot be written to: it, its directory or its file system is read-only"},
		{consumer, "sqlite:DIR/closed/store.db", "opening the store: DIR/closed/store.db cannot be written to: it, its directory or its file system is read-only"},
		{backend, "sqlite:DIR/closed/store.db", "opening the replica: DIR/closed/store.db cannot be written to: it, its directory or its file system is read-only"},
		{consumer, "sqlite:DIR/closed/new.db", "opening the store: DIR/closed/new.db cannot be opened: permission denied"},
		{consumer, "sqlite:DIR/beside/store.db", "opening the store: DIR/beside/store.db-wal cannot be opened: permission denied"},
		{backend, "sqlite:DIR/beside/store.db", "opening the replica: DIR/beside/store.db-wal cannot be opened: permission denied"},
		{consumer, "sqlite:DIR/damaged/store.db", "opening the store: DIR/damaged/store.db is damaged; bring back a copy of it: "},
		{backend, "sqlite:DIR/damaged/store.db", "opening the replica: DIR/damaged/store.db is damaged; bring back a copy of it: "},
		{consumer, "sqlite:DIR/indexless/store.db", "opening the store: DIR/indexless/store.db lacks keys_by_age, which Drainmark makes; bring back a copy of it"},
		{consumer, "sqlite:DIR/new.db?mode=ro", "--store (DRAINMARK_STORE): sqlite:…: " + path},
		{backend, "sqlite:DIR/new.db?mode=ro", "--store (DRAINMARK_STORE): sqlite:…: " + path},
		{consumer, "sqlite://host/store.db", "--store (DRAINMARK_STORE): sqlite:…: " + path},
		{consumer, "sqlite:file:DIR/new.db", "--store (DRAINMARK_STORE): sqlite:…: " + path},
		{consumer, "sqlite::memory:", "--store (DRAINMARK_STORE): sqlite:…: " + path},
		{consumer, replica.URL(), "opening the store: asking the server what it is: the server is a replica, which cannot be written to: the URL must be the master's"},
		{consumer, "postgres://h:port/d", "opening the store: the URL is not one that libpq would take"},
		{backend, "postgres://h:port/d", "opening the replica: the URL is not one that libpq would take"},
		{consumer, "postgres://h/d?synchronous_commit=off", "opening the store: the URL has a synchronous_commit that is none of"},
		{consumer, "redis://h:port", "opening the store: the URL has a host number 1 that is not host:port"},
		{backend, "redis://h:port", "opening the replica: the URL has a host number 1 that is not host:port"},
		{consumer, "redis://127.0.0.1:1?mode=ro", "opening the store: the URL has an unknown parameter"},
		{backend, "redis://127.0.0.1:1?mode=ro", "opening the replica: the URL has an unknown parameter"},
		{consumer, "redis+sentinel://127.0.0.1:1", "opening the store: the URL must name the master"},
		{backend, "redis+sentinel://127.0.0.1:1", "opening the replica: no replica is fit (discovering: the URL must name the master"},
	} {
		t.Run(c.command[:8]+c.store, func(t *testing.T) {
			t.Parallel()
			arguments := append(strings.Fields(c.command), "--store", strings.ReplaceAll(c.store, "DIR", dir), "--admin-listen", "127.0.0.1:0")
			if c.command == backend {
				arguments = append(arguments, "--listen", "127.0.0.1:0")
			}
			p := launchWith(t, unprivileged, arguments...)
			refuses(t, p, "drainmark: "+strings.ReplaceAll(c.says, "DIR", dir))
			for line := range strings.Lines(p.said()) {
				if twice := saidTwice(line); twice != "" {
					t.Errorf("%q is said twice: %s", twice, line)
				}
			}
		})
	}
}

// The error while the store does not answer is given once too.
func TestWhatIsSaidOfAStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"redis://127.0.0.1:1", "postgres://u:p@127.0.0.1:1/d", "postgres://u:p@127.0.0.1:1,127.0.0.1:2/d"} {
		for _, role := range []string{"consumer", "backend"} {
			p := launch(t, role, "--broker", "nats://127.0.0.1:1", "--store", store, "--admin-listen", "127.0.0.1:0")
			line := p.find(`(error=".*connection refused.*)`)
			if twice := saidTwice(strings.ReplaceAll(line, "127.0.0.1:2: connect: connection refused", "")); twice != "" {
				t.Errorf("%q is said twice: %s", twice, line)
			}
			p.kill()
		}
	}
}

package app

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// A start that is refused leaves no database file behind, which would pass for a store that was emptied.
func TestARefusedStartMakesNoStore(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, path string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != exitUsage {
			t.Errorf("exit code %d: %s", code, stderr.String())
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there (%v), after: %s", path, err, stderr.String())
		}
	}
	t.Run("a consumer whose broker is of no use", func(t *testing.T) {
		t.Parallel()
		nats := servers.StartNATS(t, servers.NATSOptions{NoJetStream: true})
		path := filepath.Join(t.TempDir(), "store.db")
		refused(t, path, "consumer", "--broker", nats.URL(), "--store", "sqlite:"+path, "--admin-listen", "127.0.0.1:0")
	})
	t.Run("a consumer with the wrong path", func(t *testing.T) {
		t.Parallel()
		nats := servers.StartNATS(t, servers.NATSOptions{})
		dir := t.TempDir()
		p := launch(t, "consumer", "--broker", nats.URL(), "--store", "sqlite:"+filepath.Join(dir, "store.db"), "--admin-listen", "127.0.0.1:0")
		p.find("(consumer is running)")
		p.stop()
		path := filepath.Join(dir, "stroe.db")
		refused(t, path, "consumer", "--broker", nats.URL(), "--store", "sqlite:"+path, "--admin-listen", "127.0.0.1:0")
		refused(t, path, "consumer", "--broker", nats.URL(), "--store", "sqlite:"+path, "--admin-listen", "127.0.0.1:0", "--new-store", "--partitions", "7")
	})
	t.Run("up with a limit that no broker has", func(t *testing.T) {
		t.Parallel()
		data := filepath.Join(t.TempDir(), "data")
		refused(t, data, append([]string{"up", "--data", data, "--message-bytes", "8MiB"}, free...)...)
	})
	t.Run("up without the database that its queue knows", func(t *testing.T) {
		t.Parallel()
		data := filepath.Join(t.TempDir(), "data")
		up(t, data).stop()
		path := filepath.Join(data, "store.db")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		refused(t, path, append([]string{"up", "--data", data}, free...)...)
	})
}

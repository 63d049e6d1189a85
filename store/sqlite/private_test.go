//go:build unix

package sqlite

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
)

// The file has everybody's messages, so a new one is its owner's alone, and so are those that SQLite puts beside it.
// One that everybody can read is left as it is, because somebody may rely on that, but there is a warning.
func TestTheFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	var logged bytes.Buffer
	open := func() *Store {
		t.Helper()
		s, err := Open(t.Context(), path, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if _, err := s.Init(t.Context(), drainmark.Deployment{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 2 {
		t.Fatalf("%d files beside it: %v", len(entries), err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v: %v", entry.Name(), info.Mode(), err)
		}
	}
	if err := s.Close(); err != nil || logged.Len() > 0 {
		t.Errorf("%v; logged %s", err, &logged)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open().Close(); err != nil || strings.Count(logged.String(), "everybody on this host") != 1 {
		t.Errorf("%v; logged %q", err, &logged)
	}
}

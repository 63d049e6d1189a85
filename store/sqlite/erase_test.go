package sqlite_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// TestWhatIsErasedIsNotInTheFile looks into the bytes of the file, for a body in its row and for one in pages of its own.
func TestWhatIsErasedIsNotInTheFile(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := newFiller(t, s, 2)
	c := f.next(4)
	small, large := strings.Repeat("a small secret ", 3), strings.Repeat("a large secret ", 4000)
	c.Operations[1].Record.Body, c.Operations[2].Record.Body = []byte(small), []byte(large)
	f.must(c)
	c = f.next(2)
	for i := range c.Operations {
		c.Operations[i].Kind, c.Operations[i].Position = store.Erase, uint64(i+2)
		c.Operations[i].Record.Kind = drainmark.Erase
	}
	f.must(c)
	if err := s.Close(); err != nil { // which brings the write-ahead log into the file
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		content, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, secret := range []string{small[:15], large[:15]} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s still has %q", name, secret)
			}
		}
	}
}

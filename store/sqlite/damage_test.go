package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// claim claims a partition of a store.
func claim(t *testing.T, s *sqlite.Store) error {
	_, err := s.Claim(t.Context(), store.Claim{Owner: "filler", Token: uint64(time.Now().UnixNano())}, time.Hour)
	return err
}

// open is a store in use: a filled log, and a reader.
type open struct {
	*filler
	path   string
	reader *sqlite.Reader
}

func openFilled(t *testing.T, messages int) *open {
	t.Helper()
	path := newFile(t)
	s := openStore(t, path, sqlite.Options{})
	if _, err := s.Init(t.Context(), drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	o := &open{newFiller(t, s, 0), path, openReader(t, path, sqlite.Options{})}
	o.fill(messages)
	if _, err := o.reader.Deployment(t.Context()); err != nil {
		t.Fatal(err)
	}
	return o
}

// shell runs statements as somebody else does.
func (o *open) shell(script string) {
	o.t.Helper()
	run(o.t.(*testing.T), openShell(o.t.(*testing.T), o.path), script)
}

// readAll reads the log page by page, and returns the first error.
func (o *open) readAll() error {
	for after := uint64(0); ; {
		page, err := o.reader.Messages(o.t.Context(), o.log, after, 100)
		if err != nil || after+uint64(len(page.Messages)) >= page.Log.LastPosition {
			return err
		}
		after = page.Messages[len(page.Messages)-1].Position
	}
}

// needsRepair fails the test unless an error says of the file what somebody has to repair, and does so once.
func (o *open) needsRepair(doing string, err error, says string) {
	o.t.Helper()
	if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), says) || strings.Count(err.Error(), o.path) != 1 {
		o.t.Errorf("%s: %v; want %q", doing, err, says)
	}
}

// damage overwrites the file from an offset on, behind the back of those who have it open.
func (o *open) damage(from int64) {
	o.t.Helper()
	o.shell("PRAGMA wal_checkpoint(TRUNCATE)")
	f, err := os.OpenFile(o.path, os.O_RDWR, 0)
	if err != nil {
		o.t.Fatal(err)
	}
	defer closeWell(o.t, f)
	info, err := f.Stat()
	if err != nil || info.Size() <= from {
		o.t.Fatalf("%d bytes, %v", info.Size(), err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size()-from)), from); err != nil {
		o.t.Fatal(err)
	}
}

// moveAway moves the file, and what SQLite has put beside it, and returns what brings it back.
func (o *open) moveAway() (back func()) {
	o.t.Helper()
	move := func(from, to string) {
		for _, end := range []string{"-wal", "-shm", ""} {
			if err := os.Rename(from+end, to+end); err != nil && (end == "" || !errors.Is(err, os.ErrNotExist)) {
				o.t.Error(err)
			}
		}
	}
	move(o.path, o.path+".aside")
	return func() { move(o.path+".aside", o.path) }
}

func TestADamagedFileIsReportedByThoseWhoHaveItOpen(t *testing.T) {
	t.Parallel()
	o := openFilled(t, 10_000)
	whole := o.path + ".copy"
	o.shell(fmt.Sprintf("VACUUM INTO '%s'", whole))
	if err := o.readAll(); err != nil {
		t.Fatal(err)
	}
	o.damage(8 * 4096)
	o.needsRepair("reading", o.readAll(), "is damaged; bring back a copy")
	_, err := store.NewHolder(o.store, partitions).Commit(t.Context(), o.next(1))
	o.needsRepair("committing", err, "is damaged; bring back a copy")
	if err := os.Rename(whole, o.path); err != nil {
		t.Fatal(err)
	}
	if err := o.readAll(); err != nil {
		t.Errorf("reading when a copy was brought back: %v", err)
	}
	if err := o.commit(o.next(1)); err != nil {
		t.Errorf("committing then: %v", err)
	}
}

func TestWhatSomebodyHasDoneToTheTablesIsReported(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, reading, committing, opening string }{
		"a table is removed":   {"DROP TABLE messages", "has not the tables", "has not the tables", "lacks messages"},
		"a column is removed":  {"DROP VIEW log_messages; ALTER TABLE messages DROP COLUMN body", "has not the tables", "has not the tables", ""},
		"an index is removed":  {"DROP INDEX keys_by_age", "", "", "lacks keys_by_age"},
		"messages are removed": {"DELETE FROM messages WHERE id & 0xff = 7", "position 7 is gone", "", ""},
		"the last messages are removed": {
			"DELETE FROM messages WHERE id >= (SELECT max(id) - 5 FROM messages)", "position 495 is gone", "", ""},
		"headers are no headers":    {`UPDATE messages SET headers = '{"a":"\n"}' WHERE id & 0xff = 7`, "message at position 7 of", "", ""},
		"the producers are removed": {"PRAGMA foreign_keys = OFF; DELETE FROM producers", "a producer of messages is gone", "", ""},
		"a message is there too early": {"INSERT INTO messages SELECT id + 1, producer, sequence, accepted_at, persisted_at, content_type, body, headers, erased " +
			"FROM messages ORDER BY id DESC LIMIT 1", "", "contradicts itself", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openFilled(t, 500)
			o.shell(c.script)
			err := o.readAll()
			if c.reading != "" {
				o.needsRepair("reading", err, c.reading)
			} else if err != nil {
				t.Errorf("reading: %v", err)
			}
			if err := o.commit(o.next(1)); c.committing != "" {
				o.needsRepair("committing", err, c.committing)
			} else if err != nil {
				t.Errorf("committing: %v", err)
			}
			if c.opening == "" {
				return
			}
			_, err = sqlite.Open(t.Context(), o.path, sqlite.Options{})
			o.needsRepair("opening", err, c.opening)
			_, err = sqlite.OpenReader(t.Context(), o.path, sqlite.Options{})
			o.needsRepair("opening to read", err, c.opening)
		})
	}
}

func TestAFileThatIsPutInPlaceOfTheStoreIsNotTakenForIt(t *testing.T) {
	t.Parallel()
	another := func(id byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if err == nil && id > 0 {
				_, err = s.Init(t.Context(), drainmark.Deployment{ID: drainmark.DeploymentID{id}, Partitions: 3})
			}
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(content string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		put                 func(t *testing.T, path string)
		reading, committing string
	}{
		"nothing":                      {func(*testing.T, string) {}, "is gone, though it had a store", "is gone, though it had a store"},
		"an empty file":                {file(""), "is empty, though it had a store", "is empty, though it had a store"},
		"no database":                  {file(strings.Repeat("no database ", 1000)), "is not a SQLite database", "is not a SQLite database"},
		"a directory":                  {func(t *testing.T, path string) { _ = os.Mkdir(path, 0o700) }, "is a directory", "is a directory"},
		"a store of nobody":            {another(0), "is empty, though it had a store", "is empty, though it had a store"},
		"a store of another's":         {another(2), "of deployment 0200000000000000 by now", "by now"},
		"the same one, as it was once": {another(1), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openFilled(t, 10)
			back := o.moveAway()
			c.put(t, o.path)
			_, err := o.reader.Claims(t.Context())
			if c.reading != "" {
				o.needsRepair("reading", err, c.reading)
			} else if err != nil {
				t.Errorf("reading: %v", err)
			}
			if err := o.commit(o.next(1)); err == nil {
				t.Error("the first commit is taken for one to the file that was there")
			}
			switch err := o.commit(o.next(1)); {
			case c.committing != "":
				o.needsRepair("committing", err, c.committing)
			case !errors.Is(err, store.ErrFenced):
				t.Errorf("committing: %v", err)
			}
			if err := os.RemoveAll(o.path); err != nil {
				t.Fatal(err)
			}
			for _, end := range []string{"-wal", "-shm"} {
				_ = os.Remove(o.path + end)
			}
			back()
			_ = claim(t, o.store) // may still have gone to what is away now
			if err := errors.Join(o.readAll(), claim(t, o.store)); err != nil {
				t.Errorf("when it was brought back: %v", err)
			}
		})
	}
}

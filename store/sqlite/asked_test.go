package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// documented returns the statements of docs/operating.md that say what has become of a message.
func documented(t *testing.T) (holds, rejected string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for i, part := range strings.Split(string(text), "\n```sql\n") {
		if i > 0 && strings.HasPrefix(part, "WITH asked") {
			found = append(found, part[:strings.Index(part, "\n```")])
		}
	}
	if len(found) != 2 {
		t.Fatalf("%d statements are documented", len(found))
	}
	return found[0], found[1]
}

// The documented statements say what has become of a message, or of a run of them.
func TestSQLSaysWhatBecameOfAMessage(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	f := newFiller(t, openStore(t, path, sqlite.Options{}), 2)
	c := f.next(12)
	letter := func(first, last uint64, reason string, discarded bool) {
		at := drainmark.Span{Partition: 2, Producer: f.producer, First: first, Last: last}
		for i := first; i <= last; i++ {
			c.Operations[i-1] = store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
				ID: at.String(), Span: at, Reason: reason, Discarded: discarded,
			}}
		}
	}
	letter(3, 3, "no such sku", false)
	letter(5, 7, "a damaged batch", false)
	letter(9, 9, "nobody wants it", true)
	f.must(c)
	c = f.next(0)
	later := f.progress.Producers[f.producer] // a gap: 13 and 14 are missing
	later.Done = later.Done.Add(15, 1<<63-1)
	c.Producers[f.producer] = later
	f.must(c)

	holds, rejected := documented(t)
	own := drainmark.Mark{Partition: 2, Producer: f.producer, Sequence: 1}.String()
	own = own[:len(own)-1]
	db := openShell(t, path)
	for _, c := range []struct {
		id     string
		holds  bool
		reason string
	}{
		{own + "1", true, ""}, {own + "3", true, "no such sku"}, {own + "4", true, ""}, {own + "5", true, "a damaged batch"},
		{own + "7", true, "a damaged batch"}, {own + "8", true, ""}, {own + "9", true, "nobody wants it"}, {own + "12", true, ""},
		{own + "13", false, ""}, {own + "14", false, ""}, {own + "15", true, ""}, {own + "9223372036854775807", true, ""},
		{own + "1..1", true, ""}, {own + "1..12", true, "no such sku"}, {own + "4..6", true, "a damaged batch"}, {own + "6..6", true, "a damaged batch"},
		{own + "10..12", true, ""}, {own + "10..13", false, ""}, {own + "8..9", true, "nobody wants it"}, {own + "13..14", false, ""},
		{own + "12..15", false, ""}, {own + "15..9223372036854775807", true, ""},
		{"3" + own[1:] + "1", false, ""}, {drainmark.Mark{Partition: 2, Producer: drainmark.ProducerID{1}, Sequence: 1}.String(), false, ""},
		{"", false, ""}, {"x", false, ""}, {strings.TrimSuffix(own, "-"), false, ""},
	} {
		var held bool
		var reason string
		if err := db.QueryRowContext(t.Context(), holds, sql.Named("id", c.id)).Scan(&held); err != nil || held != c.holds {
			t.Errorf("%s: that it is held is %v, %v", c.id, held, err)
		}
		err := db.QueryRowContext(t.Context(), rejected, sql.Named("id", c.id)).Scan(&reason)
		if err != nil && !errors.Is(err, sql.ErrNoRows) || reason != c.reason {
			t.Errorf("%s: rejected for %q, %v", c.id, reason, err)
		}
	}
}

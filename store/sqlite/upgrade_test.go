package sqlite

import (
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// unpacked are the columns that a dead letter's record had.
const unpacked = `undecoded INTEGER NOT NULL, kind INTEGER NOT NULL, record_log TEXT NOT NULL, content_type TEXT NOT NULL,
	body BLOB NOT NULL, key TEXT NOT NULL, target TEXT NOT NULL, trace TEXT NOT NULL, accepted_at INTEGER NOT NULL,
`

// fromEight is how the schema of version 9 differs from the one before.
var fromEight = [][2]string{
	{"\terasures        INTEGER NOT NULL DEFAULT 0, -- how many there were\n", ""},
	{"\tdeleted         INTEGER NOT NULL DEFAULT 0 -- nobody is shown it until something is written to it\n", ""},
	{"DEFAULT 0, -- of the partition, by the last commit that wrote to the log\n", "DEFAULT 0 -- of the partition, by the last commit that wrote to the log\n"},
	{"\terased       INTEGER NOT NULL DEFAULT 0 -- body, content type and headers are gone\n", ""},
	{"headers      TEXT, -- a JSON", "headers      TEXT -- a JSON"},
	{",\n\tm.erased\n", "\n"}, {listedLogs, ""},
}

// changed returns a text with what is to be replaced replaced.
func changed(t *testing.T, text string, changes ...[2]string) string {
	t.Helper()
	for _, change := range changes {
		if !strings.Contains(text, change[0]) {
			t.Fatalf("the schema does not have %q any more", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text
}

// schemaOne is the schema as version 1 made it.
func schemaOne(t *testing.T) string {
	t.Helper()
	one := changed(t, changed(t, schema, fromEight...), [][2]string{
		{"\trevision        INTEGER NOT NULL DEFAULT 0 -- of the partition, by the last commit that wrote to the log\n", ""},
		{"CREATE INDEX logs_by_revision ON logs (partition, revision);\n", ""},
		{"swept_through   INTEGER NOT NULL, --", "swept_through   INTEGER NOT NULL --"},
		{"rejected  INTEGER NOT NULL,\n\tset_aside INTEGER NOT NULL, --", "rejected  INTEGER NOT NULL --"},
		{"\taccepted_at   INTEGER NOT NULL,\n\tpayload       BLOB NOT NULL,    -- drainmark.DeadLetter.Payload\n", unpacked},
		{",\n\ttrouble   TEXT NOT NULL DEFAULT '' -- why it does not go on (drainmark.Trouble), or empty\n", "\n"},
		{"\n\tclock     INTEGER NOT NULL\n", "\n"},
		{"\tttl       INTEGER NOT NULL, -- how long the lease is\n", ""},
		{"INTEGER NOT NULL, -- known to be alive\n\tttl   INTEGER NOT NULL\n", "INTEGER NOT NULL -- known to be alive\n"},
		{"\tfirst_at    INTEGER NOT NULL, -- clock\n", "\taccepted_at INTEGER NOT NULL,\n"},
		{"ON keys (partition, first_at)", "ON keys (partition, accepted_at)"},
		{",\n\theaders      TEXT -- a JSON object of strings, NULL if there are none\n", "\n"},
		{"\tm.headers,\n", ""},
		{"\taged_from     INTEGER NOT NULL, -- clock when it was set aside last\n", ""},
		{"\tprincipal     TEXT NOT NULL DEFAULT '', -- who sent it, empty if nobody is known\n", ""},
		{lettersByPrincipal, ""},
	}...)
	return fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = 1", one, applicationID)
}

// TestAFileOfTheFirstSchemaIsUpgraded has a file that an older version has made: a store brings it up to date, with all
// that it holds, and until then a reader says what it waits for and that it is worth trying again.
func TestAFileOfTheFirstSchemaIsUpgraded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tenant, err := drainmark.NewHeaders(drainmark.Header{Name: "tenant", Value: "7"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	c, err := connect(ctx, path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		schemaOne(t), "PRAGMA journal_mode = WAL", `INSERT INTO deployment VALUES (1, x'00000000000000000000000000000007', 1)`,
		`INSERT INTO partitions VALUES (0, 'owner', 3, 9000000000000000, 5, '', 0)`,
		`INSERT INTO producers VALUES (1, x'01000000000000000000000000000000')`,
		`INSERT INTO progress VALUES (0, 1, '1-7', 1700000000000000)`,
		`INSERT INTO owners VALUES ('owner', 9000000000000000)`, `INSERT INTO keys VALUES (1, 'key', 0, 1700000000000000, x'00')`,
		`INSERT INTO logs (id, name, partition, last_position, cleared_through, swept_through) VALUES (1, 'old', 0, 2, 1, 1)`,
		`INSERT INTO messages VALUES (1 << 40 | 2, 1, 7, 5, 6, 'text/plain', x'61')`,
		`INSERT INTO dead_letters VALUES
			(1, 0, 'open', 0, x'0a', 10, 10, 'log', '', 0, 1, 0, 0, 1, 'log', 'text/plain', x'0b', 'key', '', 'trace', 7),
			(2, 0, 'discarded', 0, x'0a', 11, 14, '', '', 0, 1, 1, 0, 1, '', '', x'', '', '', '', 0),
			(3, 0, 'undecoded', 0, x'0a', 15, 18, '', '', 0, 1, 0, 1, 1, '', '', x'0c', '', '', '', 8)`,
	} {
		if err := c.script(ctx, script); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}

	r, err := OpenReader(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Ping(ctx); err == nil || !strings.Contains(err.Error(), "schema version 1") {
		t.Errorf("a reader of the old file says %v", err)
	}
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// Existing rows begin to age anew, and nothing is forgotten at once.
	if _, err := s.Sweep(ctx, store.Sweep{Keys: time.Hour, Producers: time.Hour, Forget: []drainmark.ProducerID{{1}}}); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Progress(ctx, 0); err != nil || p.SetAside != 5 || p.Clock != 0 || p.Next(drainmark.ProducerID{1}) != 8 {
		t.Errorf("after the upgrade the progress is %+v (%v)", p, err)
	}
	commit := store.Commit{Token: 3, Revision: 5, Now: time.Now(), Operations: []store.Operation{
		{Kind: store.Append, Record: &drainmark.Record{Log: "new"}},
		{Kind: store.Append, Record: &drainmark.Record{Log: "old", Body: []byte("b"), Headers: tenant}},
	}}
	if _, err := store.NewHolder(s, 1).Commit(ctx, commit); err != nil {
		t.Fatal(err)
	}
	written, err := r.Written(ctx, 0, 5, 10)
	if err != nil || !slices.Equal(slices.Sorted(slices.Values(written.Logs)), []string{"new", "old"}) || written.Version != (drainmark.Version{Token: 3, Revision: 6}) {
		t.Errorf("after the upgrade %+v was written to (%v)", written, err)
	}
	checkUpgradedLetters(t, r)
	checkUpgradedMessages(t, r, tenant)
}

// TestLettersOfAnOlderFileAreOfWhoSentThem: which only their payloads say.
func TestLettersOfAnOlderFileAreOfWhoSentThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "store.db")
	c, err := connect(ctx, path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	seven := changed(t, changed(t, schema, fromEight...), [2]string{lettersByPrincipal, ""},
		[2]string{"\tprincipal     TEXT NOT NULL DEFAULT '', -- who sent it, empty if nobody is known\n", ""})
	for _, script := range []string{
		fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = 7; PRAGMA journal_mode = WAL", seven, applicationID),
		`INSERT INTO deployment VALUES (1, x'00000000000000000000000000000007', 1)`,
	} {
		if err := c.script(ctx, script); err != nil {
			t.Fatal(err)
		}
	}
	for i, sender := range []string{"shop", "shop", "other", "shop", ""} {
		b := drainmark.Batch{Producer: drainmark.ProducerID{1}, First: uint64(i + 1), Records: []drainmark.Record{{Kind: drainmark.Append, Log: "log", Principal: sender}}}
		const letter = "INSERT INTO dead_letters VALUES (?1, 0, ?1, 0, ?2, ?1, ?1, 'log', '', 0, 1, ?3, 0, ?4, 0)"
		if _, err := c.exec(ctx, letter, i+1, b.Producer[:], i == 3, drainmark.EncodeBatch(nil, &b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := OpenReader(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for principal, want := range map[string]int{"shop": 2, "other": 1, "": 1} {
		if n, err := r.CountDeadLetters(ctx, principal, 10); n != want || err != nil {
			t.Errorf("%d dead letters are of %q, not %d (%v)", n, principal, want, err)
		}
	}
}

func checkUpgradedMessages(t *testing.T, r *Reader, tenant drainmark.Headers) {
	t.Helper()
	page, err := r.Messages(t.Context(), "old", 0, 10)
	if err != nil || len(page.Messages) != 2 {
		t.Fatalf("what was there before is %+v (%v)", page, err)
	}
	if before, after := page.Messages[0], page.Messages[1]; string(before.Body) != "a" || !before.Headers.IsZero() || after.Headers != tenant {
		t.Errorf("after the upgrade the messages are %+v", page.Messages)
	}
	view, err := read(t.Context(), r, "reading the view", func(c *conn) (rows []string, err error) {
		const query = "SELECT body || coalesce(headers ->> 'tenant', ' has none') FROM log_messages WHERE log = 'old' ORDER BY position"
		return rows, c.each(t.Context(), query, nil, func(row []driver.Value) error {
			rows = append(rows, text(row[0]))
			return nil
		})
	})
	if err != nil || !slices.Equal(view, []string{"a has none", "b7"}) {
		t.Errorf("after the upgrade the view has %q (%v)", view, err)
	}
}

func checkUpgradedLetters(t *testing.T, r *Reader) {
	t.Helper()
	letters, err := r.DeadLetters(t.Context(), 0, 0, 10)
	if err != nil || len(letters) != 2 {
		t.Fatalf("after the upgrade the letters are %+v (%v)", letters, err)
	}
	want := drainmark.Record{
		Kind: drainmark.Append, Log: "log", ContentType: "text/plain", Body: []byte{0x0b}, Key: "key", AcceptedAt: time.UnixMicro(7).UTC(),
	}
	want.Headers, _ = drainmark.TraceHeaders("trace")
	if record, ok := letters[0].Record(); !ok || !reflect.DeepEqual(record, want) || !letters[0].AcceptedAt.Equal(want.AcceptedAt) {
		t.Errorf("after the upgrade the letter %+v is of %+v", letters[0], record)
	}
	if l := letters[1]; string(l.Payload) != "\x0c" || !l.AcceptedAt.Equal(time.UnixMicro(8)) {
		t.Errorf("after the upgrade the undecoded letter is %+v", l)
	}
}

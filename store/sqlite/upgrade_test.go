package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// schemaOne is the schema as version 1 made it.
func schemaOne(t *testing.T) string {
	t.Helper()
	one := schema
	for _, change := range [][2]string{
		{"\trevision        INTEGER NOT NULL DEFAULT 0 -- of the partition, by the last commit that wrote to the log\n", ""},
		{"CREATE INDEX logs_by_revision ON logs (partition, revision);\n", ""},
		{"swept_through   INTEGER NOT NULL, --", "swept_through   INTEGER NOT NULL --"},
		{"rejected  INTEGER NOT NULL,\n\tset_aside INTEGER NOT NULL DEFAULT 0, --", "rejected  INTEGER NOT NULL --"},
		{"\n\tclock     INTEGER NOT NULL\n", "\n"},
		{"\tttl       INTEGER NOT NULL, -- how long the lease is\n", ""},
		{"INTEGER NOT NULL, -- known to be alive\n\tttl   INTEGER NOT NULL\n", "INTEGER NOT NULL -- known to be alive\n"},
		{"\tfirst_at    INTEGER NOT NULL, -- clock\n", "\taccepted_at INTEGER NOT NULL,\n"},
		{"ON keys (partition, first_at)", "ON keys (partition, accepted_at)"},
		{"\taged_from     INTEGER NOT NULL, -- clock when it was set aside last\n", ""},
	} {
		if !strings.Contains(one, change[0]) {
			t.Fatalf("the schema does not have %q any more", change[0])
		}
		one = strings.Replace(one, change[0], change[1], 1)
	}
	return fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = 1", one, applicationID)
}

// TestAFileOfTheFirstSchemaIsUpgraded says what becomes of a file that an older version has made: a store brings it up to
// date, with all that it holds, and until then a reader says what it waits for and that it is worth trying again.
func TestAFileOfTheFirstSchemaIsUpgraded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
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
		`INSERT INTO logs (id, name, partition, last_position, cleared_through, swept_through) VALUES (1, 'old', 0, 2, 2, 2)`,
		`INSERT INTO dead_letters SELECT NULL, 0, 'letter ' || column1, 0, x'00', 10, 14, '', '', 0, 1, column1, 0, 1, '', '', x'', '', '', '', 0
			FROM (VALUES (0), (1))`, // the second one is discarded
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
	// What there was begins to age anew, and nobody has it forgotten at once.
	if _, err := s.Sweep(ctx, store.Sweep{Keys: time.Hour, Producers: time.Hour, Forget: []drainmark.ProducerID{{1}}}); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Progress(ctx, 0); err != nil || p.SetAside != 5 || p.Clock != 0 || p.Next(drainmark.ProducerID{1}) != 8 {
		t.Errorf("after the upgrade the progress is %+v (%v)", p, err)
	}
	commit := store.Commit{Epoch: 3, Revision: 5, Now: time.Now(), Operations: []store.Operation{
		{Kind: store.Append, Record: &drainmark.Record{Log: "new"}},
	}}
	if _, err := store.NewHolder(s, 1).Commit(ctx, commit); err != nil {
		t.Fatal(err)
	}
	written, err := r.Written(ctx, 0, 5, 10)
	if err != nil || !slices.Equal(written.Logs, []string{"new"}) || written.Version != (drainmark.Version{Epoch: 3, Revision: 6}) {
		t.Errorf("after the upgrade %+v was written to (%v)", written, err)
	}
	if page, err := r.Messages(context.Background(), "old", 0, 1); err != nil || page.Log.LastPosition != 2 {
		t.Errorf("what was there before is %+v (%v)", page.Log, err)
	}
}

// A process of the version before may have the file open, and hold another partition, or take this one over. It compares
// whole digests, and counts dead letters by triggers: both have to be there for it.
func TestAFileIsWhatTheVersionBeforeReads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Claim(ctx, store.Claim{Owner: "owner", Epoch: 1}, time.Hour); err != nil {
		t.Fatal(err)
	}
	letter := &drainmark.DeadLetter{ID: "ours", Run: drainmark.Run{First: 1, Last: 2}}
	commit := store.Commit{Epoch: 1, Now: time.Now(), Operations: []store.Operation{
		{Kind: store.Append, Record: &drainmark.Record{Log: "log", Key: "key", Body: []byte("body")}},
		{Kind: store.SetAside, Letter: letter},
	}}
	if _, err := store.NewHolder(s, 1).Commit(ctx, commit); err != nil {
		t.Fatal(err)
	}
	c, err := connect(ctx, path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	const another = "INSERT INTO dead_letters SELECT NULL, partition, 'theirs', run_partition, producer, 10, 14, log, reason, set_aside_at, " +
		"attempts, discarded, undecoded, kind, record_log, content_type, body, key, target, trace, accepted_at, aged_from FROM dead_letters"
	if err := c.script(ctx, another); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int64{"SELECT length(digest) FROM keys": 32, "SELECT set_aside FROM partitions": 7} {
		if got, err := c.number(ctx, query); err != nil || got != want {
			t.Errorf("%s: %d (%v), want %d", query, got, err, want)
		}
	}
}

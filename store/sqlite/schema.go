package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"regexp"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

const (
	applicationID = 0x444d524b // "DMRK", in the file's header
	schemaVersion = 9          // PRAGMA user_version
)

// upgrades makes a file of each schema version, from 1 on, one of the next.
var upgrades = []func(context.Context, *conn) error{
	statements("ALTER TABLE logs ADD COLUMN revision INTEGER NOT NULL DEFAULT 0; " +
		"CREATE INDEX logs_by_revision ON logs (partition, revision);"),
	statements("ALTER TABLE partitions ADD COLUMN set_aside INTEGER NOT NULL DEFAULT 0; " +
		"UPDATE partitions SET set_aside = (SELECT coalesce(sum(last - first + 1), 0) FROM dead_letters d " +
		"WHERE d.partition = partitions.partition AND NOT d.discarded);"),
	// Existing rows begin to age anew, by clocks that begin with 0.
	statements("ALTER TABLE partitions ADD COLUMN clock INTEGER NOT NULL DEFAULT 0; " +
		"ALTER TABLE partitions ADD COLUMN ttl INTEGER NOT NULL DEFAULT 0; " +
		"ALTER TABLE owners ADD COLUMN ttl INTEGER NOT NULL DEFAULT 0; " +
		"ALTER TABLE dead_letters ADD COLUMN aged_from INTEGER NOT NULL DEFAULT 0; " +
		"ALTER TABLE keys RENAME COLUMN accepted_at TO first_at; " +
		"UPDATE keys SET first_at = 0; UPDATE progress SET last_at = 0;"),
	packLetters,
	statements("ALTER TABLE messages ADD COLUMN headers TEXT; DROP VIEW IF EXISTS log_messages;"),
	statements("ALTER TABLE partitions ADD COLUMN trouble TEXT NOT NULL DEFAULT '';"),
	nameLetters,
	statements("ALTER TABLE logs ADD COLUMN erasures INTEGER NOT NULL DEFAULT 0; " +
		"ALTER TABLE logs ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0; " +
		"ALTER TABLE messages ADD COLUMN erased INTEGER NOT NULL DEFAULT 0; " +
		listedLogs + "DROP VIEW IF EXISTS log_messages; " + messagesView),
}

// statements makes an upgrade of SQL alone.
func statements(script string) func(context.Context, *conn) error {
	return func(ctx context.Context, c *conn) error { return c.script(ctx, script) }
}

// packLetters puts the record of each dead letter, which had columns of its own, into a payload.
func packLetters(ctx context.Context, c *conn) error {
	const unpacked = `SELECT undecoded, run_partition, producer, first, kind, record_log, content_type, body, key, target, trace, accepted_at
		FROM dead_letters WHERE ordinal = ?`
	err := c.script(ctx, "ALTER TABLE dead_letters ADD COLUMN payload BLOB NOT NULL DEFAULT x''; "+
		"DROP TRIGGER IF EXISTS count_new_letter; DROP TRIGGER IF EXISTS count_changed_letter; DROP TRIGGER IF EXISTS count_removed_letter;")
	if err != nil {
		return err
	}
	err = eachOpenLetter(ctx, c, func(ordinal int64) error {
		row, err := c.one(ctx, unpacked, ordinal)
		if err == nil {
			_, err = c.exec(ctx, "UPDATE dead_letters SET payload = ? WHERE ordinal = ?", packed(row), ordinal)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.script(ctx, "ALTER TABLE dead_letters DROP COLUMN undecoded; ALTER TABLE dead_letters DROP COLUMN kind; "+
		"ALTER TABLE dead_letters DROP COLUMN record_log; ALTER TABLE dead_letters DROP COLUMN content_type; "+
		"ALTER TABLE dead_letters DROP COLUMN body; ALTER TABLE dead_letters DROP COLUMN key; "+
		"ALTER TABLE dead_letters DROP COLUMN target; ALTER TABLE dead_letters DROP COLUMN trace;")
}

// eachOpenLetter calls f with the ordinal of each dead letter that is not discarded.
func eachOpenLetter(ctx context.Context, c *conn, f func(ordinal int64) error) error {
	var ordinals []int64
	err := c.each(ctx, "SELECT ordinal FROM dead_letters WHERE NOT discarded", nil, func(row []driver.Value) error {
		ordinals = append(ordinals, integer(row[0]))
		return nil
	})
	for _, ordinal := range ordinals {
		if err == nil {
			err = f(ordinal)
		}
	}
	return err
}

// packed is the payload of a letter of schema version 4.
func packed(row []driver.Value) []byte {
	if truth(row[0]) {
		return blob(row[7])
	}
	batch := drainmark.Batch{Partition: int(integer(row[1])), First: number(row[3]), Records: []drainmark.Record{{
		Kind: drainmark.RecordKind(integer(row[4])), Log: text(row[5]), ContentType: text(row[6]), Body: blob(row[7]),
		Key: text(row[8]), Target: text(row[9]), AcceptedAt: moment(row[11]),
	}}}
	// One that cannot be a header has told nobody anything.
	batch.Records[0].Headers, _ = drainmark.TraceHeaders(text(row[10]))
	copy(batch.Producer[:], blob(row[2]))
	return drainmark.EncodeBatch(nil, &batch)
}

// nameLetters notes beside each open dead letter who sent it, which only its payload said.
func nameLetters(ctx context.Context, c *conn) error {
	err := c.script(ctx, "ALTER TABLE dead_letters ADD COLUMN principal TEXT NOT NULL DEFAULT ''; "+lettersByPrincipal)
	if err != nil {
		return err
	}
	return eachOpenLetter(ctx, c, func(ordinal int64) error {
		row, err := c.one(ctx, "SELECT "+letterColumns+" FROM dead_letters WHERE ordinal = ?", ordinal)
		if err != nil {
			return err
		}
		letter := scanLetter(row)
		if record, ok := letter.Record(); ok {
			_, err = c.exec(ctx, "UPDATE dead_letters SET principal = ? WHERE ordinal = ?", record.Principal, ordinal)
		}
		return err
	})
}

// The limits that the messages' key sets.
const (
	positionBits = 40
	maxPosition  = store.MaxPosition // 1<<positionBits - 1
	maxLogs      = 1<<(63-positionBits) - 1
)

// logLimit is maxLogs, but for tests.
var logLimit int64 = maxLogs

// schema makes an empty file a store. Times are microseconds since the Unix epoch, or, where it says "clock", of the
// partition's own time (drainmark.Progress). Tokens are 64 random bits, shown as signed numbers.
//
// A message's key is its log's id and its position in one number: what a log gains stands together, a page is one scan
// of neighbours, and an append goes to where the last one went.
const schema = `
CREATE TABLE deployment (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	id         BLOB NOT NULL,
	partitions INTEGER NOT NULL
) STRICT;

CREATE TABLE partitions (
	partition INTEGER PRIMARY KEY,
	owner     TEXT NOT NULL,    -- who holds it; empty if nobody does
	epoch     INTEGER NOT NULL,
	until     INTEGER NOT NULL, -- the end of the lease
	ttl       INTEGER NOT NULL, -- how long the lease is
	revision  INTEGER NOT NULL,
	cursor    TEXT NOT NULL,
	rejected  INTEGER NOT NULL,
	set_aside INTEGER NOT NULL, -- records of the dead letters that are not discarded
	clock     INTEGER NOT NULL,
	trouble   TEXT NOT NULL DEFAULT '' -- why it does not go on (drainmark.Trouble), or empty
) STRICT;

CREATE TABLE owners (
	owner TEXT PRIMARY KEY,
	until INTEGER NOT NULL, -- known to be alive
	ttl   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE producers (
	id       INTEGER PRIMARY KEY,
	producer BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE progress (
	partition INTEGER NOT NULL,
	producer  INTEGER NOT NULL REFERENCES producers,
	done      TEXT NOT NULL,    -- sequences, as in 1-500,502-900
	last_at   INTEGER NOT NULL, -- clock
	PRIMARY KEY (partition, producer)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
	id              INTEGER PRIMARY KEY,
	name            TEXT NOT NULL UNIQUE,
	partition       INTEGER NOT NULL,
	last_position   INTEGER NOT NULL,
	cleared_through INTEGER NOT NULL, -- messages up to here do not count any more
	swept_through   INTEGER NOT NULL, -- and up to here they are deleted
	revision        INTEGER NOT NULL DEFAULT 0, -- of the partition, by the last commit that wrote to the log
	erasures        INTEGER NOT NULL DEFAULT 0, -- how many there were
	deleted         INTEGER NOT NULL DEFAULT 0 -- nobody is shown it until something is written to it
) STRICT;
CREATE INDEX logs_by_revision ON logs (partition, revision);
CREATE INDEX logs_to_sweep ON logs (partition) WHERE swept_through < cleared_through;

CREATE TABLE messages (
	id           INTEGER PRIMARY KEY, -- log << 40 | position
	producer     INTEGER NOT NULL REFERENCES producers,
	sequence     INTEGER NOT NULL,
	accepted_at  INTEGER NOT NULL,
	persisted_at INTEGER NOT NULL,
	content_type TEXT NOT NULL,
	body         BLOB NOT NULL,
	headers      TEXT, -- a JSON object of strings, NULL if there are none
	erased       INTEGER NOT NULL DEFAULT 0 -- body, content type and headers are gone
) STRICT;

CREATE TABLE keys (
	log         INTEGER NOT NULL REFERENCES logs,
	key         TEXT NOT NULL,
	partition   INTEGER NOT NULL,
	first_at    INTEGER NOT NULL, -- clock
	digest      BLOB NOT NULL, -- of content type, body and headers
	PRIMARY KEY (log, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_age ON keys (partition, first_at);

CREATE TABLE dead_letters (
	ordinal       INTEGER PRIMARY KEY AUTOINCREMENT,
	partition     INTEGER NOT NULL,
	id            TEXT NOT NULL,
	run_partition INTEGER NOT NULL,
	producer      BLOB NOT NULL,
	first         INTEGER NOT NULL, -- the marks that it accounts for; 0 if they are not known
	last          INTEGER NOT NULL,
	log           TEXT NOT NULL,
	reason        TEXT NOT NULL,
	set_aside_at  INTEGER NOT NULL,
	attempts      INTEGER NOT NULL,
	discarded     INTEGER NOT NULL,
	accepted_at   INTEGER NOT NULL,
	payload       BLOB NOT NULL,    -- drainmark.DeadLetter.Payload
	aged_from     INTEGER NOT NULL, -- clock when it was set aside last
	principal     TEXT NOT NULL DEFAULT '', -- who sent it, empty if nobody is known
	UNIQUE (partition, id)
) STRICT;
CREATE INDEX open_letters ON dead_letters (partition, ordinal) WHERE NOT discarded;
CREATE INDEX discarded_letters ON dead_letters (partition) WHERE discarded;
CREATE INDEX letters_by_mark ON dead_letters (partition, producer, last);
CREATE INDEX letters_of_many_marks ON dead_letters (partition, producer, first) WHERE first < last;
` + lettersByPrincipal + listedLogs + messagesView

const listedLogs = `CREATE INDEX listed_logs ON logs (name) WHERE NOT deleted;
`

const lettersByPrincipal = `CREATE INDEX letters_by_principal ON dead_letters (principal) WHERE NOT discarded;
`

// messagesView is for people.
const messagesView = `
CREATE VIEW log_messages AS
SELECT
	l.name AS log,
	m.id & 0xffffffffff AS position,
	CAST(m.body AS TEXT) AS body,
	m.content_type,
	m.headers,
	strftime('%Y-%m-%dT%H:%M:%S', m.accepted_at / 1000000, 'unixepoch') || printf('.%06dZ', m.accepted_at % 1000000) AS accepted_at,
	strftime('%Y-%m-%dT%H:%M:%S', m.persisted_at / 1000000, 'unixepoch') || printf('.%06dZ', m.persisted_at % 1000000) AS persisted_at,
	l.partition || '-' || lower(hex(p.producer)) || '-' || m.sequence AS id,
	m.erased
FROM logs l
JOIN messages m ON m.id > (l.id << 40 | l.cleared_through) AND m.id < ((l.id + 1) << 40)
JOIN producers p ON p.id = m.producer;
`

// checkSchema returns the schema version of the store in the file, 0 if there is nothing yet. Anything but a store that
// this program knows is store.ErrMisconfigured.
func checkSchema(ctx context.Context, c *conn) (version int64, err error) {
	// In one statement, and so from one state: somebody else may be making the tables right now.
	row, err := c.one(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema)`)
	if err != nil {
		return 0, fmt.Errorf("reading what kind of file it is: %w", err)
	}
	application, version, things := row[0].(int64), row[1].(int64), row[2].(int64)
	switch {
	case application == 0 && version == 0 && things == 0:
		return 0, nil
	case application != applicationID || version < 1:
		return 0, store.Misconfigured("%s is a database of something else than Drainmark", c.path)
	case version > schemaVersion:
		return 0, store.Misconfigured("%s has schema version %d, made by a newer Drainmark; this one knows version %d",
			c.path, version, schemaVersion)
	}
	return version, nil
}

// made matches what the schema makes, but for the view, which is for people.
var made = regexp.MustCompile(`CREATE (?:TABLE|INDEX) (\w+)`)

// checkTables looks whether everything is there that a store of this schema version has. A removed table or index would
// make some calls fail and others wrong.
func checkTables(ctx context.Context, c *conn) error {
	there := map[string]bool{}
	err := c.each(ctx, "SELECT name FROM sqlite_schema", nil, func(row []driver.Value) error {
		there[text(row[0])] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, match := range made.FindAllStringSubmatch(schema, -1) {
		if name := match[1]; !there[name] {
			return store.Misconfigured("%s lacks %s, which Drainmark makes; bring back a copy of it", c.path, name)
		}
	}
	return nil
}

// createSchema makes the file a store of this schema version, from nothing or from an earlier version.
func createSchema(ctx context.Context, c *conn) error {
	return c.transaction(ctx, func() error {
		version, err := checkSchema(ctx, c)
		if err != nil {
			return err
		}
		if version == schemaVersion { // a transaction can begin in a file that is read-only, and no statement run that writes
			return c.script(ctx, "UPDATE deployment SET one = one WHERE FALSE")
		}
		if version == 0 {
			if err := c.script(ctx, schema); err != nil {
				return err
			}
		} else if err := upgrade(ctx, c, version); err != nil {
			return err
		}
		return c.script(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion))
	})
}

// upgrade brings a store of an earlier schema version up to date.
func upgrade(ctx context.Context, c *conn, version int64) error {
	for ; version < schemaVersion; version++ {
		if err := upgrades[version-1](ctx, c); err != nil {
			return fmt.Errorf("upgrading from schema version %d: %w", version, err)
		}
	}
	return nil
}

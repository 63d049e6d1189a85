package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"

	"github.com/drainmark/drainmark/effect"
)

// Statement makes an effect of a statement, for a store in SQLite. The records are the table records of the connection:
//
//	log TEXT, id TEXT, position INTEGER, body BLOB, json TEXT, content_type TEXT, headers TEXT, key TEXT, principal TEXT,
//	accepted_at TEXT
//
// json is the body if it is JSON, headers is a JSON object of strings, key is the idempotency key, and principal is who
// sent it. They are NULL otherwise. accepted_at is in UTC, as in 2026-01-31T12:30:45.123456Z.
func Statement(s effect.Statement) effect.Effect {
	return effect.New(kind, s.Logs, func(ctx context.Context, tx Tx, records []effect.Record) error {
		return tx.(*lentTx).own.apply(ctx, s.SQL, records)
	}, func(_ context.Context, tx Tx) error {
		if _, err := tx.(*lentTx).own.prepare(s.SQL); err != nil {
			return fmt.Errorf("%s: %w", s.At, err)
		}
		return nil
	}, s.Options)
}

const recordsTable = `CREATE TEMP TABLE IF NOT EXISTS records (log TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL,
	body BLOB NOT NULL, json TEXT, content_type TEXT NOT NULL, headers TEXT, key TEXT, principal TEXT,
	accepted_at TEXT NOT NULL)`

var insertRecords = newBulk(
	"INSERT INTO temp.records (log, id, position, body, json, content_type, headers, key, principal, accepted_at) VALUES", 10, "")

// apply runs a statement with the records.
func (c *conn) apply(ctx context.Context, query string, records []effect.Record) error {
	if _, err := c.exec(ctx, "DELETE FROM temp.records"); err != nil {
		return err
	}
	err := insertRecords.insert(c, len(records), func(i int, row []driver.NamedValue) {
		r := &records[i]
		row[0].Value, row[1].Value, row[2].Value, row[3].Value, row[4].Value = r.Log, r.ID, int64(r.Position), value(r.Body), nil
		if json.Valid(r.Body) {
			row[4].Value = string(r.Body)
		}
		row[5].Value, row[6].Value = r.ContentType, headersValue(r.Headers)
		row[7].Value, row[8].Value = orNull(r.Key), orNull(r.Principal)
		row[9].Value = r.AcceptedAt.UTC().Format(timeFormat)
	})
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, query)
	return err
}

// orNull is what stands in a row for a text, of which "" is none.
func orNull(text string) driver.Value {
	if text == "" {
		return nil
	}
	return text
}

// timeFormat is how times are written for people and statements, as in the view log_messages.
const timeFormat = "2006-01-02T15:04:05.000000Z"

package table

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// Answer is what a state of the database says of an id.
type Answer struct {
	ID   string
	Held bool // the state holds its message, by drainmark.holds
	Row  bool // the select has a row of it
}

// snapshotTime is how long the statement of a Snapshot may take.
const snapshotTime = 2 * time.Second

// snapshot is the statement of Snapshot, around the select. The ids are $1, in JSON, and expand makes rows of them. holds says
// whether asked.id is held, and id is the select's column as text.
func snapshot(query, expand, holds, id string) string {
	return fmt.Sprintf(`WITH chosen (id) AS (
%s
), asked (id) AS (%s)
SELECT asked.id, %s, asked.id IN (SELECT %s FROM chosen WHERE %[4]s IN (SELECT id FROM asked)) FROM asked`, query, expand, holds, id)
}

// sqliteHolds is what docs/operating.md has in place of drainmark.holds, of a single id.
const sqliteHolds = `EXISTS (SELECT 1 FROM producers p JOIN progress g ON g.producer = p.id,
	json_each('["' || replace(g.done, ',', '","') || '"]') AS done
	WHERE g.partition = CAST(asked.id AS INTEGER) AND hex(p.producer) = upper(substr(asked.id, instr(asked.id, '-') + 1, 32))
	AND CAST(substr(asked.id, instr(asked.id, '-') + 34) AS INTEGER)
		BETWEEN CAST(done.value AS INTEGER) AND CAST(substr(done.value, instr(done.value, '-') + 1) AS INTEGER))`

// Snapshot asks one state of the database about some ids, in one statement. It takes 4 s at most.
func (t *Table) Snapshot(ctx context.Context, ids []string) ([]Answer, error) {
	return t.snapshotWithin(ctx, 2*snapshotTime, ids) // the server ends it first, if it can
}

func (t *Table) snapshotWithin(ctx context.Context, limit time.Duration, ids []string) ([]Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	list, err := json.Marshal(append([]string{}, ids...))
	if err != nil {
		return nil, fmt.Errorf("writing the ids: %w", err)
	}
	tx, err := t.db.BeginTx(ctx, t.serial)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it has only read
	if t.limit != "" {
		if _, err := tx.ExecContext(ctx, t.limit); err != nil {
			return nil, fmt.Errorf("limiting the time: %w", err)
		}
	}
	rows, err := tx.QueryContext(ctx, t.statement, string(list))
	if err != nil {
		return nil, fmt.Errorf("asking what the database holds, beside the select: %w", err)
	}
	defer rows.Close()
	return answers(rows, len(ids))
}

func answers(rows *sql.Rows, most int) ([]Answer, error) {
	all := make([]Answer, 0, most)
	for rows.Next() {
		var a Answer
		if err := rows.Scan(&a.ID, &a.Held, &a.Row); err != nil {
			return nil, fmt.Errorf("reading what the database holds: %w", err)
		}
		all = append(all, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading what the database holds: %w", err)
	}
	return all, nil
}

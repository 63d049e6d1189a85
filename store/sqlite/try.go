package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// TryEffects applies the effects to messages of a log, returns what that changes in the user's tables, in order, and rolls
// everything back. It fails as Write does if an effect does not let the messages pass.
func (s *Store) TryEffects(ctx context.Context, log string, messages []store.NewMessage) (changes []effect.Change, err error) {
	w := store.Write{Logs: []store.LogWrite{{Messages: messages}}}
	w.Logs[0].Name = log
	err = s.run(ctx, "trying the effects", false, func(c *conn) error {
		changes, err = c.tryEffects(ctx, s.effects, s.setup, &w)
		return &spoiled{&triedError{err}}
	})
	var tried *triedError
	if errors.As(err, &tried) {
		return changes, tried.error
	}
	return nil, err
}

// triedError ends a transaction whose outcome is known: its error, or nil.
type triedError struct{ error }

func (t *triedError) Error() string { return fmt.Sprintf("the effects were tried: %v", t.error) }
func (t *triedError) Unwrap() error { return t.error }

// tryEffects applies the effects and returns what they have changed.
func (c *conn) tryEffects(ctx context.Context, effects *effect.Set[Tx], setup string, w *store.Write) ([]effect.Change, error) {
	if !effects.Any(w) {
		return nil, nil
	}
	if err := c.runSetup(ctx, setup); err != nil {
		return nil, err
	}
	if err := c.watchTables(ctx); err != nil {
		return nil, fmt.Errorf("watching the tables: %w", err)
	}
	if err := c.lend(ctx, func(ctx context.Context, tx Tx) error { return effects.Apply(ctx, tx, w) }); err != nil {
		return nil, err
	}
	var changes []effect.Change
	err := c.each(ctx, "SELECT name, what, before, after FROM temp.changes ORDER BY rowid", nil, func(row []driver.Value) error {
		change := effect.Change{Table: text(row[0]), What: text(row[1])}
		for i, into := range []*map[string]any{&change.Before, &change.After} {
			if kept := text(row[2+i]); kept != "" {
				if err := json.Unmarshal([]byte(kept), into); err != nil {
					return err
				}
			}
		}
		changes = append(changes, change)
		return nil
	})
	return changes, err
}

// watchTables has each change of a table of the user's own noted in a table of the connection, until the transaction is
// rolled back.
func (c *conn) watchTables(ctx context.Context) error {
	if err := c.script(ctx, "CREATE TEMP TABLE changes (name TEXT, what TEXT, before TEXT, after TEXT)"); err != nil {
		return err
	}
	var tables []string
	const all = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
	err := c.each(ctx, all, nil, func(row []driver.Value) error {
		if name := text(row[0]); !ours[name] {
			tables = append(tables, name)
		}
		return nil
	})
	for i := 0; i < len(tables) && err == nil; i++ {
		err = c.watchTable(ctx, tables[i], i)
	}
	return err
}

func (c *conn) watchTable(ctx context.Context, table string, number int) error {
	var before, after []string
	err := c.each(ctx, "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1", []any{table}, func(row []driver.Value) error {
		before = append(before, shown("OLD", text(row[0])))
		after = append(after, shown("NEW", text(row[0])))
		return nil
	})
	if err != nil {
		return err
	}
	old, fresh := "json_object("+strings.Join(before, ", ")+")", "json_object("+strings.Join(after, ", ")+")"
	for what, values := range map[string][2]string{"insert": {"NULL", fresh}, "update": {old, fresh}, "delete": {old, "NULL"}} {
		const watch = "CREATE TEMP TRIGGER watch_%d_%s AFTER %s ON main.%s BEGIN INSERT INTO changes VALUES (%s, '%s', %s, %s); END"
		err := c.script(ctx, fmt.Sprintf(watch, number, what, what, quoted(table, '"'), quoted(table, '\''), what, values[0], values[1]))
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

// shown is a column of a row for json_object, which takes no bytes.
func shown(row, column string) string {
	value := row + "." + quoted(column, '"')
	return fmt.Sprintf("%s, CASE typeof(%s) WHEN 'blob' THEN 'x''' || hex(%s) || '''' ELSE %s END", quoted(column, '\''), value, value, value)
}

func quoted(name string, quote rune) string {
	q := string(quote)
	return q + strings.ReplaceAll(name, q, q+q) + q
}

package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	engine "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/drainmark/drainmark"
)

// conn is one connection to the database, for one goroutine at a time, with the statements that it has prepared.
//
// It speaks to the driver directly. database/sql would add a third to the cost of an insert, and its pool of
// equal connections is not what a single writer needs.
type conn struct {
	raw        driver.Conn
	path       string
	file       os.FileInfo // the file that was opened
	statements map[string]driver.Stmt
	args       []driver.NamedValue // of the call in progress
	row        []driver.Value      // the row that was read last
	lending    *lending            // nil if there are no effects
	gave       bool                // pages were given back, and the file is not smaller yet
}

// connect opens the file at an absolute path. The mode is SQLite's: ro, rw, or rwc, which creates it.
func connect(ctx context.Context, path, mode string, pragmas ...string) (*conn, error) {
	file := url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode}
	connector, err := engine.NewConnector(file.String())
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, path: path, statements: map[string]driver.Stmt{}}
	if c.file, err = os.Stat(path); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	for _, pragma := range pragmas {
		if err := c.script(ctx, "PRAGMA "+pragma); err != nil {
			return nil, errors.Join(fmt.Errorf("setting %s: %w", pragma, err), c.close())
		}
	}
	return c, nil
}

func (c *conn) close() error {
	var failures []error
	if c.moved() {
		// Otherwise SQLite would delete the write-ahead log by its name, which may be another file's by now.
		_, err := c.raw.(engine.FileControl).FileControlPersistWAL("main", 1)
		failures = append(failures, err)
	}
	if c.lending != nil {
		failures = append(failures, c.lending.db.Close())
	}
	for _, s := range c.statements {
		failures = append(failures, s.Close())
	}
	return errors.Join(append(failures, c.raw.Close())...)
}

// moved says whether the file has been removed or replaced since it was opened. SQLite does not notice that: it goes on
// with a file that no longer has a name and ends with the process.
func (c *conn) moved() bool {
	info, err := os.Stat(c.path)
	return errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(info, c.file)
}

// script runs statements that are run once.
func (c *conn) script(ctx context.Context, script string) error {
	_, err := c.raw.(driver.ExecerContext).ExecContext(ctx, script, nil)
	return err
}

// prepare returns the statement, prepared when it is first used.
func (c *conn) prepare(query string) (driver.Stmt, error) {
	if s, ok := c.statements[query]; ok {
		return s, nil
	}
	s, err := c.raw.Prepare(query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s
	return s, nil
}

// bind returns the arguments as the driver wants them. They are good until the next call.
func (c *conn) bind(args []any) []driver.NamedValue {
	bound := c.arguments(len(args))
	for i, arg := range args {
		bound[i].Value = value(arg)
	}
	return bound
}

// arguments returns room for n arguments.
func (c *conn) arguments(n int) []driver.NamedValue {
	for len(c.args) < n {
		c.args = append(c.args, driver.NamedValue{Ordinal: len(c.args) + 1})
	}
	return c.args[:n]
}

// forget drops the arguments, which may be large, so that they can be collected.
func (c *conn) forget() {
	for i := range c.args {
		c.args[i].Value = nil
	}
}

// value turns what the package's queries use into what SQLite stores: times into microseconds, no bytes into no bytes
// instead of NULL, and the 64 bits of an unsigned number into a signed one.
func value(arg any) driver.Value {
	switch v := arg.(type) {
	case int:
		return int64(v)
	case uint64:
		return int64(v)
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case time.Time:
		return v.UnixMicro()
	case time.Duration:
		return v.Microseconds()
	case []byte:
		if v == nil {
			return []byte{}
		}
	}
	return arg
}

// exec runs a statement that gives no rows, and says how many it changed and the last id that it inserted.
func (c *conn) exec(ctx context.Context, query string, args ...any) (driver.Result, error) {
	return c.execBound(ctx, query, c.bind(args))
}

func (c *conn) execBound(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.(driver.StmtExecContext).ExecContext(ctx, args)
}

// each runs a query and calls do with every row, which is good until do returns. do may run no other query. If it
// returns errEnough, no more rows are read.
func (c *conn) each(ctx context.Context, query string, args []any, do func(row []driver.Value) error) (err error) {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(ctx, c.bind(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	n := len(rows.Columns())
	for len(c.row) < n {
		c.row = append(c.row, nil)
	}
	row := c.row[:n]
	for {
		if err := rows.Next(row); err != nil {
			return except(err, io.EOF)
		}
		if err := do(row); err != nil {
			return except(err, errEnough)
		}
	}
}

var errEnough = errors.New("enough rows")

// except returns err unless it is that one.
func except(err, that error) error {
	if err == that {
		return nil
	}
	return err
}

// one runs a query and returns its first row, which is good until the next call, or nil if it gives none.
func (c *conn) one(ctx context.Context, query string, args ...any) (found []driver.Value, err error) {
	err = c.each(ctx, query, args, func(row []driver.Value) error {
		found = row
		return errEnough
	})
	return found, err
}

// number runs a query that gives one number.
func (c *conn) number(ctx context.Context, query string, args ...any) (int64, error) {
	row, err := c.one(ctx, query, args...)
	if err != nil || row == nil {
		return 0, err
	}
	return integer(row[0]), nil
}

// transaction runs do in a transaction that can write.
func (c *conn) transaction(ctx context.Context, do func() error) error {
	if _, err := c.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		_, err = c.exec(ctx, "COMMIT")
	}
	if err != nil {
		c.rollback()
	}
	return err
}

// rollback ends the transaction if there still is one, and says whether the connection is good for another.
func (c *conn) rollback() bool {
	_, err := c.exec(context.Background(), "ROLLBACK")
	// If SQLite has rolled back by itself there is no transaction left, which is a plain error.
	return err == nil || code(err) == codes.SQLITE_ERROR
}

// snapshot runs do in a transaction that only reads: all of its queries see one state.
func (c *conn) snapshot(ctx context.Context, do func() error) error {
	if _, err := c.exec(context.Background(), "BEGIN"); err != nil {
		return err
	}
	err := do()
	if _, end := c.exec(context.Background(), "ROLLBACK"); err == nil {
		err = end
	}
	return err
}

// The columns of STRICT tables have the types that they are declared with, so the other types cannot be met.

func integer(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func number(v driver.Value) uint64 { return uint64(integer(v)) }

func truth(v driver.Value) bool { return integer(v) != 0 }

func moment(v driver.Value) time.Time { return time.UnixMicro(integer(v)).UTC() }

// span returns a duration.
func span(v driver.Value) time.Duration { return time.Duration(integer(v)) * time.Microsecond }

func text(v driver.Value) string {
	s, _ := v.(string)
	return s
}

// headersValue is what stands in a row for headers: a JSON object, or NULL if there are none.
func headersValue(h drainmark.Headers) driver.Value {
	if h.IsZero() {
		return nil
	}
	return string(h.AppendJSON(nil))
}

func blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

package effecttest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/postgres"
)

// Postgres is a database on a server of yours, PostgreSQL 14 or later. The URL names another database there, in which
// nothing is done but to make and drop those of the suite, whose names begin with effecttest_. Its role must be allowed to
// do that (CREATEDB). The schema is SQL that makes the tables of the effect, and puts into them what it needs. It is run
// for each case anew, when all that was there has been dropped.
func Postgres(url, schema string) Database { return &postgresDatabase{url, schema} }

type postgresDatabase struct{ url, schema string }

func (d *postgresDatabase) statement(s effect.Statement) effect.Effect { return postgres.Statement(s) }

func (d *postgresDatabase) begin(t tb, setup string) engine {
	t.Helper()
	u, err := url.Parse(d.url)
	if err != nil { // it may have a password, and so has the error
		t.Fatalf("the URL of the server cannot be read: it must be like postgres://user@host:5432/postgres")
	}
	ours := u.Query().Get("schema")
	if ours == "" {
		ours = "drainmark"
	}
	return &postgresEngine{server: *u, schema: d.schema, setup: setup, ours: ours}
}

// postgresEngine makes databases.
type postgresEngine struct {
	server        url.URL
	schema, setup string
	ours          string // the schema of Drainmark's tables
	database      string
}

// at returns the URL of a database.
func (p *postgresEngine) at(database string) string {
	u := p.server
	u.Path = "/" + database
	return u.String()
}

// connect connects to a database, or to that of the URL if it has no name.
func (p *postgresEngine) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	u := p.server
	if database != "" {
		u.Path = "/" + database
	}
	query := u.Query()
	for _, own := range []string{"schema", "default_query_exec_mode"} { // those of the store alone
		query.Del(own)
	}
	query.Set("timezone", "UTC")
	u.RawQuery = query.Encode()
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("the URL of the server is not one that libpq would take")
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// do runs SQL in a database.
func (p *postgresEngine) do(ctx context.Context, database, sql string) error {
	c, err := p.connect(ctx, database)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

// whole makes or drops a database. Sessions that were closed may still be there for a moment, which the server then waits
// for no longer than some seconds.
func (p *postgresEngine) whole(ctx context.Context, sql string) error {
	const inUse = "55006"
	for wait := (backoff.Backoff{}); ; {
		err := p.do(ctx, "", sql)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != inUse || wait.Wait(ctx) != nil {
			return err
		}
	}
}

// patience is how long a database may take to be made or dropped.
const patience = time.Minute

// create makes a database. It is dropped when the test ends.
func (p *postgresEngine) create(t tb, with string) string {
	t.Helper()
	name := "effecttest_" + strings.ToLower(rand.Text())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.whole(ctx, "CREATE DATABASE "+name+with); err != nil {
		t.Fatalf("making a database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's has ended
		defer cancel()
		if err := p.whole(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("dropping a database: %v", err)
		}
	})
	return name
}

func (p *postgresEngine) prepare(t tb, _ effect.Effect) {
	t.Helper()
	p.database = p.create(t, "")
	opened, err := postgres.Open(t.Context(), p.at(p.database), postgres.Options{Connections: 2})
	if err == nil {
		_, err = opened.Init(t.Context(), deployment)
		err = errors.Join(err, opened.Close())
	}
	if err != nil {
		t.Fatalf("making a store: %v", err)
	}
}

// clearing empties the tables of a store in the schema $ours, and drops everything that is not Drainmark's.
const clearing = `DO $do$ DECLARE s text; BEGIN
	FOR s IN SELECT format('DELETE FROM %I.%I', schemaname, tablename) FROM pg_tables
			WHERE schemaname = $ours AND tablename NOT IN ('deployment', 'migrations')
		UNION ALL SELECT format('DROP EXTENSION IF EXISTS %I CASCADE', extname) FROM pg_extension WHERE extname <> 'plpgsql'
		UNION ALL SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) FROM pg_namespace
			WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'public', $ours)
		UNION ALL SELECT format('DROP %s IF EXISTS public.%I CASCADE', kind, relname)
			FROM pg_class JOIN (VALUES ('r', 'TABLE'), ('p', 'TABLE'), ('f', 'FOREIGN TABLE'), ('v', 'VIEW'), ('m', 'MATERIALIZED VIEW'),
				('S', 'SEQUENCE'), ('c', 'TYPE')) AS kinds (letter, kind) ON letter = relkind
			WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT format('DROP TYPE IF EXISTS public.%I CASCADE', typname) FROM pg_type
			WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')
		UNION ALL SELECT format('DROP ROUTINE IF EXISTS public.%I(%s) CASCADE', proname, pg_get_function_identity_arguments(oid)) FROM pg_proc
			WHERE pronamespace = 'public'::regnamespace
	LOOP
		EXECUTE s;
	END LOOP;
END $do$`

// fresh clears the database: that takes a fraction of the time that it takes to make another one.
func (p *postgresEngine) fresh(t tb, e effect.Effect) string {
	t.Helper()
	ours := "'" + strings.ReplaceAll(p.ours, "'", "''") + "'"
	if err := p.do(t.Context(), p.database, strings.ReplaceAll(clearing, "$ours", ours)); err != nil {
		t.Fatalf("dropping what is in the database: %v", err)
	}
	if err := p.do(t.Context(), p.database, p.schema); err != nil {
		t.Fatalf("making the tables: the schema: %v", err)
	}
	if p.setup != "" {
		if err := p.open(t, p.database, e).Close(); err != nil {
			t.Fatalf("closing the store: %v", err)
		}
	}
	return p.database
}

// copy copies a database. The server waits some seconds for its last sessions to end.
func (p *postgresEngine) copy(t tb, at string) string {
	t.Helper()
	return p.create(t, " TEMPLATE "+at)
}

func (p *postgresEngine) open(t tb, at string, e effect.Effect) store.Store {
	t.Helper()
	o := postgres.Options{Connections: 2, Effects: effect.List{e}, Setup: p.setup}
	opened, err := postgres.Open(t.Context(), p.at(at), o)
	if err != nil {
		t.Fatalf("opening the store with the effect: %v", err)
	}
	return opened
}

func (p *postgresEngine) wrap(e effect.Effect, h *hook) (effect.Effect, bool) {
	return effect.Wrap(e, around(h, func(tx postgres.Tx, fail func() error) postgres.Tx {
		return &failingPostgres{tx, fail}
	}))
}

func (p *postgresEngine) waiting() func(context.Context, string) (bool, error) {
	return func(ctx context.Context, at string) (waits bool, err error) {
		c, err := p.connect(ctx, at)
		if err != nil {
			return false, err
		}
		const question = `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`
		err = c.QueryRow(ctx, question).Scan(&waits)
		return waits, errors.Join(err, c.Close(ctx))
	}
}

func (p *postgresEngine) tables(t tb, at string) map[string]*table {
	t.Helper()
	c, err := p.connect(t.Context(), at)
	if err != nil {
		t.Fatalf("connecting to read the tables: %v", err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	tables, err := p.read(t.Context(), c)
	if err != nil {
		t.Fatalf("reading the tables: %v", err)
	}
	return tables
}

// The tables with their columns, in order: schema, table, column, and whether it is of the primary key.
const postgresColumns = `SELECT n.nspname, c.relname, a.attname, coalesce(a.attnum = ANY (i.indkey), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
	LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
	AND n.nspname NOT IN ('information_schema', $1) AND n.nspname NOT LIKE 'pg\_%'
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2, a.attnum`

func (p *postgresEngine) read(ctx context.Context, c *pgx.Conn) (map[string]*table, error) {
	tables, queries := map[string]*table{}, map[string]string{}
	rows, err := c.Query(ctx, postgresColumns, p.ours)
	if err != nil {
		return nil, err
	}
	var schema, relation, column string
	var key bool
	_, err = pgx.ForEachRow(rows, []any{&schema, &relation, &column, &key}, func() error {
		name := strings.TrimPrefix(schema+"."+relation, "public.")
		t := tables[name]
		if t == nil {
			t = &table{}
			tables[name] = t
		}
		if key {
			t.key = append(t.key, len(t.columns))
		}
		t.columns = append(t.columns, column)
		queries[name] += ", quote_nullable(" + quoted(column) + "::text)"
		if len(t.columns) == 1 {
			queries[name] = "SELECT " + strings.TrimPrefix(queries[name], ", ")
		}
		return nil
	})
	for name, t := range tables {
		if err == nil {
			t.rows, err = readRows(ctx, c, queries[name]+" FROM "+postgresName(name))
		}
	}
	return tables, err
}

// postgresName is the name of a table as an identifier.
func postgresName(name string) string {
	schema, relation, found := strings.Cut(name, ".")
	if !found {
		schema, relation = "public", name
	}
	return pgx.Identifier{schema, relation}.Sanitize()
}

func readRows(ctx context.Context, c *pgx.Conn, query string) ([][]string, error) {
	rows, err := c.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		values := make([]string, len(row.FieldDescriptions()))
		into := make([]any, len(values))
		for i := range values {
			into[i] = &values[i]
		}
		err := row.Scan(into...)
		return values, err
	})
}

// failingPostgres is a transaction whose statements fail when fail says so.
type failingPostgres struct {
	postgres.Tx
	fail func() error
}

func (f *failingPostgres) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := f.fail(); err != nil {
		return pgconn.CommandTag{}, err
	}
	return f.Tx.Exec(ctx, sql, args...)
}

func (f *failingPostgres) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := f.fail(); err != nil {
		return failedRows{err: err}, err
	}
	return f.Tx.Query(ctx, sql, args...)
}

func (f *failingPostgres) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := f.fail(); err != nil {
		return failedRows{err: err}
	}
	return f.Tx.QueryRow(ctx, sql, args...)
}

func (f *failingPostgres) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := f.fail(); err != nil {
		return failedBatch{err}
	}
	return f.Tx.SendBatch(ctx, b)
}

func (f *failingPostgres) CopyFrom(
	ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource,
) (int64, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.Tx.CopyFrom(ctx, table, columns, source)
}

// failedRows are those of a statement that has failed.
type failedRows struct {
	pgx.Rows
	err error
}

func (failedRows) Close()                                       {}
func (r failedRows) Err() error                                 { return r.err }
func (failedRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (failedRows) Next() bool                                   { return false }
func (r failedRows) Scan(...any) error                          { return r.err }
func (r failedRows) Values() ([]any, error)                     { return nil, r.err }
func (failedRows) RawValues() [][]byte                          { return nil }
func (failedRows) Conn() *pgx.Conn                              { return nil }

// failedBatch are the results of a batch that has failed.
type failedBatch struct{ err error }

func (f failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }
func (f failedBatch) Query() (pgx.Rows, error)         { return failedRows{err: f.err}, f.err }
func (f failedBatch) QueryRow() pgx.Row                { return failedRows{err: f.err} }
func (f failedBatch) Close() error                     { return f.err }

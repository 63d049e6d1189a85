package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/deploy/permissions"
	"github.com/drainmark/drainmark/store"
)

// The migrations, in order from version 1. One that has been released is never changed.
//
//go:embed schema
var schemaFiles embed.FS

// schemaVersion is the one that this program makes and knows.
const schemaVersion = 2

// dialect is SQL for the tables of one schema.
type dialect struct {
	schema    string
	quoted    string
	rewritten sync.Map // by the text with the schema drainmark
}

func newDialect(schema string) *dialect {
	return &dialect{schema: schema, quoted: pgx.Identifier{schema}.Sanitize()}
}

// sql returns a statement whose tables are written as drainmark.something, with the right schema.
func (d *dialect) sql(text string) string {
	if known, ok := d.rewritten.Load(text); ok {
		return known.(string)
	}
	rewritten := strings.ReplaceAll(text, "drainmark.", d.quoted+".")
	d.rewritten.Store(text, rewritten)
	return rewritten
}

// file returns an embedded script with the right schema.
func (d *dialect) file(name string) string {
	content, err := schemaFiles.ReadFile("schema/" + name)
	if err != nil {
		panic(err) // it is embedded: a test reads all
	}
	return strings.ReplaceAll(string(content), "drainmark.", d.quoted+".")
}

// script returns what makes the tables, or brings them up to date, in one transaction. It can be run again and again.
func (d *dialect) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, `-- The tables of Drainmark, schema version %d. Run it as the role that is to own them. It changes nothing that is
-- up to date.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtext('drainmark migrate'));
CREATE SCHEMA IF NOT EXISTS %[2]s;
CREATE TABLE IF NOT EXISTS %[2]s.migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());

`, schemaVersion, d.quoted)
	for version := 1; version <= schemaVersion; version++ {
		fmt.Fprintf(&b, "DO $migration$ BEGIN\nIF EXISTS (SELECT FROM %s.migrations WHERE version = %d) THEN RETURN; END IF;\n\n"+
			"%s\nINSERT INTO %[1]s.migrations (version) VALUES (%[2]d);\nEND $migration$;\n\n",
			d.quoted, version, d.file(fmt.Sprint(version, ".sql")))
	}
	b.WriteString(d.file("functions.sql"))
	b.WriteString("\n")
	b.WriteString(d.grants())
	b.WriteString("COMMIT;\n")
	return b.String()
}

// The roles that the grants are for: those that deploy/permissions/postgres.sql names if nobody names others.
const (
	roleConsumer = "drainmark_consumer" // claims and commits
	roleBackend  = "drainmark_backend"  // reads
	roleReader   = "drainmark_reader"   // an application's: asks the functions
)

var roles = []string{roleConsumer, roleBackend, roleReader}

// grantsTo returns the statements of deploy/permissions/postgres.sql that give a role its rights. There they are for psql:
// schema and roles are its variables.
func (d *dialect) grantsTo(role string) (statements []string) {
	script, err := permissions.Files.ReadFile("postgres.sql")
	if err != nil {
		panic(err) // it is embedded: a test reads all
	}
	to := ` TO :"` + strings.TrimPrefix(role, "drainmark_") + `";`
	for line := range strings.Lines(string(script)) {
		statement, found := strings.CutSuffix(strings.TrimSpace(line), to)
		if found {
			statements = append(statements, strings.ReplaceAll(statement, `:"schema"`, d.quoted)+" TO "+role+";")
		}
	}
	return statements
}

// grants returns what gives the roles their rights, those of them that there are.
func (d *dialect) grants() string {
	var b strings.Builder
	b.WriteString("-- What the roles may do, of those that exist. Everybody may call the functions who may read what they read.\n")
	for _, role := range roles {
		fmt.Fprintf(&b, "DO $grants$ BEGIN\n"+
			"IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '%s') THEN RETURN; END IF;\n"+
			"%s\nEND $grants$;\n", role, strings.Join(d.grantsTo(role), "\n"))
	}
	return b.String()
}

// roleScript returns what makes the roles, which nobody can log in as: others become members of them.
func roleScript() string {
	var b strings.Builder
	b.WriteString("-- The roles. Give them to those who log in: GRANT " + roleConsumer + " TO …; It needs a role that may create roles.\n")
	for _, role := range roles {
		fmt.Fprintf(&b, "DO $role$ BEGIN\nIF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '%s') THEN\n"+
			"CREATE ROLE %[1]s NOLOGIN;\nEND IF;\nEND $role$;\n", role)
	}
	return b.String()
}

// Script returns the SQL that Migrate runs, for somebody else to run, and before it what makes the roles if they are
// wanted. It connects to nothing. store.ErrMisconfigured if the URL is malformed.
func Script(url string, withRoles bool) (string, error) {
	t, err := parseURL(url)
	if err != nil {
		return "", err
	}
	script := newDialect(t.schema).script()
	if withRoles {
		script = roleScript() + "\n" + script
	}
	return script, nil
}

// Migrate makes the tables, or brings them up to date, and returns which version they had (0 for none) and have. It
// needs a role that may create a schema in the database, or owns the tables. It says no of a database that Open would
// not take.
func Migrate(ctx context.Context, url string, o Options) (from, to int, err error) {
	t, err := parseURL(url)
	if err != nil {
		return 0, 0, err
	}
	o = o.withDefaults()
	s := &Store{dialect: newDialect(t.schema), sync: t.sync}
	primary := t.primary()
	logIn(primary, o.Credentials)
	if s.claims, err = newClient(primary, 1, o.Timeout); err != nil {
		return 0, 0, err
	}
	defer s.claims.close()
	if err = s.check(ctx); err == nil {
		if from, err = s.version(ctx); err == nil {
			err = s.migrate(ctx)
		}
	}
	return from, schemaVersion, err
}

// version returns the version of the tables, 0 if there are none. store.ErrMisconfigured if they are a newer program's.
func (s *Store) version(ctx context.Context) (int, error) {
	return use(ctx, s.claims, "reading the tables' version", func(ctx context.Context, c *pgx.Conn) (int, error) {
		version, err := s.readVersion(ctx, c)
		if missing(err) {
			return 0, nil
		}
		return version, err
	})
}

func (d *dialect) readVersion(ctx context.Context, c *pgx.Conn) (version int, err error) {
	err = c.QueryRow(ctx, d.sql("SELECT coalesce(max(version), 0) FROM drainmark.migrations")).Scan(&version)
	if err == nil && version > schemaVersion {
		err = store.Misconfigured("the tables have version %d, made by a newer Drainmark; this one knows version %d",
			version, schemaVersion)
	}
	return version, err
}

// upgrade brings older tables up to date. It leaves a database alone that has none, and checks those that are there.
func (s *Store) upgrade(ctx context.Context) error {
	version, err := s.version(ctx)
	switch {
	case err != nil || version == 0:
		return err
	case version < schemaVersion:
		if err := s.migrate(ctx); err != nil {
			return err
		}
	}
	return s.checkTables(ctx)
}

// migrate runs the script. It is one transaction, and others who do the same wait for it.
func (s *Store) migrate(ctx context.Context) error {
	_, err := use(ctx, s.claims, "making the tables", func(ctx context.Context, c *pgx.Conn) (struct{}, error) {
		_, err := c.PgConn().Exec(ctx, s.script()).ReadAll()
		if err != nil {
			_, _ = c.PgConn().Exec(ctx, "ROLLBACK").ReadAll()
		}
		if codeOf(err) == "42501" {
			err = store.Misconfigured(`the role may not make or change the tables: run "drainmark migrate" once as one that may, `+
				`or give what "drainmark migrate --print" prints to whoever may: %w`, serverError{said(err)})
		}
		return struct{}{}, err
	})
	return err
}

// checkTables refuses tables that would not survive a crash, or lack something.
func (s *Store) checkTables(ctx context.Context) error {
	const query = `SELECT c.relname, c.relpersistence = 'p' FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')`
	_, err := use(ctx, s.claims, "checking the tables", func(ctx context.Context, c *pgx.Conn) (struct{}, error) {
		there := map[string]bool{}
		rows, err := c.Query(ctx, query, s.schema)
		if err != nil {
			return struct{}{}, err
		}
		var name string
		var permanent bool
		_, err = pgx.ForEachRow(rows, []any{&name, &permanent}, func() error {
			if there[name] = true; !permanent {
				return store.Misconfigured("the table %s is unlogged, and would be empty after a crash: "+
					"ALTER TABLE %s.%[1]s SET LOGGED", name, s.quoted)
			}
			return nil
		})
		return struct{}{}, errors.Join(err, s.lacking(there, err))
	})
	return err
}

var tables = []string{
	"deployment", "partitions", "claims", "owners", "progress", "logs", "recent", "messages", "keys", "dead_letters",
}

func (s *Store) lacking(there map[string]bool, failed error) error {
	for _, name := range tables {
		if failed == nil && !there[name] {
			return store.Misconfigured("the table %s is gone from the schema %s; bring back a copy of it", name, s.quoted)
		}
	}
	return nil
}

// Package effecttest is a suite with which you test an effect of your own, a Handler in Go or a SQL statement, before a
// deployment applies it to records that you care about.
//
//	func TestOrders(t *testing.T) {
//		effecttest.Run(t, effecttest.SQLite(schema), sqlite.Effect("orders", apply, effect.Options{}),
//			`{"sku": "ball", "count": 2}`, `{"sku": "net", "count": 1}`, `{"sku": "ball", "count": 1}`, `{"sku": "none"}`)
//	}
//
// It needs tables (schema), the effect, and sample records: four at least, ten are better. Choose some that touch the same
// rows, some that do not, and some that the effect rejects or fails for. They are the only knowledge that the suite has
// of your effect, so it finds only what they can show. Nothing need be said of what the tables should contain: the suite
// applies the records in all the ways in which a deployment may come to apply them, through the store itself, and
// compares all tables, row by row. What a deployment may do:
//
//   - put any number of records into a commit, and try them again in smaller parts when one of them fails
//   - lose a commit behind the last line of the handler, and call it again with the same records
//   - lose the last commits in a failover, and apply their records again to the earlier state
//   - hand a partition over to another process, and find a commit of the former one too late
//   - apply records of two partitions at the same time
//
// A right effect gives the same tables each time: what it does follows from the records and the tables alone.
// Each case is a sub-test. Its failure says which table, row and column differ, and what to look for.
//
// The columns that may differ, such as a serial number (a PostgreSQL sequence is not rolled back) or a DEFAULT now(), are
// named in Suite.Ignore. Tables are compared by their rows, whatever the order in which they are stored.
//
// The suite cannot see what a handler does outside of the database. It does not compare virtual tables of SQLite.
package effecttest

import (
	"context"
	"testing"

	"github.com/drainmark/drainmark/effect"
)

// Suite is a test of an effect. Database, Effect and Records must be given.
type Suite struct {
	Database Database
	Effect   effect.Effect
	// Records are samples, in the order in which they are applied. Log, ID and Position are the suite's to give, and so
	// are ContentType and AcceptedAt where they are not set.
	Records []effect.Record
	// Log is the name of the log: that of the effect unless it is set, with 1 in place of the * if that is of many.
	Log string
	// Ignore has what may differ: a table, or a column as table.column. A table of PostgreSQL that is not in the schema
	// public has its schema before it.
	Ignore []string

	setup string // of a file of effects
}

// Database is a kind of database, with tables for an effect. SQLite and Postgres make one.
type Database interface {
	// begin starts a suite with effects of this kind of database.
	begin(t tb, setup string) engine
	statement(effect.Statement) effect.Effect
}

// tb is what the cases use of a *testing.T.
type tb interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	TempDir() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Run tests an effect with sample records that have these bodies.
func Run(t *testing.T, d Database, e effect.Effect, bodies ...string) {
	t.Helper()
	Suite{Database: d, Effect: e, Records: Bodies(bodies...)}.Run(t)
}

// RunFile tests the effect that a file of effects has for a log, with sample records that have these bodies.
func RunFile(t *testing.T, d Database, path, log string, bodies ...string) {
	t.Helper()
	FromFile(t, d, path, log, bodies...).Run(t)
}

// FromFile returns the suite that RunFile runs, for those who set more of it.
func FromFile(t testing.TB, d Database, path, log string, bodies ...string) Suite {
	t.Helper()
	file, err := effect.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var effects effect.List
	for _, s := range file.Effects {
		effects = append(effects, d.statement(s))
	}
	of := effects.Of(log)
	if of == nil {
		t.Fatalf("%s has no effect of the log %s", path, log)
	}
	return Suite{Database: d, Effect: *of, Log: log, Records: Bodies(bodies...), setup: file.Setup}
}

// Bodies returns records with these bodies.
func Bodies(bodies ...string) []effect.Record {
	records := make([]effect.Record, len(bodies))
	for i, body := range bodies {
		records[i].Body = []byte(body)
	}
	return records
}

// Run runs the cases, one after another, as sub-tests.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	b := s.begin(t)
	for i, c := range b.cases() {
		passed := t.Run(c.name, func(t *testing.T) { c.check(b, t) })
		if i == 0 && !passed { // the others stand on it
			return
		}
	}
}

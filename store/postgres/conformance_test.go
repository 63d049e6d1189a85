package postgres

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// Those who log in, and have the rights of deploy/permissions/postgres.sql. The owner of the tables is another one.
const (
	appConsumer = "app_consumer"
	appBackend  = "app_backend"
	appOther    = "app_other" // an application's
)

// makeUsers makes those who log in.
func makeUsers(p *servers.Postgres) {
	for _, user := range []string{appConsumer, appBackend, appOther} {
		p.Do(fmt.Sprintf("CREATE ROLE %s LOGIN", user))
	}
}

// makeTables makes the tables in a schema, and grants their rights to those who log in, if nobody else is named.
func makeTables(t servers.T, p *servers.Postgres, schema string, roles ...string) {
	t.Helper()
	script, err := Script(urlIn(p, schema), false)
	if err != nil {
		t.Fatalf("%v", err)
	}
	p.Do(script)
	variables := append([]string{"schema=" + schema, "consumer=" + appConsumer, "backend=" + appBackend, "reader=" + appOther}, roles...)
	p.Script(servers.Permissions(t, "postgres.sql"), variables...)
}

// database is a schema of a primary, whose hot standby the readers read. Stores and readers have the least rights.
type database struct {
	primary *servers.Postgres
	standby *servers.Postgres
	schema  string
}

func (d database) Store(t storetest.T) store.Store {
	s, err := Open(t.Context(), d.primary.URL(appConsumer)+"&schema="+d.schema, Options{Connections: 4})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func (d database) Reader(t storetest.T) store.Reader {
	r, err := OpenReader(t.Context(), d.standby.URL(appBackend)+"&schema="+d.schema, Options{Connections: 4})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

// Restart kills the primary's processes and starts it again. The standby stays, and connects again.
func (d database) Restart(storetest.T) {
	d.primary.Kill()
	d.primary.Start()
}

// SetBack moves the ends of all leases away instead, because the server's clock cannot be set.
func (d database) SetBack(_ storetest.T, by time.Duration) {
	for _, table := range []string{"claims", "owners"} {
		d.primary.Do(fmt.Sprintf("UPDATE %s.%s SET until = until + interval '%f seconds'", d.schema, table, by.Seconds()))
	}
}

func newDatabase(t servers.T, primary, standby *servers.Postgres, schema string) database {
	t.Helper()
	makeTables(t, primary, schema)
	standby.CaughtUp() // tables and grants are two transactions
	return database{primary, standby, schema}
}

func startPair(t servers.T) (primary, standby *servers.Postgres) {
	t.Helper()
	primary = servers.StartPostgres(t, servers.PostgresOptions{})
	makeUsers(primary)
	return primary, servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: primary})
}

var schemas atomic.Int64

// newSchema returns the name of a schema that nobody else uses.
func newSchema() string { return fmt.Sprintf("drainmark_%d", schemas.Add(1)) }

// TestConformance runs the suite on a primary with a hot standby, which the cases share. Those that kill the primary
// have one of their own.
func TestConformance(t *testing.T) {
	t.Parallel()
	primary, standby := startPair(t)
	shared := storetest.Harness{New: func(t storetest.T) storetest.Database {
		return newDatabase(t, primary, standby, newSchema())
	}}
	alone := storetest.Harness{New: func(t storetest.T) storetest.Database {
		primary, standby := startPair(t)
		return newDatabase(t, primary, standby, defaultSchema)
	}}
	t.Run("suite", func(t *testing.T) {
		for _, c := range storetest.Cases() {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				h := shared
				if strings.Contains(c.Name, "restart") {
					h = alone
				}
				c.Run(t, h)
			})
		}
	})
}

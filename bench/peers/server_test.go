package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/drainmark/drainmark/test/servers"
)

const (
	// table is the user's own. It has no unique constraint, so that it shows a record that was applied twice. id is what
	// the contender calls the message.
	table = "CREATE TABLE own (id text NOT NULL, body text NOT NULL); CREATE INDEX ON own (id)"

	// insert is what every contender runs for a record, but for those of Drainmark that say otherwise.
	insert = "INSERT INTO own (id, body) VALUES ($1, $2)"

	bodyBytes = 200
)

// bodies makes n bodies. Each begins with its number.
func bodies(n int) []string {
	made := make([]string, n)
	for i := range made {
		made[i] = fmt.Sprintf("%-*d", bodyBytes, i)
	}
	return made
}

// server is the PostgreSQL server of all contenders.
type server struct {
	*servers.Postgres
	databases int
}

// start starts a server that syncs each commit. The tables of a backlog fit into its memory, which is in favour of those
// that keep it there, and no checkpoint falls into a run because of its size.
func start(t testing.TB) *server {
	t.Helper()
	s := &server{Postgres: servers.StartPostgres(t, servers.PostgresOptions{
		Settings: []string{"shared_buffers = 512MB", "max_wal_size = 8GB", "checkpoint_timeout = 1h", "max_connections = 400"},
	})}
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if value := s.Do("SHOW " + setting)[0]; value != "on" {
			t.Fatalf("%s is %s", setting, value)
		}
	}
	return s
}

// processorTime returns what this process and the server's have used until now, as /proc has it: 0 where there is none.
func (s *server) processorTime() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100
	var used time.Duration
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path) // it may have ended
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // state, parent, …, user, system, and both of children that have ended
		if len(fields) < 15 {
			continue
		}
		switch pid, parent := filepath.Base(filepath.Dir(path)), fields[1]; {
		case pid == strconv.Itoa(s.PID()):
			fields = fields[11:15]
		case pid == strconv.Itoa(os.Getpid()), parent == strconv.Itoa(s.PID()):
			fields = fields[11:13]
		default:
			continue
		}
		for _, field := range fields {
			ticks, _ := strconv.Atoi(field)
			used += time.Duration(ticks) * tick
		}
	}
	return used
}

// database is one contender's, for one run.
type database struct {
	url  string
	conn *pgx.Conn // watches
}

// database makes an empty one with the table. It is dropped when the test ends.
func (s *server) database(t testing.TB) *database {
	t.Helper()
	s.databases++
	name := fmt.Sprint("run", s.databases)
	s.Do("CREATE DATABASE " + name)
	t.Cleanup(func() { s.Do("DROP DATABASE " + name + " WITH (FORCE)") })
	d := &database{url: strings.Replace(s.URL(servers.PostgresUser), "/postgres?", "/"+name+"?", 1)}
	conn, err := pgx.Connect(t.Context(), d.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	d.conn = conn
	d.do(t, table)
	return d
}

func (d *database) do(t testing.TB, sql string) {
	t.Helper()
	if _, err := d.conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// settle has the server do what it would have done if the backlog had waited for long.
func (d *database) settle(t testing.TB) {
	t.Helper()
	d.do(t, "VACUUM ANALYZE")
	d.do(t, "CHECKPOINT")
}

const (
	// watchEvery is how often await looks. To look takes a millisecond or two.
	watchEvery = 50 * time.Millisecond
	// patience is how long a run may take.
	patience = 10 * time.Minute
)

// await returns when so many rows are in the table.
func (d *database) await(t testing.TB, rows int) {
	t.Helper()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		var there int
		if err := d.conn.QueryRow(t.Context(), "SELECT count(*) FROM own").Scan(&there); err != nil {
			t.Fatal(err)
		}
		if there >= rows {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v the table has %d of %d rows", patience, there, rows)
		}
	}
}

// check says whether the table has each of so many records once, whole, and nothing else.
func (d *database) check(records int) error {
	const counts = `SELECT count(*), count(DISTINCT body),
		count(*) FILTER (WHERE length(body) = $2 AND rtrim(body)::int BETWEEN 0 AND $1 - 1) FROM own`
	var rows, distinct, whole int
	if err := d.conn.QueryRow(context.Background(), counts, records, bodyBytes).Scan(&rows, &distinct, &whole); err != nil {
		return fmt.Errorf("counting the table's rows: %w", err)
	}
	if rows != records || distinct != records || whole != records {
		return fmt.Errorf("the table has %d rows, %d different ones and %d whole ones, for %d records", rows, distinct, whole, records)
	}
	return nil
}

// connect opens a pool of at most so many connections.
func connect(t testing.TB, url string, most int) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = int32(most)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

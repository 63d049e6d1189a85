package postgres

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// measured runs do again and again and reports rows a second and percentiles.
func measured(b *testing.B, rows int, do func()) {
	b.Helper()
	var took []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		do()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(b.N)*float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// bareInsert is what the driver does at best with the rows of a commit: one transaction of one INSERT by unnest into a
// table with the same columns and key, with the same durability.
type bareInsert struct {
	pool *pgxpool.Pool
	next int64
}

func newBare(b *testing.B, p *servers.Postgres, mode pgx.QueryExecMode) *bareInsert {
	b.Helper()
	p.Do(`DROP TABLE IF EXISTS bare; CREATE TABLE bare (log bigint NOT NULL, position bigint NOT NULL, producer uuid NOT NULL, sequence bigint NOT NULL,
		accepted_at timestamptz NOT NULL, persisted_at timestamptz NOT NULL, content_type text NOT NULL, body bytea NOT NULL, headers jsonb,
		PRIMARY KEY (log, position))`)
	config, err := pgxpool.ParseConfig(p.URL(servers.PostgresUser))
	if err != nil {
		b.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = mode
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return &bareInsert{pool: pool}
}

// insert inserts n rows, in a transaction that is begun and committed with its rows in one round trip.
func (i *bareInsert) insert(ctx context.Context, n int) error {
	d := newDialect("public")
	t := writing{dialect: d, logs: map[string]int64{"log": 1}, w: &store.Write{Logs: []store.LogWrite{{LogInfo: drainmark.LogInfo{Name: "log"}}}}}
	body, now := make([]byte, 200), time.Now()
	for range n {
		i.next++
		t.w.Logs[0].Messages = append(t.w.Logs[0].Messages, store.NewMessage{Message: drainmark.Message{
			Position: uint64(i.next), Mark: drainmark.Mark{Sequence: uint64(i.next)}, Body: body, ContentType: "text/plain; charset=utf-8",
			AcceptedAt: now, PersistedAt: now,
		}})
	}
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	t.writeMessages(batch)
	batch.QueuedQueries[1].SQL = bareSQL
	batch.Queue("COMMIT")
	return i.pool.SendBatch(ctx, batch).Close()
}

var bareSQL = "INSERT INTO bare" + strings.TrimPrefix(insertMessages, "INSERT INTO drainmark.messages")

// inTurns runs both in turns, because a busy machine is not equally fast all the time, and reports how many times as
// long the median of the first takes.
func inTurns(b *testing.B, rows int, do, than func()) {
	b.Helper()
	var took [2][]time.Duration
	for b.Loop() {
		for i, do := range []func(){do, than} {
			start := time.Now()
			do()
			took[i] = append(took[i], time.Since(start))
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	median, bare := took[0][len(took[0])/2], took[1][len(took[1])/2]
	b.ReportMetric(float64(rows)/median.Seconds(), "rows/s")
	b.ReportMetric(float64(rows)/bare.Seconds(), "bare-rows/s")
	b.ReportMetric(median.Seconds()/bare.Seconds(), "times")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkCommit(b *testing.B) {
	p := servers.StartPostgres(b, servers.PostgresOptions{})
	for _, mode := range []string{"cache_describe", "cache_statement"} {
		for _, n := range []int{1, 500, 2000} {
			b.Run(fmt.Sprintf("%s/%d records", mode, n), func(b *testing.B) {
				bare := newBare(b, p, pgx.QueryExecModeCacheStatement)
				f := newFiller(b, openStore(b, urlIn(p, newSchema())+"&default_query_exec_mode="+mode, Options{}))
				inTurns(b, n, func() { f.must(b, f.next(n, 200)) }, func() {
					if err := bare.insert(b.Context(), n); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
	b.Run("500 records with keys", func(b *testing.B) {
		f := newFiller(b, openStore(b, urlIn(p, newSchema()), Options{}))
		keys := 0
		measured(b, 500, func() {
			c := f.next(500, 200)
			for i := range c.Operations {
				keys++
				c.Operations[i].Record.Key = fmt.Sprintf("a-key-of-some-length-%08x", keys*2654435761)
			}
			f.must(b, c)
		})
	})
}

// BenchmarkCommitWithAnOldSnapshot drains while somebody holds a snapshot open from before, and without.
func BenchmarkCommitWithAnOldSnapshot(b *testing.B) {
	p := servers.StartPostgres(b, servers.PostgresOptions{})
	for _, old := range []bool{false, true} {
		b.Run(fmt.Sprintf("old snapshot %v", old), func(b *testing.B) {
			f := newFiller(b, openStore(b, urlIn(p, newSchema()), Options{}))
			if old {
				c := connectAs(b, p, servers.PostgresUser)
				for _, sql := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM pg_class"} {
					if _, err := c.Exec(b.Context(), sql); err != nil {
						b.Fatal(err)
					}
				}
			}
			measured(b, 500, func() { f.must(b, f.next(500, 200)) })
		})
	}
}

// BenchmarkPage reads a page of 100 at the beginning, the middle and the end of a log of a million, in turns with the
// same of a log of a thousand, which must not cost less, and with the bare driver.
func BenchmarkPage(b *testing.B) {
	p := servers.StartPostgres(b, servers.PostgresOptions{})
	const short, long = 1000, 1_000_000
	page := func(size int) (at func(after int) func(), schema *dialect) {
		f := newFiller(b, openStore(b, urlIn(p, newSchema()), Options{Timeout: patience}))
		for left := size; left > 0; left -= 10_000 {
			f.must(b, f.next(min(left, 10_000), 200))
		}
		r := openReader(b, urlIn(p, f.store.schema), Options{})
		return func(after int) func() {
			return func() {
				page, err := r.Messages(b.Context(), f.log, uint64(after), 100)
				if err != nil || len(page.Messages) != 100 {
					b.Fatalf("%d messages, %v", len(page.Messages), err)
				}
			}
		}, f.store.dialect
	}
	ofShort, _ := page(short)
	ofLong, schema := page(long)
	p.Do("VACUUM ANALYZE")
	bare := newBare(b, p, pgx.QueryExecModeCacheDescribe)
	for name, at := range map[string][2]int{"the beginning": {0, 0}, "the middle": {long / 2, short / 2}, "the end": {long - 100, short - 100}} {
		b.Run(name+" of a long log against a short one", func(b *testing.B) { inTurns(b, 100, ofLong(at[0]), ofShort(at[1])) })
	}
	b.Run("against the bare driver", func(b *testing.B) {
		inTurns(b, 100, ofLong(long/2), func() { bare.page(b, schema, long/2) })
	})
}

// page reads 100 messages as whoever knows the log's number would.
func (i *bareInsert) page(b *testing.B, d *dialect, after int) {
	b.Helper()
	const query = `SELECT position, producer, sequence, accepted_at, persisted_at, content_type, body, headers::text FROM drainmark.messages
		WHERE log = 1 AND position > $1 ORDER BY position LIMIT 100`
	rows, err := i.pool.Query(b.Context(), d.sql(query), after)
	if err != nil {
		b.Fatal(err)
	}
	var l line
	columns := []any{&l.position, &l.producer, &l.sequence, &l.accepted, &l.persisted, &l.contentType, &l.body, &l.headers}
	tag, err := pgx.ForEachRow(rows, columns, func() error { return nil })
	if err != nil || tag.RowsAffected() != 100 {
		b.Fatal(tag, err)
	}
}

// BenchmarkVisible is what a barrier costs the store: from the commit of nothing until a reader that watches shows it.
func BenchmarkVisible(b *testing.B) {
	primary, standby := startPair(b)
	for name, server := range map[string]*servers.Postgres{"on the primary": primary, "on a standby": standby} {
		b.Run(name, func(b *testing.B) {
			f := newFiller(b, openStore(b, urlIn(primary, newSchema()), Options{}))
			standby.CaughtUp()
			r := openReader(b, urlIn(server, f.store.schema), Options{})
			changes, err := r.Changes(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			measured(b, 1, func() {
				f.must(b, f.next(0, 0))
				for {
					seen, err := r.Progress(b.Context(), 0)
					if err != nil {
						b.Fatal(err)
					}
					if seen.Includes(f.progress.Version) {
						return
					}
					<-changes
				}
			})
		})
	}
}

// serverTime is how long a server's process has had a processor, as Linux tells it, to 10 ms.
func serverTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] { // in user mode, and for it in the kernel
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func BenchmarkTrim(b *testing.B) {
	p := servers.StartPostgres(b, servers.PostgresOptions{})
	storetest.BenchmarkTrim(b, openStore(b, urlIn(p, "trimmed"), Options{}), func(log string, through int) {
		p.Do(fmt.Sprintf(`INSERT INTO trimmed.messages (log, position, producer, sequence, accepted_at, persisted_at, content_type, body)
			SELECT log, i, producer, i, accepted_at, persisted_at, content_type, body
			FROM trimmed.messages, generate_series(2, %d) AS i WHERE log = (SELECT id FROM trimmed.logs WHERE name = '%s') AND position = 1`, through, log))
		p.Do(fmt.Sprintf("UPDATE trimmed.logs SET last_position = %d WHERE name = '%s'", through, log))
		p.Do("VACUUM ANALYZE trimmed.messages")
	})
}

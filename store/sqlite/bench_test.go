package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bare "modernc.org/sqlite"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/store/storetest"
)

// BenchmarkBareDriver is what the driver does at best with the rows of a commit: 500 rows with a body of 200 bytes in a
// transaction, the same table, the same pragmas, statements of 64 rows.
func BenchmarkBareDriver(b *testing.B) {
	const rows, perStatement, columns = 512, 64, 7
	ctx := context.Background()
	raw, err := (&bare.Driver{}).Open(filepath.Join(b.TempDir(), "bare.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	run := func(query string) {
		if _, err := raw.(driver.ExecerContext).ExecContext(context.Background(), query, nil); err != nil {
			b.Fatal(err)
		}
	}
	for _, pragma := range []string{"journal_mode = WAL", "synchronous = FULL", "cache_size = -8000", "temp_store = MEMORY"} {
		run("PRAGMA " + pragma)
	}
	run(`CREATE TABLE messages (id INTEGER PRIMARY KEY, producer INTEGER NOT NULL, sequence INTEGER NOT NULL, accepted_at INTEGER NOT NULL,
		persisted_at INTEGER NOT NULL, content_type TEXT NOT NULL, body BLOB NOT NULL) STRICT`)
	insert, err := raw.Prepare("INSERT INTO messages VALUES (?,?,?,?,?,?,?)" + strings.Repeat(",(?,?,?,?,?,?,?)", perStatement-1))
	if err != nil {
		b.Fatal(err)
	}
	defer insert.Close()
	args := make([]driver.NamedValue, columns*perStatement)
	for i := range args {
		args[i].Ordinal = i + 1
	}
	id := int64(1 << 40)
	now := time.Now().UnixMicro()
	report := measure(b, rows)
	b.ReportAllocs()
	for b.Loop() {
		run("BEGIN IMMEDIATE")
		for range rows / perStatement {
			for i := 0; i < len(args); i += columns {
				id++
				for k, v := range []driver.Value{id, int64(1), id, now, now, "text/plain", body} {
					args[i+k].Value = v
				}
			}
			if _, err := insert.(driver.StmtExecContext).ExecContext(ctx, args); err != nil {
				b.Fatal(err)
			}
		}
		run("COMMIT")
	}
	report()
}

// measure returns a function that reports how many rows a second there were, and what each cost in processor time,
// which a busy machine does not blur as much.
func measure(b *testing.B, perOp int) (report func()) {
	before := processorTime()
	return func() {
		rows := float64(b.N) * float64(perOp)
		b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
		b.ReportMetric(float64(processorTime()-before)/rows, "cpu-ns/row")
	}
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 500, 2000} {
		b.Run(fmt.Sprintf("%d records", n), func(b *testing.B) {
			s, _ := openBoth(b, sqlite.Options{})
			f := newFiller(b, s, 0)
			benchmarkCommit(b, f, f.next(n))
		})
	}
	b.Run("500 records with keys", func(b *testing.B) {
		s, _ := openBoth(b, sqlite.Options{})
		f := newFiller(b, s, 0)
		c := f.next(500)
		keys := 0
		benchmarkCommit(b, f, c, func() {
			for i := range c.Operations {
				keys++
				c.Operations[i].Record.Key = fmt.Sprintf("a-key-of-some-length-%08x", keys*2654435761)
			}
		})
	})
}

// benchmarkCommit commits the same again and again.
func benchmarkCommit(b *testing.B, f *filler, c store.Commit, before ...func()) {
	var took []time.Duration
	report := measure(b, len(c.Operations))
	b.ReportAllocs()
	for b.Loop() {
		for _, do := range before {
			do()
		}
		c.Revision = f.progress.Revision
		start := time.Now()
		f.must(c)
		took = append(took, time.Since(start))
	}
	report()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkPartitions commits one record each to several partitions at the same time.
func BenchmarkPartitions(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("%d at once", n), func(b *testing.B) {
			s, _ := openBoth(b, sqlite.Options{})
			fillers := make([]*filler, n)
			for i := range fillers {
				fillers[i] = newFiller(b, s, i)
			}
			report := measure(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			var committers sync.WaitGroup
			for _, f := range fillers {
				committers.Go(func() {
					for range b.N {
						if err := f.commit(f.next(1)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			committers.Wait()
			report()
		})
	}
}

// BenchmarkLongLog compares what must not cost more in a log of a million messages with the same in one of a thousand,
// in turns, because a busy machine is not equally fast all the time. It reports how many times as long the median takes.
func BenchmarkLongLog(b *testing.B) {
	const short, long = 1000, 1_000_000
	longStore, longReader := openBoth(b, sqlite.Options{})
	longLog := newFiller(b, longStore, 0)
	longLog.fill(long)
	shortStore, shortReader := openBoth(b, sqlite.Options{})
	shortLog := newFiller(b, shortStore, 0)
	shortLog.fill(short)

	for _, place := range []struct {
		name string
		at   func(n int) int
	}{
		{"its beginning", func(int) int { return 0 }},
		{"its middle", func(n int) int { return n / 2 }},
		{"its end", func(n int) int { return n - 100 }},
	} {
		b.Run("a page of 100 at "+place.name, func(b *testing.B) {
			page := func(r *sqlite.Reader, log string, after int) func() {
				return func() {
					page, err := r.Messages(b.Context(), log, uint64(after), 100)
					if err != nil || len(page.Messages) != 100 {
						b.Fatalf("%d messages, error %v", len(page.Messages), err)
					}
				}
			}
			compare(b, page(longReader, longLog.log, place.at(long)), page(shortReader, shortLog.log, place.at(short)))
		})
	}
	b.Run("an append of 500", func(b *testing.B) {
		commits, growing := 0, shortLog
		compare(b, func() {
			longLog.must(longLog.next(500))
		}, func() {
			growing.must(growing.next(500))
		}, func() {
			if commits++; commits%20 == 0 { // it must not become a long one
				another, _ := openBoth(b, sqlite.Options{})
				growing = newFiller(b, another, 0)
				growing.fill(short)
			}
		})
	})
	b.Run("a clear", func(b *testing.B) {
		clearing := func(f *filler) func() {
			return func() {
				c := f.next(1)
				c.Operations[0].Kind = store.Clear
				f.must(c)
			}
		}
		compare(b, clearing(longLog), clearing(shortLog))
	})
}

// compare does both in turns and reports the ratio of their medians.
func compare(b *testing.B, do, than func(), between ...func()) {
	var took [2][]time.Duration
	for b.Loop() {
		for _, prepare := range between {
			prepare()
		}
		for i, do := range []func(){do, than} {
			start := time.Now()
			do()
			took[i] = append(took[i], time.Since(start))
		}
	}
	var median [2]float64
	for i := range took {
		slices.Sort(took[i])
		median[i] = float64(took[i][len(took[i])/2].Microseconds())
	}
	b.ReportMetric(median[0], "us")
	b.ReportMetric(median[0]/median[1], "times")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkProgress(b *testing.B) {
	for _, producers := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d producers", producers), func(b *testing.B) {
			s, r := openBoth(b, sqlite.Options{})
			f := newFiller(b, s, 0)
			for range producers {
				f.producer = drainmark.NewProducerID()
				f.must(f.next(1))
			}
			b.ReportAllocs()
			for b.Loop() {
				p, err := r.Progress(b.Context(), 0)
				if err != nil || len(p.Producers) != producers {
					b.Fatalf("%d producers, error %v", len(p.Producers), err)
				}
			}
		})
	}
}

func BenchmarkTrim(b *testing.B) {
	path := newFile(b)
	storetest.BenchmarkTrim(b, openStore(b, path, sqlite.Options{}), func(log string, through int) {
		shell, err := sql.Open("sqlite", path)
		if err != nil {
			b.Fatal(err)
		}
		defer shell.Close()
		for _, statement := range []string{
			`INSERT INTO messages (id, producer, sequence, accepted_at, persisted_at, content_type, body)
				WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
				SELECT m.id - 1 + i, producer, i, accepted_at, persisted_at, content_type, body FROM n, messages m, logs l
				WHERE l.name = ?2 AND m.id = (l.id << 40 | 1)`,
			"UPDATE logs SET last_position = ?1 WHERE name = ?2",
		} {
			if _, err := shell.ExecContext(b.Context(), statement, through, log); err != nil {
				b.Fatal(err)
			}
		}
	})
}

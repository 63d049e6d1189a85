package postgres

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// TestFunctions: what an application with the least rights is told of a message, on the primary and on a standby.
func TestFunctions(t *testing.T) {
	t.Parallel()
	primary, standby := startPair(t)
	makeTables(t, primary, "asked")
	f := newFiller(t, openStore(t, urlIn(primary, "asked"), Options{}))
	c := f.next(9, 10)
	letter := func(first, last uint64, reason string, discarded bool) {
		at := drainmark.Span{Producer: f.producer, First: first, Last: last}
		for i := first; i <= last; i++ {
			c.Operations[i-1] = store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
				ID: at.String(), Span: at, Reason: reason, Discarded: discarded,
			}}
		}
	}
	letter(3, 3, "no such sku", false)
	letter(5, 7, "a damaged batch", false)
	letter(9, 9, "nobody wants it", true)
	f.must(t, c)
	later := f.progress.Producers[f.producer] // a gap: 10 and 11 are missing
	later.Done = later.Done.Add(12, 1<<63-1)
	c = f.next(0, 0)
	c.Producers[f.producer] = later
	f.must(t, c)
	standby.CaughtUp()

	for _, server := range []*servers.Postgres{primary, standby} {
		db := connectAs(t, server, appOther)
		areAnswered(t, db, f.producer)
		areRefused(t, db, f.producer)
		if _, err := db.Exec(t.Context(), "SELECT payload FROM asked.dead_letters"); codeOf(err) != "42501" {
			t.Errorf("an application can read dead letters: %v", err)
		}
	}
	if kinds := primary.Do("SELECT provolatile::text || proparallel::text FROM pg_proc WHERE pronamespace = 'asked'::regnamespace"); fmt.Sprint(kinds) != "[ss ss]" {
		t.Errorf("the functions are %v, not stable and parallel safe", kinds)
	}
}

// areAnswered asks for marks and runs of a producer, and of others.
func areAnswered(t *testing.T, db *pgx.Conn, producer drainmark.ProducerID) {
	t.Helper()
	mark := func(sequence uint64) string {
		return drainmark.Mark{Producer: producer, Sequence: sequence}.String()
	}
	stranger := drainmark.Mark{Producer: drainmark.ProducerID{1}, Sequence: 1}.String()
	elsewhere := drainmark.Mark{Partition: 1, Producer: producer, Sequence: 1}.String()
	run := func(first, last uint64) string {
		return drainmark.Span{Producer: producer, First: first, Last: last}.String()
	}
	for _, c := range []struct {
		id       any
		holds    any
		rejected any
	}{
		{mark(1), true, nil}, {mark(2), true, nil}, {mark(3), true, "no such sku"}, {mark(4), true, nil},
		{mark(5), true, "a damaged batch"}, {mark(6), true, "a damaged batch"}, {mark(7), true, "a damaged batch"}, {mark(8), true, nil},
		{mark(9), true, "nobody wants it"}, {mark(10), false, nil}, {mark(11), false, nil}, {mark(12), true, nil},
		{mark(1<<63 - 1), true, nil}, {stranger, false, nil}, {elsewhere, false, nil}, {nil, nil, nil},
		{run(1, 2), true, nil}, {run(1, 1), true, nil}, {run(3, 3), true, "no such sku"}, {run(1, 9), true, "no such sku"},
		{run(4, 5), true, "a damaged batch"}, {run(4, 9), true, "a damaged batch"}, {run(6, 6), true, "a damaged batch"},
		{run(7, 9), true, "a damaged batch"}, {run(8, 8), true, nil}, {run(8, 9), true, "nobody wants it"},
		{run(8, 10), false, "nobody wants it"}, {run(9, 12), false, "nobody wants it"},
		{run(10, 11), false, nil}, {run(11, 12), false, nil},
		{run(12, 1<<62), true, nil}, {run(12, 1<<63-1), true, nil}, {run(10, 1<<63-1), false, nil},
	} {
		var holds *bool
		var rejected *string
		err := db.QueryRow(t.Context(), "SELECT asked.holds($1), asked.rejected($1)", c.id).Scan(&holds, &rejected)
		if err != nil || value(holds) != c.holds || value(rejected) != c.rejected {
			t.Errorf("%v: holds %v, rejected %v, %v", c.id, value(holds), value(rejected), err)
		}
	}
}

// areRefused asks for what is neither a mark nor a run.
func areRefused(t *testing.T, db *pgx.Conn, producer drainmark.ProducerID) {
	t.Helper()
	id := producer.String()
	mark := func(sequence int) string { return fmt.Sprintf("0-%s-%d", id, sequence) }
	for _, wrong := range []string{
		"", "x", mark(1) + " ", "0-" + id + "-0", "00-" + id + "-1", "0-" + id + "-01",
		"0-" + id[1:] + "-1", mark(1) + "-1", mark(1) + "..", mark(1) + "..0", mark(2) + "..1", mark(1) + "...2", mark(1) + "..02", "-1-" + id + "-1",
	} {
		for _, function := range []string{"holds", "rejected"} {
			var answer *string
			err := db.QueryRow(t.Context(), "SELECT asked."+function+"($1)::text", wrong).Scan(&answer)
			if codeOf(err) != "22023" {
				t.Errorf("%s(%q) is %v, %v", function, wrong, value(answer), err)
			}
		}
	}
}

// value is what a pointer points at, and nil for none.
func value[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// connectAs connects as an application does.
func connectAs(t testing.TB, p *servers.Postgres, user string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.URL(user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(t.Context()) })
	return c
}

// BenchmarkHolds is what drainmark.holds costs inside a statement, for an id and for a run. The server's processor time is
// not blurred as much by a busy machine.
func BenchmarkHolds(b *testing.B) {
	primary, _ := startPair(b)
	makeTables(b, primary, "timed")
	f := newFiller(b, openStore(b, urlIn(primary, "timed"), Options{}))
	f.must(b, f.next(9, 10))
	db := connectAs(b, primary, appOther)
	var pid int
	if err := db.QueryRow(b.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		b.Fatal(err)
	}
	for name, end := range map[string]string{"id": "", "run": ".." + fmt.Sprint(9)} {
		b.Run(name, func(b *testing.B) {
			var held int
			before := serverTime(b, pid)
			err := db.QueryRow(b.Context(), "SELECT count(*) FILTER (WHERE timed.holds($1 || (1 + i % 9) || $2)) FROM generate_series(1, $3) i",
				"0-"+f.producer.String()+"-", end, b.N).Scan(&held)
			if err != nil || held != b.N {
				b.Fatalf("%d of %d, %v", held, b.N, err)
			}
			b.ReportMetric(float64((serverTime(b, pid)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/test/servers"
)

const (
	benchBatch = 500
	benchBytes = 200
	insertBody = "INSERT INTO own (id, body) SELECT * FROM unnest($1::text[], $2::bytea[])"
)

// insertRecords is a handler that inserts the records' bodies.
func insertRecords(ctx context.Context, tx Tx, records []effect.Record) error {
	ids, bodies := make([]string, len(records)), make([][]byte, len(records))
	for i, r := range records {
		ids[i], bodies[i] = r.ID, r.Body
	}
	_, err := tx.Exec(ctx, insertBody, ids, bodies)
	return err
}

// bareRecords inserts the like into a table of its own, by the driver alone.
type bareRecords struct {
	conn     *pgx.Conn
	producer drainmark.ProducerID
	n        uint64
}

func newBareRecords(b *testing.B, url string) *bareRecords {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &bareRecords{conn: conn, producer: drainmark.NewProducerID()}
}

func (r *bareRecords) insert(b *testing.B) {
	ids, bodies := make([]string, benchBatch), make([][]byte, benchBatch)
	for i := range ids {
		r.n++
		ids[i], bodies[i] = drainmark.Mark{Producer: r.producer, Sequence: r.n}.String(), make([]byte, benchBytes)
	}
	err := pgx.BeginFunc(b.Context(), r.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(b.Context(), strings.Replace(insertBody, "own", "bare_own", 1), ids, bodies)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEffects compares commits of 500 records of 200 bytes that an effect inserts into a table of the user's own, with
// the same inserts by the bare driver, on one server with the same durability.
func BenchmarkEffects(b *testing.B) {
	p := servers.StartPostgres(b, servers.PostgresOptions{})
	url := p.URL(servers.PostgresUser)
	for _, c := range []struct {
		name string
		of   effect.Effect
	}{
		{"handler", Effect("guestbook", insertRecords, effect.Options{Unkept: true})},
		{"statement", Statement(effect.Statement{
			Logs: "guestbook", SQL: "INSERT INTO own (id, body) SELECT id, body FROM records", Options: effect.Options{Unkept: true},
		})},
		{"handler, messages kept", Effect("guestbook", insertRecords, effect.Options{})},
	} {
		for _, mode := range []string{"cache_describe", "cache_statement"} {
			b.Run(c.name+"/"+mode, func(b *testing.B) {
				for _, table := range []string{"own", "bare_own"} {
					p.Do("DROP TABLE IF EXISTS " + table + "; CREATE TABLE " + table + " (id text PRIMARY KEY, body bytea NOT NULL)")
				}
				s, err := Open(b.Context(), url+"&schema="+newSchema()+"&default_query_exec_mode="+mode, Options{Effects: effect.List{c.of}})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				bare, f := newBareRecords(b, url), newFiller(b, s)
				f.holder.Unkept = effect.List{c.of}.Unkept()
				inTurns(b, benchBatch, func() { f.must(b, f.next(benchBatch, benchBytes)) }, func() { bare.insert(b) })
			})
		}
	}
}

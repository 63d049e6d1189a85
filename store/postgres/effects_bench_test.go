package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
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

// BenchmarkEffects compares commits of 500 records of 200 bytes that an effect inserts into a table of the user's own, with
// the same inserts by the bare driver, on one server with the same durability.
func BenchmarkEffects(b *testing.B) {
	p := servers.StartPostgres(b, servers.PostgresOptions{})
	url := p.URL(servers.PostgresUser)
	p.Do("CREATE TABLE own (id text PRIMARY KEY, body bytea NOT NULL)")
	b.Run("bare driver", func(b *testing.B) {
		conn, err := pgx.Connect(b.Context(), url)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close(context.Background())
		ids, bodies := make([]string, benchBatch), make([][]byte, benchBatch)
		producer, n := drainmark.NewProducerID(), 0
		for b.Loop() {
			for i := range ids {
				n++
				ids[i], bodies[i] = drainmark.Mark{Producer: producer, Sequence: uint64(n)}.String(), make([]byte, benchBytes)
			}
			err := pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(b.Context(), insertBody, ids, bodies)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "records/s")
	})
	for name, of := range map[string]effect.Effect{
		"handler": Effect("guestbook", insertRecords, effect.Options{Unkept: true}),
		"statement": Statement(effect.Statement{
			Logs: "guestbook", SQL: "INSERT INTO own (id, body) SELECT id, body FROM records", Options: effect.Options{Unkept: true},
		}),
		"handler, messages kept": Effect("guestbook", insertRecords, effect.Options{}),
	} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.Context(), url+"&schema="+newSchema(), Options{Effects: effect.List{of}})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			f := newFiller(b, s)
			f.holder.Unkept = effect.List{of}.Unkept()
			var c store.Commit
			for b.Loop() {
				c = f.next(benchBatch, benchBytes)
				f.must(b, c)
			}
			b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

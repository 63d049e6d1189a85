package peers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker/jetstream"
	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/postgres"
)

// Drainmark is backend, embedded NATS, which syncs before it confirms, and consumer, with their default settings, all in
// this process. Each record is appended by itself. A handler is given all records of a log in a commit, so it can insert
// them at once. For those who would not, it is also measured with an INSERT for each.
var drainmarks = []contender{
	ofDrainmark("Go, one INSERT", 1, postgres.Effect(drainmarkLogs, insertTogether, unkept)),
	ofDrainmark("Go, one INSERT, 8 logs", 8, postgres.Effect(drainmarkLogs, insertTogether, unkept)),
	ofDrainmark("Go, one INSERT, messages kept", 1, postgres.Effect(drainmarkLogs, insertTogether, effect.Options{})),
	ofDrainmark("Go, an INSERT each, pipelined", 1, postgres.Effect(drainmarkLogs, insertPipelined, unkept)),
	ofDrainmark("Go, an INSERT each", 1, postgres.Effect(drainmarkLogs, insertEach, unkept)),
	ofDrainmark("statement", 1, statement),
	ofDrainmark("statement, 8 logs", 8, statement),
}

const (
	drainmarkLogs = "bench.*"
	partitions    = 4 // the default
	appenders     = 64
)

// unkept: the table alone gets the messages.
var unkept = effect.Options{Unkept: true}

var statement = postgres.Statement(effect.Statement{
	Logs: drainmarkLogs, SQL: "INSERT INTO own (id, body) SELECT id, convert_from(body, 'UTF8') FROM records", Options: unkept,
})

func insertTogether(ctx context.Context, tx postgres.Tx, records []effect.Record) error {
	ids, bodies := make([]string, len(records)), make([]string, len(records))
	for i, r := range records {
		ids[i], bodies[i] = r.ID, string(r.Body)
	}
	_, err := tx.Exec(ctx, "INSERT INTO own (id, body) SELECT * FROM unnest($1::text[], $2::text[])", ids, bodies)
	return err
}

func insertPipelined(ctx context.Context, tx postgres.Tx, records []effect.Record) error {
	var batch pgx.Batch
	for _, r := range records {
		batch.Queue(insert, r.ID, string(r.Body))
	}
	return tx.SendBatch(ctx, &batch).Close()
}

func insertEach(ctx context.Context, tx postgres.Tx, records []effect.Record) error {
	for _, r := range records {
		if _, err := tx.Exec(ctx, insert, r.ID, string(r.Body)); err != nil {
			return err
		}
	}
	return nil
}

func ofDrainmark(name string, logs int, e effect.Effect) contender {
	return contender{name: "Drainmark, " + name, ours: true, open: func(t testing.TB, url string) queue {
		return openDrainmark(t, url, logs, effect.List{e})
	}}
}

type drainmarkQueue struct {
	logs     int
	backend  *backend.Backend
	consumer *consumer.Consumer
}

func openDrainmark(t testing.TB, url string, logs int, effects effect.List) *drainmarkQueue {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, logger := t.Context(), slog.New(slog.DiscardHandler)
	broker, err := jetstream.Embed(ctx, jetstream.EmbedConfig{Options: jetstream.Options{Partitions: partitions}, Dir: t.TempDir()})
	must(err)
	t.Cleanup(func() { _ = broker.Close() })
	store, err := postgres.Open(ctx, url, postgres.Options{Effects: effects})
	must(err)
	t.Cleanup(func() { _ = store.Close() })
	deployment, err := store.Init(ctx, drainmark.Deployment{ID: drainmark.NewDeploymentID(), Partitions: partitions})
	must(err)
	reader, err := postgres.OpenReader(ctx, url, postgres.Options{})
	must(err)
	t.Cleanup(func() { _ = reader.Close() })
	accepting, err := backend.New(backend.Config{Broker: broker, Reader: reader, Deployment: deployment, Logger: logger})
	must(err)
	t.Cleanup(inBackground(accepting.Run))
	return &drainmarkQueue{logs, accepting, consumer.New(consumer.Config{
		Broker: broker, Store: store, Owner: "bench", Partitions: partitions, Logger: logger,
		Accounts: accepting.Accounts, Effects: effects,
	})}
}

// inBackground runs something until the function is called that it returns.
func inBackground(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	return func() { cancel(); running.Wait() }
}

func (q *drainmarkQueue) fill(t testing.TB, bodies []string) {
	t.Helper()
	var appending sync.WaitGroup
	for first := range appenders {
		appending.Go(func() {
			for i := first; i < len(bodies); i += appenders {
				log := fmt.Sprint("bench.", i%q.logs)
				record := drainmark.Record{Kind: drainmark.Append, Log: log, Body: []byte(bodies[i])}
				if _, err := q.backend.Append(t.Context(), log, []drainmark.Record{record}); err != nil {
					t.Errorf("appending: %v", err)
					return
				}
			}
		})
	}
	appending.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func (q *drainmarkQueue) drain(testing.TB) (stop func()) { return inBackground(q.consumer.Run) }

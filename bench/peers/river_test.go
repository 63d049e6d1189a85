package peers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// River runs a worker for each job. JobCompleteTx completes the job in the worker's transaction, which is what its
// documentation has for exactly once. The job is fetched in batches, in a transaction of River's own.
//
// River fetches for the workers that are free, and at least FetchCooldown lies between two fetches, which bounds the rate.
// With its default (100 ms) and 100 workers that is 1,000 jobs a second. Fewer connections than workers are faster on two
// cores: workers wait for one. These are the best of 20 to 2,000 workers, 10 to 110 connections and 1 to 100 ms.
var rivers = []contender{ofRiver(100, 20, 10*time.Millisecond), ofRiver(1000, 10, 50*time.Millisecond)}

type riverArgs struct {
	Body string `json:"body"`
}

func (riverArgs) Kind() string { return "insert" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	pool *pgxpool.Pool
}

func (w *riverWorker) Work(ctx context.Context, job *river.Job[riverArgs]) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insert, strconv.FormatInt(job.ID, 10), job.Args.Body); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

type riverQueue struct{ client *river.Client[pgx.Tx] }

func ofRiver(workers, connections int, cooldown time.Duration) contender {
	return contender{name: fmt.Sprintf("River, %d workers, %d connections, %v", workers, connections, cooldown), open: func(t testing.TB, url string) queue {
		pool := connect(t, url, connections)
		driver := riverpgxv5.New(pool)
		migrator, err := rivermigrate.New(driver, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
			t.Fatal(err)
		}
		known := river.NewWorkers()
		river.AddWorker(known, &riverWorker{pool: pool})
		client, err := river.NewClient(driver, &river.Config{
			Logger: slog.New(slog.DiscardHandler), Workers: known, FetchCooldown: cooldown,
			Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return &riverQueue{client}
	}}
}

func (q *riverQueue) fill(t testing.TB, bodies []string) {
	t.Helper()
	for some := range slices.Chunk(bodies, 1000) {
		jobs := make([]river.InsertManyParams, len(some))
		for i, body := range some {
			jobs[i].Args = riverArgs{body}
		}
		if _, err := q.client.InsertManyFast(t.Context(), jobs); err != nil {
			t.Fatal(err)
		}
	}
}

func (q *riverQueue) drain(t testing.TB) (stop func()) {
	t.Helper()
	if err := q.client.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := q.client.Stop(context.Background()); err != nil {
			t.Errorf("stopping River: %v", err)
		}
	}
}

package peers

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DBOS runs a workflow for each record, from a queue. Its one step is RunAsTransaction, which records the step in the
// user's transaction. The data source is the pool that DBOS has for itself, which its documentation says is the way with
// one transaction and one record of the step instead of two. That the workflow has ended is recorded in another
// transaction behind it.
//
// A queue is polled. Without a limit of workflows that run at the same time, one poll takes all that waits. These are the
// best of limits of 100 to none, 10 to 100 connections, and polls every 10 to 500 ms.
var dboses = []contender{
	ofDBOS("2000 at a time", dbos.WithWorkerConcurrency(2000)),
	ofDBOS("no limit"),
}

const (
	dbosName     = "peers-bench"
	dbosQueue    = "records"
	dbosWorkflow = "insert"
)

type dbosQueued struct {
	context dbos.Context
	pool    *pgxpool.Pool
}

func ofDBOS(name string, limits ...dbos.QueueOption) contender {
	return contender{name: "DBOS, " + name, open: func(t testing.TB, url string) queue {
		pool := connect(t, url, 20)
		c, err := dbos.NewContext(context.Background(), dbos.Config{
			AppName: dbosName, SystemDBPool: pool, Logger: slog.New(slog.DiscardHandler), ApplicationVersion: "1",
		})
		if err != nil {
			t.Fatal(err)
		}
		own, err := dbos.NewDataSource(c, pool)
		if err != nil {
			t.Fatal(err)
		}
		dbos.RegisterWorkflow(c, insertWorkflow(own), dbos.WithWorkflowName(dbosWorkflow))
		options := append(limits, dbos.WithQueueBasePollingInterval(100*time.Millisecond))
		if _, err := dbos.RegisterQueue(c, dbosQueue, options...); err != nil {
			t.Fatal(err)
		}
		return &dbosQueued{c, pool}
	}}
}

// insertWorkflow inserts its input.
func insertWorkflow(own *dbos.DataSource) dbos.Workflow[string, bool] {
	return func(c dbos.Context, body string) (bool, error) {
		id, err := c.GetWorkflowID()
		if err != nil {
			return false, err
		}
		return dbos.RunAsTransaction(c, own, func(ctx context.Context, tx dbos.Tx) (bool, error) {
			_, err := tx.Exec(ctx, insert, id, body)
			return err == nil, err
		})
	}
}

// fill enqueues workflows in transactions of 500, which is faster than one by one.
func (q *dbosQueued) fill(t testing.TB, bodies []string) {
	t.Helper()
	for some := range slices.Chunk(bodies, 500) {
		err := pgx.BeginFunc(t.Context(), q.pool, func(tx pgx.Tx) error {
			for _, body := range some {
				if _, err := dbos.Enqueue[bool](q.context, dbosQueue, dbosWorkflow, body, dbos.WithEnqueueTransaction(tx)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (q *dbosQueued) drain(t testing.TB) (stop func()) {
	t.Helper()
	if err := q.context.Launch(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := dbos.Shutdown(q.context, time.Minute); err != nil {
			t.Errorf("stopping DBOS: %v", err)
		}
	}
}

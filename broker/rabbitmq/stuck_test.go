package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

func othersGoOn(t *testing.T, server *servers.RabbitMQ) {
	b := open(t, Config{URL: server.URL(), Partitions: 2, Prefix: "others"})
	t.Cleanup(func() { _ = b.Close() })
	resume := suspend(server, b.queue(1))
	r := subscribe(t, b)
	publish(t, b, 1, 1)
	expect(t, r, 1, 1)
	for next := uint64(2); next < 5; next++ {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if stuck, err := b.Open(ctx, 1, "", false); err == nil {
			_ = stuck.Close()
			t.Error("the stuck queue can be subscribed to")
		}
		if err := b.Publish(ctx, 1, batchOf(self, 1, 1, 1)); err == nil {
			t.Error("the stuck queue confirms")
		}
		cancel()
		publish(t, b, next, next)
		expect(t, r, next, next) // over the same subscription
	}
	resume()
	deadline := time.After(30 * time.Second)
	for err := b.Publish(t.Context(), 1, batchOf(self, 1, 1, 1)); err != nil; err = b.Publish(t.Context(), 1, batchOf(self, 1, 1, 1)) {
		select {
		case <-deadline:
			t.Fatalf("when the queue answers again: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func nobodyIsCutOff(t *testing.T, server *servers.RabbitMQ) {
	b := open(t, Config{URL: server.URL(), Partitions: 2, Timeout: 30 * time.Second, Prefix: "counted"})
	t.Cleanup(func() { _ = b.Close() })
	publish(t, b, 1, 1)
	before, err := b.publishing.get()
	if err != nil {
		t.Fatal(err)
	}
	resume := suspend(server, b.queue(1))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if backlog, err := b.Backlog(ctx, 1, drainmark.Progress{}); err == nil {
		t.Fatalf("the stuck queue has a backlog: %+v", backlog)
	}
	publish(t, b, 2, 2)
	if after, err := b.publishing.get(); err != nil || after != before {
		t.Errorf("the connection is another one: %v", err)
	}
	resume()
}

// silence has a queue answer nothing, because its only member is a new one, empty and without a leader, until resume and the
// command that an operator is told. Up to RabbitMQ 4.2 a node that was killed before it had written down that it has the
// member comes back so. From 4.3 such a member elects itself: there it is suspended.
func silence(server *servers.RabbitMQ, queue string) (resume func()) {
	if major, minor := server.Version(); major > 4 || major == 4 && minor >= 3 {
		return suspend(server, queue)
	}
	server.Eval(fmt.Sprintf(`{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
		{Name, _} = amqqueue:get_pid(Q),
		ok = ra:stop_server(quorum_queues, {Name, node()}), ok = dets:delete(ra_directory_reverse, Name),
		{[_], []} = rabbit_quorum_queue:recover(<<"/">>, [Q])`, queue))
	return func() {}
}

// command finds what an operator is told to run in the broker.
func command(t *testing.T, said string) string {
	t.Helper()
	_, rest, _ := strings.Cut(said, "rabbitmqctl eval '")
	found, _, ok := strings.Cut(rest, ".'")
	if !ok {
		t.Fatalf("no command is named:\n%s", said)
	}
	return strings.ReplaceAll(found, `\"`, `"`)
}

func tellsOfASilentQueue(t *testing.T, server *servers.RabbitMQ) {
	log := &logged{}
	b := settings{Silence: time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))}.open(t, server)
	resume := silence(server, b.queue(0))
	briefly := func(do func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := do(ctx); err == nil {
			t.Fatal("the queue answers")
		}
	}
	eventually(t, "an error in the log", func() error {
		briefly(func(ctx context.Context) error { return b.Publish(ctx, 0, batchOf(self, 0, 1, 1)) })
		briefly(func(ctx context.Context) error { _, err := b.Open(ctx, 0, "", false); return err })
		if !strings.Contains(log.String(), "level=ERROR") {
			return errors.New(log.String())
		}
		return nil
	})
	briefly(func(ctx context.Context) error { return b.Publish(ctx, 0, batchOf(self, 0, 1, 1)) })
	if said := log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "queue="+b.queue(0)) {
		t.Errorf("the log does not say it once, with the queue's name:\n%s", said)
	}
	resume()
	server.Eval(command(t, log.String()))
	eventually(t, "publishing when the queue has a leader", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return b.Publish(ctx, 0, batchOf(self, 0, 1, 1))
	})
	if !strings.Contains(log.String(), "answers again") {
		t.Errorf("the log does not say that the queue answers again:\n%s", log)
	}
	expect(t, subscribe(t, b), 1, 1)
}

func tellsOfASilentRegistry(t *testing.T, server *servers.RabbitMQ) {
	e := broker.Enrollment{Deployment: drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 4}}
	c := Config{URL: server.URL(), Prefix: fmt.Sprintf("silent%d", prefixes.Add(1)), Settle: time.Millisecond, Timeout: answerTime}
	r, err := OpenRegistry(t.Context(), c)
	if err == nil {
		_, err = r.Enroll(t.Context(), e)
	}
	if err != nil {
		t.Fatal(err)
	}
	resume := silence(server, r.(*registry).queue)
	var said string
	eventually(t, "to be told how the queue gets a leader", func() error { // once RabbitMQ has answered all else in time
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := r.Enroll(ctx, e)
		if err == nil {
			t.Fatal("a queue without a leader records")
		}
		if said = err.Error(); !strings.Contains(said, "rabbitmqctl") {
			return err
		}
		return nil
	})
	resume()
	server.Eval(command(t, said))
	eventually(t, "enrolling when the queue has a leader", func() error { _, err := r.Enroll(t.Context(), e); return err })
}

package rabbitmq

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/servers"
)

func TestAStuckQueue(t *testing.T) {
	t.Parallel()
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{})
	t.Run("does not disturb the other partitions", func(t *testing.T) { othersGoOn(t, server) })
	t.Run("cannot be counted, and whoever asked and goes away cuts off nobody", func(t *testing.T) { nobodyIsCutOff(t, server) })
}

func othersGoOn(t *testing.T, server *servers.RabbitMQ) {
	b := open(t, Config{URL: server.URL(), Partitions: 2, Timeout: time.Second, Prefix: "others"})
	t.Cleanup(func() { _ = b.Close() })
	leader := fmt.Sprintf("whereis('%%2F_%s')", b.queue(1))
	server.Control("eval", "sys:suspend("+leader+").")
	r := subscribe(t, b)
	publish(t, b, 1, 1)
	expect(t, r, 1, 1)
	for next := uint64(2); next < 5; next++ {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
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
	server.Control("eval", "sys:resume("+leader+").")
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
	leader := fmt.Sprintf("whereis('%%2F_%s')", b.queue(1))
	server.Control("eval", "sys:suspend("+leader+").")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if backlog, err := b.Backlog(ctx, 1, drainmark.Progress{}); err == nil {
		t.Fatalf("the stuck queue has a backlog: %+v", backlog)
	}
	publish(t, b, 2, 2)
	if after, err := b.publishing.get(); err != nil || after != before {
		t.Errorf("the connection is another one: %v", err)
	}
	server.Control("eval", "sys:resume("+leader+").")
}

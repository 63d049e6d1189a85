package kafka

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// conform runs the suite, with the rights of deploy/permissions. Each case has topics of its own.
func conform(t *testing.T, server *servers.Kafka) {
	start := func(c Config) func(brokertest.T) *brokertest.Server {
		return func(t brokertest.T) *brokertest.Server { return permittedServer(t, server, c) }
	}
	brokertest.Run(t, brokertest.Harness{
		Start: start(Config{}), StartSmall: start(Config{MaxBytes: 4 * minPartitionBytes, PurgeInterval: 20 * time.Millisecond}),
		Shared: true, Kills: 1, Patience: time.Minute, Quiet: 150 * time.Millisecond,
	})
}

var prefixes atomic.Int64

// configOf returns the configuration of topics that nobody else has.
func configOf(server *servers.Kafka, c Config) Config {
	c.URL, c.Partitions, c.Replicas = "kafka://"+server.Address(), 2, 1
	c.Prefix = fmt.Sprintf("case%d", prefixes.Add(1))
	c.MaxBytes, c.Timeout = cmp.Or(c.MaxBytes, 128<<20), cmp.Or(c.Timeout, answerTime)
	return c
}

// serverOf is a case's view of topics of its own.
func serverOf(server *servers.Kafka, c Config) *brokertest.Server {
	return &brokertest.Server{
		Connect: func(t brokertest.T) broker.Broker { return open(t, c) },
		Drop:    func(_ brokertest.T, b broker.Broker) { b.(*Broker).drop() },
		Kill:    func(brokertest.T) { server.Kill() },
		Revive:  func(brokertest.T) { server.Start() },
		Foreign: func(t brokertest.T, partition int, payload []byte) {
			b := open(t, c)
			defer b.Close()
			if _, _, err := b.partitions[partition].lane.produce(t.Context(), encode([]byte("somebody"), payload, nil)); err != nil {
				t.Fatalf("publishing a record without headers: %v", err)
			}
		},
		Purge: func(t brokertest.T, partition int) {
			b := open(t, c)
			defer b.Close()
			if err := b.partitions[partition].asked.deleteBefore(t.Context(), -1); err != nil {
				t.Fatalf("purging: %v", err)
			}
		},
		Reconnects: true,
	}
}

// permittedServer is serverOf for users who have just the rights of the roles.
func permittedServer(t brokertest.T, server *servers.Kafka, c Config) *brokertest.Server {
	c = configOf(server, c)
	s := serverOf(server, c)
	server.Permit(rightsOf(servers.KafkaRights(servers.Permissions(t, "kafka.sh")), c.Prefix))
	s.Connect = func(t brokertest.T) broker.Broker {
		return brokertest.Roles{Backend: open(t, as(server, servers.BackendUser, c)), Consumer: open(t, as(server, servers.ConsumerUser, c))}
	}
	s.Drop = func(_ brokertest.T, b broker.Broker) {
		b.(brokertest.Roles).Backend.(*Broker).drop()
		b.(brokertest.Roles).Consumer.(*Broker).drop()
	}
	return s
}

// fataler is what helpers use of a test's T, or of the suite's.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func open(t fataler, c Config) *Broker {
	t.Helper()
	b, err := Open(context.Background(), c)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return b
}

// drop ends the broker's connections as the death of its process does, for ever.
func (b *Broker) drop() {
	b.cluster.end(context.Canceled)
	b.cluster.close()
}

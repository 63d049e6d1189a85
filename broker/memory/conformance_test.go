package memory_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/broker/memory"
)

func TestConformance(t *testing.T) {
	for _, options := range []memory.Options{
		{Replays: true}, {Ordered: true}, {}, {Ordered: true, Uncounted: true}, {Uncounted: true}, {Replays: true, Uncounted: true},
	} {
		t.Run(fmt.Sprintf("replays %v, ordered %v, counts %v", options.Replays, options.Ordered, !options.Uncounted), func(t *testing.T) {
			brokertest.Run(t, harness(options))
		})
	}
}

func harness(options memory.Options) brokertest.Harness {
	options.Partitions = 2
	start := func(options memory.Options) func(brokertest.T) *brokertest.Server {
		return func(brokertest.T) *brokertest.Server { return serve(memory.NewServer(options)) }
	}
	small := options
	small.MaxBatches = 10
	return brokertest.Harness{Start: start(options), StartSmall: start(small), Quiet: 20 * time.Millisecond}
}

// serve describes the server to the suite. A kill ends all connections. Stored batches stay, as they would on a disk.
func serve(server *memory.Server) *brokertest.Server {
	var mu sync.Mutex
	var clients []*memory.Client
	return &brokertest.Server{
		Connect: func(brokertest.T) broker.Broker {
			mu.Lock()
			defer mu.Unlock()
			clients = append(clients, server.Connect())
			return clients[len(clients)-1]
		},
		Drop: func(_ brokertest.T, b broker.Broker) { b.(*memory.Client).Drop() },
		Kill: func(brokertest.T) {
			mu.Lock()
			defer mu.Unlock()
			for _, c := range clients {
				c.Drop()
			}
		},
		Revive: func(brokertest.T) {},
		Purge: func(t brokertest.T, partition int) {
			if err := server.Purge(partition); err != nil {
				t.Fatalf("purging: %v", err)
			}
		},
		Foreign: func(t brokertest.T, partition int, payload []byte) {
			if err := server.Connect().Publish(t.Context(), partition, broker.Batch{Payload: payload}); err != nil {
				t.Fatalf("publishing a message without a header: %v", err)
			}
		},
	}
}

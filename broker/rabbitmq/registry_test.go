package rabbitmq

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// connectTo opens registries as processes do, backends and consumers in turn.
func connectTo(t brokertest.T, server *servers.RabbitMQ, settle time.Duration) func(t brokertest.T) broker.Registry {
	prefix := fmt.Sprintf("case%d", prefixes.Add(1))
	users := []string{servers.BackendUser, servers.ConsumerUser}
	var connections atomic.Int64
	return func(t brokertest.T) broker.Registry {
		url := servers.As(users[connections.Add(1)%2], server.URL())
		r, err := OpenRegistry(context.Background(), Config{URL: url, Prefix: prefix, Settle: settle, Timeout: answerTime})
		if err != nil {
			t.Fatalf("opening: %v", err)
		}
		return r
	}
}

// registers runs the suite but for the case that kills the server. Each case has a queue of its own.
func registers(t *testing.T, server *servers.RabbitMQ) {
	brokertest.RunRegistry(t, brokertest.RegistryHarness{
		Patience: time.Minute,
		Start: func(t brokertest.T) *brokertest.RegistryServer {
			return &brokertest.RegistryServer{Connect: connectTo(t, server, time.Millisecond)}
		},
	})
}

// registersWhenKilled runs the case that kills the server. The first time, the record's queue has just been made. The
// second time a partition's has, in which something was confirmed.
func registersWhenKilled(t *testing.T, server *servers.RabbitMQ) {
	kills := 0
	kill := func(of brokertest.T) {
		kills++
		if kills == 1 {
			server.Kill()
			server.Start()
			return
		}
		t := of.(*testing.T)
		b := settings{Settle: defaultSettle}.open(t, server)
		publish(t, b, 1, 1)
		server.Kill()
		server.Start()
		var r broker.Receiver
		eventually(t, "subscribing", func() (err error) { r, err = b.Open(t.Context(), 0, "", false); return err })
		expect(t, r, 1, 1)
	}
	brokertest.RunRegistry(t, brokertest.RegistryHarness{
		Patience: time.Minute, KillsOnly: true,
		Start: func(t brokertest.T) *brokertest.RegistryServer {
			return &brokertest.RegistryServer{Connect: connectTo(t, server, defaultSettle), Kill: kill}
		},
	})
}

package kafka

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// registriesOn starts with a topic of its own.
func registriesOn(server *servers.Kafka, kill func(brokertest.T)) func(brokertest.T) *brokertest.RegistryServer {
	return func(brokertest.T) *brokertest.RegistryServer {
		c := Config{URL: "kafka://" + server.Address(), Prefix: fmt.Sprintf("case%d", prefixes.Add(1)), Replicas: 1, Timeout: answerTime}
		return &brokertest.RegistryServer{Kill: kill, Connect: func(t brokertest.T) broker.Registry {
			r, err := OpenRegistry(context.Background(), c)
			if err != nil {
				t.Fatalf("opening: %v", err)
			}
			return r
		}}
	}
}

// registers runs the suite but for the case that kills the server.
func registers(t *testing.T, server *servers.Kafka) {
	brokertest.RunRegistry(t, brokertest.RegistryHarness{Patience: time.Minute, Start: registriesOn(server, nil)})
}

// registersWhenKilled runs that.
func registersWhenKilled(t *testing.T, server *servers.Kafka) {
	kill := func(brokertest.T) { server.Kill(); server.Start() }
	brokertest.RunRegistry(t, brokertest.RegistryHarness{Patience: time.Minute, KillsOnly: true, Start: registriesOn(server, kill)})
}

package jetstream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

func TestEmbeddedRegistry(t *testing.T) {
	brokertest.RunRegistry(t, brokertest.RegistryHarness{Start: func(t brokertest.T) *brokertest.RegistryServer {
		e := startEmbedded(t, EmbedConfig{})
		return &brokertest.RegistryServer{
			Connect: func(t brokertest.T) broker.Registry {
				r, err := (&Server{e.process}).Registry(context.Background())
				if err != nil {
					t.Fatalf("connecting: %v", err)
				}
				return r
			},
			Kill: func(t brokertest.T) { e.kill(t); e.start(t) },
		}
	}})
}

func TestExternalRegistry(t *testing.T) {
	brokertest.RunRegistry(t, brokertest.RegistryHarness{Start: func(t brokertest.T) *brokertest.RegistryServer {
		e := startPermitted(t, Options{})
		users := []string{servers.BackendUser, servers.ConsumerUser}
		var connections atomic.Int64
		return &brokertest.RegistryServer{
			Connect: func(t brokertest.T) broker.Registry { return openRegistry(t, e.as(users[connections.Add(1)%2])) },
			Kill:    func(t brokertest.T) { e.kill(t); e.start(t) },
		}
	}})
}

func openRegistry(t brokertest.T, url string) broker.Registry {
	r, err := OpenRegistry(context.Background(), Config{URL: url})
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestARegistryThatIsDownSaysSo(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	r := openRegistry(t, e.url)
	e.kill(t)
	enrollment := broker.Enrollment{Deployment: drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 4}}
	if _, err := r.Enroll(t.Context(), enrollment); err == nil || errors.Is(err, broker.ErrMisconfigured) {
		t.Errorf("enrolling while NATS is down: %v", err)
	}
}

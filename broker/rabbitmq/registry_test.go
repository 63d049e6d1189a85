package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/internal/servers"
)

// TestRegistry runs the suite on one RabbitMQ. Each case has a queue of its own. The case that kills the server has one
// of its own, because the others run meanwhile.
func TestRegistry(t *testing.T) {
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{})
	connectTo := func(server *servers.RabbitMQ, prefix string) func(t brokertest.T) broker.Registry {
		return func(t brokertest.T) broker.Registry {
			r, err := OpenRegistry(context.Background(), Config{URL: server.URL(), Prefix: prefix})
			if err != nil {
				t.Fatalf("opening: %v", err)
			}
			return r
		}
	}
	t.Run("suite", func(t *testing.T) {
		brokertest.RunRegistry(t, brokertest.RegistryHarness{
			Patience: 30 * time.Second,
			Start: func(brokertest.T) *brokertest.RegistryServer {
				return &brokertest.RegistryServer{Connect: connectTo(server, fmt.Sprintf("case%d", prefixes.Add(1)))}
			},
		})
	})
	t.Run("killed", func(t *testing.T) {
		brokertest.RunRegistry(t, brokertest.RegistryHarness{
			Patience: 30 * time.Second, KillsOnly: true,
			Start: func(brokertest.T) *brokertest.RegistryServer {
				return &brokertest.RegistryServer{
					Connect: connectTo(server, fmt.Sprintf("case%d", prefixes.Add(1))),
					Kill: func(brokertest.T) {
						// RabbitMQ 3.10 writes down late which queues it has: one that was declared within the last seconds
						// before a kill has no leader afterwards, for ever.
						server.Control("eval", "[dets:sync(T) || T <- dets:all()].")
						server.Kill()
						server.Start()
					},
				}
			},
		})
	})
	t.Run("a backend enrolls with the permission to read nothing but the record", func(t *testing.T) {
		prefix := fmt.Sprintf("case%d", prefixes.Add(1))
		server.Control("add_user", prefix, "secret")
		server.Control("set_permissions", prefix, `^`+prefix+`\..*`, `^amq\.default$`, `^`+prefix+`\.deployment$`)
		url := strings.Replace(server.URL(), server.User+":"+server.Password, prefix+":secret", 1)
		e := broker.Enrollment{Deployment: drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 4}}
		r, err := OpenRegistry(t.Context(), Config{URL: url, Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Enroll(t.Context(), e); err != nil || got != e {
			t.Errorf("enrolling: %v, %v", got, err)
		}
		server.Control("set_permissions", prefix, `^`+prefix+`\..*`, `^amq\.default$`, `^$`)
		if _, err := r.Enroll(t.Context(), e); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "read the queue") {
			t.Errorf("enrolling without the permission to read: %v", err)
		}
	})
}

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

// connectTo opens registries as processes do.
func connectTo(server *servers.RabbitMQ, settle time.Duration) func(t brokertest.T) broker.Registry {
	prefix := fmt.Sprintf("case%d", prefixes.Add(1))
	return func(t brokertest.T) broker.Registry {
		r, err := OpenRegistry(context.Background(), Config{URL: server.URL(), Prefix: prefix, Settle: settle})
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
		Start: func(brokertest.T) *brokertest.RegistryServer {
			return &brokertest.RegistryServer{Connect: connectTo(server, time.Millisecond)}
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
		Start: func(brokertest.T) *brokertest.RegistryServer {
			return &brokertest.RegistryServer{Connect: connectTo(server, defaultSettle), Kill: kill}
		},
	})
}

func enrollsWithFewPermissions(t *testing.T, server *servers.RabbitMQ) {
	prefix := fmt.Sprintf("case%d", prefixes.Add(1))
	server.AddUser(prefix)
	server.Permit(prefix, `^`+prefix+`\..*`, `^amq\.default$`, `^`+prefix+`\.deployment$`)
	url := strings.Replace(server.URL(), server.User+":"+server.Password, prefix+":secret", 1)
	e := broker.Enrollment{Deployment: drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 4}}
	r, err := OpenRegistry(t.Context(), Config{URL: url, Prefix: prefix, Settle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Enroll(t.Context(), e); err != nil || got != e {
		t.Errorf("enrolling: %v, %v", got, err)
	}
	server.Permit(prefix, `^`+prefix+`\..*`, `^amq\.default$`, `^$`)
	_, err = r.Enroll(t.Context(), e)
	if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "permission to configure and read the queue") {
		t.Errorf("enrolling without the permission to read: %v", err)
	}
}

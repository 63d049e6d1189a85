//go:build amqp10

package amqp10

import (
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/test/servers"
)

const allServers = true

// These take longer than the default run of the tests may: make amqp10 runs them.

func TestActiveMQ(t *testing.T) {
	security, rights := xmlRights(t, "activemq.xml", "case.*.")
	server := servers.StartActiveMQ(t, servers.ActiveMQOptions{Security: security})
	small := servers.StartActiveMQ(t, servers.ActiveMQOptions{Store: 4 << 20, Security: security})
	p := peer{url: server.URL(), kill: server.Kill, start: server.Start, small: &peer{url: small.URL()}, roles: true}
	conform(t, p)
	p.checkRights(t, rights)
}

// TestRabbitMQPlugin is about AMQP 1.0 in RabbitMQ 3, which makes no queues with arguments. A queue that is full ends the
// session there, so that ErrFull cannot be told.
func TestRabbitMQPlugin(t *testing.T) {
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{AMQP10: true})
	conform(t, peer{
		url: "amqp10" + server.URL()[len("amqp"):], kill: server.Kill, start: server.Start,
		prepare: func(t servers.T, prefix string, maxBytes int64) { declare(t, server, prefix, maxBytes) },
	})
}

// declare makes queues as the commands in the adapter's errors do.
func declare(t servers.T, server *servers.RabbitMQ, prefix string, maxBytes int64) {
	t.Helper()
	connection, err := amqp091.Dial(server.URL())
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	defer connection.Close()
	ch, err := connection.Channel()
	for _, name := range []string{".p0", ".p1", ".flag", ".deployment"} {
		if err == nil {
			_, err = ch.QueueDeclare(prefix+name, true, false, false, false, amqp091.Table(arguments(queue{maxBytes: maxBytes})))
		}
	}
	if err != nil {
		t.Fatalf("declaring queues: %v", err)
	}
}

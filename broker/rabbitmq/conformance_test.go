package rabbitmq

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// conform runs the suite but for the cases that kill the server. Each case has queues of its own.
func conform(t *testing.T, server *servers.RabbitMQ) {
	start := func(c Config) func(brokertest.T) *brokertest.Server {
		return func(t brokertest.T) *brokertest.Server {
			s := describePermitted(t, server, c)
			s.Kill, s.Revive = nil, nil
			return s
		}
	}
	brokertest.Run(t, brokertest.Harness{
		Start: start(Config{}), StartSmall: start(Config{MaxBytes: 4 * maxPayload}),
		Shared: true, Patience: time.Minute, Quiet: 150 * time.Millisecond,
	})
}

// conformWhenKilled runs the cases that kill the server. The queues are new, so they must rest before.
func conformWhenKilled(t *testing.T, server *servers.RabbitMQ) {
	brokertest.Run(t, brokertest.Harness{
		Start: func(t brokertest.T) *brokertest.Server {
			return describePermitted(t, server, Config{Settle: defaultSettle})
		},
		Shared: true, KillsOnly: true, Kills: 1, Patience: time.Minute, Quiet: 150 * time.Millisecond,
	})
}

var prefixes atomic.Int64

// permit makes the users of deploy/permissions, whose rights are on the queues of all cases. It is done once for a server:
// each command to it is a process that keeps both cores busy for a second.
func permit(t servers.T, server *servers.RabbitMQ) {
	file := servers.Permissions(t, "rabbitmq.json")
	server.Import(strings.NewReplacer(`drainmark\\.`, `case[0-9]+\\.`, `"vhost": "drainmark"`, `"vhost": "/"`, `"name": "drainmark"`, `"name": "/"`).Replace(file))
}

// describePermitted makes queues for one case, in which the users of permit have just the rights of the roles.
func describePermitted(t brokertest.T, server *servers.RabbitMQ, c Config) *brokertest.Server {
	c.Partitions, c.Prefix = 2, fmt.Sprintf("case%d", prefixes.Add(1))
	as := func(t brokertest.T, user string) *Broker {
		c := c
		c.URL = servers.As(user, server.URL())
		return open(t, c)
	}
	return &brokertest.Server{
		Connect: func(t brokertest.T) broker.Broker {
			return brokertest.Roles{Backend: as(t, servers.BackendUser), Consumer: as(t, servers.ConsumerUser)}
		},
		Drop: func(_ brokertest.T, b broker.Broker) {
			b.(brokertest.Roles).Backend.(*Broker).drop()
			b.(brokertest.Roles).Consumer.(*Broker).drop()
		},
		Kill:   func(brokertest.T) { server.Kill() },
		Revive: func(brokertest.T) { server.Start() },
		Foreign: func(t brokertest.T, partition int, payload []byte) {
			publishForeign(t, server, fmt.Sprintf("%s.p%d", c.Prefix, partition), payload)
		},
		Reconnects: true,
	}
}

// fataler is what helpers use of a test's T, or of the suite's.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// answerTime is how long RabbitMQ may take for an answer where a test is not about that: a busy machine may stand still for
// some seconds.
const answerTime = 30 * time.Second

func open(t fataler, c Config) *Broker {
	t.Helper()
	c.Settle, c.Timeout = cmp.Or(c.Settle, time.Millisecond), cmp.Or(c.Timeout, answerTime)
	b, err := Open(context.Background(), c)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return b
}

// drop ends the broker's connections as the death of its process does: without goodbye, and for ever. It returns when
// the client has noticed, which it does in a goroutine of its own.
func (b *Broker) drop() {
	b.cancel(context.Canceled)
	if s, err := b.publishing.get(); err == nil {
		noticed := s.conn.NotifyClose(make(chan *amqp.Error, 1))
		s.cut()
		<-noticed
	}
	b.flag.reading <- struct{}{}
	if b.flag.session != nil {
		b.flag.session.cut()
	}
	<-b.flag.reading
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.receivers {
		r.session.cut()
	}
}

func publishForeign(t fataler, server *servers.RabbitMQ, queue string, payload []byte) {
	t.Helper()
	c, err := amqp.Dial(server.URL())
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	defer c.Close()
	ch, err := c.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	var confirmation *amqp.DeferredConfirmation
	if err == nil {
		confirmation, err = ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{Body: payload})
	}
	if err != nil || !confirmation.Wait() {
		t.Fatalf("publishing to %s: %v", queue, err)
	}
}

// batchOf makes a batch of a producer with one record a sequence.
func batchOf(producer drainmark.ProducerID, partition int, first, last uint64) broker.Batch {
	batch := drainmark.Batch{Partition: partition, Producer: producer, First: first}
	for s := first; s <= last; s++ {
		batch.Records = append(batch.Records, drainmark.Record{Kind: drainmark.Append, Log: "log", Body: fmt.Appendf(nil, "body %d", s), AcceptedAt: time.Now()})
	}
	return broker.Batch{
		Header:  broker.Header{Partition: partition, Producer: producer, First: first, Last: last},
		Payload: drainmark.EncodeBatch(nil, &batch),
	}
}

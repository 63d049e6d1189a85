package rabbitmq

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// recordBatch makes a batch of n records with bodies of 200 bytes.
func recordBatch(first uint64, n int) broker.Batch {
	body := bytes.Repeat([]byte("x"), 200)
	batch := drainmark.Batch{Producer: self, First: first}
	for range n {
		batch.Records = append(batch.Records, drainmark.Record{Kind: drainmark.Append, Log: "guestbook", Body: body, AcceptedAt: time.Now()})
	}
	return broker.Batch{
		Header:  broker.Header{Producer: self, First: first, Last: first + uint64(n) - 1},
		Payload: drainmark.EncodeBatch(nil, &batch),
	}
}

// BenchmarkPublish publishes batches one after the other, each confirmed. Beside it the bare client publishes one
// record a message, all confirmed, with 1,000 in flight.
func BenchmarkPublish(b *testing.B) {
	server := servers.StartRabbitMQ(b, servers.RabbitMQOptions{})
	for _, records := range []int{1, 1000} {
		b.Run(fmt.Sprintf("batches of %d", records), func(b *testing.B) {
			q, err := Open(b.Context(), Config{URL: server.URL(), Partitions: 1, Prefix: fmt.Sprintf("bench%d", prefixes.Add(1))})
			if err != nil {
				b.Fatal(err)
			}
			defer q.Close()
			batch := recordBatch(1, records)
			b.ReportAllocs()
			for b.Loop() {
				if err := q.Publish(b.Context(), 0, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
		})
	}
	b.Run("bare client", func(b *testing.B) { benchmarkBareClient(b, server) })
}

func benchmarkBareClient(b *testing.B, server *servers.RabbitMQ) {
	conn, err := amqp.Dial(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	queue := fmt.Sprintf("bare%d", prefixes.Add(1))
	if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}); err != nil {
		b.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	const inFlight = 1000
	body := bytes.Repeat([]byte("x"), 200)
	pending := make([]*amqp.DeferredConfirmation, 0, inFlight)
	settle := func() {
		for _, c := range pending {
			if !c.Wait() {
				b.Fatal("not confirmed")
			}
		}
		pending = pending[:0]
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
		if err != nil {
			b.Fatal(err)
		}
		if pending = append(pending, c); len(pending) == inFlight {
			settle()
		}
	}
	settle()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

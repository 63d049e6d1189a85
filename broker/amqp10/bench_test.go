package amqp10

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// recordBatch makes a batch of n records with bodies of 200 bytes.
func recordBatch(n int) broker.Batch {
	batch := drainmark.Batch{Producer: drainmark.ProducerID{7}, First: 1}
	for range n {
		batch.Records = append(batch.Records, drainmark.Record{
			Kind: drainmark.Append, Log: "guestbook", Body: bytes.Repeat([]byte("x"), 200), AcceptedAt: time.Now(),
		})
	}
	return broker.Batch{
		Header:  broker.Header{Producer: batch.Producer, First: 1, Last: uint64(n)},
		Payload: drainmark.EncodeBatch(nil, &batch),
	}
}

// BenchmarkBroker publishes batches one after the other to one partition, each confirmed, and then receives and acknowledges
// them. Every server syncs what it confirms.
func BenchmarkBroker(b *testing.B) {
	for name, start := range map[string]func() string{
		"Artemis":  func() string { return servers.StartArtemis(b, servers.ArtemisOptions{}).URL() },
		"ActiveMQ": func() string { return servers.StartActiveMQ(b, servers.ActiveMQOptions{}).URL() },
		"RabbitMQ 4": func() string {
			return "amqp10" + servers.StartRabbitMQ(b, servers.RabbitMQOptions{Version: 4}).URL()[len("amqp"):]
		},
	} {
		url := start()
		for _, records := range []int{1, 1000} {
			c := Config{URL: url, Partitions: 1, Prefix: fmt.Sprintf("bench%d", prefixes.Add(1))}
			b.Run(fmt.Sprintf("%s/publish batches of %d", name, records), func(b *testing.B) { benchmarkPublish(b, c, records) })
			b.Run(fmt.Sprintf("%s/receive batches of %d", name, records), func(b *testing.B) { benchmarkReceive(b, c, records) })
		}
	}
}

func benchmarkPublish(b *testing.B, c Config, records int) {
	q := open(b, c)
	defer q.Close()
	batch := recordBatch(records)
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Publish(b.Context(), 0, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

func benchmarkReceive(b *testing.B, c Config, records int) {
	q := open(b, c)
	defer q.Close()
	batch := recordBatch(records)
	for range b.N {
		if err := q.Publish(b.Context(), 0, batch); err != nil {
			b.Fatal(err)
		}
	}
	r, err := q.Open(b.Context(), 0, "", false)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	b.ResetTimer()
	for received := 0; received < b.N; {
		got, err := r.Receive(b.Context(), prefetch)
		if err == nil {
			err = r.Ack(b.Context(), got[len(got)-1])
		}
		if err != nil {
			b.Fatal(err)
		}
		received += len(got)
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

package kafka

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// recordBatch makes a batch of n records with bodies of 200 bytes.
func recordBatch(n int) broker.Batch {
	body := bytes.Repeat([]byte("x"), 200)
	batch := drainmark.Batch{Producer: drainmark.ProducerID{7}, First: 1}
	for range n {
		batch.Records = append(batch.Records, drainmark.Record{Kind: drainmark.Append, Log: "guestbook", Body: body, AcceptedAt: time.Now()})
	}
	return broker.Batch{
		Header:  broker.Header{Producer: batch.Producer, First: 1, Last: uint64(n)},
		Payload: drainmark.EncodeBatch(nil, &batch),
	}
}

// BenchmarkPublish publishes batches one after the other, each confirmed and synced. Beside it the bare client publishes
// the same payloads with acks=all, to another partition of the topic: one after the other, and a hundred at once.
func BenchmarkPublish(b *testing.B) {
	server := servers.StartKafka(b, servers.KafkaOptions{})
	c := configOf(server, Config{MaxBytes: 64 << 30})
	q, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	for _, records := range []int{1, 1000} {
		batch := recordBatch(records)
		b.Run(fmt.Sprintf("%d records/adapter", records), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := q.Publish(b.Context(), 0, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
		})
		for _, at := range []int{1, 100} {
			b.Run(fmt.Sprintf("%d records/bare client, %d in flight", records, at), func(b *testing.B) {
				bareClient(b, server, c.Prefix, batch.Payload, at)
				b.ReportMetric(float64(b.N*records*at)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

func bareClient(b *testing.B, server *servers.Kafka, topic string, payload []byte, atOnce int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Address()), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	b.ReportAllocs()
	for b.Loop() {
		var records []*kgo.Record
		for range atOnce {
			records = append(records, &kgo.Record{Partition: 1, Value: payload})
		}
		if err := client.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceive reads what a partition has, from its beginning, and the bare client does the same.
func BenchmarkReceive(b *testing.B) {
	const batches, records = 500, 1000
	server := servers.StartKafka(b, servers.KafkaOptions{})
	c := configOf(server, Config{MaxBytes: 64 << 30})
	q, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	for range batches {
		if err := q.Publish(b.Context(), 0, recordBatch(records)); err != nil {
			b.Fatal(err)
		}
	}
	for name, read := range map[string]func(*testing.B){
		"adapter":     func(b *testing.B) { receiveAll(b, q, batches) },
		"bare client": func(b *testing.B) { pollAll(b, server, c.Prefix, batches) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				read(b)
			}
			b.ReportMetric(float64(b.N*batches*records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func receiveAll(b *testing.B, q *Broker, batches int) {
	r, err := q.Open(b.Context(), 0, "", false)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for got := 0; got < batches; {
		deliveries, err := r.Receive(b.Context(), 64)
		if err != nil {
			b.Fatal(err)
		}
		got += len(deliveries)
	}
}

func pollAll(b *testing.B, server *servers.Kafka, topic string, batches int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Address()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for got := 0; got < batches; {
		fetches := client.PollFetches(b.Context())
		if err := fetches.Err(); err != nil {
			b.Fatal(err)
		}
		got += fetches.NumRecords()
	}
}

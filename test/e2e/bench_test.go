package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
)

// BenchmarkAppendToPersisted compares three things on one RabbitMQ and one Redis, with bodies of 200 bytes. Drainmark,
// from the first request of many messages until a barrier says that everything is persisted. The bare client, which
// only publishes, one record a message, all confirmed. The naive design, with which a queue before a database begins.
func BenchmarkAppendToPersisted(b *testing.B) {
	s := startStack(b, 0)
	b.Run("drainmark", func(b *testing.B) { benchmarkDrainmark(b, deployBench(b, s, 1, 1)) })
	b.Run("drainmark, 2 backends and 2 consumers", func(b *testing.B) { benchmarkDrainmark(b, deployBench(b, s, 2, 2)) })
	b.Run("bare client, publishing only", func(b *testing.B) { benchmarkBareClient(b, s.broker) })
	for _, n := range []int{250, 1000} {
		b.Run(fmt.Sprintf("naive design, %d records", n), func(b *testing.B) { benchmarkNaive(b, s, n) })
	}
}

var body = strings.Repeat("x", 200)

func deployBench(b *testing.B, s *stack, backends, consumers int) *deployment {
	d := deploy(b, setup{broker: s.broker.URL(), store: s.master.URL(), backends: backends, consumers: consumers, roles: true})
	// A consumer that joins takes its share from the others. That must be over.
	await(b, "the partitions are shared", patience, func() bool { return evenlyHeld(b, d, consumers) })
	return d
}

// benchmarkDrainmark appends many messages in NDJSON, from several clients, until a barrier says that all are persisted.
func benchmarkDrainmark(b *testing.B, d *deployment) {
	const lines, requests, clients = 10_000, 20, 8
	payload := bytes.Repeat([]byte(`{"body":"`+body+`"}`+"\n"), lines)
	for b.Loop() {
		var work sync.WaitGroup
		next := make(chan int)
		for c := range clients {
			work.Go(func() {
				for i := range next {
					a, err := send(b.Context(), d.http, request{
						method: http.MethodPost, url: messagesURL(d.urls[c%len(d.urls)], fmt.Sprint("log-", i%16)), body: payload,
						header: []string{"Content-Type", "application/x-ndjson"},
					})
					if err != nil || a.status != http.StatusAccepted {
						b.Errorf("appending: %d %.200s %v", a.status, a.body, err)
					}
				}
			})
		}
		for i := range requests {
			next <- i
		}
		close(next)
		work.Wait()
		d.barrier(d.url)
	}
	b.ReportMetric(float64(b.N*lines*requests)/b.Elapsed().Seconds(), "records/s")
}

// evenlyHeld says whether every consumer holds as many partitions as another one.
func evenlyHeld(t testing.TB, d *deployment, consumers int) bool {
	t.Helper()
	a, err := get(t.Context(), d.url+"/v1/backlog")
	var backlog struct {
		Partitions []struct{ Owner *string }
	}
	if err != nil || json.Unmarshal(a.body, &backlog) != nil {
		return false
	}
	held := map[string]int{}
	for _, p := range backlog.Partitions {
		if p.Owner == nil {
			return false
		}
		held[*p.Owner]++
	}
	for _, n := range held {
		if n != len(backlog.Partitions)/consumers {
			return false
		}
	}
	return true
}

func benchmarkBareClient(b *testing.B, broker *servers.RabbitMQ) {
	const inFlight, records = 1000, 50_000
	ch := queueFor(b, broker, "bare")
	pending := make([]*amqp.DeferredConfirmation, 0, inFlight)
	for b.Loop() {
		for i := range records {
			pending = append(pending, publishOne(b, ch, "bare", body))
			if len(pending) == inFlight || i == records-1 {
				for _, c := range pending {
					if !c.Wait() {
						b.Fatal("not confirmed")
					}
				}
				pending = pending[:0]
			}
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

func queueFor(b *testing.B, broker *servers.RabbitMQ, name string) *amqp.Channel {
	ch, err := broker.Dial().Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err == nil {
		_, err = ch.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
	}
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

func publishOne(b *testing.B, ch *amqp.Channel, queue, body string) *amqp.DeferredConfirmation {
	c, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// benchmarkNaive is one message a publish, and for each message: lock, read the whole list, append to it, write it
// back, unlock, acknowledge. The list begins empty, and its cost grows with its square.
func benchmarkNaive(b *testing.B, s *stack, records int) {
	queue := fmt.Sprint("naive", records)
	publish, consume := queueFor(b, s.broker, queue), queueFor(b, s.broker, queue)
	client := s.master.Client()
	deliveries, err := consume.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		client.Del(b.Context(), "naive:list")
		done := make(chan error, 1)
		go func() { done <- naiveConsumer(b.Context(), client, deliveries, records) }()
		for range records {
			if c := publishOne(b, publish, queue, body); !c.Wait() {
				b.Fatal("not confirmed")
			}
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

func naiveConsumer(ctx context.Context, client *redis.Client, deliveries <-chan amqp.Delivery, records int) error {
	for range records {
		d := <-deliveries
		for {
			locked, err := client.SetNX(ctx, "naive:lock", 1, time.Minute).Result()
			if err != nil {
				return err
			}
			if locked {
				break
			}
		}
		var list []string
		if text, err := client.Get(ctx, "naive:list").Bytes(); err == nil {
			if err := json.Unmarshal(text, &list); err != nil {
				return err
			}
		}
		text, err := json.Marshal(append(list, string(d.Body)))
		if err != nil {
			return err
		}
		if err := client.Set(ctx, "naive:list", text, 0).Err(); err != nil {
			return err
		}
		if err := client.Del(ctx, "naive:lock").Err(); err != nil {
			return err
		}
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

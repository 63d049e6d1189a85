package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// patience is how long anything may take, and answerTime how long Kafka may take for an answer: a busy machine may stand still
// for some seconds.
const (
	patience   = time.Minute
	answerTime = 20 * time.Second
)

// opened opens a broker on topics of its own, which is closed with the test.
func opened(t *testing.T, server *servers.Kafka, c Config) *Broker {
	t.Helper()
	return reopened(t, configOf(server, c))
}

// reopened opens another one on the same topics.
func reopened(t *testing.T, c Config) *Broker {
	t.Helper()
	b := open(t, c)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// batchOf makes a batch of one record of a producer in partition 0.
func batchOf(sequence uint64, size int) broker.Batch {
	payload := fmt.Appendf(make([]byte, size), "%d", sequence)
	return broker.Batch{Header: broker.Header{Producer: drainmark.ProducerID{7}, First: sequence, Last: sequence}, Payload: payload}
}

func publish(t *testing.T, b *Broker, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		if err := b.Publish(t.Context(), 0, batchOf(i, 10)); err != nil {
			t.Fatalf("publishing %d: %v", i, err)
		}
	}
}

func receiverOf(t *testing.T, b *Broker, from drainmark.Cursor) broker.Receiver {
	t.Helper()
	r, err := b.Open(t.Context(), 0, from, false)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// receive returns the next n deliveries, losses too.
func receive(t *testing.T, r broker.Receiver, n int) (all []broker.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(all) < n {
		got, err := r.Receive(ctx, n-len(all))
		if err != nil {
			t.Fatalf("receiving %d of %d: %v", len(all)+1, n, err)
		}
		all = append(all, got...)
	}
	return all
}

// expect receives the batches first to last.
func expect(t *testing.T, r broker.Receiver, first, last uint64) []broker.Delivery {
	t.Helper()
	got := receive(t, r, int(last-first+1))
	for i, d := range got {
		if d.First != first+uint64(i) || d.Lost != "" {
			t.Fatalf("received %v (lost: %q), want %d", d.Span(), d.Lost, first+uint64(i))
		}
	}
	return got
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still, after %v: %v", what, patience, err)
		}
	}
}

// set sets a setting of the broker's topic as a person with Kafka's tools does, or unsets it if the value is empty.
func set(t *testing.T, b *Broker, name, value string) {
	t.Helper()
	change := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	change.Name, change.Op = name, kmsg.IncrementalAlterConfigOpDelete
	if value != "" {
		change.Op, change.Value = kmsg.IncrementalAlterConfigOpSet, &value
	}
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, b.topic.spec.name
	resource.Configs = append(resource.Configs, change)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(t.Context(), b.asking)
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("setting %s to %q: %v", name, value, err)
	}
	eventually(t, "reading "+name, func() error {
		own, err := b.topic.settings(t.Context())
		if err == nil && own[name] != value {
			err = fmt.Errorf("it is %q", own[name])
		}
		return err
	})
}

// deleteTopic deletes the broker's topic as a person with Kafka's tools does. Kafka may have answered before the node knows:
// until then it confirms what is published to the topic, which is gone with it.
func deleteTopic(t *testing.T, b *Broker) {
	t.Helper()
	old, err := b.partitions[0].asked.now(t.Context())
	if err != nil {
		t.Fatalf("looking for the topic: %v", err)
	}
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = kmsg.StringPtr(b.topic.spec.name)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis, req.TopicNames, req.Topics = 10_000, []string{b.topic.spec.name}, append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), b.asking)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("deleting the topic: %v", err)
	}
	eventually(t, "the topic's end", func() error {
		now, err := metadata(t.Context(), b.asking, b.topic.spec.name)
		switch {
		case errors.Is(err, errNoTopic):
			return nil
		case err == nil && topicID(now.TopicID) == old.topic:
			return errors.New("the node still has it")
		}
		return err
	})
}

package kafka

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

var publishCases = []serverCase{
	{"what Kafka's own client compresses is received", compressed},
	{"an attempt that comes late stands behind what came later, and nothing is missing", lateAttempt},
}

// compressed is what people produce with Kafka's tools.
func compressed(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Address()), kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(b.topic.spec.name))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer client.Close()
	value := bytes.Repeat([]byte("somebody's "), 1000)
	if err := client.ProduceSync(t.Context(), &kgo.Record{Value: value}, &kgo.Record{Value: value}).FirstErr(); err != nil {
		t.Fatalf("producing: %v", err)
	}
	publish(t, b, 1, 1)
	got := receive(t, receiverOf(t, b, ""), 3)
	if !bytes.Equal(got[0].Payload, value) || !bytes.Equal(got[1].Payload, value) || got[1].Header != (broker.Header{}) || got[2].First != 1 {
		t.Errorf("received %d, %d bytes and %v", len(got[0].Payload), len(got[1].Payload), got[2].Span())
	}
	if expect(t, receiverOf(t, b, got[1].Cursor), 1, 1); got[0].Cursor == got[1].Cursor {
		t.Error("two records of one record batch have one cursor")
	}
}

// lateAttempt stores batch 1 once more behind batch 2, as a request does that was on its way when its connection broke.
func lateAttempt(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	publish(t, b, 1, 2)
	publish(t, b, 1, 1)
	publish(t, b, 3, 3)
	r := receiverOf(t, b, "")
	expect(t, r, 1, 2)
	expect(t, r, 1, 1)
	last := expect(t, r, 3, 3)[0]
	backlog, err := b.Backlog(t.Context(), 0, drainmark.Progress{Cursor: last.Cursor})
	if err != nil || !backlog.Pending.Exact || backlog.Pending.Records != 0 {
		t.Errorf("behind everything the backlog is %+v (%v)", backlog, err)
	}
}

// pausedServer has every call end with its context while the server hangs, and what was in doubt stored at most.
func pausedServer(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	publish(t, b, 1, 1)
	r := receiverOf(t, b, expect(t, receiverOf(t, b, ""), 1, 1)[0].Cursor)
	server.Pause()
	defer server.Continue()
	const brief = 300 * time.Millisecond
	for name, call := range map[string]func(ctx context.Context) error{
		"Publish": func(ctx context.Context) error { return b.Publish(ctx, 0, batchOf(2, 10)) },
		"Receive": func(ctx context.Context) error { _, err := r.Receive(ctx, 1); return err },
		"Backlog": func(ctx context.Context) error { _, err := b.Backlog(ctx, 0, drainmark.Progress{}); return err },
		"Open":    func(ctx context.Context) error { _, err := b.Open(ctx, 0, "", false); return err },
		"Ping":    b.Ping,
		"Raise":   func(ctx context.Context) error { return b.Flag().Raise(ctx, "a") },
		"Keeps":   func(ctx context.Context) error { _, err := b.Keeps(ctx, 0, nil); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), brief)
		ended := make(chan error, 1)
		go func() { ended <- call(ctx) }()
		select {
		case err := <-ended:
			if err == nil || name == "Publish" && errors.Is(err, broker.ErrNotSent) {
				t.Errorf("%s of a server that hangs: %v", name, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s does not end", name)
		}
		cancel()
	}
	server.Continue()
	eventually(t, "publishing", func() error { return b.Publish(t.Context(), 0, batchOf(2, 10)) })
	expect(t, r, 2, 2)
}

func deadServer(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	publish(t, b, 1, 1)
	server.Kill()
	eventually(t, "publishing", func() error { // the first attempt may go over the connection that has just broken
		err := b.Publish(t.Context(), 0, batchOf(2, 10))
		if !errors.Is(err, broker.ErrNotSent) {
			return errors.Join(errors.New("it does not say that it was not sent"), err)
		}
		return nil
	})
	c := b.config
	if other, err := Open(t.Context(), c); err != nil {
		t.Errorf("opening while the server is dead: %v", err)
	} else if err := other.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

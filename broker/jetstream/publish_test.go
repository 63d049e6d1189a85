package jetstream

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/drainmark/drainmark/broker"
)

func TestABatchWhoseConfirmationWasLostIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	p := b.partitions[0]
	for i := uint64(1); i <= 3; i++ {
		before := p.latest
		publish(t, b, 1, i, i, 10)
		after := p.latest
		p.latest = before // as if no answer had come
		publish(t, b, 1, i, i, 10)
		if p.latest != after {
			t.Errorf("batch %d: the newest message is %+v, want %+v", i, p.latest, after)
		}
	}
	wantStored(t, b, 1, 1, 2, 3)
}

func TestAMessageThatComesLateIsRefused(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	p := b.partitions[0]
	for i := uint64(1); i <= 2; i++ {
		batch := single(1, i, 10)
		late := &nats.Msg{Subject: p.subject + batch.Producer.String(), Header: headers(batch.Header), Data: batch.Payload}
		p.latest.expect(late, batch.Header)
		publish(t, b, 1, i, i, 10)
		if _, err := p.send(bounded(t), late); !answered(err, codeWrongLastSequence) {
			t.Errorf("batch %d once more, from a connection that broke: %v", i, err)
		}
	}
	wantStored(t, b, 1, 1, 2)
}

func TestPublishingGoesOnWhenSomebodyHasChangedTheStream(t *testing.T) {
	t.Parallel()
	e := startEmbedded(t, EmbedConfig{})
	b, other := e.connect(t), e.connect(t)
	publish(t, b, 1, 1, 2, 10)
	stream, err := b.partitions[0].ready(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(bounded(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 1, 3, 3, 10)
	publish(t, other, 1, 4, 4, 10)
	publish(t, b, 1, 5, 5, 10)
	publish(t, other, 1, 1, 1, 10)
	wantStored(t, b, 1, 3, 4, 5, 1)
	if err := b.conn.js.DeleteStream(bounded(t), "drainmark-p0"); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 1, 6, 6, 10)
	wantStored(t, b, 1, 6)
}

func TestPublishEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	b := e.open(t)
	publish(t, b, 1, 1, 1, 10)
	pause(t, e)
	ctx, cancel := context.WithTimeout(t.Context(), briefly)
	defer cancel()
	err := b.Publish(ctx, 0, single(1, 2, 10))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, broker.ErrNotSent) {
		t.Errorf("Publish to a server that does not answer: %v", err)
	}
	b.options.Timeout = briefly
	if err := b.Publish(bounded(t), 0, single(1, 2, 10)); !errors.Is(err, errUnanswered) || errors.Is(err, broker.ErrNotSent) {
		t.Errorf("Publish to a server that does not answer in time: %v", err)
	}
	if _, err := b.Backlog(bounded(t), 0, persisted("", nil)); !errors.Is(err, errUnanswered) {
		t.Errorf("Backlog: %v", err)
	}
	if err := b.Ping(bounded(t)); !errors.Is(err, errUnanswered) {
		t.Errorf("Ping: %v", err)
	}
}

func TestNothingIsKeptToBeSentWhenTheConnectionIsBack(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	b := e.open(t)
	publish(t, b, 1, 1, 1, 10)
	e.kill(t)
	eventually(t, func() string {
		if b.conn.IsConnected() {
			return "it is still connected"
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), briefly)
	defer cancel()
	if _, err := b.conn.publish(ctx, &nats.Msg{Subject: "drainmark.p0.x"}); !errors.Is(err, broker.ErrNotSent) {
		t.Errorf("a request without a connection: %v", err)
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
)

// Publish implements broker.Broker.
func (b *Broker) Publish(ctx context.Context, number int, batch broker.Batch) error {
	p, err := b.partition(number)
	if err == nil {
		err = p.publish(ctx, batch)
	}
	if err == nil {
		return nil
	}
	return b.explain("publishing "+batch.Span().String(), err)
}

func (p *partition) publish(ctx context.Context, batch broker.Batch) error {
	if most := p.b.traits.MaxPayload; len(batch.Payload) > most {
		return drainmark.Errorf(drainmark.KindTooLarge, "payload of %d bytes: the limit (MaxPayload) is %d", len(batch.Payload), most)
	}
	encoded := encode(nil, batch.Payload, headers(batch.Header))
	if err := p.full(len(encoded)); err != nil {
		return err
	}
	ctx, cancel := p.b.cluster.during(ctx, PublishAttempt)
	defer cancel()
	if _, err := p.lane.publish(ctx, p.b.topic, encoded); err != nil {
		return because(ctx, err)
	}
	p.meter.add(len(encoded))
	p.active.Store(true)
	return nil
}

// publish publishes an encoded record batch to a topic, which it makes if there is none, and returns the record's offset.
// While Kafka chooses a leader it tries on. ErrNotSent only if no attempt can have stored anything.
func (r *route) publish(ctx context.Context, t *topic, encoded []byte) (int64, error) {
	retry := backoff.Backoff{First: 10 * time.Millisecond, Max: 500 * time.Millisecond}
	for doubt := false; ; {
		if err := t.ready(ctx); err != nil {
			return 0, unlessDoubt(doubt, err)
		}
		offset, certain, err := r.produce(ctx, encoded)
		if err == nil {
			return offset, nil
		}
		doubt = doubt || !certain
		if gone(err) {
			t.forget()
		}
		switch {
		case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
			t.forget()
			err = misconfigured("the topic %s takes smaller messages than when this process began: raise its max.message.bytes, or start the process anew", r.topic)
			return 0, unlessDoubt(doubt, err)
		case errors.Is(err, kerr.NotEnoughReplicas):
			err = fmt.Errorf("fewer replicas of %s-%d are in sync than its min.insync.replicas says: %w", r.topic, r.partition, err)
			return 0, unlessDoubt(doubt, err)
		case !passing(err) && !gone(err), retry.Wait(ctx) != nil:
			return 0, unlessDoubt(doubt, err)
		}
	}
}

// gone says whether an error is that of a topic that is not there any more, or is another one.
func gone(err error) bool {
	return errors.Is(err, errNoTopic) || errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) ||
		errors.Is(err, kerr.InconsistentTopicID)
}

// unlessDoubt marks an error as one after which nothing is stored, unless an earlier attempt may have stored it.
func unlessDoubt(doubt bool, err error) error {
	if doubt {
		return err
	}
	return notSent(refusal(err))
}

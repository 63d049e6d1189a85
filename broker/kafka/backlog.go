package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
)

// Backlog implements broker.Broker. Kafka counts batches, not records, and does not say which of those behind the cursor
// are there twice or persisted already. So the only exact number is none: the store has read the partition to its end.
//
// With several replicas not even that is one. A leader that is cut off from the rest of its cluster, but not from us, says
// for as long as that lasts where its own log ends, and others may have confirmed more.
func (b *Broker) Backlog(ctx context.Context, number int, progress drainmark.Progress) (broker.Backlog, error) {
	ctx, cancel := b.cluster.during(ctx, b.config.Timeout)
	defer cancel()
	p, err := b.partition(number)
	if err != nil {
		return broker.Backlog{}, err
	}
	var backlog broker.Backlog
	err = p.steadily(ctx, func() error { backlog, err = p.backlog(ctx, progress); return err })
	if err != nil {
		return broker.Backlog{}, b.explain(fmt.Sprintf("counting partition %d's backlog", number), because(ctx, err))
	}
	return backlog, nil
}

func (p *partition) backlog(ctx context.Context, progress drainmark.Progress) (broker.Backlog, error) {
	if err := p.b.topic.ready(ctx); err != nil {
		return broker.Backlog{}, err
	}
	now, err := p.asked.now(ctx)
	if err != nil {
		return broker.Backlog{}, err
	}
	at, _, err := p.locate(ctx, progress.Cursor, now.topic)
	if err != nil {
		return broker.Backlog{}, err
	}
	start, err := p.asked.offset(ctx, atStart)
	if err != nil {
		return broker.Backlog{}, err
	}
	end, err := p.end(ctx)
	if err != nil {
		return broker.Backlog{}, err
	}
	behind := uint64(max(0, end-max(at.next, start)))
	return broker.Backlog{
		Pending: broker.Count{Exact: behind == 0 && now.replicas == 1},
		Ready:   &broker.Count{Records: behind},
	}, nil
}

// end returns where the partition ends.
func (p *partition) end(ctx context.Context) (int64, error) { return p.asked.offset(ctx, atEnd) }

// steadily runs a question again, for as long as the context lasts, while its error is one that passes: Kafka chooses a
// leader, or has closed a connection.
func steadily(ctx context.Context, question func() error) error {
	retry := backoff.Backoff{First: 10 * time.Millisecond, Max: 300 * time.Millisecond}
	for {
		err := question()
		if err == nil || !passing(err) || retry.Wait(ctx) != nil {
			return err
		}
	}
}

// steadily is that for a question about a partition, whose topic is made if somebody has deleted it.
func (p *partition) steadily(ctx context.Context, question func() error) error {
	return steadily(ctx, func() error {
		err := question()
		if gone(err) {
			p.b.topic.forget()
			err = question()
		}
		return err
	})
}

package jetstream

import (
	"context"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
)

// Keeps implements broker.Broker. The server that leads the stream counts the messages of each subject, and a producer
// has one.
func (b *Broker) Keeps(ctx context.Context, number int, producers []drainmark.ProducerID) (kept []drainmark.ProducerID, err error) {
	ctx, cancel := b.conn.during(ctx, b.options.Timeout)
	defer cancel()
	p, err := b.partition(number)
	if err != nil {
		return nil, err
	}
	info, err := p.info(ctx, natsjs.WithSubjectFilter(p.config.Subjects[0]))
	if err != nil {
		return nil, b.explain(fmt.Sprintf("asking what partition %d keeps", number), because(ctx, err))
	}
	for _, producer := range producers {
		if info.State.Subjects[p.subject+producer.String()] > 0 {
			kept = append(kept, producer)
		}
	}
	return kept, nil
}

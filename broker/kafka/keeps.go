package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/drainmark/drainmark"
)

// kept is what is known of whom a partition keeps something. Kafka does not know whose a record is, so the partition is
// read for it, once, and from then on what has come since. It is asked for only where a producer has been silent for days.
type kept struct {
	scanning chan struct{} // holds one, and guards the rest
	topic    topicID
	next     int64 // what stands before has been read
	epoch    int32
	newest   map[drainmark.ProducerID]int64 // by offset
}

// Keeps implements broker.Broker. A call whose context ends before the partition has been read leaves the rest to the next one.
func (b *Broker) Keeps(ctx context.Context, number int, producers []drainmark.ProducerID) (found []drainmark.ProducerID, err error) {
	p, err := b.partition(number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := b.cluster.during(ctx, keepsTime)
	defer cancel()
	err = p.steadily(ctx, func() error { found, err = p.keeps(ctx, producers); return err })
	if err != nil {
		return nil, b.explain(fmt.Sprintf("asking what partition %d keeps", number), because(ctx, err))
	}
	return found, nil
}

// keepsTime bounds one look: there may be much to be read.
const keepsTime = PublishAttempt

func (p *partition) keeps(ctx context.Context, producers []drainmark.ProducerID) (found []drainmark.ProducerID, err error) {
	k := &p.kept
	select { // one at a time
	case k.scanning <- struct{}{}:
		defer func() { <-k.scanning }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := p.b.topic.ready(ctx); err != nil {
		return nil, err
	}
	start, err := p.scan(ctx)
	if err != nil {
		return nil, err
	}
	for producer, at := range k.newest {
		if at < start {
			delete(k.newest, producer)
		}
	}
	for _, producer := range producers {
		if _, ok := k.newest[producer]; ok {
			found = append(found, producer)
		}
	}
	return found, nil
}

// scan reads what has not been read yet, and returns where the partition begins.
func (p *partition) scan(ctx context.Context) (start int64, err error) {
	k := &p.kept
	now, err := p.asked.now(ctx)
	if err != nil {
		return 0, err
	}
	if k.topic != now.topic || k.newest == nil {
		*k = kept{scanning: k.scanning, topic: now.topic, epoch: -1, newest: map[drainmark.ProducerID]int64{}}
	}
	if start, err = p.asked.offset(ctx, atStart); err != nil {
		return 0, err
	}
	end, err := p.end(ctx)
	if err != nil {
		return 0, err
	}
	if k.next < start {
		k.next, k.epoch = start, -1
	}
	for k.next < end {
		got, err := p.asked.fetch(ctx, k.next, k.epoch)
		if errors.Is(err, errCut) {
			k.newest = nil
		}
		if err != nil {
			return 0, err
		}
		for _, record := range got.records {
			k.newest[headerOf(p.number, record).Producer] = record.Offset
			k.epoch = record.LeaderEpoch
		}
		k.next = got.next
	}
	return start, nil
}

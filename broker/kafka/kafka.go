// Package kafka is the broker on Apache Kafka 4.0 or newer, over its own protocol.
//
// A deployment is one topic, "drainmark", with a Kafka partition for each of its partitions. A batch is one record, whose
// headers say what it holds, in a record batch of its own. It counts as stored when all replicas that are in sync have it
// (acks=all). Nothing is consumed: receivers read behind the store's cursor, in no consumer group, and what is
// acknowledged here is deleted when the replay window has passed or the partition is half full.
//
// Two things of Kafka's must be known to read this package:
//   - A confirmation says that a record is in the memory of so many machines, and of its disk nothing. What makes it
//     durable are settings of the topic, which are checked (topic.go).
//   - Kafka deletes where Drainmark must refuse. So the topic deletes nothing by itself, and whether a partition is full is
//     counted here (meter.go).
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// Broker implements broker.Broker. It has one client to ask and to read journals, one for each partition that is published
// to, and one for each receiver: a Kafka broker answers what comes over one connection in turn, and a publish that
// waits for replicas must hold up nothing else.
type Broker struct {
	cluster    *cluster
	config     Config
	asking     *kgo.Client
	topic      *topic
	traits     broker.Traits
	partitions []*partition
	flag       *flag
	purgeNow   chan struct{} // has something in it when partitions are to be looked at as soon as possible

	running sync.WaitGroup
	looking sync.Mutex // one at a time measures and purges
	closing sync.Once

	mu        sync.Mutex
	receivers map[*receiver]struct{} // those that are open, nil when the broker is closed
}

var _ broker.Broker = (*Broker)(nil)

// Open returns the broker. Kafka need not be up: it is tried further in the background, for as long as it takes.
// ErrMisconfigured if it answers, and refuses us or has another topic than we need.
func Open(ctx context.Context, c Config) (*Broker, error) {
	c, err := c.resolved()
	if err == nil {
		err = c.checkPartitions()
	}
	if err != nil {
		return nil, err
	}
	cluster := newCluster(c)
	asking, err := cluster.client()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cluster: cluster, config: c, asking: asking, purgeNow: make(chan struct{}, 1),
		topic:     newTopic(cluster, asking, c.topicSpec()),
		receivers: map[*receiver]struct{}{},
	}
	b.flag = newFlag(newJournal(cluster, asking, c.flagSpec()))
	for number := range c.Partitions {
		p, err := newPartition(b, number)
		if err != nil {
			cluster.close()
			return nil, err
		}
		b.partitions = append(b.partitions, p)
	}
	most, err := b.prepare(ctx)
	b.traits = broker.Traits{Replays: true, Ordered: true, MaxPayload: most}
	if err != nil {
		_ = b.Close()
		return nil, err
	}
	b.start(b.purgeRegularly)
	return b, nil
}

// prepare makes and checks the topic, and returns the largest payload that it takes. Errors in it are better reported now
// than by the first append. If Kafka does not answer, they are reported later.
func (b *Broker) prepare(ctx context.Context) (maxPayload int, err error) {
	ctx, cancel := b.cluster.during(ctx, b.config.Timeout)
	defer cancel()
	most, err := 0, b.topic.ready(ctx)
	if err == nil {
		err = steadily(ctx, func() error { most, err = b.topic.maxPayload(ctx); return err })
	}
	switch err = refusal(err); {
	case errors.Is(err, broker.ErrMisconfigured):
		return 0, err
	case err != nil:
		b.config.Logger.Warn("Kafka could not be checked; it is tried further", "error", err)
		return defaultMaxPayload, nil
	}
	return most, nil
}

// Traits implements broker.Broker.
func (b *Broker) Traits() broker.Traits { return b.traits }

// Flag implements broker.Broker.
func (b *Broker) Flag() broker.Flag { return b.flag }

// Ping implements broker.Broker: the topic must be as it must be, and each of its partitions have a leader.
func (b *Broker) Ping(ctx context.Context) error {
	ctx, cancel := b.cluster.during(ctx, b.config.Timeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return steadily(ctx, func() error { return b.topic.check(ctx) }) })
	for _, p := range b.partitions {
		group.Go(func() error {
			if err := p.full(int(p.meter.usual())); err != nil {
				return err
			}
			return steadily(ctx, func() error { _, err := p.end(ctx); return err })
		})
	}
	return b.explain("asking whether Kafka is well", because(ctx, group.Wait()))
}

// partition returns one of the partitions while the broker is open.
func (b *Broker) partition(number int) (*partition, error) {
	if b.cluster.ctx.Err() != nil {
		return nil, broker.ErrClosed
	}
	if number < 0 || number >= len(b.partitions) {
		return nil, drainmark.Errorf(drainmark.KindInvalid, "partition %d: this deployment has 0 to %d", number, len(b.partitions)-1)
	}
	return b.partitions[number], nil
}

// start runs f until Close, which waits for it. After Close it does nothing.
func (b *Broker) start(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.receivers != nil {
		b.running.Go(f)
	}
}

// explain wraps an error with what was being done.
func (b *Broker) explain(what string, err error) error { return b.cluster.explain(what, err) }

// Close implements broker.Broker. It takes at most some seconds.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		b.cluster.end(broker.ErrClosed)
		b.mu.Lock()
		open := b.receivers
		b.receivers = nil
		b.mu.Unlock()
		for r := range open {
			r.end()
		}
		b.running.Wait()
		b.cluster.close()
	})
	return nil
}

// partition is one partition, as far as it is known.
type partition struct {
	b      *Broker
	number int
	asked  *route // over the client that asks
	lane   *route // over a client of its own: to publish
	meter  meter
	kept   kept

	told   atomic.Int64 // the offset that people's tools were told last
	active atomic.Bool  // it is to be measured: something has come, or was refused, since the last time

	mu    sync.Mutex
	acked acknowledged
}

func newPartition(b *Broker, number int) (*partition, error) {
	publishing, err := b.cluster.client()
	if err != nil {
		return nil, err
	}
	name := b.topic.spec.name
	p := &partition{
		b: b, number: number,
		asked: &route{cluster: b.cluster, client: b.asking, topic: name, partition: int32(number)},
		lane:  &route{cluster: b.cluster, client: publishing, topic: name, partition: int32(number)},
	}
	p.kept.scanning = make(chan struct{}, 1)
	p.active.Store(true)
	return p, nil
}

// log names the partition for people.
func (p *partition) log() string { return fmt.Sprintf("%s-%d", p.b.topic.spec.name, p.number) }

func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", broker.ErrMisconfigured, fmt.Sprintf(format, args...))
}

// discard is a logger for those who have none.
var discard = slog.New(slog.DiscardHandler)

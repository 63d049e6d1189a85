// Package amqp10 is the broker on servers that speak AMQP 1.0: IBM MQ, ActiveMQ Classic, Artemis, and RabbitMQ.
//
// Each partition is one queue, "drainmark.p0" for partition 0. A batch is one durable message, whose application
// properties say what it holds. AMQP 1.0 says how messages travel, and nothing about queues. So whatever depends on the
// server is in product.go, artemis.go and rabbitmq.go.
//
// Four things of AMQP 1.0, and of its client library, must be known to read this package:
//   - An address may be a queue or a topic. Both links say that theirs is a queue, by a capability. On a topic without
//     subscribers messages are accepted and gone.
//   - Of the outcomes of a message, only "accepted" means that it is stored. "Released" and "modified" mean that it is
//     not, and the library's Send takes them for a success. So it is not used.
//   - What a receiver holds is given back by ending its session. A link that is detached leaves it in nobody's hands on
//     some servers, and "released" and "modified" put it behind others.
//   - The library writes a message in several frames. When it gives up between two of them, the link cannot be used any
//     more. So no link outlives a publish that failed.
package amqp10

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// Broker implements broker.Broker with one connection for each partition that is published to, one for each receiver, and
// one to ask. They are apart because a server that is short of something stops reading from a connection that publishes,
// and IBM MQ takes one session for each connection.
type Broker struct {
	server *server
	lanes  []*lane // one a partition
	asking *lane   // to the first partition's queue
	flag   *flag

	mu        sync.Mutex
	receivers map[*receiver]struct{} // those that are open, nil when the broker is closed
	running   sync.WaitGroup
}

var _ broker.Broker = (*Broker)(nil)

// Open returns the broker. The server need not be up: it is connected to when it is needed. ErrMisconfigured if it
// answers, and refuses us or has not the queues that we need.
func Open(ctx context.Context, c Config) (*Broker, error) {
	c, err := c.resolved()
	if err == nil {
		err = c.checkPartitions()
	}
	if err != nil {
		return nil, err
	}
	s := newServer(c)
	b := &Broker{server: s, receivers: map[*receiver]struct{}{}}
	for p := range c.Partitions {
		b.lanes = append(b.lanes, newLane(s, s.partition(p)))
	}
	b.asking = newLane(s, s.partition(0))
	b.flag = newFlag(s)
	err = b.tryOut(ctx)
	if errors.Is(err, broker.ErrMisconfigured) {
		_ = b.Close()
		return nil, err
	}
	if err != nil {
		c.Logger.Warn("the broker could not be checked; it is tried further", "error", err)
	}
	return b, nil
}

// tryOut sees that every partition has its queue. Errors in that are better reported now than by the first append.
func (b *Broker) tryOut(ctx context.Context) error {
	ctx, cancel := b.server.during(ctx, PublishAttempt)
	defer cancel()
	for _, lane := range b.lanes {
		if err := b.server.look(ctx, lane.queue); err != nil {
			return fmt.Errorf("looking for queue %s: %w", lane.queue.name, err)
		}
	}
	b.server.rests.anew()
	return nil
}

// Traits implements broker.Broker.
func (b *Broker) Traits() broker.Traits {
	return broker.Traits{Ordered: true, MaxPayload: maxPayload}
}

// Flag implements broker.Broker.
func (b *Broker) Flag() broker.Flag { return b.flag }

// Keeps implements broker.Broker: nothing that is acknowledged is delivered again.
func (b *Broker) Keeps(context.Context, int, []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	return nil, nil
}

// Backlog implements broker.Broker. AMQP 1.0 has no question for how many messages are in a queue.
func (b *Broker) Backlog(_ context.Context, partition int, _ drainmark.Progress) (broker.Backlog, error) {
	_, err := b.lane(partition)
	return broker.Backlog{}, err
}

// Ping implements broker.Broker: the server must attach a link to the first partition's queue.
func (b *Broker) Ping(ctx context.Context) error {
	if b.server.ctx.Err() != nil {
		return broker.ErrClosed
	}
	return b.server.explain("asking whether the broker is well", b.asking.ping(ctx))
}

// lane returns one of the partitions' while the broker is open.
func (b *Broker) lane(partition int) (*lane, error) {
	if b.server.ctx.Err() != nil {
		return nil, broker.ErrClosed
	}
	if partition < 0 || partition >= len(b.lanes) {
		return nil, drainmark.Errorf(drainmark.KindInvalid, "partition %d: this deployment has 0 to %d", partition, len(b.lanes)-1)
	}
	return b.lanes[partition], nil
}

// add notes a receiver for Close, unless the broker is closed, and begins to take what arrives.
func (b *Broker) add(r *receiver) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.receivers == nil {
		return false
	}
	b.receivers[r] = struct{}{}
	b.running.Go(r.pump)
	return true
}

// Close implements broker.Broker. It takes at most some seconds.
func (b *Broker) Close() error {
	b.mu.Lock()
	open := b.receivers
	b.receivers = nil
	b.mu.Unlock()
	b.server.end(broker.ErrClosed)
	var closing sync.WaitGroup
	for r := range open {
		closing.Go(func() { _ = r.Close() })
	}
	for _, lane := range append(b.lanes, b.asking, b.flag.lane) {
		closing.Go(lane.close)
	}
	closing.Wait()
	b.running.Wait()
	return nil
}

func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", broker.ErrMisconfigured, fmt.Sprintf(format, args...))
}

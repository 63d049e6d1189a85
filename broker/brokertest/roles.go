package brokertest

import (
	"context"
	"errors"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// Roles is a Broker of two connections, for an adapter whose brokers tell users apart: one is a backend's, who publishes,
// and one a consumer's, who receives. Each does what its role does, so the suite runs with the rights of the two.
type Roles struct {
	Backend, Consumer broker.Broker
}

// Publish implements broker.Broker.
func (r Roles) Publish(ctx context.Context, partition int, batch broker.Batch) error {
	return r.Backend.Publish(ctx, partition, batch)
}

// Open implements broker.Broker.
func (r Roles) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	return r.Consumer.Open(ctx, partition, from, again)
}

// Backlog implements broker.Broker.
func (r Roles) Backlog(ctx context.Context, partition int, p drainmark.Progress) (broker.Backlog, error) {
	return r.Backend.Backlog(ctx, partition, p)
}

// Keeps implements broker.Broker.
func (r Roles) Keeps(ctx context.Context, partition int, of []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	return r.Consumer.Keeps(ctx, partition, of)
}

// Ping implements broker.Broker. The backend's error is the one that counts, if there are two.
func (r Roles) Ping(ctx context.Context) error {
	return errors.Join(r.Backend.Ping(ctx), r.Consumer.Ping(ctx))
}

// Flag implements broker.Broker.
func (r Roles) Flag() broker.Flag { return r.Backend.Flag() }

// Traits implements broker.Broker.
func (r Roles) Traits() broker.Traits { return r.Backend.Traits() }

// Close implements broker.Broker.
func (r Roles) Close() error { return errors.Join(r.Backend.Close(), r.Consumer.Close()) }

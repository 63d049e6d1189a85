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

// Enroll records a deployment of so many partitions in a registry, as a role does when it begins, and says that a store has
// been made for it.
func Enroll(ctx context.Context, r broker.Registry, partitions int) error {
	d := drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: partitions}
	for _, stored := range []bool{false, true} {
		if _, err := r.Enroll(ctx, broker.Enrollment{Deployment: d, Stored: stored}); err != nil {
			return err
		}
	}
	_, err := r.Recorded(ctx)
	return err
}

// Act does in partition 0 what the two roles do: the backend publishes a batch, and raises and lowers the flag if there is
// one, the consumer receives the batch and acknowledges it, and both ask. meanwhile is called before the receiver is closed.
func (r Roles) Act(ctx context.Context, batch broker.Batch, meanwhile func() error) error {
	if err := r.Backend.Publish(ctx, 0, batch); err != nil {
		return err
	}
	if err := raiseAndLower(ctx, r.Backend.Flag()); err != nil {
		return err
	}
	for _, b := range []broker.Broker{r.Backend, r.Consumer} {
		_, err := b.Backlog(ctx, 0, drainmark.Progress{})
		if err = errors.Join(err, b.Ping(ctx)); err != nil {
			return err
		}
	}
	receiver, err := r.Consumer.Open(ctx, 0, "", false)
	if err != nil {
		return err
	}
	defer receiver.Close()
	got, err := receiver.Receive(ctx, 1)
	if err == nil {
		err = receiver.Ack(ctx, got[0])
	}
	if err == nil {
		_, err = r.Consumer.Keeps(ctx, 0, []drainmark.ProducerID{batch.Producer})
	}
	if err == nil {
		err = meanwhile()
	}
	return err
}

func raiseAndLower(ctx context.Context, flag broker.Flag) error {
	if flag == nil {
		return nil
	}
	if err := flag.Raise(ctx, "a"); err != nil {
		return err
	}
	text, err := flag.Read(ctx)
	return errors.Join(err, flag.Lower(ctx, text))
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// registry implements broker.Registry with a journal in a topic of its own, "drainmark-deployment": its first entry is the
// deployment, and a later one says that a store has been made for it. Kafka cannot append only to an empty topic. So who
// enrolls appends its own deployment and reads the journal from its beginning: everybody finds the same entry first. If
// the topic is deleted, the next process records another deployment.
type registry struct {
	cluster *cluster
	journal *journal
	close   func()
}

// The keys of the entries, for people.
const (
	keyDeployment = "deployment"
	keyStored     = "stored"
)

// OpenRegistry opens the record of the deployment. Kafka need not answer yet. Fails with broker.ErrMisconfigured if the
// configuration cannot work. Config.Partitions is not needed.
func OpenRegistry(_ context.Context, c Config) (broker.Registry, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, err
	}
	k := newCluster(c)
	client, err := k.client()
	if err != nil {
		return nil, err
	}
	return &registry{cluster: k, journal: newJournal(k, client, c.registrySpec()), close: sync.OnceFunc(k.close)}, nil
}

// Close implements broker.Registry.
func (r *registry) Close() error {
	r.close()
	return nil
}

// Enroll implements broker.Registry.
func (r *registry) Enroll(ctx context.Context, e broker.Enrollment) (recorded broker.Enrollment, err error) {
	if err = e.Check(); err == nil {
		ctx, cancel := r.cluster.during(ctx, PublishAttempt)
		defer cancel()
		recorded, err = r.enroll(ctx, e)
		err = because(ctx, err)
	}
	if err != nil {
		return broker.Enrollment{}, r.cluster.explain("recording the deployment in the topic "+r.journal.topic.spec.name, err)
	}
	return recorded, nil
}

func (r *registry) enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	if err := r.journal.topic.ready(ctx); err != nil {
		return e, err
	}
	recorded, err := r.read(ctx)
	if errors.Is(err, broker.ErrNotRecorded) {
		recorded, err = r.write(ctx, keyDeployment, e)
	}
	if err == nil && e.Stored && !recorded.Stored && recorded.Deployment == e.Deployment {
		recorded, err = r.write(ctx, keyStored, e)
	}
	return recorded, err
}

// write appends an entry, and returns what is recorded then.
func (r *registry) write(ctx context.Context, key string, e broker.Enrollment) (broker.Enrollment, error) {
	at, err := r.journal.append(ctx, key, string(e.Encode()))
	if err != nil {
		return e, err
	}
	return r.readThrough(ctx, at)
}

// Recorded implements broker.Registry.
func (r *registry) Recorded(ctx context.Context) (drainmark.Deployment, error) {
	ctx, cancel := r.cluster.during(ctx, r.cluster.config.Timeout)
	defer cancel()
	recorded, err := r.read(ctx)
	if errors.Is(err, errNoTopic) {
		err = broker.ErrNotRecorded
	}
	if err != nil {
		return drainmark.Deployment{}, r.cluster.explain("reading the deployment in the topic "+r.journal.topic.spec.name, because(ctx, err))
	}
	return recorded.Deployment, nil
}

// read returns what is recorded. ErrNotRecorded if the journal is empty.
func (r *registry) read(ctx context.Context) (recorded broker.Enrollment, err error) {
	err = steadily(ctx, func() error {
		end, err := r.journal.end(ctx)
		if err == nil {
			recorded, err = r.readThrough(ctx, end)
		}
		return err
	})
	return recorded, err
}

// readThrough returns what is recorded up to an entry.
func (r *registry) readThrough(ctx context.Context, through int64) (recorded broker.Enrollment, err error) {
	first := true
	var wrong error
	err = r.journal.read(ctx, 0, through, func(record *kgo.Record) {
		e, err := broker.DecodeEnrollment(record.Value)
		switch {
		case first:
			recorded, wrong, first = e, err, false
		case string(record.Key) == keyStored && err == nil && e.Deployment == recorded.Deployment:
			recorded.Stored = true
		}
	})
	switch {
	case err != nil:
		return recorded, err
	case first:
		return recorded, broker.ErrNotRecorded
	case wrong != nil:
		return recorded, fmt.Errorf("its first entry: %w", wrong)
	}
	return recorded, nil
}

package amqp10

import (
	"cmp"
	"context"
	"sync"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// registry implements broker.Registry with a journal in a queue of its own, "drainmark.deployment". Its first entry is the
// deployment, and a later one says that a store has been made for it. AMQP has no way to publish only into an empty queue.
// So who enrolls publishes its own deployment and reads the journal to it: everybody finds the same entry first. It
// acknowledges its own entries unless they say something new, never another's, who may still look for them.
type registry struct {
	journal journal
	lane    *lane
	close   func()
}

const (
	kindDeployment = "deployment"
	kindStored     = "stored"
)

// OpenRegistry opens the record of the deployment. The server need not answer yet. Fails with broker.ErrMisconfigured if
// the configuration cannot work. Config.Partitions is not needed.
func OpenRegistry(_ context.Context, c Config) (broker.Registry, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, err
	}
	s := newServer(c)
	q := s.side("deployment")
	lane := newLane(s, q)
	return &registry{journal: journal{s, q}, lane: lane, close: sync.OnceFunc(func() {
		s.end(broker.ErrClosed)
		lane.close()
	})}, nil
}

// Close implements broker.Registry.
func (r *registry) Close() error {
	r.close()
	return nil
}

// Enroll implements broker.Registry.
func (r *registry) Enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	recorded, err := broker.Enrollment{}, e.Check()
	if err == nil {
		recorded, err = r.enroll(ctx, e)
	}
	if err != nil {
		return broker.Enrollment{}, r.journal.server.explain("recording the deployment in queue "+r.journal.queue.name, err)
	}
	return recorded, nil
}

func (r *registry) enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	own := []*amqp.Message{entry(kindDeployment, string(e.Encode()))}
	if e.Stored {
		own = append(own, entry(kindStored, string(e.Encode())))
	}
	return r.read(ctx, own...)
}

// read publishes entries, and returns what is recorded behind them.
func (r *registry) read(ctx context.Context, own ...*amqp.Message) (broker.Enrollment, error) {
	found := record{own: map[string]bool{}, wrong: broker.ErrNotRecorded}
	for _, m := range own {
		found.own[textOf(m, entryID)] = true
	}
	err := r.journal.read(ctx, r.lane, func(ctx context.Context, reading *reading) error {
		take := func(m *amqp.Message) error { return found.take(ctx, reading, m) }
		for _, m := range own {
			if err := reading.through(ctx, m, take); err != nil {
				return err
			}
		}
		return nil
	})
	return found.Enrollment, cmp.Or(err, found.wrong)
}

// record is what has been read.
type record struct {
	broker.Enrollment
	any   bool            // a deployment has been read
	wrong error           // why what was read first is none
	own   map[string]bool // the ids of our own entries
}

func (d *record) take(ctx context.Context, r *reading, m *amqp.Message) error {
	kind, news := textOf(m, entryKind), false
	e, err := broker.DecodeEnrollment(body(m))
	switch {
	case kind == kindLook:
	case !d.any:
		d.Enrollment, d.wrong, d.any, news = e, err, true, true
	case kind == kindStored && err == nil && !d.Stored && e.Deployment == d.Deployment:
		d.Stored, news = true, true
	}
	if news || !d.own[textOf(m, entryID)] {
		return nil
	}
	return r.link.accept(ctx, m)
}

// Recorded implements broker.Registry. It waits for its turn to read, and publishes an entry that says nothing.
func (r *registry) Recorded(ctx context.Context) (drainmark.Deployment, error) {
	recorded, err := r.read(ctx, entry(kindLook, ""))
	if err != nil {
		return drainmark.Deployment{}, r.journal.server.explain("reading the deployment in queue "+r.journal.queue.name, err)
	}
	return recorded.Deployment, nil
}

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
	"golang.org/x/sys/unix"
)

// A role's deployment is recorded twice: in the store, and in the broker. The first to come, a backend or a consumer,
// records it in the broker. The consumer makes the store for that deployment, and notes that in the broker. So a store
// or a broker that has been emptied, or is another deployment's, is noticed at the start.

// counting is how many partitions a deployment gets.
type counting struct {
	Partitions *int `help:"Number of partitions of a new deployment: 4 if not set. It can't be changed later." placeholder:"N"`
}

// founding is how a consumer makes a store.
type founding struct {
	counting `embed:""`
	NewStore bool `help:"Make the store anew although the broker knows that one had been made. What was persisted in that one is gone, except for what the broker still has."`
}

// defaultPartitions is how many partitions a deployment gets if nobody says.
const defaultPartitions = 4

func (c counting) check() error {
	if c.Partitions != nil && (*c.Partitions < 1 || *c.Partitions > drainmark.MaxPartitions) {
		return badSetting("partitions", *c.Partitions, fmt.Sprintf("it must be between 1 and %d", drainmark.MaxPartitions))
	}
	return nil
}

// fits refuses another number of partitions than the deployment has.
func (c counting) fits(d drainmark.Deployment) error {
	if c.Partitions != nil && *c.Partitions != d.Partitions {
		return badSetting("partitions", *c.Partitions, fmt.Sprintf("this deployment has %d, which can't be changed: leave the setting out, or begin with a new store and broker", d.Partitions))
	}
	return nil
}

// wanted makes a deployment up, for when nothing is recorded yet.
func (c counting) wanted() broker.Enrollment {
	wanted := drainmark.Deployment{Partitions: defaultPartitions}
	if c.Partitions != nil {
		wanted.Partitions = *c.Partitions
	}
	wanted.ID = drainmark.NewDeploymentID()
	return broker.Enrollment{Deployment: wanted}
}

// openRegistry opens the broker's record of the deployment.
type openRegistry func(ctx context.Context) (broker.Registry, error)

func registryAt(at place, s brokerSettings) openRegistry {
	return func(ctx context.Context) (broker.Registry, error) { return registries[at.scheme()](ctx, at, s) }
}

// enroll enrolls once.
func (open openRegistry) enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	registry, err := open(ctx)
	if err != nil {
		return e, opening("broker", err)
	}
	defer registry.Close()
	recorded, err := registry.Enroll(ctx, e)
	return recorded, opening("broker", err)
}

// awaitEnrolled enrolls as soon as the broker answers.
func (open openRegistry) awaitEnrolled(r *role, e broker.Enrollment) (broker.Enrollment, error) {
	return await(r, "broker", func(ctx context.Context) (broker.Enrollment, error) { return open.enroll(ctx, e) })
}

// recorded asks once which deployment is recorded.
func (open openRegistry) recorded(ctx context.Context) (d drainmark.Deployment, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	registry, err := open(ctx)
	if err != nil {
		return d, err
	}
	defer registry.Close()
	return registry.Recorded(ctx)
}

// awaitRecorded asks again and again, until ctx ends, which deployment is recorded, and sends it once. It records none: a
// store that does not answer may be of another than would be made up. A record that cannot be read is none: the store
// says which deployment it is.
func (open openRegistry) awaitRecorded(ctx context.Context, r *role) <-chan drainmark.Deployment {
	found := make(chan drainmark.Deployment, 1)
	r.Go(func() error {
		var retry backoff.Backoff
		for said := false; ; said = true {
			d, err := open.recorded(ctx)
			if err == nil {
				found <- d
				return nil
			}
			if !said && ctx.Err() == nil {
				r.logger.Warn("the broker does not say which deployment it is: waiting for the store", "error", err)
			}
			if retry.Wait(ctx) != nil {
				return nil
			}
		}
	})
	return found
}

// confirmTime is how long the start of a role with a store is held up by a broker that does not answer.
const confirmTime = 5 * time.Second

// confirm records in the broker that there is a store of this deployment, and checks that the broker knows no other. If
// the broker does not answer now, that is done when it does: perhaps only the record does not work, and a role that
// knows its deployment from the store does not need it. Then the role ends if they do not agree.
func (open openRegistry) confirm(r *role, d drainmark.Deployment) error {
	enrollment := broker.Enrollment{Deployment: d, Stored: true}
	ctx, cancel := context.WithTimeout(r.ctx, confirmTime)
	recorded, err := open.enroll(ctx, enrollment)
	cancel()
	switch {
	case err == nil:
		return agree(recorded, d)
	case drainmark.KindOf(err) != drainmark.KindUnavailable:
		return err
	}
	r.logger.Warn("the broker does not answer; its record of the deployment is checked later", "error", err)
	r.Go(func() error {
		recorded, err := open.awaitEnrolled(r, enrollment)
		switch {
		case r.ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		return agree(recorded, d)
	})
	return nil
}

// agree checks that the store's deployment is the broker's.
func agree(recorded broker.Enrollment, d drainmark.Deployment) error {
	if recorded.Deployment == d {
		return nil
	}
	return drainmark.Errorf(drainmark.KindMisconfigured, "the store is of deployment %x with %d partitions, and the broker's queues are of %x with %d: "+
		"give each deployment its own store, and its own vhost or prefix in the broker. If nothing in these queues is needed, delete "+
		"them, and what records the deployment beside them (RabbitMQ: the queue drainmark.deployment; NATS: the stream drainmark-deployment; Kafka: the topic drainmark-deployment; AMQP 1.0: the queue drainmark.deployment)",
		d.ID, d.Partitions, recorded.ID, recorded.Partitions)
}

// deploymentOf returns the deployment that a store or reader shows: the zero one of an empty store.
func deploymentOf(ctx context.Context, s interface {
	Deployment(context.Context) (drainmark.Deployment, error)
}) (drainmark.Deployment, error) {
	d, err := s.Deployment(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return drainmark.Deployment{}, nil
	}
	return d, opening("store", err)
}

// mayMake says, where a store would be a new file, whether one may be made: a start that is refused must not leave an empty
// one, which would pass for a store that somebody has emptied. So the broker has to answer first, and must not know
// another store. A store that is there already is judged when it has been opened.
func (c founding) mayMake(r *role, url string, open openRegistry) error {
	path, ok := strings.CutPrefix(url, "sqlite:")
	absent := func() bool {
		_, missing := os.Stat(path)
		closed := unix.Access(filepath.Dir(path), unix.W_OK) // or there is no such directory: opening the store tells it better
		return errors.Is(missing, os.ErrNotExist) && closed == nil
	}
	if !ok || !absent() {
		return nil
	}
	recorded, err := open.awaitEnrolled(r, c.wanted())
	if err == nil {
		err = c.fits(recorded.Deployment)
	}
	if err == nil && recorded.Stored && !c.NewStore && absent() { // another consumer may have made it just now
		err = errEmptied
	}
	return err
}

// settle returns the deployment of a store's master, which it makes if it is empty, and records it in the broker.
func (c founding) settle(r *role, master store.Store, open openRegistry) (drainmark.Deployment, error) {
	d, err := await(r, "store", func(ctx context.Context) (drainmark.Deployment, error) { return deploymentOf(ctx, master) })
	if err == nil && d.Partitions == 0 {
		d, err = c.found(r, master, open)
	}
	if err == nil {
		err = c.fits(d)
	}
	if err != nil {
		return d, err
	}
	return d, open.confirm(r, d)
}

// found makes an empty store one of the broker's deployment.
func (c founding) found(r *role, master store.Store, open openRegistry) (drainmark.Deployment, error) {
	recorded, err := open.awaitEnrolled(r, c.wanted())
	if err != nil {
		return recorded.Deployment, err
	}
	if err := c.fits(recorded.Deployment); err != nil {
		return recorded.Deployment, err
	}
	if recorded.Stored {
		// Another consumer may have made it since it was looked at. It makes the store first and notes that afterwards, so
		// the store shows it now.
		d, err := await(r, "store", func(ctx context.Context) (drainmark.Deployment, error) { return deploymentOf(ctx, master) })
		if err != nil || d.Partitions != 0 {
			return d, err
		}
		if !c.NewStore {
			return recorded.Deployment, errEmptied
		}
		r.logger.Warn("the store is made anew: what was persisted in the one before is gone, except for what the broker still has",
			"deployment", fmt.Sprintf("%x", recorded.ID))
	}
	return await(r, "store", func(ctx context.Context) (drainmark.Deployment, error) {
		d, err := master.Init(ctx, recorded.Deployment)
		return d, opening("store", err)
	})
}

var errEmptied = drainmark.Errorf(drainmark.KindMisconfigured, "the store is empty, though the broker knows that one had been made for "+
	"its deployment: check that this is the right store, or bring its data back from a replica or a backup. If it is gone for good, "+
	"start a consumer (or up) once with --new-store")

// found is the deployment that a backend works for.
type found struct {
	drainmark.Deployment
	unmade bool // no consumer has made the store yet
	late   bool // the store has not answered yet
}

// opened is a store's reader, and the deployment that it shows: the zero one of an empty store.
type opened struct {
	store.Reader
	shows drainmark.Deployment
	err   error
}

// lookAfter is how long a backend waits for the store alone, before it asks the broker which deployment it is.
const lookAfter = 2 * time.Second

// find returns the deployment that the store shows, or, while that is empty or does not answer, the broker's, and the
// store's reader. A backend accepts without a store, but must know its deployment. When the store answers at last, its
// deployment is compared, and the role ends if it is another.
func (c *backendCommand) find(r *role, open openRegistry) (store.Reader, found, error) {
	answers := make(chan opened, 1)
	r.Go(func() error { answers <- c.awaitOpened(r); return nil })
	select {
	case answer := <-answers:
		return c.compare(r, answer, open, c.wanted())
	case <-time.After(lookAfter):
	}
	looking, stop := context.WithCancel(r.ctx)
	defer stop()
	recorded := open.awaitRecorded(looking, r)
	select {
	case answer := <-answers:
		return c.compare(r, answer, open, c.wanted())
	case d := <-recorded:
		return c.beginLate(r, d, answers, open)
	}
}

// awaitOpened opens the reader of the replicas, and waits until one of them answers.
func (c *backendCommand) awaitOpened(r *role) (o opened) {
	o.Reader, o.err = await(r, "store", func(ctx context.Context) (store.Reader, error) { return openReader(ctx, c.replicas, r) })
	if o.err == nil {
		o.shows, o.err = await(r, "store", func(ctx context.Context) (drainmark.Deployment, error) { return deploymentOf(ctx, o) })
	}
	return o
}

// compare returns the deployment of a store that has answered, and whether it is the broker's. If the store is empty,
// wanted is recorded if the broker has no record. The reader is closed after an error.
func (c *backendCommand) compare(r *role, o opened, open openRegistry, wanted broker.Enrollment) (_ store.Reader, f found, err error) {
	switch {
	case o.err != nil:
		err = o.err
	case o.shows.Partitions == 0:
		f, err = c.findUnmade(r, o, open, wanted)
	default:
		f.Deployment = o.shows
		if err = c.fits(f.Deployment); err == nil {
			err = open.confirm(r, f.Deployment)
		}
	}
	if err != nil && o.Reader != nil {
		_ = o.Close() // the first error tells more
	}
	return o.Reader, f, err
}

// beginLate begins, without the store, on the deployment that the broker has recorded.
func (c *backendCommand) beginLate(r *role, d drainmark.Deployment, answers <-chan opened, open openRegistry) (store.Reader, found, error) {
	if err := c.fits(d); err != nil {
		return nil, found{}, err
	}
	r.logger.Warn("the store does not answer: appends are accepted for the deployment that the broker has recorded, and nothing can be read",
		"partitions", d.Partitions)
	reader := newLateReader()
	r.Go(func() error {
		opened, f, err := c.compare(r, <-answers, open, broker.Enrollment{Deployment: d})
		if err == nil && f.Deployment != d { // the record was removed meanwhile
			err = errors.Join(agree(broker.Enrollment{Deployment: d}, f.Deployment), opened.Close())
		}
		switch {
		case r.ctx.Err() != nil && err != nil:
			return nil
		case err != nil:
			return err
		}
		r.logger.Info("the store answers: reading works")
		return reader.open(opened)
	})
	return reader, found{Deployment: d, late: true}, nil
}

// findUnmade returns the deployment that a store will be made for which is empty. If one had been made, a replica may still
// be about to show it.
func (c *backendCommand) findUnmade(r *role, reader store.Reader, open openRegistry, wanted broker.Enrollment) (found, error) {
	recorded, err := open.awaitEnrolled(r, wanted)
	if err == nil {
		err = c.fits(recorded.Deployment)
	}
	if err != nil {
		return found{}, err
	}
	var retry backoff.Backoff
	for since := time.Now(); recorded.Stored; {
		switch d, err := deploymentOf(r.ctx, reader); {
		case err == nil && d.Partitions != 0:
			return found{Deployment: d}, agree(recorded, d)
		case time.Since(since) > attemptTime:
			return found{}, errEmptied
		}
		r.logger.Warn("the store is empty, though one had been made; looking again")
		if err := retry.Wait(r.ctx); err != nil {
			return found{}, err
		}
	}
	r.logger.Warn("no consumer has made the store yet: appends are accepted, and nothing is persisted until one does",
		"partitions", recorded.Partitions)
	return found{Deployment: recorded.Deployment, unmade: true}, nil
}

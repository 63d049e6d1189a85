package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark"
)

// initCommand makes a deployment before any of its roles run: the record in the broker, the queues, and the store.
type initCommand struct {
	ends      `embed:""`
	Timeout   time.Duration `help:"How long to wait for a broker or a store that does not answer yet." default:"1m"`
	founding  `embed:""`
	storage   `embed:""`
	retention `embed:""`
	logging   `embed:""`
}

// Run is called by kong. It changes nothing where everything is there.
func (c *initCommand) Run(a *invocation) error {
	if err := c.check(); err != nil {
		return err
	}
	logger, err := c.logger(a.stderr)
	if err != nil {
		return err
	}
	takeLibraryLogs(logger)
	a.warn(logger)
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	group, working := errgroup.WithContext(ctx)
	r := &role{Group: group, ctx: working, logger: logger}
	var made drainmark.Deployment
	r.Go(func() (err error) { made, err = c.make(r); return err })
	err = r.Wait()
	switch {
	case err == nil && ctx.Err() == nil:
		_, err = fmt.Fprintf(a.stdout, "deployment %x with %d partitions: the broker's queues and the store are there\n", made.ID, made.Partitions)
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return drainmark.Errorf(drainmark.KindUnavailable, "after %s (timeout) the broker or the store does not answer; the lines above say which", c.Timeout)
	case ctx.Err() != nil:
		return errors.New("interrupted: the deployment may be made in part; the same command completes it")
	}
	return err
}

func (c *initCommand) check() error {
	return errors.Join(c.storage.check(), c.retention.check(), c.founding.check(), c.locate(), checkTimeout(c.Timeout), c.logging.check())
}

// checkTimeout checks how long a command may take.
func checkTimeout(d time.Duration) error {
	if d <= 0 {
		return badSetting("timeout", d, "it must be above 0")
	}
	return nil
}

// make makes what is missing, in the order in which a consumer would.
func (c *initCommand) make(r *role) (d drainmark.Deployment, err error) {
	settings := brokerSettings{storage: c.storage, retention: c.retention, logger: r.logger}
	registry := registryAt(c.broker, settings)
	if err := c.mayMake(r, c.store.url, registry); err != nil {
		return d, err
	}
	master, err := awaitStore(r, c.store, storeSettings{logger: r.logger})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, master.Close()) }()
	if d, err = c.settle(r, master, registry); err != nil {
		return d, err
	}
	settings.partitions = d.Partitions
	return d, c.makeQueues(r, settings)
}

// makeQueues opens the broker, which makes the queues, and waits until each of them answers.
func (c *initCommand) makeQueues(r *role, settings brokerSettings) error {
	queue, err := openBroker(r.ctx, c.broker, settings)
	if err != nil {
		return err
	}
	_, err = await(r, "broker", func(ctx context.Context) (struct{}, error) {
		for partition := range settings.partitions {
			if _, err := queue.Backlog(ctx, partition, drainmark.Progress{Partition: partition}); err != nil {
				return struct{}{}, opening("broker", err)
			}
		}
		return struct{}{}, nil
	})
	return errors.Join(err, queue.Close())
}

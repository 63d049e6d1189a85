package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// Why a member cannot be read from.
var (
	errOlder   = errors.New("its state is older than what was shown")
	errEmpty   = errors.New("its store is still empty")
	errUnasked = errors.New("it has not answered yet")
	errFit     = errors.New("it is fit by now")
)

// errEmptied is of a member that stays empty although its store has held the deployment. One that is being filled from its
// master may be empty for a moment.
var errEmptied = store.Misconfigured("its store is empty, though it has held the deployment: bring its data back")

// member is a replica and what is known about it. One goroutine opens and probes it, another one follows its changes.
type member struct {
	Member
	replicas *Reader
	kick     chan struct{} // makes it be probed at once
	stop     context.CancelFunc

	// Guarded by Reader.mu.
	reader         store.Reader // nil while it is not open
	last, previous *probe       // what it answered last, nil if that was an error, or it was left since
	why            error        // why last is nil
	reported       error        // the outcome of the last probe or opening
	complained     time.Time    // when it was last logged that a call had failed
	answeringSince time.Time    // since when it has answered, with interruptions shorter than half of GiveUp
	answeredAt     time.Time
	movedAt        time.Time // when its state was last seen to change
	stillSince     time.Time // since when it has shown the same state
	lacks          []*probe  // what others had shown and it has not reached, oldest first
	emptySince     time.Time // since when it has been empty, zero if it is not
}

// probe is what a member showed.
type probe struct {
	began    time.Time
	progress []drainmark.Progress // by partition, each not older than the one before, but not all of one state
	older    bool                 // at least one was older than what had been shown when it was asked for
}

// start starts a member. It needs the lock.
func (r *Reader) start(m Member) *member {
	ctx, stop := context.WithCancel(r.ctx)
	started := &member{Member: m, replicas: r, kick: make(chan struct{}, 1), stop: stop, why: errUnasked, reported: errUnasked}
	r.metrics.up.WithLabelValues(m.Name).Set(0)
	r.metrics.active.WithLabelValues(m.Name).Set(0)
	r.metrics.behind.WithLabelValues(m.Name).Set(0)
	r.running.Go(func() { started.run(ctx) })
	return started
}

// remove stops a member, which is then no longer one. It needs the lock.
func (r *Reader) remove(m *member) {
	m.stop()
	r.logger.Info("a replica is gone", "replica", m.Name)
	if t := r.active.Load(); t != nil && t.member == m {
		r.resign()
	}
	r.metrics.forget(m.Name)
}

// run opens the member and probes it, again and again, until ctx ends.
func (m *member) run(ctx context.Context) {
	defer m.stop()
	var retry backoff.Backoff
	for ctx.Err() == nil {
		reader, err := m.open(ctx)
		if err != nil {
			m.replicas.report(m, nil, nil, err)
		} else if m.serve(ctx, reader) {
			retry.Reset()
		}
		_ = retry.Wait(ctx)
	}
}

func (m *member) open(ctx context.Context) (store.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, m.replicas.config.GiveUp)
	defer cancel()
	return m.Open(ctx)
}

// serve uses the opened reader until ctx ends or the reader says that it is closed, and closes it. It says whether the
// reader has ever answered.
func (m *member) serve(ctx context.Context, reader store.Reader) (answered bool) {
	serving, cancel := context.WithCancel(ctx)
	following := make(chan struct{})
	go func() {
		defer close(following)
		m.follow(serving, reader)
	}()
	for {
		seen, err := m.probe(serving, reader)
		pause := m.replicas.report(m, reader, seen, err)
		answered = answered || err == nil
		if errors.Is(err, store.ErrClosed) || !sleep(serving, pause, m.kick) {
			break
		}
	}
	cancel()
	<-following
	m.replicas.retire(m, reader)
	return answered
}

// follow passes the reader's notifications on while the member is the active one. State that only others show cannot be
// read before the active one shows it too, or another one becomes active. Both are notified.
func (m *member) follow(ctx context.Context, reader store.Reader) {
	var retry backoff.Backoff
	for ctx.Err() == nil {
		changes, err := reader.Changes(ctx)
		if err == nil {
			for range changes {
				retry.Reset()
				m.signal()
			}
		}
		_ = retry.Wait(ctx)
		m.signal() // for what was missed
	}
}

func (m *member) signal() {
	if t := m.replicas.active.Load(); t != nil && t.member == m {
		m.replicas.watchers.Signal()
	}
}

// probe asks the member for its deployment and the progress of all partitions.
func (m *member) probe(ctx context.Context, reader store.Reader) (*probe, error) {
	ctx, cancel := context.WithTimeout(ctx, m.replicas.config.CallTimeout)
	defer cancel()
	seen := &probe{began: time.Now()}
	deployment, err := reader.Deployment(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("probing it: %w", err)
	}
	floors, err := m.replicas.meet(deployment)
	if err != nil {
		return nil, err
	}
	seen.progress = make([]drainmark.Progress, len(floors))
	for p := range floors {
		start := floors[p].Load()
		seen.progress[p], err = readProgress(ctx, reader, p)
		if err != nil {
			return nil, fmt.Errorf("probing it: %w", err)
		}
		admits := m.replicas.rules.admits
		seen.older = seen.older || !admits(start, seen.progress[p]) && !admits(floors[p].Load(), seen.progress[p])
	}
	return seen, nil
}

// meet checks that a member is of the same deployment as the first one that answered, and returns the floors.
func (r *Reader) meet(d drainmark.Deployment) (floors, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deployment == nil {
		if d.Partitions < 1 || d.Partitions > drainmark.MaxPartitions {
			return nil, store.Misconfigured("it says that there are %d partitions, which is not between 1 and %d",
				d.Partitions, drainmark.MaxPartitions)
		}
		r.deployment, r.floors = &d, newFloors(d.Partitions)
	}
	if d != *r.deployment {
		return nil, store.Misconfigured("it is of deployment %x with %d partitions, and another replica of %x with %d",
			d.ID, d.Partitions, r.deployment.ID, r.deployment.Partitions)
	}
	return r.floors, nil
}

// readProgress reads a member's progress. That its store is empty is not what ErrNotFound says elsewhere.
func readProgress(ctx context.Context, reader store.Reader, partition int) (drainmark.Progress, error) {
	p, err := reader.Progress(ctx, partition)
	if errors.Is(err, store.ErrNotFound) {
		return p, errEmpty
	}
	return p, err
}

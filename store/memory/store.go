package memory

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Store is a handle on the master. See store.Store.
type Store struct {
	db      *DB
	effects *effect.Set[*Tx] // nil for none
	closed  atomic.Bool
}

var _ store.Store = (*Store)(nil)

// update changes the database, if the handle and the context are still good.
func (s *Store) update(ctx context.Context, doing string, change func(*state) (*state, error)) error {
	return s.run(ctx, doing, false, change)
}

func (s *Store) run(ctx context.Context, doing string, keep bool, change func(*state) (*state, error)) error {
	err := ctx.Err()
	if s.closed.Load() {
		err = store.ErrClosed
	}
	if err == nil {
		err = s.db.update(keep, change)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// Init implements store.Store.
func (s *Store) Init(ctx context.Context, d drainmark.Deployment) (drainmark.Deployment, error) {
	recorded := d
	err := s.update(ctx, "recording the deployment", func(before *state) (*state, error) {
		if before.deployment != nil {
			recorded = *before.deployment
			return before, nil
		}
		next := *before
		next.deployment = &d
		return &next, nil
	})
	if err != nil {
		return drainmark.Deployment{}, err
	}
	return recorded, nil
}

// Deployment implements store.Store.
func (s *Store) Deployment(ctx context.Context) (recorded drainmark.Deployment, err error) {
	err = s.update(ctx, "reading the deployment", func(current *state) (*state, error) {
		if current.deployment == nil {
			return nil, store.ErrNotFound
		}
		recorded = *current.deployment
		return current, nil
	})
	return recorded, err
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	var group store.Group
	err := s.update(ctx, "sending a heartbeat", func(before *state) (*state, error) {
		now := s.db.Now()
		next := *before
		for other, lease := range before.owners.all() {
			next.owners = next.owners.with(other, lease.believable(now))
			if !now.Before(lease.until) {
				next.owners = next.owners.without(other)
			}
		}
		next.owners = next.owners.with(owner, newLease(now, ttl))
		for number, p := range before.partitions.all() {
			changed := *p
			changed.lease = p.lease.believable(now)
			if p.owner == owner {
				changed.lease = newLease(now, ttl)
			}
			next.partitions = next.partitions.with(number, &changed)
		}
		for other := range next.owners.all() {
			group.Owners = append(group.Owners, other)
		}
		group.Claims = next.claims(now)
		return &next, nil
	})
	return group, err
}

// Claim implements store.Store.
func (s *Store) Claim(ctx context.Context, claim store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	var progress drainmark.Progress
	doing := fmt.Sprintf("claiming partition %d", claim.Partition)
	err := s.update(ctx, doing, func(before *state) (*state, error) {
		now := s.db.Now()
		p := *before.partition(claim.Partition)
		if p.held(now) && p.owner != claim.Owner {
			return nil, store.ErrHeld
		}
		p.owner, p.lease = claim.Owner, newLease(now, ttl)
		p.progress.Token = claim.Token
		progress = p.progress
		return before.withPartition(claim.Partition, p), nil
	})
	return progress, err
}

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, owner string, partition int) error {
	doing := fmt.Sprintf("releasing partition %d", partition)
	return s.update(ctx, doing, func(before *state) (*state, error) {
		p := *before.partition(partition)
		if p.owner != owner {
			return before, nil
		}
		p.owner = ""
		return before.withPartition(partition, p), nil
	})
}

// Leave implements store.Store.
func (s *Store) Leave(ctx context.Context, owner string) error {
	return s.update(ctx, "leaving", func(before *state) (*state, error) {
		next := *before
		next.owners = before.owners.without(owner)
		for number, p := range before.partitions.all() {
			if p.owner == owner {
				released := *p
				released.owner = ""
				next.partitions = next.partitions.with(number, &released)
			}
		}
		return &next, nil
	})
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

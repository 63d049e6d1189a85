package planted

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// skipOwnerCheck breaks P2: a commit that is fenced is made all the same, on whatever epoch and revision the partition
// has now. So a consumer that was replaced without knowing it appends once more what the other one has appended, and
// writes its own old progress over the other's. No store lets it do so as such; but any store says, with a heartbeat,
// what the epoch and revision are, and a commit that names them is as good as the holder's.
func skipOwnerCheck(s store.Store) store.Store { return &ownerless{Store: s} }

type ownerless struct {
	store.Store
	mu    sync.Mutex
	owner string // as it was claimed with last
	ttl   time.Duration
}

func (s *ownerless) Claim(ctx context.Context, claim store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	s.mu.Lock()
	s.owner, s.ttl = claim.Owner, ttl
	s.mu.Unlock()
	return s.Store.Claim(ctx, claim, ttl)
}

func (s *ownerless) Commit(ctx context.Context, c store.Commit) (store.Committed, error) {
	for {
		committed, err := s.Store.Commit(ctx, c)
		if !errors.Is(err, store.ErrFenced) {
			return committed, err
		}
		if c.Epoch, c.Revision, err = s.current(ctx, c.Partition); err != nil {
			return committed, err
		}
	}
}

// current returns the partition's epoch and revision, whoever holds it. If nobody does, it is claimed.
func (s *ownerless) current(ctx context.Context, partition int) (epoch, revision uint64, err error) {
	s.mu.Lock()
	owner, ttl := s.owner, s.ttl
	s.mu.Unlock()
	group, err := s.Store.Heartbeat(ctx, owner, ttl)
	if err != nil {
		return 0, 0, err
	}
	for _, c := range group.Claims {
		if c.Partition == partition {
			return c.Epoch, c.Revision, nil
		}
	}
	epoch = rand.Uint64N(1<<63-1) + 1
	progress, err := s.Store.Claim(ctx, store.Claim{Partition: partition, Owner: owner, Epoch: epoch}, ttl)
	return epoch, progress.Revision, err
}

// forgetKeys breaks P2: the store knows an idempotency key only as this process's. So a key is known for as long as the
// same consumer holds the partition, and a retry that comes after it was started again, or replaced, is appended twice.
func forgetKeys(s store.Store) store.Store {
	run := drainmark.NewProducerID()
	return forgetful{s, hex.EncodeToString(run[:4]) + "/"}
}

type forgetful struct {
	store.Store
	prefix string
}

func (s forgetful) Commit(ctx context.Context, c store.Commit) (store.Committed, error) {
	c.Operations = slices.Clone(c.Operations) // the caller's stay as they are, and so do their records
	for i := range c.Operations {
		if op := &c.Operations[i]; op.Kind == store.Append && op.Record.Key != "" {
			record := *op.Record
			record.Key = s.prefix + record.Key
			op.Record = &record
		}
	}
	return s.Store.Commit(ctx, c)
}

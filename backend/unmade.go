package backend

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// unmade is the reader of a store that no consumer may have made yet. Until one has, everything reads as empty, which
// is true: nothing is persisted. It asks for the deployment each time, and passes everything on once there is one. A
// store that is empty again later has lost its data, which is not hidden.
type unmade struct {
	store.Reader
	deployment drainmark.Deployment // the broker's: the one that the store must become
	logger     *slog.Logger
	empty      atomic.Bool // it is known that there was none
	made       atomic.Bool
}

// yet returns store.ErrNotFound while there is no store yet.
func (u *unmade) yet(ctx context.Context) error {
	if u == nil || u.made.Load() {
		return nil
	}
	d, err := u.Reader.Deployment(ctx)
	switch {
	case err != nil:
		if errors.Is(err, store.ErrNotFound) {
			u.empty.Store(true)
		}
		return err
	case d != u.deployment:
		return store.Misconfigured("the store that has been made is of deployment %x with %d partitions, and the broker's queues "+
			"are of %x with %d", d.ID, d.Partitions, u.deployment.ID, u.deployment.Partitions)
	}
	if u.made.CompareAndSwap(false, true) && u.empty.Load() {
		u.logger.Info("a consumer has made the store")
	}
	return nil
}

// reason says that there is no store yet, for people, or nothing.
func (u *unmade) reason() string {
	if u == nil || u.made.Load() || !u.empty.Load() {
		return ""
	}
	return "no consumer has made the store yet, so nothing is persisted: start a consumer"
}

// ifMade answers with what read says, or with empty while there is no store.
func ifMade[V any](ctx context.Context, u *unmade, empty V, read func() (V, error)) (V, error) {
	err := u.yet(ctx)
	if err == nil {
		return read()
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return empty, err
}

// Progress implements store.Reader.
func (u *unmade) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return ifMade(ctx, u, drainmark.Progress{Partition: partition}, func() (drainmark.Progress, error) {
		return u.Reader.Progress(ctx, partition)
	})
}

// Claims implements store.Reader.
func (u *unmade) Claims(ctx context.Context) ([]store.Claim, error) {
	return ifMade(ctx, u, nil, func() ([]store.Claim, error) { return u.Reader.Claims(ctx) })
}

// Messages implements store.Reader. There is no log yet.
func (u *unmade) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	if err := u.yet(ctx); err != nil {
		return store.Page{}, err
	}
	return u.Reader.Messages(ctx, log, after, limit)
}

// Logs implements store.Reader.
func (u *unmade) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	return ifMade(ctx, u, nil, func() ([]drainmark.LogInfo, error) { return u.Reader.Logs(ctx, after, limit) })
}

// Written implements store.Reader.
func (u *unmade) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	return ifMade(ctx, u, store.Written{}, func() (store.Written, error) { return u.Reader.Written(ctx, partition, since, limit) })
}

// Rejected implements store.Reader.
func (u *unmade) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	return ifMade(ctx, u, nil, func() ([]drainmark.DeadLetter, error) { return u.Reader.Rejected(ctx, partition, spans, each) })
}

// DeadLetters implements store.Reader.
func (u *unmade) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	return ifMade(ctx, u, nil, func() ([]store.DeadLetter, error) { return u.Reader.DeadLetters(ctx, partition, after, limit) })
}

// CountDeadLetters implements store.Reader.
func (u *unmade) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return ifMade(ctx, u, 0, func() (int, error) { return u.Reader.CountDeadLetters(ctx, principal, most) })
}

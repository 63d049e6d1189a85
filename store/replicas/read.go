package replicas

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	d, err := r.awaitDeployment(ctx)
	if err != nil {
		return d, fmt.Errorf("reading the deployment: %w", err)
	}
	return d, nil
}

// awaitDeployment returns the deployment, which never changes once a member has told it.
func (r *Reader) awaitDeployment(ctx context.Context) (drainmark.Deployment, error) {
	ctx, cancel := r.patiently(ctx)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return drainmark.Deployment{}, err
	}
	if !r.known() {
		if _, err := r.await(ctx); err != nil {
			return drainmark.Deployment{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.deployment, nil
}

// known says whether the deployment is known and the Reader is open.
func (r *Reader) known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deployment != nil && !r.closed
}

// Progress implements store.Reader.
func (r *Reader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return call(ctx, r, "reading the progress", func(ctx context.Context, t *tenure) (drainmark.Progress, error) {
		if partition < 0 || partition >= len(r.floors) {
			return drainmark.Progress{Partition: partition}, nil // nobody can ever claim it
		}
		return r.progress(ctx, t, partition, true)
	})
}

// progress reads a member's progress, and fails with errOlder if it is older than what was shown. Its state is then
// what was shown if raise is set.
func (r *Reader) progress(ctx context.Context, t *tenure, partition int, raise bool) (drainmark.Progress, error) {
	slot := &r.floors[partition]
	start := slot.Load()
	p, err := readProgress(ctx, t.reader, partition)
	if err != nil {
		return p, err
	}
	if !r.rules.admits(start, p) {
		return p, errOlder
	}
	if !raise {
		return p, nil
	}
	return p, r.raiseFloor(t, slot, func(f *floor) *floor { return r.rules.raised(f, p) })
}

// raiseFloor replaces the floor by the result of raised, if the answer that does so came within the tenure. Floors are
// lowered only between two tenures.
func (r *Reader) raiseFloor(t *tenure, slot *atomic.Pointer[floor], raised func(*floor) *floor) error {
	for {
		current := slot.Load()
		if r.active.Load() != t {
			return errLeft
		}
		if next := raised(current); next == current || slot.CompareAndSwap(current, next) {
			return nil
		}
	}
}

// Messages implements store.Reader.
func (r *Reader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return call(ctx, r, "reading messages", func(ctx context.Context, t *tenure) (store.Page, error) {
		return versioned(ctx, r, t, drainmark.PartitionOf(log, len(r.floors)), func() (store.Page, drainmark.Version, error) {
			page, err := t.reader.Messages(ctx, log, after, limit)
			return page, page.Version, err
		})
	})
}

// Written implements store.Reader.
func (r *Reader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	return call(ctx, r, "looking for logs that were written to", func(ctx context.Context, t *tenure) (store.Written, error) {
		if partition < 0 || partition >= len(r.floors) {
			return store.Written{}, nil // nobody can ever commit to it
		}
		return versioned(ctx, r, t, partition, func() (store.Written, drainmark.Version, error) {
			written, err := t.reader.Written(ctx, partition, since, limit)
			return written, written.Version, err
		})
	})
}

// versioned asks a member something whose answer tells the version of its partition.
func versioned[T any](ctx context.Context, r *Reader, t *tenure, partition int, ask func() (T, drainmark.Version, error)) (T, error) {
	slot := &r.floors[partition]
	start := slot.Load()
	answer, version, err := ask()
	if err == nil && r.rules.judge(start, version) == notOlder {
		return answer, r.raiseFloor(t, slot, func(f *floor) *floor { return r.rules.raisedPage(f, version) })
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return answer, err
	}
	return checked(ctx, r, t, partition, ask)
}

// checked asks behind a progress that is fit. It is for answers that do not tell whether they are older than what was
// shown: one of another token, and that there is no such log.
func checked[T any](ctx context.Context, r *Reader, t *tenure, partition int, ask func() (T, drainmark.Version, error)) (T, error) {
	for {
		before, err := r.progress(ctx, t, partition, true)
		if err != nil {
			var none T
			return none, err
		}
		answer, version, err := ask()
		if err != nil {
			return answer, err // also ErrNotFound: logs never cease to be, so no earlier state can contradict it
		}
		if version.Includes(before.Version) {
			return answer, r.raiseFloor(t, &r.floors[partition], func(f *floor) *floor { return r.rules.raisedPage(f, version) })
		}
		// The partition was claimed anew between the two, or the member was restarted: the next progress tells.
	}
}

// unversioned asks a member something whose answer does not tell its state, which is about n partitions. The member
// must have reached what was shown of them before, and its later answers count as shown.
func unversioned[T any](ctx context.Context, r *Reader, t *tenure, first, n int, ask func() (T, error)) (T, error) {
	var none T
	for p := first; r.rules.checkBefore && p < first+n; p++ {
		if _, err := r.progress(ctx, t, p, false); err != nil {
			return none, err
		}
	}
	answer, err := ask()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return none, err
	}
	for p := first; r.rules.raiseAfter && p < first+n; p++ {
		if _, err := r.progress(ctx, t, p, true); err != nil {
			return none, err
		}
	}
	return answer, err
}

// aboutAll asks something about all partitions.
func aboutAll[T any](ctx context.Context, r *Reader, doing string, ask func(context.Context, store.Reader) (T, error)) (T, error) {
	return call(ctx, r, doing, func(ctx context.Context, t *tenure) (T, error) {
		return unversioned(ctx, r, t, 0, len(r.floors), func() (T, error) { return ask(ctx, t.reader) })
	})
}

// aboutOne asks something about one partition. Nobody can ever commit to those that the deployment does not have.
func aboutOne[T any](ctx context.Context, r *Reader, doing string, partition int, ask func(context.Context, store.Reader) (T, error)) (T, error) {
	return call(ctx, r, doing, func(ctx context.Context, t *tenure) (T, error) {
		n := 1
		if partition < 0 || partition >= len(r.floors) {
			n = 0
		}
		return unversioned(ctx, r, t, partition, n, func() (T, error) { return ask(ctx, t.reader) })
	})
}

// Claims implements store.Reader.
func (r *Reader) Claims(ctx context.Context) ([]store.Claim, error) {
	return aboutAll(ctx, r, "reading the claims", func(ctx context.Context, m store.Reader) ([]store.Claim, error) {
		return m.Claims(ctx)
	})
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	return aboutAll(ctx, r, "listing the logs", func(ctx context.Context, m store.Reader) ([]drainmark.LogInfo, error) {
		return m.Logs(ctx, after, limit)
	})
}

// Rejected implements store.Reader.
func (r *Reader) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	const doing = "looking for rejected records"
	return aboutOne(ctx, r, doing, partition, func(ctx context.Context, m store.Reader) ([]drainmark.DeadLetter, error) {
		return m.Rejected(ctx, partition, spans, each)
	})
}

// DeadLetter implements store.Reader.
func (r *Reader) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	const doing = "reading a dead letter"
	return aboutOne(ctx, r, doing, partition, func(ctx context.Context, m store.Reader) (drainmark.DeadLetter, error) {
		return m.DeadLetter(ctx, partition, id)
	})
}

// DeadLetters implements store.Reader.
func (r *Reader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	const doing = "listing dead letters"
	return aboutOne(ctx, r, doing, partition, func(ctx context.Context, m store.Reader) ([]store.DeadLetter, error) {
		return m.DeadLetters(ctx, partition, after, limit)
	})
}

// CountDeadLetters implements store.Reader.
func (r *Reader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return aboutAll(ctx, r, "counting dead letters", func(ctx context.Context, m store.Reader) (int, error) {
		return m.CountDeadLetters(ctx, principal, most)
	})
}

// Changes implements store.Reader. There is a signal at each change of the active member too.
func (r *Reader) Changes(ctx context.Context) (<-chan struct{}, error) {
	changes, err := r.watchers.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	return changes, nil
}

// Ping implements store.Reader: a replica answers that shows all that was shown.
func (r *Reader) Ping(ctx context.Context) error {
	_, err := call(ctx, r, "pinging", func(ctx context.Context, t *tenure) (struct{}, error) {
		return struct{}{}, t.reader.Ping(ctx)
	})
	return err
}

// Close implements store.Reader. It returns when every replica is closed and all goroutines have ended.
func (r *Reader) Close() error { return r.close() }

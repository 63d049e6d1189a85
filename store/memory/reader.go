package memory

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Reader reads from a replica. See store.Reader. Its results share memory with the database: do not change them.
type Reader struct {
	replica  *Replica
	closed   atomic.Bool
	watchers store.Watchers
}

var _ store.Reader = (*Reader)(nil)

// state returns what the replica shows now, if the reader and the context are still good.
func (r *Reader) state(ctx context.Context, doing string) (*state, error) {
	if r.closed.Load() {
		return nil, fmt.Errorf("%s: %w", doing, store.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return r.replica.state(), nil
}

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	const doing = "reading the deployment"
	s, err := r.state(ctx, doing)
	if err != nil {
		return drainmark.Deployment{}, err
	}
	if s.deployment == nil {
		return drainmark.Deployment{}, fmt.Errorf("%s: %w", doing, store.ErrNotFound)
	}
	return *s.deployment, nil
}

// Progress implements store.Reader.
func (r *Reader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	s, err := r.state(ctx, "reading the progress")
	if err != nil {
		return drainmark.Progress{}, err
	}
	return s.partition(partition).progress, nil
}

// Claims implements store.Reader.
func (r *Reader) Claims(ctx context.Context) ([]store.Claim, error) {
	s, err := r.state(ctx, "reading the claims")
	if err != nil {
		return nil, err
	}
	return s.claims(r.replica.db.Now()), nil
}

// Messages implements store.Reader.
func (r *Reader) Messages(ctx context.Context, name string, after uint64, limit int) (store.Page, error) {
	const doing = "reading messages"
	s, err := r.state(ctx, doing)
	if err != nil {
		return store.Page{}, err
	}
	l, ok := s.logs.get(name)
	if !ok {
		return store.Page{}, fmt.Errorf("%s: log %q: %w", doing, name, store.ErrNotFound)
	}
	version := s.partition(l.partition).progress.Version
	return store.Page{Log: l.LogInfo, Messages: l.page(after, limit), Version: version}, nil
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	s, err := r.state(ctx, "listing the logs")
	if err != nil {
		return nil, err
	}
	var logs []drainmark.LogInfo
	for _, l := range s.logs.behind(after) {
		if len(logs) >= limit {
			break
		}
		if !l.Deleted {
			logs = append(logs, l.LogInfo)
		}
	}
	return logs, nil
}

// Written implements store.Reader. It looks at every log.
func (r *Reader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	s, err := r.state(ctx, "looking for logs that were written to")
	if err != nil {
		return store.Written{}, err
	}
	written := store.Written{Version: s.partition(partition).progress.Version}
	for name, l := range s.logs.all() {
		if l.partition != partition || l.revision <= since {
			continue
		}
		if len(written.Logs) >= limit {
			return store.Written{Incomplete: true, Version: written.Version}, nil
		}
		written.Logs = append(written.Logs, name)
	}
	return written, nil
}

// Rejected implements store.Reader.
func (r *Reader) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	s, err := r.state(ctx, "looking for rejected records")
	if err != nil {
		return nil, err
	}
	p := s.partition(partition)
	var rejected []drainmark.DeadLetter
	for _, span := range spans {
		rejected = append(rejected, p.rejected(span, each)...)
	}
	return rejected, nil
}

// DeadLetter implements store.Reader.
func (r *Reader) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	doing := "reading dead letter " + id
	s, err := r.state(ctx, doing)
	if err != nil {
		return drainmark.DeadLetter{}, err
	}
	letter, err := s.letter(partition, id)
	if err != nil {
		return drainmark.DeadLetter{}, fmt.Errorf("%s: %w", doing, err)
	}
	return letter, nil
}

// DeadLetters implements store.Reader.
func (r *Reader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	s, err := r.state(ctx, "listing dead letters")
	if err != nil {
		return nil, err
	}
	var letters []store.DeadLetter
	size := 0
	for ordinal, letter := range s.partition(partition).letters.behind(after) {
		if len(letters) >= limit || size >= store.PageBytes {
			break
		}
		if !letter.Discarded {
			size += len(letter.Payload)
			letters = append(letters, store.DeadLetter{DeadLetter: letter.DeadLetter, Ordinal: ordinal})
		}
	}
	return letters, nil
}

// CountDeadLetters implements store.Reader. It looks at every letter.
func (r *Reader) CountDeadLetters(ctx context.Context, principal string, most int) (n int, err error) {
	s, err := r.state(ctx, "counting dead letters")
	if err != nil {
		return 0, err
	}
	for _, p := range s.partitions.all() {
		for _, letter := range p.letters.all() {
			if !letter.Discarded && letter.Principal == principal {
				n++
			}
		}
	}
	return min(n, max(most, 0)), nil
}

// Changes implements store.Reader.
func (r *Reader) Changes(ctx context.Context) (<-chan struct{}, error) {
	changes, err := r.watchers.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	return changes, nil
}

// Ping implements store.Reader.
func (r *Reader) Ping(ctx context.Context) error {
	_, err := r.state(ctx, "pinging")
	return err
}

// Close implements store.Reader.
func (r *Reader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.replica.forget(r)
		r.watchers.Close()
	}
	return nil
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// A server is asked for changes: NOTIFY takes a lock over the whole database in every commit, and LISTEN works neither
// on a standby nor through a pooler.
const (
	pollEvery = 10 * time.Millisecond // while something changes
	idleEvery = 50 * time.Millisecond // when nothing has changed for idleAfter
	idleAfter = 5 * time.Second
)

// Changes implements store.Reader.
func (r *Reader) Changes(ctx context.Context) (<-chan struct{}, error) {
	changes, err := r.watchers.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	r.polling.Do(func() {
		if r.client.begin() { // then closing waits for it
			go func() {
				defer r.client.under.Done()
				r.poll(r.client.ctx)
			}()
		}
	})
	return changes, nil
}

// poll looks at the versions of all partitions in one statement, and signals when one is another than before, until ctx
// ends.
func (r *Reader) poll(ctx context.Context) {
	var before []store.Claim
	changed := time.Now()
	failing := backoff.Backoff{First: pollEvery, Max: 2 * time.Second}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		pause.Reset(pollEvery)
		if !r.watchers.Any() {
			before = nil // whoever comes then is told once too often
			continue
		}
		now, err := r.versions(ctx)
		switch {
		case err != nil:
			before = nil // something may have changed meanwhile
			_ = failing.Wait(ctx)
			continue
		case before == nil || !slices.Equal(before, now):
			before, changed = now, time.Now()
			r.watchers.Signal()
		case time.Since(changed) > idleAfter:
			pause.Reset(idleEvery)
		}
		failing.Reset()
	}
}

// versions returns the version of every partition, and never nil without an error.
func (r *Reader) versions(ctx context.Context) ([]store.Claim, error) {
	const query = "SELECT partition, token, revision FROM drainmark.partitions ORDER BY partition"
	versions, err := readFrom(ctx, r, "looking for changes", func(ctx context.Context, c *pgx.Conn) ([]store.Claim, error) {
		rows, err := c.Query(ctx, r.sql(query))
		if err != nil {
			return nil, err
		}
		versions := []store.Claim{}
		var partition int
		var token, revision int64
		_, err = pgx.ForEachRow(rows, []any{&partition, &token, &revision}, func() error {
			versions = append(versions, store.Claim{Partition: partition, Token: uint64(token), Revision: uint64(revision)})
			return nil
		})
		return versions, err
	})
	if errors.Is(err, store.ErrNotFound) {
		return []store.Claim{}, nil // there are no tables yet
	}
	return versions, err
}

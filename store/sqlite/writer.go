package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/drainmark/drainmark/store"
)

// maxShared is how many jobs share a transaction at most.
const maxShared = 32

// job is something to be done in a transaction that can write.
type job struct {
	do      func(*conn) error // it may be done again, after a rollback
	visible bool              // readers are to be told when it is done
	done    chan error        // its outcome

	mu        sync.Mutex // held while it is being done
	abandoned bool       // the caller no longer waits: the job must not be done
}

// run has a job done. When it returns, whatever do refers to is the caller's again.
func (s *Store) run(ctx context.Context, doing string, visible bool, do func(*conn) error) error {
	if err := s.submit(ctx, &job{do: do, visible: visible, done: make(chan error, 1)}); err != nil {
		return fmt.Errorf("%s: %w", doing, explain(s.path, err))
	}
	return nil
}

func (s *Store) submit(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closing.Err() != nil {
		return store.ErrClosed
	}
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return s.lock.ended(ctx.Err())
	case <-s.closing.Done():
		return store.ErrClosed
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return j.abandon(s.lock.ended(ctx.Err()))
	}
}

// abandon ends the wait for a job, with a reason, unless it has an outcome by now.
func (j *job) abandon(reason error) error {
	j.mu.Lock() // waits while it is being done, but not while the disk is
	defer j.mu.Unlock()
	select {
	case err := <-j.done:
		return err
	default:
		j.abandoned = true
		return reason
	}
}

// try does the job, unless it has been abandoned.
func (j *job) try(c *conn) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.abandoned {
		return errAbandoned
	}
	return j.do(c)
}

// movedError is of a commit that went nowhere. The next one goes to the file that is there by then, if it is the same
// store.
func movedError(path string) error {
	return fmt.Errorf("%s was removed or replaced while it was open", path)
}

var errAbandoned = errors.New("nobody waits for it any more")

func (j *job) waitedFor() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.abandoned
}

// writer does the jobs of a Store, one after the other. Jobs that wait at the same time, such as commits of several
// partitions, share a transaction, and so the wait for the disk.
type writer struct {
	store *Store
	conn  *conn     // nil after it broke
	limit int64     // the size of the write-ahead log at which trim does something
	again time.Time // when it does so in any case
}

// run does jobs until the store is closed.
func (w *writer) run() error {
	for {
		select {
		case j := <-w.store.jobs:
			w.turn(w.gather(j))
		case <-w.store.closing.Done():
			if w.conn == nil {
				return nil
			}
			if err := w.conn.close(); err != nil {
				return fmt.Errorf("closing the store in %s: %w", w.store.path, err)
			}
			return nil
		}
	}
}

// gather takes the other jobs that wait too.
func (w *writer) gather(first *job) []*job {
	batch := []*job{first}
	for len(batch) < maxShared {
		select {
		case j := <-w.store.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// turn does the jobs and answers them.
func (w *writer) turn(batch []*job) {
	visible := false
	for i, outcome := range w.together(batch) {
		batch[i].done <- outcome
		visible = visible || batch[i].visible && outcome == nil
	}
	if visible {
		w.store.hub.signal()
	}
	w.trim()
}

// together does the jobs in one transaction and returns their outcomes. If the connection turns out to be broken, they
// are done once more on a new one: the file may be another by now.
func (w *writer) together(batch []*job) []error {
	outcomes, err := w.attempt(batch)
	if broken(err) {
		outcomes, _ = w.attempt(batch)
	}
	return outcomes
}

// attempt does the jobs once. The error is what they have failed with together.
func (w *writer) attempt(batch []*job) (outcomes []error, err error) {
	outcomes = make([]error, len(batch))
	if err := w.begin(batch); err != nil {
		return allFailed(outcomes, err), err
	}
	for i, j := range batch {
		err := j.try(w.conn)
		if err == nil || err == errAbandoned || unchanged(err) {
			outcomes[i] = err
			continue
		}
		w.rollback(err)
		if len(batch) > 1 {
			return w.apart(batch), nil
		}
		return allFailed(outcomes, err), err
	}
	if _, err := w.conn.exec(context.Background(), "COMMIT"); err != nil {
		w.rollback(err)
		return allFailed(outcomes, err), err
	}
	if w.conn.moved() {
		w.discard()
		err := movedError(w.store.path)
		return allFailed(outcomes, err), err
	}
	return outcomes, nil
}

// maxWAL is about how large the write-ahead log may be, in bytes. Mostly it is a quarter of that, because SQLite copies
// it into the file every thousand pages and begins it anew. It cannot while readers overlap without a pause.
const maxWAL = 16 << 20

// trimAgain is how long a write-ahead log that could not be emptied is left alone if it does not grow.
const trimAgain = 2 * time.Second

// trim empties the write-ahead log if it has become too large. For that it waits until the reads under way have ended.
// If one of them takes too long, it tries again when the log has grown by another quarter of maxWAL, and after a while:
// SQLite begins the file anew from its start, so that it need not grow.
//
// It does so too when pages were given back: the database file becomes smaller only then.
func (w *writer) trim() {
	if w.conn == nil {
		return
	}
	info, err := os.Stat(w.store.path + "-wal")
	early := time.Now().Before(w.again)
	if err != nil || (info.Size() < maxWAL || info.Size() < w.limit && early) && (!w.conn.gave || early) {
		return
	}
	w.limit, w.again = info.Size()+maxWAL/4, time.Now().Add(trimAgain)
	row, err := w.conn.one(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	if err == nil && row != nil && integer(row[0]) == 0 {
		w.limit, w.conn.gave = maxWAL, false
	}
}

// allFailed gives all jobs that have no other outcome this one.
func allFailed(outcomes []error, err error) []error {
	for i := range outcomes {
		if outcomes[i] == nil {
			outcomes[i] = err
		}
	}
	return outcomes
}

// apart does each job in a transaction of its own, so that one which fails does not spoil the others.
func (w *writer) apart(batch []*job) []error {
	outcomes := make([]error, len(batch))
	for i := range batch {
		outcomes[i] = w.together(batch[i : i+1])[0]
	}
	return outcomes
}

// begin begins a transaction. While another process has the file locked it waits, for as long as any of the jobs is
// waited for.
func (w *writer) begin(batch []*job) error {
	for {
		err := w.open()
		if err == nil {
			_, err = w.conn.exec(context.Background(), "BEGIN IMMEDIATE")
		}
		if err == nil || busy(err) {
			w.store.lock.note(err != nil)
		}
		if !busy(err) {
			return err
		}
		if w.store.closing.Err() != nil {
			return store.ErrClosed
		}
		wanted := false
		for _, j := range batch {
			wanted = wanted || j.waitedFor()
		}
		if !wanted {
			return errAbandoned
		}
	}
}

// discard closes a connection that is no longer of use. Nothing is to be learned from how that goes.
func (w *writer) discard() {
	w.conn.close()
	w.conn = nil
}

// open opens the connection again if it broke.
func (w *writer) open() error {
	if w.conn != nil {
		return nil
	}
	c, err := w.store.open(w.store.closing, "rw")
	if err == nil {
		w.conn = c
	}
	return err
}

// rollback ends the transaction that failed with err, and the connection if it is no longer of use.
func (w *writer) rollback(err error) {
	if good := w.conn.rollback(); good && !broken(err) {
		return
	}
	w.discard()
}

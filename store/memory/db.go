// Package memory is the reference adapter of the store seam: a database in the process's memory, for tests. Its data
// dies with the process.
//
// A DB is the database. Any number of Stores and Readers can be opened on it. Besides the contract it does what a test
// needs of a database: its replicas lag when they are told to, it can lose its newest commits, and it can refuse
// content. It blocks nowhere and starts no goroutine, so it works in a testing/synctest bubble, where its leases run on
// the bubble's clock.
package memory

import (
	"fmt"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
)

// History is how many commits Rollback can take back at most.
const History = 1024

// DB is the database. Set Refuse, RefuseBlindly and Now before it is used. Its methods may be called concurrently.
type DB struct {
	// Refuse, if set, is asked about every message that a commit appends. If it refuses one, the commit is refused for reason.
	Refuse func(log string, m *drainmark.Message) (reason string, refuse bool)
	// RefuseBlindly makes such refusals not say which operation it was.
	RefuseBlindly bool
	// Now is the database's clock, on which its leases run: time.Now unless it is set.
	Now func() time.Time

	mu       sync.Mutex
	master   Replica // shows every change at once
	replicas []*Replica
	history  []*state // the states before the newest commits, oldest first
}

// NewDB returns an empty database.
func NewDB() *DB {
	db := &DB{Now: time.Now}
	db.master.db = db
	db.master.applied = &state{}
	return db
}

// Store opens a handle on the master.
func (db *DB) Store() *Store { return &Store{db: db} }

// Reader opens a reader that shows every commit at once.
func (db *DB) Reader() *Reader { return db.master.Reader() }

// Replica adds a replica. It shows every commit at once until it is paused.
func (db *DB) Replica() *Replica {
	db.mu.Lock()
	defer db.mu.Unlock()
	r := &Replica{db: db, applied: db.master.applied}
	db.replicas = append(db.replicas, r)
	return r
}

// Rollback takes the database back to what it was before its last n commits, claims and leases included, as a failover
// does that loses its tail. Replicas that are not paused go back with it. It fails when fewer than n commits are
// remembered (see History).
func (db *DB) Rollback(n int) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if n < 1 || n > len(db.history) {
		return fmt.Errorf("taking back %d commits: 1 to %d can be taken back", n, len(db.history))
	}
	back := len(db.history) - n
	// The states that are given up may still be shown by a paused replica.
	db.publish(db.history[back].unshared())
	clear(db.history[back:])
	db.history = db.history[:back]
	return nil
}

// update replaces the state by the result of change, if that succeeds. It remembers the state before if keep is set.
func (db *DB) update(keep bool, change func(*state) (*state, error)) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	before := db.master.applied
	after, err := change(before)
	if err != nil || after == before {
		return err
	}
	if keep {
		if len(db.history) == History {
			copy(db.history, db.history[1:])
			db.history = db.history[:History-1]
		}
		db.history = append(db.history, before)
	}
	db.publish(after)
	return nil
}

// publish makes s the state, of the replicas too. It needs the lock.
func (db *DB) publish(s *state) {
	db.master.apply(s)
	for _, r := range db.replicas {
		if !r.paused {
			r.apply(s)
		}
	}
}

// Replica is a copy of the database that may lag behind it. Its methods may be called concurrently.
type Replica struct {
	db      *DB // whose lock guards what follows
	applied *state
	paused  bool
	readers map[*Reader]struct{}
}

// Reader opens a reader of the replica.
func (r *Replica) Reader() *Reader {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	reader := &Reader{replica: r}
	if r.readers == nil {
		r.readers = map[*Reader]struct{}{}
	}
	r.readers[reader] = struct{}{}
	return reader
}

// Pause holds the replica where it is.
func (r *Replica) Pause() {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	r.paused = true
}

// CatchUp makes the replica show what the database holds now. A paused one then stays there.
func (r *Replica) CatchUp() {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	r.apply(r.db.master.applied)
}

// Resume makes the replica show every change at once again.
func (r *Replica) Resume() {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	r.paused = false
	r.apply(r.db.master.applied)
}

// apply makes the replica show s, and tells its readers. It needs the lock.
func (r *Replica) apply(s *state) {
	if r.applied == s {
		return
	}
	r.applied = s
	for reader := range r.readers {
		reader.watchers.Signal()
	}
}

func (r *Replica) state() *state {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	return r.applied
}

func (r *Replica) forget(reader *Reader) {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	delete(r.readers, reader)
}

// Package storetest is the suite that every adapter of the store seam must pass: the contract of store.Store and
// store.Reader as named cases.
//
// The suite is tested itself: its own tests run it against adapters that are wrong on purpose. Each must fail a named
// case.
package storetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
)

// Harness opens the adapter under test.
type Harness struct {
	// New makes an empty database for one case. Cases run at the same time, each with a database of its own. Everything
	// that New began must have ended when t's cleanups have run.
	New func(t T) Database
	// Patience is for how long a case waits for what must happen in the end: a minute unless it is set.
	Patience time.Duration
}

// Database is one database under test. The suite closes what it opens, and a closed handle once more.
type Database interface {
	// Store opens another handle on the master.
	Store(t T) store.Store
	// Reader opens another reader, on a replica where there are any.
	Reader(t T) store.Reader
	// Restart brings the database back from what is durable: it kills the database's process where it has one. All
	// handles are closed before, and others are opened behind it.
	Restart(t T)
	// SetBack sets the clock back on which the database's leases run.
	SetBack(t T, by time.Duration)
}

// Clock is the time with an offset, for databases that are given their clock. Its methods may be called concurrently.
type Clock struct{ back atomic.Int64 }

// Now is what the clock shows.
func (c *Clock) Now() time.Time { return time.Now().Round(0).Add(-time.Duration(c.back.Load())) }

// SetBack sets it back.
func (c *Clock) SetBack(by time.Duration) { c.back.Add(int64(by)) }

// T is what a case uses of a *testing.T.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	TempDir() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Case is one promise of the contract. Its name is the promise.
type Case struct {
	Name string
	Run  func(T, Harness)
}

// Cases returns the whole suite.
func Cases() []Case {
	var cases []Case
	for _, group := range [][]promise{
		aboutClaims, aboutCommits, aboutHeaders, aboutKeys, aboutLetters, aboutProgress, aboutSweeping, aboutRemoving, aboutReads, aboutWritten, aboutChanges, aboutClosing,
	} {
		for _, p := range group {
			cases = append(cases, Case{Name: p.name, Run: func(t T, h Harness) { p.check(newWorld(t, h)) }})
		}
	}
	return cases
}

// Run runs the suite, each case as a parallel sub-test.
func Run(t *testing.T, h Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, h)
		})
	}
}

// promise is a case before it has a world to run in.
type promise struct {
	name  string
	check func(*world)
}

package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/store/storetest"
)

// database is a file. Nothing runs apart from the handles on it, so there is nothing to restart.
type database struct {
	path  string
	clock *storetest.Clock
}

func (d database) Store(t storetest.T) store.Store {
	s, err := sqlite.Open(t.Context(), d.path, sqlite.Options{Now: d.clock.Now})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func (d database) Reader(t storetest.T) store.Reader {
	r, err := sqlite.OpenReader(t.Context(), d.path, sqlite.Options{Now: d.clock.Now})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

func (d database) Restart(storetest.T) {}

func (d database) SetBack(_ storetest.T, by time.Duration) { d.clock.SetBack(by) }

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{New: func(t storetest.T) storetest.Database {
		return database{path: filepath.Join(t.TempDir(), "store.db"), clock: &storetest.Clock{}}
	}})
}

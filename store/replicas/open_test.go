package replicas

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/store/storetest"
)

// database is a memory database that is read through n replicas.
type database struct {
	db    *memory.DB
	clock *storetest.Clock
	n     int
}

func newDatabase(n int) database {
	d := database{memory.NewDB(), &storetest.Clock{}, n}
	d.db.Now = d.clock.Now
	return d
}

func (d database) Store(storetest.T) store.Store { return d.db.Store() }
func (d database) Restart(storetest.T)           {} // it lives as long as the process

func (d database) SetBack(_ storetest.T, by time.Duration) { d.clock.SetBack(by) }

func (d database) Reader(t storetest.T) store.Reader {
	c := Config{ProbeEvery: 20 * time.Millisecond}
	for i := range d.n {
		replica := d.db.Replica()
		c.Members = append(c.Members, Member{Name: fmt.Sprint(i), Open: func(context.Context) (store.Reader, error) {
			return replica.Reader(), nil
		}})
	}
	r, err := Open(t.Context(), c)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return r
}

func TestConformance(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n, " replicas"), func(t *testing.T) {
			storetest.Run(t, storetest.Harness{New: func(storetest.T) storetest.Database { return newDatabase(n) }})
		})
	}
}

func failing(name string, err error) Member {
	return Member{Name: name, Open: func(context.Context) (store.Reader, error) { return nil, err }}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, members := range map[string][]Member{
		"no replica at all":                   nil,
		"a replica without a name":            {failing("", errDown)},
		"two replicas of one name":            {failing("a", errDown), failing("a", errDown)},
		"a name with a password":              {failing("redis://:secret@host:6379", errDown)},
		"replicas that are all misconfigured": {failing("a", store.ErrMisconfigured), failing("b", store.ErrMisconfigured)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := Open(ctx, Config{Members: members})
			if !errors.Is(err, store.ErrMisconfigured) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestOpenWaitsForOneReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, defaultRules, 2)
		w.servers[0].hang()
		w.servers[1].fail()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c := Config{Members: []Member{w.servers[0].member("a"), w.servers[1].member("b")}}
		_, err := Open(ctx, c)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "b: "+errDown.Error()) {
			t.Errorf("got error %v", err)
		}
		w.at(2*time.Second, w.servers[1].heal)
		w.open()
		if err := errors.Join(w.shows(0, time.Second), w.reads("replica-1")); err != nil {
			t.Error(err)
		}
		w.servers[0].heal()
		w.servers[1].fail()
		if err := errors.Join(w.shows(0, 13*time.Second), w.reads("replica-0")); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenSaysWhyNothingIsDiscovered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := Open(ctx, Config{Discover: func(context.Context) ([]Member, error) { return nil, errDown }})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errDown.Error()) {
			t.Errorf("got error %v", err)
		}
	})
}

func TestEmptyStoreIsNotFoundUntilItIsMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, rules: defaultRules, db: memory.NewDB(), began: time.Now()}
		r, err := Open(t.Context(), Config{Members: []Member{newServer(w.db.Reader()).member("a")}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Deployment(t.Context()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got error %v", err)
		}
		if _, err := r.Progress(t.Context(), 0); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got error %v", err)
		}
		if _, err := w.db.Store().Init(t.Context(), deployment); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if d, err := r.Deployment(t.Context()); err != nil || d != deployment {
			t.Errorf("got %v, error %v", d, err)
		}
	})
}

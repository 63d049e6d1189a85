package replicas

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

// behaviours are what the Reader does besides keeping its promises. They play under virtual time.
var behaviours = []promise{
	{"a replica that fails costs a call no time", 2, func(w *world) error {
		w.open().servers[0].fail()
		began := time.Now()
		err := w.shows(0, time.Second)
		return errors.Join(err, notLater(began, 10*time.Millisecond), w.reads("replica-1"))
	}},

	{"a replica that has not been probed since takes over at once", 2, func(w *world) error {
		w.open()
		time.Sleep(w.reader.config.ProbeEvery / 2)
		w.writers[0].commit(1)
		if err := w.shows(1, time.Second); err != nil {
			return err
		}
		w.servers[0].fail()
		began := time.Now()
		return errors.Join(w.shows(1, time.Second), notLater(began, 10*time.Millisecond))
	}},

	{"a replica that restarts with old data does not answer a ping", 1, func(w *world) error {
		w.restartsWithOldData()
		time.Sleep(time.Second)
		if err := w.reader.Ping(w.in(time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("got error %v", err)
		}
		return nil
	}},

	{"a replica that hangs costs a call one CallTimeout, and the next calls nothing", 2, func(w *world) error {
		w.open().servers[0].hang()
		began := time.Now()
		err := errors.Join(w.shows(0, 3*time.Second), notLater(began, w.reader.config.CallTimeout+10*time.Millisecond))
		began = time.Now()
		return errors.Join(err, w.shows(0, time.Second), notLater(began, 0))
	}},

	{"a replica that hangs is left although nobody calls", 2, func(w *world) error {
		w.open().servers[0].hang()
		time.Sleep(w.reader.config.CallTimeout + 2*w.reader.config.ProbeEvery)
		return w.reads("replica-1")
	}},

	{"a caller who is in a hurry does not make a replica be left", 2, func(w *world) error {
		w.open().servers[0].set(func(ctx context.Context) error {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		err := w.shows(0, 50*time.Millisecond)
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("got error %v", err)
		}
		return w.reads("replica-0")
	}},

	{"a slow answer of a replica that was left meanwhile is asked for again", 2, func(w *world) error {
		w.open().writers[0].commit(1)
		if err := w.showsPage(1, time.Second); err != nil {
			return err
		}
		var once sync.Once
		w.servers[0].then(func(call string) {
			if call == "Messages" {
				once.Do(func() {
					w.writers[0].commit(1)
					w.activate(1)
				})
			}
		})
		return w.showsPage(2, time.Second)
	}},

	{"the last replica that answers is kept in spite of single failures", 1, func(w *world) error {
		var calls atomic.Int64
		w.open().servers[0].set(func(context.Context) error {
			if calls.Add(1)%5 == 0 {
				return errDown
			}
			return nil
		})
		err := errors.Join(w.shows(0, 20*time.Second), w.reader.Ping(w.in(20*time.Second)))
		time.Sleep(time.Minute)
		if n := w.metric("switches"); n != 0 {
			err = errors.Join(err, fmt.Errorf("%v switches to the same replica were counted", n))
		}
		return err
	}},

	{"while no replica answers, a call waits for one", 2, func(w *world) error {
		w.open().servers[0].fail()
		w.servers[1].fail()
		w.at(5*time.Second, w.servers[1].heal)
		began := time.Now()
		return errors.Join(w.shows(0, 6*time.Second), notLater(began, 5500*time.Millisecond))
	}},

	{"what somebody has to repair is said at once, and costs other calls nothing", 1, func(w *world) error {
		w.open().servers[0].breakPages()
		w.writers[0].commit(1)
		began := time.Now()
		err := w.showsPage(1, 10*time.Second)
		if !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), "a key is not what") {
			return fmt.Errorf("got error %w", err)
		}
		return errors.Join(w.reads("replica-0"), w.shows(1, time.Millisecond), notLater(began, 0))
	}},

	{"what one replica cannot read another one is asked for", 3, func(w *world) error {
		w.open().servers[0].breakPages()
		w.servers[2].breakPages()
		w.writers[0].commit(1)
		began := time.Now()
		return errors.Join(w.showsPage(1, time.Second), notLater(began, 10*time.Millisecond), w.reads("replica-1"))
	}},

	{"what no replica can read is said when each was asked", 3, func(w *world) error {
		w.open()
		for _, s := range w.servers {
			s.breakPages()
		}
		w.writers[0].commit(1)
		began := time.Now()
		for range 3 {
			if err := w.showsPage(1, 10*time.Second); !errors.Is(err, store.ErrMisconfigured) {
				return fmt.Errorf("got error %w", err)
			}
		}
		return errors.Join(w.shows(1, time.Second), notLater(began, time.Second))
	}},

	{"replicas that all have to be repaired are not waited for", 2, func(w *world) error {
		w.open().servers[0].failWith(store.Misconfigured("the password is wrong"))
		w.servers[1].failWith(store.Misconfigured("the password is wrong"))
		time.Sleep(time.Second)
		began := time.Now()
		if err := w.shows(0, 10*time.Second); !errors.Is(err, store.ErrMisconfigured) {
			return fmt.Errorf("got error %w", err)
		}
		err := notLater(began, 100*time.Millisecond)
		w.servers[0].heal()
		time.Sleep(time.Second)
		return errors.Join(err, w.shows(0, time.Second))
	}},

	{"it is told for how long a replica has lacked what another one shows", 2, func(w *world) error {
		w.open().replicas[1].Pause()
		time.Sleep(10 * time.Second)
		err := errors.Join(w.isBehind(0, 0), w.isBehind(1, 0)) // there is nothing that it lacks
		w.writers[0].commit(1)
		time.Sleep(10 * time.Second)
		err = errors.Join(err, w.isBehind(0, 0), w.isBehind(1, 10*time.Second))
		w.servers[1].fail() // and catches up with nobody
		time.Sleep(10 * time.Second)
		err = errors.Join(err, w.isBehind(1, 20*time.Second))
		w.servers[1].heal()
		w.replicas[1].Resume()
		time.Sleep(5 * time.Second)
		return errors.Join(err, w.isBehind(0, 0), w.isBehind(1, 0))
	}},

	{"a replica that follows at a distance is behind by that, however long it does", 2, func(w *world) error {
		w.open()
		var states []*memory.Replica
		var err error
		for n := range 120 { // 30 seconds, in which there is always something that it lacks
			states = append(states, w.snapshot())
			w.writers[0].commit(1)
			w.servers[1].restart(states[max(0, n-11)].Reader())
			time.Sleep(250 * time.Millisecond)
			if n > 20 {
				err = errors.Join(err, w.isBehind(0, 0), w.isBehind(1, 3*time.Second))
			}
		}
		return err
	}},

	{"a call that nobody answers says why of each replica", 3, func(w *world) error {
		w.open().writers[0].commit(1)
		w.replicas[2].Pause()
		w.writers[0].commit(1)
		if err := w.shows(2, time.Second); err != nil {
			return err
		}
		w.servers[0].fail()
		w.servers[1].hang()
		err := w.reader.Ping(w.in(5 * time.Second))
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("got error %v", err)
		}
		for _, part := range []string{"replica-0: ", errDown.Error(), "replica-1: ", "replica-2: " + errOlder.Error()} {
			if !strings.Contains(err.Error(), part) {
				return fmt.Errorf("%q is not in %q", part, err)
			}
		}
		return nil
	}},

	{"a call without a deadline ends when nobody answers", 1, func(w *world) error {
		w.open().servers[0].fail()
		began := time.Now()
		if _, err := w.reader.Logs(context.Background(), "", 1); err == nil {
			return errors.New("it was answered")
		}
		return notLater(began, w.reader.config.GiveUp+2*w.reader.config.CallTimeout)
	}},

	{"a reader that says that it is closed is opened again", 1, func(w *world) error {
		w.open().servers[0].failWith(store.ErrClosed)
		time.Sleep(time.Second)
		opened := w.servers[0].openings()
		w.servers[0].heal()
		if err := w.shows(0, 10*time.Second); err != nil || opened < 2 {
			return fmt.Errorf("opened %d times: %w", opened, err)
		}
		return nil
	}},

	{"a commit on the active replica is signalled, also after it was restarted", 1, func(w *world) error {
		w.open()
		changes := w.changes()
		for range 2 {
			w.writers[0].commit(1)
			if err := signalled(changes, 0); err != nil {
				return err
			}
			w.servers[0].restart(w.replicas[0].Reader())
			time.Sleep(1100 * time.Millisecond) // no probe is due then
			drain(changes)
		}
		return nil
	}},

	{"a commit is signalled although the replica's own signal is lost", 1, func(w *world) error {
		silent := w.db.Replica()
		w.servers[0].restart(silent.Reader())
		w.open()
		w.servers[0].mu.Lock()
		w.servers[0].reader = w.replicas[0].Reader() // the subscription stays where it was
		w.servers[0].mu.Unlock()
		silent.Pause()
		changes := w.changes()
		time.Sleep(time.Second)
		drain(changes)
		w.writers[0].commit(1)
		return signalled(changes, w.reader.config.ProbeEvery*3/2)
	}},

	{"a switch to another replica is signalled", 2, func(w *world) error {
		w.open()
		changes := w.changes()
		w.servers[0].hang()
		return errors.Join(signalled(changes, 3*time.Second), w.reads("replica-1"))
	}},

	{"a replica of another deployment is never used", 1, func(w *world) error {
		w.open()
		other := memory.NewDB()
		foreign := drainmark.Deployment{ID: drainmark.DeploymentID{2}, Partitions: partitions}
		if _, err := other.Store().Init(w.Context(), foreign); err != nil {
			return err
		}
		w.servers[0].restart(other.Reader())
		time.Sleep(30 * time.Second)
		err := w.reader.Ping(w.in(time.Second))
		if err == nil || !strings.Contains(err.Error(), "another replica") {
			return fmt.Errorf("got error %v", err)
		}
		return nil
	}},

	{"a replica that is emptied for good has to be repaired, and one that is filled again is used", 1, func(w *world) error {
		w.open()
		w.servers[0].restart(memory.NewDB().Reader())
		time.Sleep(2 * time.Second)
		if err := w.reader.Ping(w.in(time.Second)); err == nil || errors.Is(err, store.ErrMisconfigured) {
			return fmt.Errorf("at first: %v", err)
		}
		time.Sleep(w.reader.config.GiveUp + 5*time.Second)
		if err := w.reader.Ping(w.in(time.Second)); !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), "has held the deployment") {
			return fmt.Errorf("later: %v", err)
		}
		w.servers[0].restart(w.db.Reader())
		time.Sleep(10 * time.Second)
		return w.reader.Ping(w.in(time.Second))
	}},

	{"replicas come and go as they are discovered", 2, func(w *world) error {
		first, second := w.servers[0].member("replica-0"), w.servers[1].member("replica-1")
		var there atomic.Pointer[[]Member]
		there.Store(&[]Member{second})
		w.config.Discover = func(context.Context) ([]Member, error) {
			if there.Load() == nil {
				return nil, errDown
			}
			return *there.Load(), nil
		}
		w.discoverOnly()
		after := func(now *[]Member, members ...string) error {
			there.Store(now)
			time.Sleep(6 * time.Second)
			return errors.Join(w.has(members), w.reads(members[0]), w.shows(0, time.Second))
		}
		return errors.Join(
			w.has([]string{"replica-1"}), w.reads("replica-1"),
			after(&[]Member{first}, "replica-0"),
			after(nil, "replica-0"),
			after(&[]Member{}, "replica-0"),
			after(&[]Member{first, second}, "replica-0", "replica-1"),
		)
	}},

	{"switches are counted", 2, func(w *world) error {
		w.open()
		before := w.metric("switches")
		w.servers[0].fail()
		err := w.shows(0, time.Second)
		if n := w.metric("switches") - before; n != 1 || w.metric("replica-0") != 0 || w.metric("replica-1") != 1 {
			err = errors.Join(err, fmt.Errorf("%v switches were counted", n))
		}
		return err
	}},

	{"calls under way end when the reader is closed", 1, func(w *world) error {
		w.open().servers[0].hang()
		failed := make(chan error)
		go func() { failed <- w.reader.Ping(w.Context()) }()
		synctest.Wait()
		if err := w.reader.Close(); err != nil {
			return err
		}
		if err := <-failed; !errors.Is(err, store.ErrClosed) {
			return fmt.Errorf("got error %v", err)
		}
		return nil
	}},
}

func TestBehaviour(t *testing.T) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if err := b.play(t, defaultRules); err != nil {
				t.Error(err)
			}
		})
	}
}

func notLater(began time.Time, limit time.Duration) error {
	if took := time.Since(began); took > limit {
		return fmt.Errorf("it took %s, more than %s", took, limit)
	}
	return nil
}

// reads fails unless a replica is the active one.
func (w *world) reads(name string) error {
	if active := w.active(); active != name {
		return fmt.Errorf("%q is read from, not %q", active, name)
	}
	return nil
}

// has fails unless these are all members.
func (w *world) has(names []string) error {
	w.reader.mu.Lock()
	defer w.reader.mu.Unlock()
	var got []string
	for _, m := range w.reader.members {
		got = append(got, m.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		return fmt.Errorf("the members are %q, not %q", got, names)
	}
	return nil
}

// discoverOnly opens the Reader with what is discovered.
func (w *world) discoverOnly() {
	w.Helper()
	servers := w.servers
	w.servers = nil
	defer func() { w.servers = servers }()
	w.open()
	w.Cleanup(func() {
		for _, s := range servers {
			s.cut()
		}
	})
}

func (w *world) changes() <-chan struct{} {
	w.Helper()
	changes, err := w.reader.Changes(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	time.Sleep(time.Second)
	drain(changes)
	return changes
}

func drain(changes <-chan struct{}) {
	select {
	case <-changes:
	default:
	}
}

func signalled(changes <-chan struct{}, within time.Duration) error {
	synctest.Wait()
	select {
	case <-changes:
		return nil
	default:
	}
	select {
	case <-changes:
		return nil
	case <-time.After(within):
		return errors.New("there was no signal")
	}
}

package replicas

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

// promise is a scenario under virtual time. Its check returns what is wrong.
type promise struct {
	name     string
	replicas int
	check    func(*world) error
}

var promises = []promise{
	{"a page of a replica that restarts with old data is not shown before it has caught up", 1, func(w *world) error {
		old := w.restartsWithOldData()
		w.at(time.Second, old.Resume)
		return w.showsPage(2, 2*time.Second)
	}},

	{"what was written to, by a replica that restarts with old data, is not shown before it has caught up", 1, func(w *world) error {
		old := w.restartsWithOldData()
		w.at(time.Second, old.Resume)
		return w.showsWritten(2, 2*time.Second)
	}},

	{"the progress of a replica that restarts with old data is not shown before it has caught up", 1, func(w *world) error {
		old := w.restartsWithOldData()
		w.at(time.Second, old.Resume)
		return w.shows(2, 2*time.Second)
	}},

	{"a replica with old data does not deny a log that was shown", 1, func(w *world) error {
		old := w.snapshot()
		w.writers[0].commit(1)
		if err := w.open().showsPage(1, time.Second); err != nil {
			return err
		}
		w.servers[0].restart(old.Reader())
		w.at(time.Second, old.Resume)
		return w.showsPage(1, 2*time.Second)
	}},

	{"a list that a replica gave before it has caught up is not shown", 1, func(w *world) error {
		old := w.restartsWithOldData()
		w.servers[0].then(func(call string) {
			if call == "Logs" {
				old.Resume()
			}
		})
		w.at(time.Second, old.Resume)
		logs, err := w.reader.Logs(w.in(2*time.Second), "", 10)
		if err == nil && logs[0].LastPosition < 2 {
			err = fmt.Errorf("the list is of position %d after 2 was shown", logs[0].LastPosition)
		}
		return err
	}},

	{"what a page has shown is not taken back by another replica", 2, func(w *world) error {
		w.open().writers[0].commit(1)
		w.replicas[1].Pause()
		return errors.Join(w.shows(1, time.Second), w.notTakenBack(func() error { return w.showsPage(2, time.Second) }))
	}},

	{"what was shown with what was written to is not taken back by another replica", 2, func(w *world) error {
		w.open().writers[0].commit(1)
		w.replicas[1].Pause()
		return errors.Join(w.shows(1, time.Second), w.notTakenBack(func() error { return w.showsWritten(2, time.Second) }))
	}},

	{"what a progress has shown is not taken back by another replica", 2, func(w *world) error {
		w.open().replicas[1].Pause()
		return w.notTakenBack(func() error { return w.shows(1, time.Second) })
	}},

	{"what a list has shown is not taken back by another replica", 2, func(w *world) error {
		w.open().replicas[1].Pause()
		return w.notTakenBack(func() error {
			_, err := w.reader.Logs(w.in(time.Second), "", 10)
			return err
		})
	}},

	{"what a count of dead letters has shown is not taken back by another replica", 2, func(w *world) error {
		w.open().replicas[1].Pause()
		return w.notTakenBack(func() error {
			_, err := w.reader.CountDeadLetters(w.in(time.Second), "", 10)
			return err
		})
	}},

	{"what one of two partitions has shown is not taken back", 2, func(w *world) error {
		w.open().replicas[1].Pause()
		w.writers[1].commit(1)
		if _, err := w.reader.Messages(w.in(time.Second), logIn(1), 0, 1); err != nil {
			return err
		}
		w.servers[0].fail()
		w.at(time.Second, w.replicas[1].Resume)
		page, err := w.reader.Messages(w.in(2*time.Second), logIn(1), 0, 1)
		if err == nil && len(page.Messages) == 0 {
			err = errors.New("the message was taken back")
		}
		return err
	}},

	{"a store that has lost shown records and goes on is not shown before GiveUp", 1, func(w *world) error {
		w.open().writers[0].commit(1)
		w.writers[0].commit(1)
		if err := w.shows(2, time.Second); err != nil {
			return err
		}
		w.loseTail(1, producer(9))
		w.writers[0].commit(1)
		w.writers[0].commit(1)
		return w.givesUp(func() error { return w.shows(3, 11*time.Second) })
	}},

	{"a store that has lost a producer's only record is not shown before GiveUp", 1, func(w *world) error {
		w.open().writers[0].commit(1)
		w.writers[0].producer = producer(8)
		w.writers[0].commit(1)
		if err := w.shows(2, time.Second); err != nil {
			return err
		}
		w.loseTail(1, producer(9))
		w.writers[0].commit(1)
		w.writers[0].commit(1)
		return w.givesUp(func() error { return w.shows(3, 11*time.Second) })
	}},

	{"a store that has lost what only a page has shown is not shown before GiveUp", 1, func(w *world) error {
		w.open().writers[0].commit(1)
		if err := w.shows(1, time.Second); err != nil {
			return err
		}
		w.writers[0].commit(1)
		w.writers[0].commit(1)
		if err := w.showsPage(3, time.Second); err != nil {
			return err
		}
		w.loseTail(2, producer(9))
		return w.givesUp(func() error { return w.shows(1, 11*time.Second) })
	}},

	{"a page from before the progress that was to vouch for it is not shown", 1, func(w *world) error {
		w.open().writers[0].commit(1)
		if err := w.shows(1, time.Second); err != nil {
			return err
		}
		w.writers[0].claim()
		w.writers[0].commit(1)
		old := w.snapshot()
		w.writers[0].commit(1)
		var once sync.Once
		w.servers[0].then(func(call string) {
			if call == "Progress" {
				once.Do(func() { w.servers[0].restart(old.Reader()) })
			}
		})
		w.at(time.Second, old.Resume)
		return w.showsPage(3, 2*time.Second)
	}},

	{"a replica that comes up with old data is given time to catch up", 2, func(w *world) error {
		w.open().writers[0].commit(1)
		w.replicas[1].Pause()
		w.writers[0].commit(1)
		if err := w.shows(2, time.Second); err != nil {
			return err
		}
		w.servers[0].fail()
		w.servers[1].fail()
		time.Sleep(time.Minute)
		w.servers[1].heal()
		w.at(5*time.Second, w.replicas[1].Resume)
		return w.shows(2, 6*time.Second)
	}},

	{"a replica that comes up with a lost tail is not taken for the store", 2, func(w *world) error {
		w.writers[0].commit(1)
		w.writers[0].commit(1)
		w.replicas[1].Pause()
		w.servers[1].fail()
		w.loseTail(1, producer(9))
		w.writers[0].commit(1)
		if err := w.open().shows(2, time.Second); err != nil {
			return err
		}
		time.Sleep(time.Minute)
		w.servers[1].heal()
		time.Sleep(time.Minute)
		return w.reads("replica-0")
	}},

	{"a repaired store is shown at once, whatever its revision", 1, func(w *world) error {
		w.open().writers[0].commit(1)
		w.writers[0].commit(1)
		w.writers[0].commit(1)
		if err := w.shows(3, time.Second); err != nil {
			return err
		}
		w.loseTail(2, w.writers[0].producer)
		w.writers[0].commit(2)
		return w.shows(2, 500*time.Millisecond)
	}},

	{"a producer that was swept is not missed", 1, func(w *world) error {
		w.open().writers[0].commit(1)
		if err := w.shows(1, time.Second); err != nil {
			return err
		}
		time.Sleep(time.Hour)
		w.writers[0].tick()
		sweep := store.Sweep{Partition: 0, Producers: 59 * time.Minute}
		var err error
		if sweep.Forget, err = w.db.Store().Silent(w.Context(), 0, sweep.Producers); err != nil {
			return err
		}
		if _, err := w.db.Store().Sweep(w.Context(), sweep); err != nil {
			return err
		}
		w.writers[0].claim()
		return w.shows(1, 500*time.Millisecond)
	}},

	{"a replica that is cut off is left within three probes", 2, func(w *world) error {
		w.open().replicas[0].Pause()
		w.writers[0].commit(1)
		time.Sleep(3 * w.reader.config.ProbeEvery)
		if w.active() != "replica-1" {
			return errors.New("the replica that lags is still read from")
		}
		return w.shows(1, time.Second)
	}},

	{"a replica that is ahead of what was shown is not given up for one that is behind", 2, func(w *world) error {
		w.open().replicas[1].Pause()
		w.writers[0].commit(1)
		if err := w.shows(1, time.Second); err != nil {
			return err
		}
		time.Sleep(time.Minute)
		if w.active() != "replica-0" || w.metric("lowered") > 0 {
			return errors.New("the replica that lags was read from")
		}
		return nil
	}},

	{"a store that lost its tail is read again after GiveUp", 2, func(w *world) error {
		w.open().writers[0].commit(1)
		w.writers[0].commit(1)
		if err := w.shows(2, time.Second); err != nil {
			return err
		}
		if err := w.db.Rollback(1); err != nil {
			return err
		}
		return w.givesUp(func() error { return w.showsPage(1, 11*time.Second) })
	}},

	{"a replica that is left behind by the store without its tail is left after GiveUp", 2, func(w *world) error {
		w.open().writers[0].commit(1)
		w.writers[0].commit(1)
		if err := w.shows(2, time.Second); err != nil {
			return err
		}
		w.replicas[0].Pause()
		w.loseTail(1, producer(9))
		time.Sleep(time.Second)
		w.writers[0].commit(1)
		return w.givesUp(func() error {
			time.Sleep(10500 * time.Millisecond)
			if w.active() != "replica-1" {
				return errors.New("what the store has lost is still shown")
			}
			return w.shows(2, time.Second)
		})
	}},
}

// restartsWithOldData shows revision 2 of the one replica and restarts it with revision 1.
func (w *world) restartsWithOldData() *memory.Replica {
	w.Helper()
	w.writers[0].commit(1)
	snapshot := w.snapshot()
	w.open().writers[0].commit(1)
	if err := errors.Join(w.shows(2, time.Second), w.showsPage(2, time.Second)); err != nil {
		w.Fatal(err)
	}
	w.servers[0].restart(snapshot.Reader())
	return snapshot
}

// notTakenBack commits, shows that on replica 0, which then fails, and expects no older state although replica 1 lags
// for a second.
func (w *world) notTakenBack(show func() error) error {
	w.writers[0].commit(1)
	revision := w.writers[0].progress.Revision
	if err := show(); err != nil {
		return err
	}
	w.servers[0].fail()
	w.at(time.Second, w.replicas[1].Resume)
	return w.shows(revision, 2*time.Second)
}

// loseTail takes commits back. The partition is claimed anew, and the next records are of the producer.
func (w *world) loseTail(commits int, next drainmark.ProducerID) {
	w.Helper()
	if err := w.db.Rollback(commits); err != nil {
		w.Fatal(err)
	}
	w.writers[0].producer = next
	w.writers[0].claim()
}

// givesUp expects that read succeeds when GiveUp has passed, not before, and that this is counted.
func (w *world) givesUp(read func() error) error {
	began := time.Now()
	if err := read(); err != nil {
		return err
	}
	if took := time.Since(began); took < w.reader.config.GiveUp-w.reader.config.ProbeEvery {
		return fmt.Errorf("an older state was shown after %s", took)
	}
	if n := w.metric("lowered"); n != 1 {
		return fmt.Errorf("%v older states were counted", n)
	}
	return nil
}

func (p promise) play(t *testing.T, decide rules) (err error) {
	synctest.Test(t, func(t *testing.T) { err = p.check(newWorld(t, decide, p.replicas)) })
	return err
}

func TestPromises(t *testing.T) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if err := p.play(t, defaultRules); err != nil {
				t.Error(err)
			}
		})
	}
}

// wrongRules are the rules that are wrong on purpose.
var wrongRules = []struct {
	name   string
	change func(*rules)
	breaks []string
}{
	{"pages are not compared", func(r *rules) {
		r.judge = func(*floor, drainmark.Version) judgement { return notOlder }
	}, []string{
		"a page of a replica that restarts with old data is not shown before it has caught up",
		"what was written to, by a replica that restarts with old data, is not shown before it has caught up",
	}},

	{"progress is not compared", func(r *rules) {
		r.admits = func(*floor, drainmark.Progress) bool { return true }
	}, []string{
		"the progress of a replica that restarts with old data is not shown before it has caught up",
		"a replica with old data does not deny a log that was shown",
		"what one of two partitions has shown is not taken back",
	}},

	{"revisions alone are compared", func(r *rules) {
		r.admits = func(f *floor, p drainmark.Progress) bool { return p.Revision >= f.version.Revision }
	}, []string{
		"a store that has lost shown records and goes on is not shown before GiveUp",
		"a repaired store is shown at once, whatever its revision",
	}},

	{"what only a page has shown is forgotten", func(r *rules) {
		r.admits = func(f *floor, p drainmark.Progress) bool {
			return f.admits(p) || p.Token != f.version.Token && holds(p, f.progress, true)
		}
	}, []string{"a store that has lost what only a page has shown is not shown before GiveUp"}},

	{"the time without any replica counts", func(r *rules) {
		r.lost = func(_ *member, unfitSince time.Time, patience time.Duration) bool {
			return time.Since(unfitSince) >= patience
		}
	}, []string{"a replica that comes up with old data is given time to catch up"}},

	{"whoever is not known was swept", func(r *rules) {
		r.admits = func(f *floor, p drainmark.Progress) bool {
			known := drainmark.Progress{Version: f.progress.Version, Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{}}
			for id := range p.Producers {
				known.Producers[id] = f.progress.Producers[id]
			}
			return (&floor{version: f.version, progress: known}).admits(p)
		}
	}, []string{"a store that has lost a producer's only record is not shown before GiveUp"}},

	{"nobody was swept", func(r *rules) {
		r.admits = func(f *floor, p drainmark.Progress) bool {
			return f.admits(p) && (p.Token == f.version.Token || holds(p, f.progress, false))
		}
	}, []string{"a producer that was swept is not missed"}},

	{"pages are not remembered", func(r *rules) {
		r.raisedPage = func(f *floor, _ drainmark.Version) *floor { return f }
	}, []string{
		"what a page has shown is not taken back by another replica",
		"what was shown with what was written to is not taken back by another replica",
	}},

	{"progress is not remembered", func(r *rules) {
		r.raised = func(f *floor, _ drainmark.Progress) *floor { return f }
	}, []string{"what a progress has shown is not taken back by another replica"}},

	{"lists are not remembered", func(r *rules) { r.raiseAfter = false },
		[]string{"what a list has shown is not taken back by another replica"}},

	{"lists are compared afterwards only", func(r *rules) { r.checkBefore = false },
		[]string{"a list that a replica gave before it has caught up is not shown"}},

	{"a replica that lags is kept", func(r *rules) {
		r.lags = func(_, _ *member, _ time.Duration) bool { return false }
	}, []string{"a replica that is cut off is left within three probes"}},

	{"nobody gives up", func(r *rules) {
		r.lost = func(*member, time.Time, time.Duration) bool { return false }
	}, []string{"a store that lost its tail is read again after GiveUp"}},

	{"giving up takes no time", func(r *rules) {
		r.lost = func(*member, time.Time, time.Duration) bool { return true }
	}, []string{"a store that lost its tail is read again after GiveUp"}},

	{"a replica that still shows a lost tail is kept", func(r *rules) {
		r.forked = func(_, _ *member, _ time.Duration) bool { return false }
	}, []string{"a replica that is left behind by the store without its tail is left after GiveUp"}},

	{"a replica that stands still is left for any other", func(r *rules) {
		r.forked = func(_, _ *member, _ time.Duration) bool { return true }
	}, []string{"a replica that is ahead of what was shown is not given up for one that is behind"}},
}

// TestWrongRules proves that the promises can be broken: each wrong rule breaks one by name.
func TestWrongRules(t *testing.T) {
	for _, wrong := range wrongRules {
		t.Run(wrong.name, func(t *testing.T) {
			t.Parallel()
			decide := defaultRules
			wrong.change(&decide)
			for _, name := range wrong.breaks {
				played := false
				for _, p := range promises {
					if p.name != name {
						continue
					}
					played = true
					if err := p.play(t, decide); err == nil {
						t.Errorf("this was not found by %q", name)
					}
				}
				if !played {
					t.Errorf("there is no promise %q", name)
				}
			}
		})
	}
}

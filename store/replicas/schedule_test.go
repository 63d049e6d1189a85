package replicas

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

var (
	schedules = flag.Uint64("schedules", 20, "how many schedules to play")
	firstSeed = flag.Uint64("seed", 1, "the first schedule's seed")
)

// schedule is a minute in which replicas lag, hang, fail and restart with old data at random, while one of them, not
// always the same, is well. The store loses nothing.
type schedule struct {
	*world
	dice      *rand.Rand
	well      int // which replica is
	snapshots []*memory.Replica
	shown     [partitions]atomic.Uint64 // the newest position that an answer has shown

	mu    sync.Mutex
	wrong error // the first thing
}

// playSchedule plays the schedule of a seed and says what went wrong.
func playSchedule(t *testing.T, seed uint64, decide rules) (wrong error) {
	synctest.Test(t, func(t *testing.T) {
		s := &schedule{world: newWorld(t, decide, 3), dice: rand.New(rand.NewPCG(seed, 0))}
		s.config.GiveUp = time.Hour // nobody has to give up
		s.open()
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for n := range uint64(3) {
			readers.Go(func() { s.read(ctx, rand.New(rand.NewPCG(seed, n+1))) })
		}
		for end := time.Now().Add(time.Minute); time.Now().Before(end) && s.found() == nil; {
			s.rotate()
			for change := time.Now().Add(3*time.Second + s.upTo(3*time.Second)); time.Now().Before(change); {
				s.step()
				time.Sleep(s.upTo(40 * time.Millisecond))
			}
		}
		cancel()
		readers.Wait()
		if n := s.metric("lowered"); n > 0 {
			s.fails(fmt.Errorf("the floor was lowered %v times", n))
		}
		wrong = s.found()
	})
	return wrong
}

func (s *schedule) upTo(d time.Duration) time.Duration {
	return time.Duration(s.dice.Int64N(int64(d)))
}

func (s *schedule) fails(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == nil {
		s.wrong = err
	}
}

func (s *schedule) found() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrong
}

// rotate makes another replica the one that is well.
func (s *schedule) rotate() {
	s.well = s.dice.IntN(len(s.servers))
	s.replicas[s.well].Resume()
	s.servers[s.well].heal()
}

// step commits, mostly, or makes trouble for one of the replicas that need not be well.
func (s *schedule) step() {
	w := s.writers[s.dice.IntN(partitions)]
	i := (s.well + 1 + s.dice.IntN(len(s.servers)-1)) % len(s.servers)
	switch s.dice.IntN(40) {
	case 0:
		s.servers[i].hang()
	case 1, 2:
		s.servers[i].fail()
	case 3, 4, 5:
		s.servers[i].heal()
	case 6, 7, 8:
		s.replicas[i].Pause()
	case 9:
		s.replicas[i].CatchUp()
	case 10, 11:
		s.replicas[i].Resume()
	case 12:
		s.snapshots = append(s.snapshots, s.snapshot())
	case 13, 14:
		if n := len(s.snapshots); n > 0 {
			s.replicas[i] = s.snapshots[n-1]
			s.servers[i].restart(s.replicas[i].Reader())
			s.snapshots = s.snapshots[:n-1]
		}
	case 15:
		w.claim()
	default:
		w.commit(1 + s.dice.IntN(3))
	}
}

// read asks this and that, and compares what it is shown with what anybody was shown before it asked.
func (s *schedule) read(ctx context.Context, dice *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(dice.Int64N(int64(50 * time.Millisecond))))
		p := dice.IntN(partitions)
		before := s.shown[p].Load()
		began := time.Now()
		now, err := s.position(ctx, p, dice.IntN(4))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.fails(err)
		case now < before:
			s.fails(fmt.Errorf("position %d was shown after %d", now, before))
		case time.Since(began) > 6*time.Second:
			s.fails(fmt.Errorf("a call took %s although a replica was well", time.Since(began)))
		}
		for was := s.shown[p].Load(); was < now && !s.shown[p].CompareAndSwap(was, now); was = s.shown[p].Load() {
		}
	}
}

// position reads the newest position of a partition's log in one of the ways that there are.
func (s *schedule) position(ctx context.Context, partition, way int) (uint64, error) {
	w := s.writers[partition]
	switch way {
	case 0, 1:
		page, err := s.reader.Messages(ctx, w.log, 0, 1)
		if errors.Is(err, store.ErrNotFound) {
			return 0, nil
		}
		return page.Log.LastPosition, err
	case 2:
		p, err := s.reader.Progress(ctx, partition)
		return p.Next(w.producer) - 1, err
	}
	logs, err := s.reader.Logs(ctx, "", 10)
	for _, l := range logs {
		if l.Name == w.log {
			return l.LastPosition, err
		}
	}
	return 0, err
}

func TestSchedules(t *testing.T) {
	const workers = 2
	for n := range uint64(workers) {
		t.Run(fmt.Sprint("worker ", n), func(t *testing.T) {
			t.Parallel()
			for seed := *firstSeed + n; seed < *firstSeed+*schedules && !t.Failed(); seed += workers {
				if err := playSchedule(t, seed, defaultRules); err != nil {
					t.Errorf("%v\nreplay: go test ./store/replicas -run TestSchedules -schedules 1 -seed %d", err, seed)
				}
			}
		})
	}
}

// TestSchedulesFindWrongRules proves that the schedules can go wrong.
func TestSchedulesFindWrongRules(t *testing.T) {
	for name, change := range map[string]func(*rules){
		"pages are not compared":     func(r *rules) { r.judge = func(*floor, drainmark.Version) judgement { return notOlder } },
		"progress is not compared":   func(r *rules) { r.admits = func(*floor, drainmark.Progress) bool { return true } },
		"progress is not remembered": func(r *rules) { r.raised = func(f *floor, _ drainmark.Progress) *floor { return f } },
		"a replica that lags is fit": func(r *rules) {
			r.admits = func(f *floor, p drainmark.Progress) bool { return p.Revision+5 >= f.version.Revision }
		},
		"giving up is always allowed": func(r *rules) { r.lost = func(*member, time.Time, time.Duration) bool { return true } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			decide := defaultRules
			change(&decide)
			for seed := uint64(1); seed <= 60; seed++ {
				if err := playSchedule(t, seed, decide); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("60 schedules did not show it")
		})
	}
}

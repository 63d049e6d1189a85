package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// victim is something that faults happen to.
type victim struct {
	name  string
	share int // of the strikes
	// A strike takes it away, by being killed or, if it can be, by being paused, for a time between least and most.
	// Then it is brought back, and left alone for a while.
	kill, start   func()
	pause, resume func() // nil: it is never paused
	least, most   time.Duration
	alone         time.Duration

	back  func()    // what brings it back; nil while nothing has happened to it
	until time.Time // when it is to be brought back, or when the next strike is allowed
}

// programVictim makes a victim of a process of drainmark.
func programVictim(p *program, share int) *victim {
	return &victim{
		name: p.name, share: share, kill: p.kill, start: p.start, pause: p.pause, resume: p.resume,
		least: 50 * time.Millisecond, most: 2 * time.Second, alone: time.Second,
	}
}

// server is what faults need of a server.
type server interface {
	Kill()
	Launch()
	Pause()
	Continue()
}

// serverVictim makes a victim of a server.
func serverVictim(name string, s server, share int, most, alone time.Duration) *victim {
	return &victim{
		name: name, share: share, kill: s.Kill, start: s.Launch, pause: s.Pause, resume: s.Continue,
		least: 50 * time.Millisecond, most: most, alone: alone,
	}
}

// schedule is a random sequence of faults, made of a seed.
type schedule struct {
	t       testing.TB
	random  *rand.Rand
	victims []*victim
	every   time.Duration // one strike, in the mean
	pauses  int           // of 100 strikes, if the victim can be paused
	strikes map[string]int
}

// newSchedule makes a schedule of a seed, which it logs. Faults come as the seed says, but what they hit does not.
func newSchedule(t testing.TB, seed uint64, every time.Duration, pauses int, victims ...*victim) *schedule {
	t.Logf("the seed of the faults is %d", seed)
	return &schedule{
		t: t, random: rand.New(rand.NewPCG(seed, seed)), victims: victims, every: every, pauses: pauses, strikes: map[string]int{},
	}
}

// run lets faults happen for some time. Then everything is brought back, and it returns how many there were.
func (s *schedule) run(lasts time.Duration) (strikes int) {
	end := time.NewTimer(lasts)
	defer end.Stop()
	for {
		next := time.NewTimer(time.Duration(s.random.Int64N(2 * int64(s.every))))
		select {
		case <-end.C:
			next.Stop()
			s.bringBack(time.Now().Add(time.Hour))
			s.t.Logf("%d faults: %v", strikes, s.strikes)
			return strikes
		case <-next.C:
		}
		s.bringBack(time.Now())
		if s.strike() {
			strikes++
		}
	}
}

// bringBack brings those back whose time has come.
func (s *schedule) bringBack(now time.Time) {
	for _, v := range s.victims {
		if v.back != nil && now.After(v.until) {
			v.back()
			v.back, v.until = nil, time.Now().Add(v.alone)
		}
	}
}

// strike lets something happen to a victim that can bear it.
func (s *schedule) strike() bool {
	v := s.choose()
	if v == nil {
		return false
	}
	how := "killed"
	if v.pause != nil && s.random.IntN(100) < s.pauses {
		how = "paused"
		v.pause()
		v.back = v.resume
	} else {
		v.kill()
		v.back = v.start
	}
	v.until = time.Now().Add(v.least + time.Duration(s.random.Int64N(int64(v.most-v.least))))
	s.strikes[fmt.Sprint(v.name, " ", how)]++
	return true
}

// choose returns a victim by its share, nil if none can bear a strike.
func (s *schedule) choose() *victim {
	var able []*victim
	shares := 0
	for _, v := range s.victims {
		if v.back == nil && time.Now().After(v.until) {
			able = append(able, v)
			shares += v.share
		}
	}
	if shares == 0 {
		return nil
	}
	at := s.random.IntN(shares)
	for _, v := range able {
		if at -= v.share; at < 0 {
			return v
		}
	}
	return nil
}

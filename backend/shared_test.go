package backend

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
)

// Each gets an answer from after its question, and however many ask, reads are so far apart.
func TestSharedAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const every, lasts = 200 * time.Millisecond, 10 * time.Millisecond
		s := newShared[time.Time](every)
		reads := 0
		read := func(context.Context) (time.Time, error) {
			reads++
			began := time.Now()
			time.Sleep(lasts)
			return began, nil
		}
		began := time.Now()
		var asking sync.WaitGroup
		for i := range 2000 {
			time.Sleep(time.Millisecond * time.Duration(i%2))
			asking.Go(func() {
				asked := time.Now()
				answer, err := s.ask(t.Context(), read)
				if err != nil || answer.Before(asked) {
					t.Errorf("who asked at %v gets an answer of %v (%v)", asked, answer, err)
				}
				if took := time.Since(asked); took > every+lasts {
					t.Errorf("it took %v", took)
				}
			})
		}
		asking.Wait()
		if most := int(time.Since(began)/every) + 1; reads > most || reads < most/2 {
			t.Errorf("%d reads in %v", reads, time.Since(began))
		}
	})
}

// A caller that fails, or leaves, takes nobody along.
func TestSharedAnswersOfWhoLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShared[int](0)
		leaving, leave := context.WithCancel(t.Context())
		go func() {
			if _, err := s.ask(leaving, func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}); !errors.Is(err, context.Canceled) {
				t.Errorf("who leaves gets %v", err)
			}
		}()
		synctest.Wait()
		answered := make(chan int)
		for range 3 {
			go func() {
				n, err := s.ask(t.Context(), func(context.Context) (int, error) { return 7, nil })
				if err != nil {
					t.Error(err)
				}
				answered <- n
			}()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.ask(impatient, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait gets %v", err)
		}
		leave()
		for range 3 {
			if n := <-answered; n != 7 {
				t.Errorf("who stays gets %d", n)
			}
		}
	})
}

// Many who ask for the backlog cost what a few do, and each sees what was accepted before it asked.
func TestTheBacklogIsSharedByWhoAsks(t *testing.T) {
	t.Parallel()
	running(t, Limits{Poll: time.Hour}, 4, func(s *system) {
		synctest.Wait()
		before := s.reader.progress.Load()
		var asking sync.WaitGroup
		for i := range 20 {
			s.append("log", "x")
			for range 50 {
				asking.Go(func() {
					backlogs, err := s.Backlog(s.Context())
					if err != nil {
						t.Error(err)
						return
					}
					if n := backlogs[drainmark.PartitionOf("log", 4)].Pending.Records; n < uint64(i+1) {
						t.Errorf("%d records are pending where %d were accepted before", n, i+1)
					}
				})
			}
			synctest.Wait()
		}
		asking.Wait()
		if reads := s.reader.progress.Load() - before; reads > 3*4 {
			t.Errorf("1,000 who ask cost %d reads of a progress", reads)
		}
	})
}

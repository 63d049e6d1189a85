package backend

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// lettered is a system in which shop has so many open dead letters: records whose key is taken.
func lettered(t *testing.T, n int, test func(s *system)) {
	t.Helper()
	running(t, Limits{}, 2, func(s *system) {
		s.drain()
		s.conflict(n)
		test(s)
	})
}

// conflict makes so many dead letters of shop's records.
func (s *system) conflict(n int) {
	s.Helper()
	for i := range n + 2 {
		log := fmt.Sprint("log-", i%2)
		r := drainmark.Record{Kind: drainmark.Append, Log: log, Key: "key", Principal: "shop", Body: fmt.Append(nil, i, time.Now())}
		if i < 2 { // the first record of each log takes the key
			r.Body = []byte("first")
		}
		if _, err := s.Append(s.Context(), log, []drainmark.Record{r}); err != nil {
			s.Fatal(err)
		}
	}
	s.Wait(time.Second)
}

// open fails the test unless so many open dead letters are told of a principal, after so long.
func (s *system) open(when, principal string, want int64, after time.Duration) (again time.Duration) {
	s.Helper()
	begun := time.Now()
	n, again := s.OpenLetters(s.Context(), principal, 3)
	if took := time.Since(begun); n != want || took != after || again > countEvery {
		s.Errorf("%s: %d dead letters of %s after %v, and again in %v; not %d after %v", when, n, principal, took, again, want, after)
	}
	return again
}

// An append waits for no question, as long as it is known that it may pass. Who has too many is told when the next one
// is asked, and that is answered truly.
func TestOpenLettersAreAskedForInTheBackground(t *testing.T) {
	t.Parallel()
	lettered(t, 2, func(s *system) {
		s.open("at first", "shop", 2, 0)
		s.open("of somebody else", "other", 0, 0)
		s.conflict(8)
		s.open("before the next question", "shop", 2, 0)
		if n := s.reader.counts.Load(); n != 2 {
			s.Errorf("%d questions about two", n)
		}
		s.Wait(countEvery)
		s.open("when it is asked in the background", "shop", 2, 0)
		synctest.Wait()
		again := s.open("when that is answered", "shop", 3, 0)
		for partition := range 2 {
			if _, err := s.Settle(s.Context(), drainmark.Discard, "operator", LetterFilter{}, fmt.Sprintf("%d.0", partition), 100); err != nil {
				s.Fatal(err)
			}
		}
		s.Wait(again - time.Millisecond)
		s.open("before it is asked again", "shop", 3, 0)
		s.Wait(time.Millisecond)
		s.open("as it was told", "shop", 0, 0)
		s.open("of somebody else", "other", 0, 0)
	})
}

// However many append, one question is asked in a time.
func TestOneQuestionServesAllAppends(t *testing.T) {
	t.Parallel()
	lettered(t, 9, func(s *system) {
		for round := range 3 {
			var asking sync.WaitGroup
			for range 100 {
				asking.Go(func() { s.open("of many", "shop", 3, 0) })
			}
			asking.Wait()
			if n := s.reader.counts.Load(); n != int64(round)+1 {
				s.Errorf("%d questions in round %d", n, round)
			}
			s.Wait(countEvery)
		}
	})
}

// A store that does not answer keeps nobody waiting who comes later, and after a minute refuses nobody.
func TestAStoreThatDoesNotAnswerHasNoDeadLetters(t *testing.T) {
	t.Parallel()
	lettered(t, 9, func(s *system) {
		s.open("while the store answers", "shop", 3, 0)
		s.reader.silent.Store(true)
		s.Wait(countEvery)
		s.open("by the last answer", "shop", 3, countWait)
		s.Wait(workingTime)
		for at := countEvery + countWait + workingTime; at < countKept-countEvery; at += countEvery {
			s.open(fmt.Sprint("after ", at), "shop", 3, 0)
			s.open(fmt.Sprint("after ", at), "other", 0, 0)
			s.Wait(countEvery)
		}
		s.Wait(2 * countEvery)
		s.open("after a minute", "shop", 0, 0)
		synctest.Wait() // it is being asked, in vain
		s.reader.silent.Store(false)
		s.Wait(countEvery)
		s.open("when the store has just come back", "shop", 0, 0)
		synctest.Wait()
		s.open("when it has answered", "shop", 3, 0)
		s.Wait(countKept)
		s.conflict(1)
		s.open("of somebody who was away", "shop", 3, 0)
	})
}

// Where the store is slow, a question that waits for its turn is not asked a second time.
func TestQuestionsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	lettered(t, 9, func(s *system) {
		s.reader.silent.Store(true)
		const principals = 10
		for range 6 {
			for i := range principals {
				s.OpenLetters(s.Context(), fmt.Sprint("principal ", i), 3)
			}
			s.Wait(countEvery)
		}
		if n := len(s.counts.wanted); n >= principals {
			s.Errorf("%d questions about %d principals wait", n, principals)
		}
		s.reader.silent.Store(false)
		s.Wait(countEvery)
		s.open("when the store answers again", "shop", 3, 0)
	})
}

// BenchmarkOpenLetters is what a limit of dead letters costs an append.
func BenchmarkOpenLetters(b *testing.B) {
	reader := &countingReader{Reader: storememory.NewDB().Reader()}
	c := newLetterCounts(reader)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.loop(ctx) }()
	defer func() { stop(); <-ended }()
	c.of(ctx, "shop", 100)
	b.ReportAllocs()
	for b.Loop() {
		c.of(ctx, "shop", 100)
	}
	b.ReportMetric(float64(reader.counts.Load()), "reads")
}

// However many principals append, a bounded number of them is remembered, and those who append most.
func TestManyPrincipalsAreForgotten(t *testing.T) {
	t.Parallel()
	lettered(t, 9, func(s *system) {
		s.open("while the store answers", "shop", 3, 0)
		s.reader.silent.Store(true)
		for i := range 5 * maxCounted {
			if i%(maxCounted/2) == 0 {
				s.open("of one who appends often", "shop", 3, 0)
			}
			s.OpenLetters(s.Context(), fmt.Sprint("principal ", i), 3)
		}
		if n, m := len(s.counts.young), len(s.counts.old); n+m > 2*maxCounted {
			s.Errorf("%d and %d are remembered", n, m)
		}
		for _, one := range []string{"principal 0", "shop"} {
			_, young := s.counts.young[one]
			_, old := s.counts.old[one]
			if remembered := young || old; remembered != (one == "shop") {
				s.Errorf("%s is remembered: %v", one, remembered)
			}
		}
	})
}

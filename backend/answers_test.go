package backend

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Every kind of answer counts until it is released.
func TestAnswersHaveOneLimit(t *testing.T) {
	t.Parallel()
	const limit = 2 * store.PageBytes
	running(t, Limits{AnswerBytes: limit}, 1, func(s *system) {
		s.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) {
			return "no", log == "refused"
		}
		s.drain()
		body := strings.Repeat("x", 1<<20)
		written := s.append("log", "x")
		for range 7 {
			s.state(s.append("log", body), time.Minute)
			s.state(s.append("refused", body), time.Minute)
		}
		asks := map[string]func() (Held, error){
			"a page": func() (Held, error) {
				p, err := s.Messages(s.Context(), "log", 0, 100, nil, 0)
				return p.Held, err
			},
			"a page behind a receipt": func() (Held, error) {
				p, err := s.Messages(s.Context(), "log", 0, 100, &written, time.Minute)
				return p.Held, err
			},
			"dead letters": func() (Held, error) {
				l, err := s.DeadLetters(s.Context(), LetterFilter{}, "", 100)
				return l.Held, err
			},
		}
		for name, ask := range asks {
			first, err := ask()
			second, err2 := ask()
			if err = errors.Join(err, err2); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := ask(); drainmark.KindOf(err) != drainmark.KindTooMany || !strings.Contains(err.Error(), "answer-bytes") {
				t.Errorf("%s, the third of 7 MiB, within 16 MiB: %v", name, err)
			}
			logs, err := s.Logs(s.Context(), "", 10)
			if err != nil || len(logs.Infos) == 0 {
				t.Errorf("there is room for a small list: %v", err)
			}
			logs.Release()
			first.Release()
			first.Release()
			third, err := ask()
			if err != nil {
				t.Errorf("%s, when another was released: %v", name, err)
			}
			second.Release()
			third.Release()
			if held := s.answers.held.Used(); held != 0 {
				t.Fatalf("%s: all are released, and %d bytes are held", name, held)
			}
		}
	})
}

// A reader waits for its turn for no longer than its context lasts.
func TestLargeReadsTakeTurns(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		var turns []func()
		for range largeReads {
			done, err := s.answers.reading(s.Context())
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, done)
		}
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		if _, err := s.Messages(ctx, "log", 0, 1, nil, 0); drainmark.KindOf(err) != drainmark.KindUnavailable {
			t.Errorf("a page for which there is no turn: %v", err)
		}
		turns[0]()
		if _, err := s.Messages(s.Context(), "log", 0, 1, nil, 0); drainmark.KindOf(err) != drainmark.KindNotFound {
			t.Errorf("when there is a turn: %v", err)
		}
	})
}

// Subscribers that do not come back for more hold what they were given, and others wait until there is room.
func TestSubscribersHaveOneLimit(t *testing.T) {
	t.Parallel()
	const room = 8
	for _, size := range []int{1000, 200_000} { // less and more than is given at once
		each := max(size, subscriptionBytes) + answerBuffer
		running(t, Limits{StreamBytes: max(int64(room*each)+room*1000, minStreamBytes)}, 1, func(s *system) {
			s.drain()
			for range 5 {
				s.state(s.append("log", strings.Repeat("x", size)), time.Minute)
			}
			got := make(chan int, 100)
			var subs []Subscription
			follow := func() {
				sub, err := s.Subscribe(s.Context(), "log", 0)
				if err != nil {
					t.Fatal(err)
				}
				subs = append(subs, sub)
				n := len(subs) - 1
				go func() {
					if messages, err := sub.Next(s.Context()); err == nil && len(messages) > 0 {
						got <- n
					}
				}()
			}
			for range 3 * room {
				follow()
			}
			synctest.Wait()
			first := len(got)
			if first < room/2 || first > room {
				t.Fatalf("%d subscribers of messages of %d bytes were given some; there is room for about %d", first, size, room)
			}
			for len(got) > 0 {
				subs[<-got].Close()
			}
			synctest.Wait()
			if len(got) == 0 {
				t.Error("when the first have left, no others were given any")
			}
			for seen := first; seen < 3*room; seen++ {
				subs[<-got].Close()
				synctest.Wait()
			}
			if !s.answers.streams.TryAcquire(s.answers.room) {
				t.Error("all have left, and something is held")
			}
		})
	}
}

// A message that is larger than the whole room is given to one at a time.
func TestASubscriberGetsAMessageLargerThanTheRoom(t *testing.T) {
	t.Parallel()
	running(t, Limits{StreamBytes: minStreamBytes}, 1, func(s *system) {
		s.drain()
		s.state(s.append("log", strings.Repeat("x", 2*minStreamBytes)), time.Minute)
		s.follow("log", 0).got(s, strings.Repeat("x", 2*minStreamBytes))
	})
}

func TestLimitsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, limits := range []Limits{{AnswerBytes: store.PageBytes}, {StreamBytes: 1000}} {
		_, err := New(Config{Deployment: drainmark.Deployment{Partitions: 1}, Limits: limits, Logger: quiet()})
		if drainmark.KindOf(err) != drainmark.KindMisconfigured {
			t.Errorf("%+v: %v", limits, err)
		}
	}
}

// Subscribers whose owner holds as much as it may wait, hold nothing of the room of all, and keep nobody waiting.
func TestSubscribersHaveAShare(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		s.state(s.append("log", "x"), time.Minute)
		turns := make(chan struct{}, 1) // one of them at a time
		share := func() func(context.Context, int64) error {
			has := false
			return func(ctx context.Context, bytes int64) error {
				switch {
				case bytes == 0 && has:
					<-turns
					has = false
				case bytes > 0 && !has:
					select {
					case turns <- struct{}{}:
						has = true
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return nil
			}
		}
		follow := func(hold func(context.Context, int64) error) (Subscription, error) {
			sub, err := s.Subscribe(s.Context(), "log", 0)
			if err != nil {
				t.Fatal(err)
			}
			if hold != nil {
				sub.Share(hold)
			}
			ctx, cancel := context.WithTimeout(s.Context(), time.Second)
			defer cancel()
			_, err = sub.Next(ctx)
			return sub, err
		}
		first, err := follow(share())
		second, late := follow(share())
		other, others := follow(nil)
		if err != nil || !errors.Is(late, context.DeadlineExceeded) || others != nil {
			t.Errorf("the first of one owner: %v, its second: %v, another's: %v", err, late, others)
		}
		first.Close()
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		if _, err := second.Next(ctx); err != nil {
			t.Errorf("when the first has left: %v", err)
		}
		second.Close()
		other.Close()
		if len(turns) > 0 || !s.answers.streams.TryAcquire(s.answers.room) {
			t.Error("all have left, and something is held")
		}
	})
}

package backend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
)

// flagging is running with a broker that cannot count, and so has a flag.
func flagging(t *testing.T, partitions int, test func(*system)) {
	runningOn(t, brokermemory.Options{Partitions: partitions, Ordered: true, Uncounted: true}, Limits{}, test)
}

// published is how many batches have ever been published to the bed's broker.
func (s *system) published() uint64 { return s.Server.Published() }

func TestConsumersByTheFlag(t *testing.T) {
	t.Parallel()
	flagging(t, 2, func(s *system) {
		s.Wait(time.Second)
		s.wants(1, "it is not proved yet") // a broker on which there was no flag may have had anything
		s.drain()
		s.Wait(time.Minute)
		s.wants(0, "")
		s.undrain()
		before := s.published()
		for range 20 {
			s.Wait(30 * time.Second)
			s.wants(0, "")
		}
		if now := s.published(); now != before {
			s.Errorf("%d batches were published while nothing was accepted", now-before)
		}
		s.append("log", "a")
		s.wants(1, "at least 1 record is accepted and not persisted")
		s.drain()
		s.Wait(time.Minute)
		s.wants(0, "")
	})
}

// Records that dead backends have accepted count for those that come after them.
func TestTheFlagOutlivesBackends(t *testing.T) {
	t.Parallel()
	flagging(t, 1, func(s *system) {
		s.drain()
		s.Wait(time.Minute)
		s.wants(0, "")
		s.undrain()
		other, err := New(Config{Broker: s.Connect(), Reader: s.reader, Deployment: s.Deployment, Logger: s.Logger()})
		if err != nil {
			s.Fatal(err)
		}
		stop := s.Start(other.Run)
		if _, err := other.Append(s.Context(), "log", appendOne()); err != nil {
			s.Fatal(err)
		}
		stop()
		s.wants(1, "")
		s.Wait(time.Hour)
		s.wants(1, "")
		third := s.another(nil)
		if w := third.Consumers(s.Context()); w.Consumers != 1 {
			s.Errorf("a backend that was started later wants %+v", w)
		}
		if extra := s.published(); extra > 10 {
			s.Errorf("%d batches were published within an hour in which nothing could be persisted", extra)
		}
		s.drain()
		s.Wait(time.Minute)
		s.wants(0, "")
	})
}

func appendOne() []drainmark.Record {
	return []drainmark.Record{{Kind: drainmark.Append, Log: "log", Body: []byte("x"), AcceptedAt: time.Now()}}
}

// A backend that restarts wakes nobody: the flag says what it needs to know.
func TestARestartRaisesNoFlag(t *testing.T) {
	t.Parallel()
	flagging(t, 1, func(s *system) {
		s.drain()
		s.Wait(time.Minute)
		s.undrain()
		other := s.another(nil)
		for range 10 {
			s.Wait(10 * time.Second)
			if w := other.Consumers(s.Context()); w.Consumers != 0 {
				s.Fatalf("%+v", w)
			}
		}
	})
}

func TestABarrierThatWaitsWantsAConsumer(t *testing.T) {
	t.Parallel()
	flagging(t, 2, func(s *system) {
		s.drain()
		s.Wait(time.Minute)
		s.undrain()
		s.wants(0, "")
		if _, err := s.Barrier(s.Context(), nil); err != nil {
			s.Fatal(err)
		}
		s.wants(1, "")
		other := s.another(nil)
		if w := other.Consumers(s.Context()); w.Consumers != 1 {
			s.Errorf("%+v", w)
		}
	})
}

// A flag that somebody has removed says nothing, and is raised again.
func TestARemovedFlag(t *testing.T) {
	t.Parallel()
	flagging(t, 1, func(s *system) {
		s.drain()
		s.Wait(time.Minute)
		s.wants(0, "")
		s.Server.RemoveFlag()
		s.wants(1, "never raised")
		s.Wait(10 * time.Second)
		s.wants(1, "not proved")
		s.Wait(time.Minute)
		s.wants(0, "")
	})
}

// waving is a broker whose flag can be made to fail.
type waving struct {
	broker.Broker
	raise atomic.Pointer[error] // of Raise
	took  atomic.Int64          // how long Raise takes
	count atomic.Int64          // of raises
	slow  atomic.Int64          // how long Publish takes
	ahead atomic.Int64          // by how much the backend's wall clock is
	seen  atomic.Pointer[func(what string)]
}

func (w *waving) Flag() broker.Flag { return wavingFlag{w.Broker.Flag(), w} }

func (w *waving) Publish(ctx context.Context, partition int, b broker.Batch) error {
	w.see("publish")
	time.Sleep(time.Duration(w.slow.Load()))
	return w.Broker.Publish(ctx, partition, b)
}

func (w *waving) see(what string) {
	if see := w.seen.Load(); see != nil {
		(*see)(what)
	}
}

type wavingFlag struct {
	broker.Flag
	*waving
}

func (f wavingFlag) Raise(ctx context.Context, text string) error {
	f.count.Add(1)
	time.Sleep(time.Duration(f.took.Load()))
	if err := f.raise.Load(); err != nil {
		return *err
	}
	return f.Flag.Raise(ctx, text)
}

func (f wavingFlag) Lower(ctx context.Context, text string) error {
	f.see("lower")
	return f.Flag.Lower(ctx, text)
}

func waved(t *testing.T, test func(*system, *waving)) {
	flagging(t, 2, func(s *system) {
		w := &waving{Broker: s.Connect()}
		now := func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
		b, err := New(Config{Broker: w, Reader: s.replica.Reader(), Deployment: s.Deployment, Logger: s.Logger(), Now: now,
			Limits: Limits{PublishAttempt: 15 * time.Second}})
		if err != nil {
			s.Fatal(err)
		}
		s.Backend = b
		s.Start(b.Run)
		s.drain()
		s.Wait(time.Minute)
		w.count.Store(0)
		test(s, w)
	})
}

func TestNothingIsPublishedUnlessTheFlagIsRaised(t *testing.T) {
	t.Parallel()
	waved(t, func(s *system, w *waving) {
		for err, kind := range map[error]drainmark.Kind{
			broker.ErrFull: drainmark.KindBacklogFull, broker.ErrMisconfigured: drainmark.KindMisconfigured,
			errors.New("away"): drainmark.KindUnavailable,
		} {
			w.raise.Store(&err)
			before := s.published()
			ctx, cancel := context.WithTimeout(s.Context(), time.Second)
			_, got := s.Append(ctx, "log", appendOne())
			cancel()
			if drainmark.KindOf(got) != kind || s.published() != before {
				s.Errorf("when raising fails (%v), an append ends with %v, and %d batches were published",
					err, got, s.published()-before)
			}
		}
		w.raise.Store(nil)
		s.append("log", "a")
	})
}

// A barrier proves something only if everything by the raise that is lowered had been confirmed before it was sent.
func TestAFlagIsLoweredWhenItHasSettled(t *testing.T) {
	t.Parallel()
	waved(t, func(s *system, w *waving) {
		for range 5 {
			s.append("log", "a")
			accepted := time.Now()
			var mu sync.Mutex
			after := map[string]time.Duration{}
			see := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				if _, ok := after[what]; !ok {
					after[what] = time.Since(accepted)
				}
			}
			w.seen.Store(&see)
			s.Wait(time.Minute)
			w.seen.Store(nil)
			for _, what := range []string{"publish", "lower"} {
				if d := after[what]; d < 2*goodFor || d > 6*goodFor {
					s.Errorf("%s came %s after the append", what, d)
				}
			}
			s.wants(0, "")
		}
	})
}

// One raise is enough for all partitions, and while batches go on none of them waits for the next.
func TestHowOftenTheFlagIsRaised(t *testing.T) {
	t.Parallel()
	waved(t, func(s *system, w *waving) {
		w.took.Store(int64(100 * time.Millisecond))
		start := time.Now()
		s.append("a", "x")
		if took := time.Since(start); took != 100*time.Millisecond || w.count.Load() != 1 {
			s.Errorf("the first append took %s and %d raises", took, w.count.Load())
		}
		for range 2000 {
			time.Sleep(15 * time.Millisecond)
			start := time.Now()
			s.append("a", "x")
			s.append("b", "x")
			if took := time.Since(start); took > 0 {
				s.Fatalf("%s after the first an append took %s", time.Since(start), took)
			}
		}
		if n := w.count.Load(); n < 10 || n > 16 {
			s.Errorf("the flag was raised %d times in 30 s", n)
		}
	})
}

// A batch that was confirmed long after the raise is not accepted before there is another.
func TestALateConfirmationNeedsAnotherRaise(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(*system, *waving){
		"the broker was slow": func(s *system, w *waving) { w.slow.Store(int64(goodFor + 1)) },
		"the machine was suspended, and only the wall clock went on": func(s *system, w *waving) {
			w.slow.Store(int64(time.Second))
			time.AfterFunc(time.Second/2, func() { w.ahead.Store(int64(time.Hour)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waved(t, func(s *system, w *waving) {
				late(s, w)
				away := errors.New("away")
				time.AfterFunc(time.Second/4, func() { w.raise.Store(&away) })
				done := make(chan error, 1)
				go func() { _, err := s.Append(s.Context(), "log", appendOne()); done <- err }()
				s.Wait(20 * time.Second)
				select {
				case err := <-done:
					s.Fatalf("it is accepted (%v) though the raise before it was too old", err)
				default:
				}
				if now := s.Working(s.Context()); drainmark.KindOf(now.Appends) != drainmark.KindUnavailable {
					s.Errorf("the status says of appends: %v", now.Appends)
				}
				w.raise.Store(nil)
				s.Wait(10 * time.Second)
				if err := <-done; err != nil {
					s.Error(err)
				}
			})
		})
	}
}

// Requests that wait do not hide how much there is to do.
func TestMoreConsumersForMoreRecords(t *testing.T) {
	t.Parallel()
	waved(t, func(s *system, w *waving) {
		s.undrain()
		s.append("log", make([]string, recordsPerConsumer+1)...)
		s.wants(2, "at least 10001 records are accepted")
		w.slow.Store(int64(time.Second))
		done := make(chan error, 1)
		go func() { _, err := s.Append(s.Context(), "log", appendOne()); done <- err }()
		synctest.Wait()
		s.wants(2, "at least 10001 records are accepted")
		if err := <-done; err != nil {
			s.Error(err)
		}
	})
}

// Missing records keep the flag up until somebody declares them lost.
func TestMissingRecordsKeepTheFlagUp(t *testing.T) {
	t.Parallel()
	flagging(t, 1, func(s *system) {
		s.append("log", "a")
		if err := s.Server.Purge(0); err != nil {
			s.Fatal(err)
		}
		s.append("log", "b")
		s.drain()
		s.Wait(10 * time.Minute)
		s.wants(1, "the broker did not deliver")
		if n := s.published(); n > 10 {
			s.Errorf("%d batches were published", n)
		}
		s.declareLost(0)
		s.Wait(time.Minute)
		s.wants(0, "")
	})
}

// A barrier of the backend's own that a user's joins is a user's.
func TestASilentMarkerThatIsSharedIsNotSilent(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		first := putting(p, time.Minute, 1)
		<-s.attempts // in flight: what comes now waits
		for _, silent := range []bool{true, false} {
			go func() {
				_, _, err := p.putMarker(context.Background(), silent, func() uint64 { return 1 })
				if err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
			if got := p.marker.silent; got != silent {
				t.Errorf("the marker is silent: %v", got)
			}
		}
		s.answers <- nil
		expect(t, "first", first, "1..1 ")
		s.answer(nil)
		synctest.Wait()
	})
}

// A broker that keeps its log supplies a store again that has lost its tail, for which a consumer is wanted although the
// flag is down.
func TestALostTailWantsAConsumer(t *testing.T) {
	t.Parallel()
	runningOn(t, brokermemory.Options{Replays: true, Uncounted: true}, Limits{}, func(s *system) {
		s.drain()
		s.append("log", "a")
		s.Wait(time.Minute)
		s.append("log", "b")
		s.Wait(time.Minute)
		s.undrain()
		s.wants(0, "")
		other := s.another(nil) // it has accepted nothing of what is lost
		if err := s.DB.Rollback(3); err != nil {
			s.Fatal(err)
		}
		s.Wait(time.Second)
		if w := other.Consumers(s.Context()); w.Consumers != 1 {
			s.Errorf("a backend that has accepted nothing wants %+v", w)
		}
		s.drain()
		s.Wait(time.Minute)
		s.undrain()
		s.wants(0, "")
		if w := other.Consumers(s.Context()); w.Consumers != 0 {
			s.Errorf("when the store has everything again, a backend wants %+v", w)
		}
	})
}

// A quiet producer wakes nobody: it says that it lives while somebody holds the partition, and only then can anything
// there grow old.
func TestAQuietProducerWakesNobody(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]brokermemory.Options{
		"by the flag": {Ordered: true, Uncounted: true}, "by the count": {Replays: true}, "by both": {Replays: true, Uncounted: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runningOn(t, options, Limits{ProducerRetention: 70 * time.Minute, KeepAlive: 10 * time.Minute}, func(s *system) {
				s.drain()
				s.append("log", "a")
				s.Wait(2 * time.Minute)
				s.undrain()
				s.Wait(time.Minute)
				s.wants(0, "")
				before := s.published()
				s.Wait(time.Hour)
				s.wants(0, "")
				if n := s.published() - before; n != 0 {
					s.Errorf("%d batches were published though nobody holds the partition", n)
				}
				s.drain()
				s.Wait(time.Minute)
				if n := s.published() - before; n != 1 {
					s.Errorf("%d batches were published when somebody held the partition again", n)
				}
				s.wants(0, "")
			})
		})
	}
	t.Run("a store that does not answer tells nothing", func(t *testing.T) {
		t.Parallel()
		running(t, Limits{KeepAlive: time.Hour}, 1, func(s *system) {
			s.append("log", "a")
			s.Wait(time.Minute)
			s.reader.claimless.Store(true)
			before := s.published()
			s.Wait(70 * time.Minute)
			if n := s.published() - before; n != 1 {
				s.Errorf("%d batches were published", n)
			}
		})
	})
}

package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// scripted is a broker whose answers a test gives, one at a time. It keeps what was stored.
type scripted struct {
	broker.Broker
	maxPayload atomic.Int64
	attempts   chan broker.Batch // each attempt to publish
	answers    chan error
	mu         sync.Mutex
	stored     []*drainmark.Batch
}

func newScripted() *scripted {
	s := &scripted{attempts: make(chan broker.Batch), answers: make(chan error)}
	s.maxPayload.Store(1 << 20)
	return s
}

func (s *scripted) Traits() broker.Traits {
	return broker.Traits{Ordered: true, MaxPayload: int(s.maxPayload.Load())}
}

func (s *scripted) Publish(ctx context.Context, _ int, b broker.Batch) error {
	select {
	case s.attempts <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-s.answers:
		if err == nil {
			batch, decodeErr := drainmark.DecodeBatch(append([]byte(nil), b.Payload...))
			if decodeErr != nil || batch.First != b.First || batch.Last() != b.Last {
				return fmt.Errorf("the payload is not what the header says: %w", decodeErr)
			}
			s.mu.Lock()
			s.stored = append(s.stored, batch)
			s.mu.Unlock()
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer waits for an attempt and answers it.
func (s *scripted) answer(err error) broker.Batch {
	b := <-s.attempts
	s.answers <- err
	return b
}

// publishing runs a publisher over a scripted broker, in a bubble.
func publishing(t *testing.T, limits Limits, test func(*testing.T, *publisher, *scripted)) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted()
		b := &Backend{broker: s, limits: limits.withDefaults(), logger: quiet(), metrics: newMetrics(nil), now: time.Now}
		b.budget.limit = b.limits.WaitingBytes
		p := newPublisher(0, drainmark.NewProducerID(), b)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); p.loop(ctx) }()
		test(t, p, s)
		cancel()
		<-ended
		if used := p.budget.used.Load(); used != 0 {
			t.Errorf("at the end %d bytes are still counted as waiting", used)
		}
	})
}

// result is what a put gave.
type result struct {
	span drainmark.Span
	err  error
}

func (r result) sequences() string {
	return fmt.Sprintf("%d..%d %s", r.span.First, r.span.Last, drainmark.KindOf(r.err))
}

// putting puts n records and returns at once. The result comes later.
func putting(p *publisher, patience time.Duration, n int) <-chan result {
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		span, err := p.put(ctx, appends(n))
		done <- result{span, err}
	}()
	synctest.Wait()
	return done
}

func appends(n int) []drainmark.Record {
	records := make([]drainmark.Record, n)
	for i := range records {
		records[i] = drainmark.Record{Kind: drainmark.Append, Log: "log", Body: []byte("body"), AcceptedAt: time.Now()}
	}
	return records
}

func expect(t *testing.T, what string, done <-chan result, want string) {
	t.Helper()
	if got := (<-done).sequences(); got != want {
		t.Errorf("%s got %q, not %q", what, got, want)
	}
}

func TestGathersWhileABatchIsInFlight(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{BatchRecords: 4}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Minute, 1)
		b, c, d := putting(p, time.Minute, 2), putting(p, time.Minute, 5), putting(p, time.Minute, 1)
		for i, want := range []string{"1..1", "2..5", "6..9"} {
			if got := s.answer(nil); fmt.Sprintf("%d..%d", got.First, got.Last) != want {
				t.Errorf("batch %d is %d..%d, not %s", i+1, got.First, got.Last, want)
			}
		}
		expect(t, "a", a, "1..1 ")
		expect(t, "b", b, "2..3 ")
		expect(t, "c", c, "4..8 ")
		expect(t, "d", d, "9..9 ")
	})
}

func TestABatchFitsTheBrokersMessage(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		s.maxPayload.Store(300)
		done := putting(p, time.Minute, 20)
		for total := 0; total < 20; {
			b := s.answer(nil)
			total = int(b.Last)
			if len(b.Payload) > 300 {
				t.Errorf("a batch has %d bytes", len(b.Payload))
			}
		}
		expect(t, "the put", done, "1..20 ")
	})
}

func TestABatchInDoubtIsPublishedAgainAsItWas(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Minute, 2)
		s.answer(errors.New("connection reset"))
		b := putting(p, time.Minute, 1)
		s.answer(broker.ErrNotSent) // certain now, but the first attempt is not
		if again := s.answer(nil); again.First != 1 || again.Last != 2 {
			t.Errorf("published again is %d..%d", again.First, again.Last)
		}
		s.answer(nil)
		expect(t, "a", a, "1..2 ")
		expect(t, "b", b, "3..3 ")
	})
}

func TestWhatWasNeverSentIsWithdrawn(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Second, 1)
		b := putting(p, time.Minute, 1)
		for len(a) == 0 { // the connection is down for longer than a waits
			s.answer(broker.ErrNotSent)
			synctest.Wait()
		}
		expect(t, "a", a, "0..0 unavailable")
		s.answer(nil)
		expect(t, "b", b, "1..1 ") // a's sequence went to b
	})
}

func TestATimeoutInFlightHandsOutTheReceiptAndKeepsTheSequences(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{PublishAttempt: time.Hour}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Second, 2)
		b := <-s.attempts
		expect(t, "a", a, "1..2 outcome-unknown")
		s.answers <- broker.ErrFull // certainly not stored, but a has the receipt
		if again := s.answer(nil); again.First != b.First || again.Last != b.Last {
			t.Errorf("published again is %d..%d", again.First, again.Last)
		}
	})
}

func TestAFullBrokerRefusesAtOnceAndTheSequencesAreUsedAgain(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Minute, 1)
		<-s.attempts
		b := putting(p, time.Minute, 1)
		start := time.Now()
		s.answers <- broker.ErrFull
		expect(t, "a", a, "0..0 backlog-full")
		expect(t, "b", b, "0..0 backlog-full")
		if waited := time.Since(start); waited > 0 {
			t.Errorf("refused only after %s", waited)
		}
		c := putting(p, time.Minute, 1)
		s.answer(nil)
		expect(t, "c", c, "1..1 ")
	})
}

// A full disk must not be filled with lines about it.
func TestAFullBrokerIsAFewLinesInTheLog(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		var logged bytes.Buffer
		p.failing = loglimit.New(slog.New(slog.NewTextHandler(&logged, nil)), slog.LevelWarn, "failing")
		for range 2000 { // 20 seconds
			a := putting(p, time.Minute, 1)
			s.answer(broker.ErrFull)
			expect(t, "a", a, "0..0 backlog-full")
			time.Sleep(10 * time.Millisecond)
		}
		a := putting(p, time.Minute, 1)
		s.answer(nil)
		expect(t, "a", a, "1..1 ")
		lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
		if len(lines) > 4 || !strings.Contains(lines[len(lines)-1], "published again") {
			t.Errorf("%d lines, of which the last is %s", len(lines), lines[len(lines)-1])
		}
	})
}

func TestAFullBrokerInTheMiddleOfARequestTellsWhatIsStored(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{BatchRecords: 3}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Minute, 5)
		s.answer(nil)
		s.answer(broker.ErrFull)
		expect(t, "a", a, "1..3 outcome-unknown")
		b := putting(p, time.Minute, 1)
		s.answer(nil)
		expect(t, "b", b, "4..4 ")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{WaitingBytes: 1000}, func(t *testing.T, p *publisher, s *scripted) {
		first := putting(p, time.Minute, 5)
		second := putting(p, time.Minute, 30)
		expect(t, "what does not fit", second, "0..0 backlog-full")
		s.answer(nil)
		expect(t, "what fits", first, "1..5 ")
	})
}

func TestBarriersShareAWaitingMarker(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		token := uint64(7)
		marker := func() <-chan result {
			done := make(chan result, 1)
			go func() {
				span, noted, err := p.putMarker(context.Background(), false, func() uint64 { return token })
				if noted != 7 {
					err = fmt.Errorf("the epoch is %d", noted)
				}
				done <- result{span, err}
			}()
			synctest.Wait()
			return done
		}
		a := putting(p, time.Minute, 1)
		<-s.attempts // in flight: what comes now waits
		b := marker()
		token = 8 // a marker that is shared has the lease token of its first barrier
		c := marker()
		s.answers <- nil
		token = 7
		<-s.attempts // the shared marker is in flight: it may be stored already
		d := marker()
		s.answers <- nil
		s.answer(nil)
		expect(t, "a", a, "1..1 ")
		expect(t, "b", b, "2..2 ")
		expect(t, "c", c, "2..2 ")
		expect(t, "d", d, "3..3 ")
	})
}

func TestAQuietProducerStaysKnown(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{KeepAlive: time.Hour}, func(t *testing.T, p *publisher, s *scripted) {
		a := putting(p, time.Minute, 1)
		s.answer(nil)
		expect(t, "a", a, "1..1 ")
		start := time.Now()
		if b := s.answer(nil); b.First != 2 || time.Since(start) < time.Hour {
			t.Errorf("%s after the last record came %d..%d", time.Since(start), b.First, b.Last)
		}
		synctest.Wait()
		if len(s.stored) != 2 || s.stored[1].Records[0].Kind != drainmark.Marker {
			t.Errorf("stored are %+v", s.stored)
		}
	})
}

func TestStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScripted()
		b := &Backend{broker: s, limits: Limits{}.withDefaults(), logger: quiet(), metrics: newMetrics(nil), now: time.Now}
		b.budget.limit = b.limits.WaitingBytes
		p := newPublisher(0, drainmark.NewProducerID(), b)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); p.loop(ctx) }()
		flying := putting(p, time.Minute, 1)
		<-s.attempts
		waiting := putting(p, time.Minute, 1)
		flush, stop := context.WithTimeout(ctx, time.Second)
		p.flush(flush)
		stop()
		refused := putting(p, time.Minute, 1)
		cancel()
		<-ended
		expect(t, "in flight", flying, "1..1 outcome-unknown")
		expect(t, "waiting", waiting, "0..0 unavailable")
		expect(t, "after the stop", refused, "0..0 unavailable")
	})
}

// A request that is too large to wait takes no room from those that fit, not even while it is being refused.
func TestWhatIsRefusedTakesNoRoom(t *testing.T) {
	t.Parallel()
	b := budget{limit: 1000}
	b.take(200)
	var running sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if b.take(900) {
					t.Error("more waits than may")
					return
				}
			}
		})
	}
	for i := range 1_000_000 {
		if !b.take(100) {
			t.Errorf("what fits was refused at the attempt %d", i)
			break
		}
		b.give(100)
	}
	close(stop)
	running.Wait()
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/test/testbed"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// traced is what makes spans, and keeps them.
type traced struct {
	*tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
}

func newTraced() *traced {
	recorder := tracetest.NewSpanRecorder()
	return &traced{recorder, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))}
}

func (t *traced) tracer() *tracing.Tracer { return tracing.New(t.provider, "memory", "memory") }

// request returns a context of a request that is sampled.
func (t *traced) request(ctx context.Context) context.Context {
	ctx, _ = t.provider.Tracer("test").Start(ctx, "request")
	return ctx
}

// names returns what has ended, sorted.
func (t *traced) names() (names []string) {
	for _, span := range t.Ended() {
		names = append(names, span.Name())
	}
	slices.Sort(names)
	return names
}

func TestABatchOfManyRequestsIsInTheTraceOfEach(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		spans := newTraced()
		var followed []shown
		p.tracer, p.follow = spans.tracer(), func(s shown) { followed = append(followed, s) }
		first := putting(p, time.Minute, 1) // while it is in flight, the others gather
		<-s.attempts
		var puts []chan error
		for range 3 {
			done := make(chan error, 1)
			puts = append(puts, done)
			go func() { _, err := p.put(spans.request(t.Context()), appends(2)); done <- err }()
		}
		synctest.Wait()
		s.answers <- nil
		<-first
		s.answer(errors.New("no answer"))
		s.answer(nil)
		for _, done := range puts {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		ended := spans.Ended()
		if names := spans.names(); !slices.Equal(names, []string{"send drainmark.p0", "send drainmark.p0", "send drainmark.p0"}) {
			t.Fatalf("spans %q", names)
		}
		if len(ended[0].Links()) != 3 || ended[0].Status().Code != codes.Unset || len(ended[0].Events()) != 1 {
			t.Errorf("%d links, status %v, %d events", len(ended[0].Links()), ended[0].Status(), len(ended[0].Events()))
		}
		if len(followed) != 3 || followed[2].span.First != 6 || followed[2].span.Last != 7 {
			t.Errorf("followed %+v", followed)
		}
	})
}

func TestABatchThatIsTakenApartIsAnErrorInItsTrace(t *testing.T) {
	t.Parallel()
	publishing(t, Limits{}, func(t *testing.T, p *publisher, s *scripted) {
		spans := newTraced()
		p.tracer = spans.tracer()
		ctx, cancel := context.WithCancel(spans.request(t.Context()))
		done := make(chan error, 1)
		go func() { _, err := p.put(ctx, appends(1)); done <- err }()
		s.answer(fmt.Errorf("no room: %w", errNotRaised))
		synctest.Wait()
		cancel()
		<-done
		if ended := spans.Ended(); len(ended) != 1 || ended[0].Status().Code != codes.Error {
			t.Errorf("spans %q", spans.names())
		}
	})
}

func TestWhatAReaderShowsIsToldInTheTrace(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		spans := newTraced()
		s.publishers[0].tracer, s.tracker.tracer = spans.tracer(), spans.tracer()
		if _, err := s.Append(spans.request(s.Context()), "log", testbed.Appends("log", "a", "b")); err != nil {
			t.Fatal(err)
		}
		s.Wait(time.Second)
		if names := spans.names(); !slices.Equal(names, []string{"send drainmark.p0"}) {
			t.Errorf("before anything is persisted there are %q", names)
		}
		s.drain()
		s.Wait(time.Second)
		if names := spans.names(); !slices.Equal(names, []string{"send drainmark.p0", "show drainmark.p0"}) {
			t.Fatalf("spans %q", names)
		}
		of := spans.Ended()[1]
		if of.SpanContext().TraceID() != spans.Ended()[0].SpanContext().TraceID() || of.EndTime().Sub(of.StartTime()) < time.Second {
			t.Errorf("it lasted from %v to %v", of.StartTime(), of.EndTime())
		}
		if left := len(s.tracker.partitions[0].followed); left != 0 {
			t.Errorf("%d are still followed", left)
		}
	})
}

func TestOnlySoManyRequestsAreFollowed(t *testing.T) {
	t.Parallel()
	spans := newTraced()
	p := &tracked{tracker: &tracker{tracer: spans.tracer()}, waiters: map[drainmark.ProducerID]*waiterHeap{}}
	producer := drainmark.NewProducerID()
	mark := func(n int) drainmark.Span {
		return drainmark.Span{Producer: producer, First: uint64(n), Last: uint64(n)}
	}
	for n := range mostFollowed + 10 {
		origin := spans.tracer().OriginOf(spans.request(t.Context()))
		p.follow(shown{mark(n + 1), origin, time.Now()})
	}
	if len(p.followed) != mostFollowed || p.waiters[producer].Len() != mostFollowed || p.followed[0].span != mark(11) {
		t.Errorf("%d are followed, from %v on, and %d wait", len(p.followed), p.followed[0].span, p.waiters[producer].Len())
	}
	if trace.SpanFromContext(t.Context()).IsRecording() {
		t.Error("the test is traced")
	}
}

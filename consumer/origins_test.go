package consumer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/store"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// The traceparents of two requests that are sampled, and of one that is not.
const (
	traceOne  = "00-11111111111111111111111111111111-aaaaaaaaaaaaaaaa-01"
	traceTwo  = "00-22222222222222222222222222222222-bbbbbbbbbbbbbbbb-01"
	traceNone = "00-33333333333333333333333333333333-cccccccccccccccc-00"
)

// from gives a record a traceparent.
func from(t *testing.T, parent string, r drainmark.Record) drainmark.Record {
	headers, err := drainmark.TraceHeaders(parent)
	if err != nil {
		t.Fatal(err)
	}
	r.Headers = headers
	return r
}

// shortOfStore is a store whose first commit is not answered.
type shortOfStore struct {
	store.Store
	failed bool
}

func (s *shortOfStore) Write(ctx context.Context, w store.Write) error {
	if !s.failed {
		s.failed = true
		return errors.New("no answer")
	}
	return s.Store.Write(ctx, w)
}

func TestACommitIsInTheTracesOfItsRecords(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		recorder := tracetest.NewSpanRecorder()
		r.tracer = tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), "memory", "memory")
		r.wrapStore = func(s store.Store) store.Store { return &shortOfStore{Store: s} }
		one := from(t, traceOne, message("a"))
		r.publish(1, one, one, message("b"), from(t, traceNone, message("c")), from(t, traceTwo, message("d")))
		r.publish(6, message("e"))
		r.begin()
		r.Wait(10 * time.Second)
		var names []string
		for _, span := range recorder.Ended() {
			names = append(names, span.SpanContext().TraceID().String()[:1]+" "+span.Name())
			if span.Status().Code != codes.Unset {
				t.Errorf("%s ended with %v", span.Name(), span.Status())
			}
		}
		want := []string{"1 commit", "1 ack drainmark.p0", "1 process drainmark.p0", "2 process drainmark.p0"}
		if !slices.Equal(names, want) {
			t.Fatalf("spans %q, not %q", names, want)
		}
		commit, process := recorder.Ended()[0], recorder.Ended()[2]
		if len(commit.Events()) != 1 {
			t.Errorf("the commit has the events %v", commit.Events())
		}
		if len(process.Links()) != 2 || process.Parent().SpanID().String() != "aaaaaaaaaaaaaaaa" || !process.Parent().IsRemote() {
			t.Errorf("it is beneath %v, and linked to %v", process.Parent().SpanID(), process.Links())
		}
	})
}

func TestRecordsThatComeAgainAreNotTracedAgain(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		recorder := tracetest.NewSpanRecorder()
		r.tracer = tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), "memory", "memory")
		r.publish(1, from(t, traceOne, message("a")))
		r.begin()
		r.Wait(10 * time.Second)
		before := len(recorder.Ended())
		r.publish(1, from(t, traceOne, message("a")))
		r.Wait(10 * time.Second)
		if after := len(recorder.Ended()); before != 3 || after != before {
			t.Errorf("%d spans, then %d", before, after)
		}
	})
}

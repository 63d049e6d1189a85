package frontend

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/drainmark/drainmark/internal/tracing"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func TestEachAttemptAtABackendIsInTheTrace(t *testing.T) {
	t.Parallel()
	var parent atomic.Value
	fine := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		parent.Store(r.Header.Get("Traceparent"))
		w.WriteHeader(http.StatusAccepted)
	})
	recorder := tracetest.NewSpanRecorder()
	tracer := tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), "", "")
	s := startSite(t, Config{Tracer: tracer}, "http://127.0.0.1:1", fine.URL) // nobody is at the first
	for range 2 {                                                             // they take turns
		if a := do(t, "POST", s.URL+messages, "hello"); a.StatusCode != http.StatusAccepted {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	await(t, "the spans of both have ended", func() bool { return len(recorder.Ended()) == 5 })
	var kinds []trace.SpanKind
	var last sdktrace.ReadOnlySpan
	for _, span := range recorder.Ended() {
		kinds = append(kinds, span.SpanKind())
		if span.SpanKind() == trace.SpanKindClient && span.Status().Code == 0 {
			last = span
		}
	}
	slices.Sort(kinds)
	if want := []trace.SpanKind{trace.SpanKindServer, trace.SpanKindServer, trace.SpanKindClient, trace.SpanKindClient, trace.SpanKindClient}; !slices.Equal(kinds, want) {
		t.Errorf("spans %v", kinds)
	}
	if at := last.SpanContext(); parent.Load() != "00-"+at.TraceID().String()+"-"+at.SpanID().String()+"-01" {
		t.Errorf("the backend got %v", parent.Load())
	}
}

func TestABackendIsToldThatARequestIsNotSampled(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	backend := startBackend(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sdktrace.NeverSample()))
	s := startSite(t, Config{Tracer: tracing.New(provider, "", "")}, backend.URL)
	do(t, "POST", s.URL+messages, "hello")
	header := <-got
	if parent := header.Get("Traceparent"); len(parent) != 55 || parent[53:] != "00" || header.Get("Tracestate") != tracing.NotKept || len(recorder.Ended()) > 0 {
		t.Errorf("it got %q, %q", parent, header.Get("Tracestate"))
	}
}

package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/tracing"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	sampledParent   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampledParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

// tracerOf returns a Tracer that samples so much of what has no parent, and what it makes.
func tracerOf(ratio float64) (*tracing.Tracer, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	sampler := sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
	return tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sampler)), "", ""), recorder
}

// traced is an API whose service takes appends, and what came of the last request.
type traced struct {
	http.Handler
	recorder *tracetest.SpanRecorder
	audit    bytes.Buffer
	parent   string     // of the record
	context  trace.Span // of the service's context
	fails    error      // what the service answers
}

func newTraced(t *testing.T, ratio float64) *traced {
	t.Helper()
	var tracer *tracing.Tracer
	a := &traced{}
	tracer, a.recorder = tracerOf(ratio)
	take := func(ctx context.Context, r drainmark.Record) (drainmark.Receipt, error) {
		a.parent, _ = r.Headers.Get(drainmark.TraceParent)
		a.context = trace.SpanFromContext(ctx)
		return receiptOne, a.fails
	}
	service := &fake{
		append: func(ctx context.Context, _ string, records []drainmark.Record) (drainmark.Receipt, error) {
			return take(ctx, records[0])
		},
		publish: take,
	}
	var err error
	a.Handler, err = New(Config{Service: service, Tracer: tracer, Logger: slog.New(slog.DiscardHandler), Audit: slog.New(slog.NewTextHandler(&a.audit, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *traced) ask(t *testing.T, method, parent, state string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, messagesPath, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Traceparent": parent, "Tracestate": state} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	w := sink{header: http.Header{}}
	a.ServeHTTP(&w, r)
}

func TestARecordComesFromTheSpanOfItsRequest(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct {
		ratio         float64
		parent, state string
		traced        bool
		keeps         string // of the request's own context
	}{
		"a sampled one":                         {0, sampledParent, "", true, ""},
		"one that begins a trace":               {1, "", "", true, ""},
		"one that is not sampled":               {1, unsampledParent, "", false, unsampledParent},
		"one that is not, and says nothing":     {0, "", "", false, ""},
		"one that a frontend has decided about": {1, unsampledParent, tracing.NotKept, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newTraced(t, of.ratio)
			a.ask(t, "POST", of.parent, of.state)
			ended := a.recorder.Ended()
			if !of.traced {
				if len(ended) > 0 || a.parent != of.keeps || a.context.SpanContext().IsValid() {
					t.Errorf("%d spans; the record has %q, and its context %v", len(ended), a.parent, a.context.SpanContext().TraceID())
				}
				return
			}
			if len(ended) != 1 || ended[0].Name() != "POST /v1/logs/{log}/messages" || a.context.SpanContext().SpanID() != ended[0].SpanContext().SpanID() {
				t.Fatalf("%d spans; the service's context is of %v", len(ended), a.context)
			}
			if at := ended[0].SpanContext(); a.parent != "00-"+at.TraceID().String()+"-"+at.SpanID().String()+"-01" {
				t.Errorf("the record has %q", a.parent)
			}
		})
	}
}

func TestARequestThatFailsIsAnErrorInItsTrace(t *testing.T) {
	t.Parallel()
	a := newTraced(t, 1)
	a.fails = errors.New("broken")
	a.ask(t, "POST", "", "")
	if ended := a.recorder.Ended(); len(ended) != 1 || ended[0].Status().Code != codes.Error {
		t.Errorf("spans %v", ended)
	}
}

func TestTheAuditLogNamesTheTrace(t *testing.T) {
	t.Parallel()
	a := newTraced(t, 0)
	a.ask(t, "DELETE", "", "")
	if strings.Contains(a.audit.String(), "trace") {
		t.Errorf("of a request that is not sampled: %s", a.audit.String())
	}
	a.ask(t, "DELETE", sampledParent, "")
	if !strings.Contains(a.audit.String(), "trace_id=4bf92f3577b34da6a3ce929d0e0e4736") {
		t.Errorf("of one that is: %s", a.audit.String())
	}
}

// BenchmarkAppendTraced is BenchmarkAppend of one message, with a tracer that samples so much of them.
func BenchmarkAppendTraced(b *testing.B) {
	none := func() *tracing.Tracer { return nil }
	of := func(ratio float64) func() *tracing.Tracer {
		sampler := sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
		provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(tracetest.NewNoopExporter()))
		b.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
		return func() *tracing.Tracer { return tracing.New(provider, "", "") }
	}
	for _, test := range []struct {
		name   string
		tracer func() *tracing.Tracer
	}{{"off", none}, {"0%", of(0)}, {"1%", of(0.01)}, {"100%", of(1)}} {
		b.Run(test.name, func(b *testing.B) {
			h, err := New(Config{Service: accepts(func(string, []drainmark.Record) {}), Tracer: test.tracer()})
			if err != nil {
				b.Fatal(err)
			}
			body := []byte(strings.Repeat("x", 200))
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), "POST", messagesPath, bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				w := sink{header: http.Header{}}
				if h.ServeHTTP(&w, r); w.status != 202 {
					b.Fatal("status", w.status)
				}
			}
		})
	}
}

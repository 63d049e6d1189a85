package tracing

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	sampledParent   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampledParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

// recording returns a Tracer, and what it has made.
func recording(sampler sdktrace.Sampler) (*Tracer, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sdktrace.ParentBased(sampler)))
	return New(provider, "nats", "sqlite"), recorder
}

func request(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/logs/guestbook/messages?token=secret", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestNothingIsMadeWithoutATracer(t *testing.T) {
	t.Parallel()
	var none *Tracer
	r := request("traceparent", sampledParent)
	for _, begin := range []func() (*http.Request, *Span){
		func() (*http.Request, *Span) { return none.Request(r, "POST", "/") },
		func() (*http.Request, *Span) { return none.Forward(r) },
		func() (*http.Request, *Span) { return none.Attempt(r, 0) },
	} {
		same, span := begin()
		if same != r || span != nil || r.Header.Get("traceparent") != sampledParent {
			t.Errorf("the request is another one: %v, %v", same, span)
		}
		span.Answered(200)
	}
	origins := Origins{}
	origins.Add(none.Parse(sampledParent, ""))
	for _, span := range []*Span{none.Send(origins, 0, 1), none.Process(origins, 0, 1, time.Now()), none.Commit(t.Context(), 1), none.Settle(t.Context(), 0)} {
		span.Failed("kind", errors.New("text"))
		span.Done()
		span.End()
		if span != nil || span.TraceID() != "" || span.Into(t.Context()) != t.Context() {
			t.Error("there is a span")
		}
	}
	none.Shown(Origin{}, 0, "id", time.Now(), false)
}

// Not parallel: it counts allocations.
func TestNothingIsAllocatedWithoutATracer(t *testing.T) {
	var none *Tracer
	r := request()
	allocations := testing.AllocsPerRun(100, func() {
		_, span := none.Request(r, "POST /", "/")
		span.Answered(200)
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestARequestThatIsNotSampledStaysAsItIs(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording(sdktrace.NeverSample())
	for _, parent := range []string{"", unsampledParent, "nonsense"} {
		r := request("traceparent", parent)
		same, span := tracer.Request(r, "POST", "/")
		if same != r || span != nil || r.Header.Get("traceparent") != parent || !tracer.OriginOf(r.Context()).IsZero() {
			t.Errorf("%q: %q, span %v", parent, r.Header.Get("traceparent"), span)
		}
	}
	if ended := recorder.Ended(); len(ended) != 0 {
		t.Errorf("%d spans", len(ended))
	}
}

func TestASampledRequestSaysWhereItComesFromNow(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording(sdktrace.NeverSample())
	r, span := tracer.Request(request("traceparent", sampledParent, "tracestate", "a=1"), "POST /x", "/x")
	parent := r.Header.Get("traceparent")
	span.Answered(503)
	of := recorder.Ended()[0]
	want := "00-4bf92f3577b34da6a3ce929d0e0e4736-" + of.SpanContext().SpanID().String() + "-01"
	if parent != want || r.Header.Get("tracestate") != "a=1" {
		t.Errorf("traceparent %q, not %q; tracestate %q", parent, want, r.Header.Get("tracestate"))
	}
	if of.Parent().SpanID().String() != "00f067aa0ba902b7" || of.SpanKind() != trace.SpanKindServer || of.Status().Code != codes.Error {
		t.Errorf("parent %v, kind %v, status %v", of.Parent().SpanID(), of.SpanKind(), of.Status())
	}
	expect(t, of, "http.request.method=POST", "http.route=/x", "url.path=/v1/logs/guestbook/messages", "url.scheme=http",
		"network.protocol.version=1", "http.response.status_code=503", "error.type=503")
}

// expect checks the attributes of a span, all of them.
func expect(t *testing.T, span sdktrace.ReadOnlySpan, want ...string) {
	t.Helper()
	var got []string
	for _, a := range span.Attributes() {
		got = append(got, string(a.Key)+"="+a.Value.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: attributes\n%s, not\n%s", span.Name(), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAForwardedRequestThatIsNotSampledSaysSo(t *testing.T) {
	t.Parallel()
	tracer, _ := recording(sdktrace.NeverSample())
	r, span := tracer.Forward(request())
	parent := r.Header.Get("traceparent")
	if span != nil || len(parent) != len(unsampledParent) || !strings.HasSuffix(parent, "-00") || r.Header.Get("tracestate") != NotKept {
		t.Errorf("traceparent %q, tracestate %q", parent, r.Header.Get("tracestate"))
	}
	always, recorder := recording(sdktrace.AlwaysSample())
	if _, span := always.Request(r, "POST", "/"); span != nil || len(recorder.Started()) > 0 {
		t.Error("the next process decides again")
	}
	r, _ = tracer.Forward(request("traceparent", unsampledParent))
	if r.Header.Get("traceparent") != unsampledParent || r.Header.Get("tracestate") != "" {
		t.Errorf("a client's own context became %q, %q", r.Header.Get("traceparent"), r.Header.Get("tracestate"))
	}
}

func TestAnAttemptHasASpanOfItsOwnAndLeavesTheRequestAlone(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording(sdktrace.AlwaysSample())
	r, serving := tracer.Forward(request())
	r.URL.Scheme, r.URL.Host = "http", "backend:8080"
	before := r.Header.Get("traceparent")
	sent, attempt := tracer.Attempt(r, 1)
	attempt.Got(404)
	serving.Answered(404)
	ended := recorder.Ended()
	if r.Header.Get("traceparent") != before || !strings.Contains(sent.Header.Get("traceparent"), ended[0].SpanContext().SpanID().String()) {
		t.Errorf("the request has %q, what is sent %q", r.Header.Get("traceparent"), sent.Header.Get("traceparent"))
	}
	if ended[0].Status().Code != codes.Error || ended[1].Status().Code != codes.Unset || ended[0].Parent().SpanID() != ended[1].SpanContext().SpanID() {
		t.Errorf("statuses %v, %v", ended[0].Status(), ended[1].Status())
	}
	expect(t, ended[0], "http.request.method=POST", "url.full=http://backend:8080/v1/logs/guestbook/messages", "server.address=backend",
		"server.port=8080", "http.request.resend_count=1", "http.response.status_code=404", "error.type=404")
}

func TestAStepOfManyTracesIsInEach(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording(sdktrace.AlwaysSample())
	var of Origins
	var ids []trace.TraceID
	for range MaxOrigins + 10 {
		_, span := tracer.spans.Start(context.Background(), "request")
		origin := tracer.OriginOf(trace.ContextWithSpan(context.Background(), span))
		of.Add(origin)
		of.Add(origin)
		ids = append(ids, span.SpanContext().TraceID())
	}
	of.Add(tracer.Parse(unsampledParent, ""))
	sending := tracer.Send(of, 3, 1000)
	sending.Failed("publish", errors.New("no answer"))
	sending.Done()
	sending.End()
	ended := recorder.Ended()
	if len(ended) != MaxOrigins || len(ended[0].Links()) != MaxOrigins {
		t.Fatalf("%d spans, the first with %d links", len(ended), len(ended[0].Links()))
	}
	for i, span := range ended {
		if span.SpanContext().TraceID() != ids[i] || span.Name() != "send drainmark.p3" || span.Status().Code != codes.Unset || len(span.Events()) != 1 {
			t.Errorf("span %d: %s of %v, status %v", i, span.Name(), span.SpanContext().TraceID(), span.Status())
		}
		if i > 0 && (len(span.Links()) != 1 || span.Links()[0].SpanContext.SpanID() != ended[0].SpanContext().SpanID()) {
			t.Errorf("companion %d is linked to %v", i, span.Links())
		}
	}
	expect(t, ended[0], "messaging.system=nats", "messaging.operation.name=send", "messaging.operation.type=send",
		"messaging.destination.name=drainmark.p3", "messaging.destination.partition.id=3", "messaging.batch.message_count=1000",
		"drainmark.traces=64", "error.type=publish")
}

func TestAStepThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	tracer, recorder := recording(sdktrace.NeverSample())
	var of Origins
	of.Add(tracer.Parse(sampledParent, ""))
	processing := tracer.Process(of, 0, 1, time.Now().Add(-time.Minute))
	commit := tracer.Commit(processing.Into(t.Context()), 7)
	commit.Failed("commit", errors.New(strings.Repeat("x", 1000)))
	commit.End()
	processing.End()
	ended := recorder.Ended()
	if status := ended[0].Status(); status.Code != codes.Error || len(status.Description) > maxText+20 {
		t.Errorf("status %v of %d characters", status.Code, len(status.Description))
	}
	if ended[0].Parent().SpanID() != ended[1].SpanContext().SpanID() || ended[1].Status().Code != codes.Unset || time.Since(ended[1].StartTime()) < time.Minute {
		t.Errorf("the commit is within %v, which began at %v", ended[0].Parent().SpanID(), ended[1].StartTime())
	}
	expect(t, ended[0], "db.system.name=sqlite", "db.operation.name=commit", "db.operation.batch.size=7", "error.type=commit")
}

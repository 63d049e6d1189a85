package tracing

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// NotKept is the tracestate of a context that a frontend has made up for a request that is not sampled, so that nobody
// behind it decides again. It tells nobody anything, so messages do not keep it.
const NotKept = "drainmark=unsampled"

var (
	serving = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	calling = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}
)

// Request begins the span of a request that is to be answered, within the trace that its headers name. It returns the
// request with that span as its context, in its headers too, so that what it says of where it comes from is true of
// whatever is done for it. A request that is not sampled stays as it is.
//
// name is that of the span, and route what the path is one of, or empty where only others know that.
func (t *Tracer) Request(r *http.Request, name, route string) (*http.Request, *Span) {
	if t == nil {
		return r, nil
	}
	ctx, span := t.begin(r, name)
	if !span.IsRecording() {
		return r, nil
	}
	return t.begun(ctx, r, span, route)
}

// begin begins the span of a request within the trace that its headers name, if they name one.
func (t *Tracer) begin(r *http.Request, name string) (context.Context, trace.Span) {
	ctx := r.Context()
	if len(r.Header["Traceparent"]) == 1 {
		ctx = w3c.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	return t.spans.Start(ctx, name, serving...)
}

// begun says in a span what request it is of, and in the request that it is of that span.
func (t *Tracer) begun(ctx context.Context, r *http.Request, span trace.Span, route string) (*http.Request, *Span) {
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(knownMethod(r.Method)), semconv.URLPath(cut(r.URL.Path)),
		semconv.URLScheme(scheme(r)), semconv.NetworkProtocolVersion(strconv.Itoa(r.ProtoMajor)))
	if route != "" {
		span.SetAttributes(semconv.HTTPRoute(route))
	}
	w3c.Inject(ctx, propagation.HeaderCarrier(r.Header))
	return r.WithContext(ctx), &Span{spans: []trace.Span{span}}
}

// Forward is Request for what only passes requests on, and knows no routes. A request that is not sampled, and says
// nothing of where it comes from, says so then.
func (t *Tracer) Forward(r *http.Request) (*http.Request, *Span) {
	if t == nil {
		return r, nil
	}
	ctx, span := t.begin(r, knownMethod(r.Method))
	if span.IsRecording() {
		return t.begun(ctx, r, span, "")
	}
	if len(r.Header["Traceparent"]) == 0 {
		w3c.Inject(ctx, propagation.HeaderCarrier(r.Header))
		r.Header.Set("Tracestate", NotKept)
	}
	return r, nil
}

// Answered notes the status that a request was answered with, 0 for none, and ends its span.
func (s *Span) Answered(status int) { s.ended(status, http.StatusInternalServerError) }

// Got notes the status of the answer that a server gave, and ends the attempt's span.
func (s *Span) Got(status int) { s.ended(status, http.StatusBadRequest) }

// ended ends a span with a status, which from wrong on is an error.
func (s *Span) ended(status, wrong int) {
	if s == nil {
		return
	}
	span := s.spans[0]
	if status > 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	if status >= wrong {
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// Attempt begins the span of an attempt to have a server answer a request, the n-th from 0. The request that it returns
// says so.
func (t *Tracer) Attempt(r *http.Request, n int) (*http.Request, *Span) {
	if !t.isIn(r.Context()) {
		return r, nil
	}
	ctx, span := t.spans.Start(r.Context(), knownMethod(r.Method), calling...)
	to := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path} // no query, and nobody's password
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(knownMethod(r.Method)), semconv.URLFull(cut(to.String())),
		semconv.ServerAddress(r.URL.Hostname()))
	if port, err := strconv.Atoi(r.URL.Port()); err == nil {
		span.SetAttributes(semconv.ServerPort(port))
	}
	if n > 0 {
		span.SetAttributes(semconv.HTTPRequestResendCount(n))
	}
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone() // the attempt before may still be read
	w3c.Inject(ctx, propagation.HeaderCarrier(r.Header))
	return r, &Span{spans: []trace.Span{span}}
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// knownMethod returns a method as the semantic conventions have it: clients can make up any number of others.
func knownMethod(method string) string {
	if slices.Contains(methods, method) {
		return method
	}
	return "_OTHER"
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// Package tracing makes the spans of a write's way: the request (http.go), its batch on the way to the broker and what
// a consumer does with that (batch.go), and when a reader shows it. It follows OpenTelemetry's semantic conventions, and
// knows its API alone: where spans go, and which of them are sampled, is settled in package app.
//
// Everything here may be called on nil, which makes no spans: that is how tracing is off. Nothing is made of what is not
// sampled. No span has a body, an idempotency key or a query in it.
package tracing

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the name under which all spans are made.
const Scope = "github.com/drainmark/drainmark"

// w3c reads and writes the headers of the W3C trace context. Baggage is nobody's business here.
var w3c propagation.TraceContext

// Tracer makes the spans of one process. It may be used concurrently.
type Tracer struct {
	spans  trace.Tracer
	broker attribute.KeyValue
	store  attribute.KeyValue
}

// New returns a Tracer that makes its spans with a provider. broker and store are what the semantic conventions call the
// technologies, such as nats and postgresql, or empty where there is none.
func New(provider trace.TracerProvider, broker, store string) *Tracer {
	return &Tracer{
		spans:  provider.Tracer(Scope, trace.WithSchemaURL(semconv.SchemaURL)),
		broker: semconv.MessagingSystemKey.String(broker), store: semconv.DBSystemNameKey.String(store),
	}
}

// Origin is the sampled span that a record comes from, perhaps of another process. The zero Origin is that of a record
// that is not traced.
type Origin struct{ span trace.Span }

// IsZero says whether there is none.
func (o Origin) IsZero() bool { return o.span == nil }

// OriginOf returns the span that a context is of, if it is sampled.
func (t *Tracer) OriginOf(ctx context.Context) Origin {
	if t == nil {
		return Origin{}
	}
	if span := trace.SpanFromContext(ctx); span.SpanContext().IsSampled() {
		return Origin{span}
	}
	return Origin{}
}

// Parse returns the span that the values of a record's traceparent and tracestate name, if it is sampled.
func (t *Tracer) Parse(parent, state string) Origin {
	if t == nil || parent == "" {
		return Origin{}
	}
	from := propagation.MapCarrier{"traceparent": parent, "tracestate": state}
	return t.OriginOf(w3c.Extract(context.Background(), from))
}

// Span is one that has been begun. nil is one that is not made. It is used by one goroutine at a time.
type Span struct {
	spans []trace.Span // the first has children. The others are its companions: see Tracer.join
	fails string       // why it fails, as things stand
}

// Into returns a context in which further spans are children of this one.
func (s *Span) Into(ctx context.Context) context.Context {
	if s == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, s.spans[0])
}

// TraceID returns the id of the trace, and "" of a span that is not made.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.spans[0].SpanContext().TraceID().String()
}

// Failed notes that something failed, and may be tried again. kind is one of few. The error's text is in the span, so it
// must be one that quotes no record. It may be nil.
func (s *Span) Failed(kind string, err error) {
	if s == nil {
		return
	}
	s.fails = kind
	if err != nil {
		s.fails += ": " + cut(err.Error())
	}
	for _, span := range s.spans {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.AddEvent("failed", trace.WithAttributes(attribute.String("error.message", s.fails)))
	}
}

// Done notes that it succeeded, whatever had failed before.
func (s *Span) Done() {
	if s != nil {
		s.fails = ""
	}
}

// End ends the span: as one that failed, if nothing was Done since.
func (s *Span) End() {
	if s == nil {
		return
	}
	for _, span := range s.spans {
		if s.fails != "" {
			span.SetStatus(codes.Error, s.fails)
		}
		span.End()
	}
}

// maxText is how many characters a span has of a text that others have written.
const maxText = 256

func cut(text string) string { return text[:min(len(text), maxText)] }

// child begins a child of the span that a context is of.
func (t *Tracer) child(ctx context.Context, kind trace.SpanKind, name string, attributes ...attribute.KeyValue) *Span {
	_, span := t.spans.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return &Span{spans: []trace.Span{span}}
}

// isIn says whether a context is of a span that is recorded.
func (t *Tracer) isIn(ctx context.Context) bool {
	return t != nil && trace.SpanFromContext(ctx).IsRecording()
}

// Commit begins the span of a commit of so many operations, within that of ctx.
func (t *Tracer) Commit(ctx context.Context, operations int) *Span {
	if !t.isIn(ctx) {
		return nil
	}
	return t.child(ctx, trace.SpanKindClient, "commit",
		t.store, semconv.DBOperationNameKey.String("commit"), semconv.DBOperationBatchSizeKey.Int(operations))
}

// Settle begins the span of acknowledging what was received of a partition, within that of ctx.
func (t *Tracer) Settle(ctx context.Context, partition int) *Span {
	if !t.isIn(ctx) {
		return nil
	}
	return t.child(ctx, trace.SpanKindClient, "ack "+destination(partition), t.messaging(partition, "ack", "settle")...)
}

// Shown makes the span of a request's records, which have an id, from when the broker had confirmed them until a reader
// showed them. rejected says that some are known to be set aside.
func (t *Tracer) Shown(of Origin, partition int, id string, confirmed time.Time, rejected bool) {
	if t == nil || of.IsZero() {
		return
	}
	_, span := t.spans.Start(trace.ContextWithSpan(context.Background(), of.span), "show "+destination(partition),
		trace.WithTimestamp(confirmed), trace.WithAttributes(semconv.MessagingMessageID(id),
			semconv.MessagingDestinationPartitionID(strconv.Itoa(partition))))
	if rejected {
		span.SetAttributes(attribute.Bool("drainmark.rejected", true))
	}
	span.End()
}

// destination is what the queue of a partition is called.
func destination(partition int) string { return "drainmark.p" + strconv.Itoa(partition) }

// messaging returns the attributes of an operation on a partition's queue.
func (t *Tracer) messaging(partition int, name, kind string) []attribute.KeyValue {
	return []attribute.KeyValue{
		t.broker, semconv.MessagingOperationName(name), semconv.MessagingOperationTypeKey.String(kind),
		semconv.MessagingDestinationName(destination(partition)),
		semconv.MessagingDestinationPartitionID(strconv.Itoa(partition)),
	}
}

package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// MaxOrigins is for how many traces a batch has spans. It joins those that come first.
const MaxOrigins = 64

// Origins are those of a batch's records, each once.
type Origins struct{ list []Origin }

// IsFull says whether no more are taken.
func (o *Origins) IsFull() bool { return len(o.list) >= MaxOrigins }

// Add adds one, unless it is zero, or there already.
func (o *Origins) Add(origin Origin) {
	if origin.IsZero() || o.IsFull() {
		return
	}
	of := origin.span.SpanContext()
	for i := len(o.list) - 1; i >= 0; i-- { // mostly it is that of the record before
		if other := o.list[i].span.SpanContext(); other.SpanID() == of.SpanID() && other.TraceID() == of.TraceID() {
			return
		}
	}
	o.list = append(o.list, origin)
}

// Send begins the span of publishing a batch of so many records to a partition.
func (t *Tracer) Send(of Origins, partition, records int) *Span {
	return t.join(of, trace.SpanKindClient, "send", "send", partition, records, time.Now())
}

// Process begins the span of what a consumer does with so many records that it has received of a partition.
func (t *Tracer) Process(of Origins, partition, records int, received time.Time) *Span {
	return t.join(of, trace.SpanKindConsumer, "process", "process", partition, records, received)
}

// join begins the span of something that is done at once for records of several traces. It is in the first one's trace,
// and linked to where each of them comes from. The other traces have a companion each, of the same time, which is linked
// to it: so every trace shows this step, and leads to what is beneath it.
func (t *Tracer) join(of Origins, kind trace.SpanKind, name, type_ string, partition, records int, since time.Time) *Span {
	if t == nil || len(of.list) == 0 {
		return nil
	}
	title := name + " " + destination(partition)
	about := trace.WithAttributes(append(t.messaging(partition, name, type_), semconv.MessagingBatchMessageCount(records),
		attribute.Int("drainmark.traces", len(of.list)))...)
	var links []trace.Link
	s := &Span{}
	for _, origin := range of.list {
		links = append(links, trace.Link{SpanContext: origin.span.SpanContext()})
	}
	for _, origin := range of.list {
		_, span := t.spans.Start(trace.ContextWithSpan(context.Background(), origin.span), title,
			trace.WithSpanKind(kind), trace.WithTimestamp(since), trace.WithLinks(links...), about)
		s.spans = append(s.spans, span)
		links = []trace.Link{{SpanContext: s.spans[0].SpanContext()}}
	}
	return s
}

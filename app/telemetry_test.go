package app

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/prometheus/client_golang/prometheus"
)

// said is a log that the SDK may write to while it is read.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// begin begins telemetry with these variables, and returns what it logged.
func begin(t *testing.T, variables ...string) (*telemetry, *said, error) {
	t.Helper()
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED",
		"OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"} {
		t.Setenv(name, "")
	}
	for i := 0; i < len(variables); i += 2 {
		t.Setenv(variables[i], variables[i+1])
	}
	var log said
	exported, err := newTelemetry(t.Context(), "up", prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil)))
	return exported, &log, err
}

// The tests of this file are not parallel: they set variables.

func TestTelemetryIsOffUnlessSomethingIsConfigured(t *testing.T) {
	for _, variables := range [][]string{
		nil,
		{"OTEL_TRACES_SAMPLER", "always_on"},
		{"OTEL_TRACES_EXPORTER", "none", "OTEL_METRICS_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"},
		{"OTEL_METRICS_EXPORTER", "prometheus"},
		{"OTEL_SDK_DISABLED", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"},
	} {
		exported, log, err := begin(t, variables...)
		if err != nil || exported.traces != nil || exported.metrics != nil || exported.tracer("nats", "") != nil || log.String() != "" {
			t.Errorf("with %q it is %+v, %v; the log says %q", variables, exported, err, log)
		}
		exported.end()
	}
}

func TestTelemetryIsWhatIsConfigured(t *testing.T) {
	for _, of := range []struct {
		variables       []string
		traces, metrics bool
	}{
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"}, true, true},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER", "none"}, true, false},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1"}, true, false},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, true, false},
		{[]string{"OTEL_METRICS_EXPORTER", "otlp"}, false, true},
	} {
		exported, _, err := begin(t, of.variables...)
		if err != nil {
			t.Errorf("with %q it is %v", of.variables, err)
			continue
		}
		if (exported.traces != nil) != of.traces || (exported.metrics != nil) != of.metrics || (exported.tracer("", "") != nil) != of.traces {
			t.Errorf("with %q it is %+v", of.variables, exported)
		}
		exported.end()
	}
}

func TestTelemetryThatIsMisconfiguredEndsTheProcess(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, of := range []struct{ name, value, says string }{
		{"OTEL_TRACES_EXPORTER", "jaeger", "OTEL_TRACES_EXPORTER"},
		{"OTEL_METRICS_EXPORTER", "statsd", "OTEL_METRICS_EXPORTER"},
		{"OTEL_TRACES_SAMPLER", "sometimes", "unsupported sampler"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "protocol"},
		{"OTEL_RESOURCE_ATTRIBUTES", "a", "OTEL_RESOURCE_ATTRIBUTES"},
		{endpoint, "user:secret@host", endpoint},
	} {
		_, log, err := begin(t, endpoint, "http://127.0.0.1:1", of.name, of.value)
		if drainmark.KindOf(err) != drainmark.KindMisconfigured || !strings.Contains(err.Error(), of.says) || strings.Contains(err.Error()+log.String(), "secret") {
			t.Errorf("%s=%s: %v", of.name, of.value, err)
		}
	}
	_, _, err := begin(t, endpoint, "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "7")
	if drainmark.KindOf(err) != drainmark.KindMisconfigured {
		t.Errorf("a ratio of 7: %v", err)
	}
}

func TestTheEndOfTelemetryIsBounded(t *testing.T) {
	silent := listenSilently(t)
	exported, log, err := begin(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+silent)
	if err != nil {
		t.Fatal(err)
	}
	_, span := exported.traces.Tracer("test").Start(context.Background(), "span")
	span.End()
	exported.end()
	if !strings.Contains(log.String(), "context deadline exceeded") {
		t.Errorf("the log says %q", log)
	}
}

// listenSilently returns an address at which everybody is accepted and nobody is answered.
func listenSilently(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

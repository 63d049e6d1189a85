package app

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/redact"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	prometheusbridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// telemetry is OpenTelemetry's SDK in a process: it samples spans and exports them, and exports the metrics. The
// environment says how (OTEL_…). Without any of that it is off. This is the only place that knows the SDK.
type telemetry struct {
	traces  *sdktrace.TracerProvider // nil if none are exported
	metrics *sdkmetric.MeterProvider // nil if none are exported
	logger  *slog.Logger
}

// telemetryEnd is how long the end of a process waits for what is still to be exported.
const telemetryEnd = 3 * time.Second

// newTelemetry begins what the environment asks for. service is the process' name, if the environment has none.
func newTelemetry(ctx context.Context, service string, registry *prometheus.Registry, logger *slog.Logger) (*telemetry, error) {
	t := &telemetry{logger: logger.With("part", "telemetry")}
	traces, metrics := exports("TRACES"), exports("METRICS")
	if !traces && !metrics {
		return t, nil
	}
	if err := checkEndpoints(); err != nil {
		return nil, err
	}
	from, err := describeProcess(ctx, service)
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t.takeErrors()
	if traces {
		if err := t.beginTraces(ctx, from); err != nil {
			return nil, err
		}
	}
	if metrics {
		if err := t.beginMetrics(ctx, from, registry); err != nil {
			return nil, err
		}
	}
	t.logger.Info("telemetry is exported", "traces", traces, "metrics", metrics)
	return t, nil
}

// exports says whether the environment asks for the export of a kind. It is not enough that nothing speaks against it,
// as the specification has it: a program that nobody has configured talks to nobody.
func exports(kind string) bool {
	switch exporter := os.Getenv("OTEL_" + kind + "_EXPORTER"); {
	case strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"), exporter == "none":
		return false
	case kind == "METRICS" && exporter == "prometheus": // the admin address has them
		return false
	case exporter != "":
		return true
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+kind+"_ENDPOINT") != ""
}

// checkEndpoints refuses an endpoint that is no URL: the exporters would take their default in its place.
func checkEndpoints() error {
	for _, kind := range []string{"", "TRACES_", "METRICS_"} {
		name := "OTEL_EXPORTER_OTLP_" + kind + "ENDPOINT"
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return drainmark.Errorf(drainmark.KindMisconfigured, "%s: it must be like http://HOST:4318", name)
		}
	}
	return nil
}

// describeProcess says what the spans and metrics are of. The environment has the last word.
func describeProcess(ctx context.Context, service string) (*resource.Resource, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return resource.New(ctx, resource.WithHost(), resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName("drainmark-"+service), semconv.ServiceVersion(versionName(version, info)),
		semconv.ServiceInstanceID(rand.Text()),
	), resource.WithFromEnv())
}

// takeErrors has the SDK report what fails in our log, as often as anybody can read it. The text can have an endpoint in
// it, with a password.
func (t *telemetry) takeErrors() {
	lines := loglimit.New(t.logger, slog.LevelWarn, "telemetry could not be exported; the service is not affected")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { lines.Log("error", redact.Secrets(err.Error())) }))
	otel.SetLogger(funcr.New(func(_, args string) { lines.Log("error", redact.Secrets(args)) }, funcr.Options{}))
}

func (t *telemetry) beginTraces(ctx context.Context, from *resource.Resource) error {
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return badTelemetry("OTEL_TRACES_EXPORTER", err)
	}
	// The provider takes a default in place of a sampler that it does not understand, and says so to the handler.
	var wrong error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { wrong = errors.Join(wrong, err) }))
	t.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(from), sdktrace.WithBatcher(exporter))
	t.takeErrors()
	if wrong != nil {
		t.end()
		return badTelemetry("OTEL_TRACES_SAMPLER or OTEL_TRACES_SAMPLER_ARG", wrong)
	}
	return nil
}

// beginMetrics exports what the admin address shows, under the same names.
func (t *telemetry) beginMetrics(ctx context.Context, from *resource.Resource, registry *prometheus.Registry) error {
	autoexport.WithFallbackMetricProducer(func(context.Context) (sdkmetric.Producer, error) {
		return prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(registry)), nil
	})
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil {
		t.end()
		return badTelemetry("OTEL_METRICS_EXPORTER", err)
	}
	t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithResource(from), sdkmetric.WithReader(reader))
	return nil
}

func badTelemetry(setting string, err error) error {
	return drainmark.Errorf(drainmark.KindMisconfigured, "%s: %s", setting, redact.Secrets(err.Error()))
}

// tracer returns what makes the process' spans, nil if there are none.
func (t *telemetry) tracer(broker, store string) *tracing.Tracer {
	if t.traces == nil {
		return nil
	}
	return tracing.New(t.traces, broker, store)
}

// end exports what is left, for as long as telemetryEnd.
func (t *telemetry) end() {
	ctx, cancel := context.WithTimeout(context.Background(), telemetryEnd)
	defer cancel()
	if t.traces != nil {
		if err := t.traces.Shutdown(ctx); err != nil {
			t.logger.Warn("the last spans could not be exported", "error", redact.Secrets(err.Error()))
		}
	}
	if t.metrics != nil {
		if err := t.metrics.Shutdown(ctx); err != nil {
			t.logger.Warn("the last metrics could not be exported", "error", redact.Secrets(err.Error()))
		}
	}
}

package tracing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// collector is the receiver of an OpenTelemetry collector, and what it has received.
type collector struct {
	http, grpc string // its endpoints
	stop       func()

	mu      sync.Mutex
	spans   []span
	metrics map[string]map[string]float64 // by service, and by what series says
}

// span is what a test looks at.
type span struct {
	ptrace.Span
	service string
}

func (s span) String() string {
	if s.Kind() == ptrace.SpanKindClient && s.Name() == "POST" { // as that of the request that it is sent for
		return s.service + ": POST to a backend"
	}
	return s.service + ": " + s.Name()
}

// startCollector starts one, which ends with the test at the latest.
func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{http: "http://" + freeAddress(t), grpc: "http://" + freeAddress(t), metrics: map[string]map[string]float64{}}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*otlpreceiver.Config)
	config.Protocols.HTTP.GetOrInsertDefault().ServerConfig.NetAddr.Endpoint = strings.TrimPrefix(c.http, "http://")
	grpc := configgrpc.NewDefaultServerConfig()
	grpc.NetAddr = confignet.AddrConfig{Endpoint: strings.TrimPrefix(c.grpc, "http://"), Transport: confignet.TransportTypeTCP}
	config.Protocols.GRPC = configoptional.Some(grpc)
	settings := receivertest.NewNopSettings(factory.Type())
	traces, err := consumer.NewTraces(c.takeTraces)
	must(t, err)
	metrics, err := consumer.NewMetrics(c.takeMetrics)
	must(t, err)
	first, err := factory.CreateTraces(t.Context(), settings, config, traces)
	must(t, err)
	second, err := factory.CreateMetrics(t.Context(), settings, config, metrics)
	must(t, err)
	for _, part := range []component.Component{first, second} { // they share their servers
		must(t, part.Start(context.Background(), componenttest.NewNopHost()))
	}
	c.stop = sync.OnceFunc(func() { _ = first.Shutdown(context.Background()); _ = second.Shutdown(context.Background()) })
	t.Cleanup(c.stop)
	return c
}

func (c *collector) takeTraces(_ context.Context, received ptrace.Traces) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range received.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, s := range scope.Spans().All() {
				own := ptrace.NewSpan()
				s.CopyTo(own)
				c.spans = append(c.spans, span{own, serviceOf(resource.Resource())})
			}
		}
	}
	return nil
}

func serviceOf(r pcommon.Resource) string {
	name, _ := r.Attributes().Get("service.name")
	return name.AsString()
}

// takeMetrics keeps the newest value of each series: that of a counter or a gauge, and of a histogram the count.
func (c *collector) takeMetrics(_ context.Context, received pmetric.Metrics) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range received.ResourceMetrics().All() {
		service := serviceOf(resource.Resource())
		if c.metrics[service] == nil {
			c.metrics[service] = map[string]float64{}
		}
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				keep(c.metrics[service], m)
			}
		}
	}
	return nil
}

func keep(series map[string]float64, m pmetric.Metric) {
	numbers := pmetric.NewNumberDataPointSlice()
	switch m.Type() {
	case pmetric.MetricTypeSum:
		numbers = m.Sum().DataPoints()
	case pmetric.MetricTypeGauge:
		numbers = m.Gauge().DataPoints()
	case pmetric.MetricTypeHistogram:
		for _, point := range m.Histogram().DataPoints().All() {
			series[seriesName(m.Name()+"_count", point.Attributes())] = float64(point.Count())
		}
	}
	for _, point := range numbers.All() {
		series[seriesName(m.Name(), point.Attributes())] = point.DoubleValue()
	}
}

// seriesName names a series as Prometheus does.
func seriesName(name string, labels pcommon.Map) string {
	var pairs []string
	for label, value := range labels.All() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", label, value.AsString()))
	}
	if len(pairs) == 0 {
		return name
	}
	slices.Sort(pairs)
	return name + "{" + strings.Join(pairs, ",") + "}"
}

// trace returns the spans of a trace that have been received, by name as String has it.
func (c *collector) trace(id string) map[string]span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]span{}
	for _, s := range c.spans {
		if s.TraceID().String() == id {
			found[s.String()] = s
		}
	}
	return found
}

// value returns the newest value of a service's series.
func (c *collector) value(service, series string) (float64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.metrics[service][series]
	return value, ok
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until polls for something that has to come.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}

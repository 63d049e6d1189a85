// Package tracing follows a message's trace through the processes of a deployment, to the receiver of a real collector.
// It is a module of its own, so that nobody who imports Drainmark gets the collector's packages.
package tracing

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/client"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// deployment is a backend, a consumer and a frontend, each a process.
type deployment struct {
	backend, consumer, frontend *process
	client                      *client.Client // of the frontend, in the trace
}

// exporting returns the variables of a process that exports to an endpoint, and soon.
func exporting(endpoint string, more ...string) []string {
	return append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_METRIC_EXPORT_INTERVAL=200"}, more...)
}

// clientOf returns a client whose requests are in the trace.
func clientOf(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{URL: url, Trace: func(_ context.Context, h http.Header) { h.Set("traceparent", parent) }})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// deploy starts one whose processes have these variables. The consumer speaks gRPC with the collector, and the others
// HTTP.
func deploy(t *testing.T, c *collector, environment ...string) *deployment {
	t.Helper()
	nats, store := startNATS(t), "sqlite:"+filepath.Join(t.TempDir(), "store.db")
	http, grpc := exporting(c.http, environment...), append(exporting(c.grpc, environment...), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	d, api, page := &deployment{}, freeAddress(t), freeAddress(t)
	d.consumer = start(t, grpc, "consumer", "--broker", nats, "--store", store)
	d.backend = start(t, http, "backend", "--broker", nats, "--replica", store, "--listen", api, "--shutdown-delay", "0s")
	d.frontend = start(t, http, "frontend", "--backend", "http://"+api, "--listen", page, "--shutdown-delay", "0s")
	d.client = clientOf(t, "http://"+page)
	return d
}

// way is the trace of an append through a frontend: each span, and beneath which one it is.
var way = map[string]string{
	"drainmark-frontend: POST":                        "",
	"drainmark-frontend: POST to a backend":           "drainmark-frontend: POST",
	"drainmark-backend: POST /v1/logs/{log}/messages": "drainmark-frontend: POST to a backend",
	"drainmark-backend: send drainmark.p%d":           "drainmark-backend: POST /v1/logs/{log}/messages",
	"drainmark-consumer: process drainmark.p%d":       "drainmark-backend: POST /v1/logs/{log}/messages",
	"drainmark-consumer: commit":                      "drainmark-consumer: process drainmark.p%d",
	"drainmark-consumer: ack drainmark.p%d":           "drainmark-consumer: process drainmark.p%d",
	"drainmark-backend: show drainmark.p%d":           "drainmark-backend: POST /v1/logs/{log}/messages",
}

func TestAMessageIsFollowedThroughThreeProcesses(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	d := deploy(t, c, "OTEL_TRACES_SAMPLER=parentbased_always_off") // the client has decided
	expectTrace(t, c, d.client, way)
	expectMetrics(t, c, map[string]*process{"drainmark-backend": d.backend, "drainmark-consumer": d.consumer})
}

// wayInOne is the same in one process, without a frontend.
var wayInOne = map[string]string{
	"drainmark-up: POST /v1/logs/{log}/messages": "",
	"drainmark-up: send drainmark.p%d":           "drainmark-up: POST /v1/logs/{log}/messages",
	"drainmark-up: process drainmark.p%d":        "drainmark-up: POST /v1/logs/{log}/messages",
	"drainmark-up: commit":                       "drainmark-up: process drainmark.p%d",
	"drainmark-up: ack drainmark.p%d":            "drainmark-up: process drainmark.p%d",
	"drainmark-up: show drainmark.p%d":           "drainmark-up: POST /v1/logs/{log}/messages",
}

func TestAMessageIsFollowedThroughOneProcess(t *testing.T) {
	t.Parallel()
	c, api := startCollector(t), freeAddress(t)
	p := start(t, exporting(c.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "up", "--data", filepath.Join(t.TempDir(), "data"), "--listen", api)
	expectTrace(t, c, clientOf(t, "http://"+api), wayInOne)
	expectMetrics(t, c, map[string]*process{"drainmark-up": p})
}

// expectTrace appends a message, and checks that the collector gets its trace, which has these spans alone, each beneath
// the one that it should be.
func expectTrace(t *testing.T, c *collector, through *client.Client, way map[string]string) {
	t.Helper()
	said, err := through.Append(t.Context(), "guestbook", client.Message{Body: []byte("hello")}, 30*time.Second)
	must(t, err)
	partition, _, _ := strings.Cut(said.ID, "-")
	named := func(name string) string { return strings.ReplaceAll(name, "%d", partition) }
	until(t, "the whole trace has come", func() bool { return len(c.trace(traceID)) == len(way) })
	got := c.trace(traceID)
	var requested, processed span
	for name, above := range way {
		s, ok := got[named(name)]
		if !ok {
			t.Fatalf("there is no %s: %v", named(name), slices.Sorted(maps.Keys(got)))
		}
		under := s.ParentSpanID().String()
		if above == "" && under != "00f067aa0ba902b7" || above != "" && under != got[named(above)].SpanID().String() {
			t.Errorf("%s is beneath %s, not beneath %s", s, under, named(above))
		}
		switch {
		case strings.HasSuffix(name, "/messages"):
			requested = s
		case strings.Contains(name, ": process "):
			processed = s
		}
	}
	if processed.Links().Len() != 1 || processed.Links().At(0).SpanID() != requested.SpanID() {
		t.Errorf("the consumer's work is linked to %d spans", processed.Links().Len())
	}
	page, err := through.Messages(t.Context(), "guestbook", client.ReadOptions{})
	must(t, err)
	if want := fmt.Sprintf("00-%s-%s-01", traceID, requested.SpanID()); page.Messages[0].Headers["traceparent"] != want {
		t.Errorf("the message has the traceparent %q, not %q", page.Messages[0].Headers["traceparent"], want)
	}
}

// expectMetrics checks that the collector gets the metrics that the admin address shows, under the same names.
func expectMetrics(t *testing.T, c *collector, of map[string]*process) {
	t.Helper()
	for service, p := range of {
		shown := p.metrics()
		if len(shown) < 20 {
			t.Errorf("%s shows %d series", service, len(shown))
		}
		for series, value := range shown {
			until(t, fmt.Sprintf("the collector has %s of %s (%v)", series, service, value), func() bool {
				got, ok := c.value(service, series)
				return ok && (got == value || got == p.metrics()[series])
			})
		}
	}
}

// metrics returns Drainmark's own series that say as much now as they will: counters, and the counts of histograms.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	answer, err := http.Get(p.admin + "/metrics")
	must(p.t, err)
	defer answer.Body.Close()
	series := map[string]float64{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		bare, _, _ := strings.Cut(name, "{")
		if !strings.HasPrefix(name, "drainmark_") || !strings.HasSuffix(bare, "_total") && !strings.HasSuffix(bare, "_count") {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		must(p.t, err)
		series[name] = number
	}
	return series
}

func TestACollectorThatIsGoneDelaysNothing(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	d := deploy(t, c)
	c.stop()
	for range 200 {
		_, err := d.client.Append(t.Context(), "guestbook", client.Message{Body: []byte("hello")}, 0)
		must(t, err)
	}
	if _, err := d.client.Barrier(t.Context(), 30*time.Second); err != nil {
		t.Error(err)
	}
	for _, p := range []*process{d.frontend, d.backend, d.consumer} {
		p.stop()
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the exit code is %d", code)
		}
		if n := strings.Count(p.log.String(), "could not be exported"); n == 0 || n > 10 {
			t.Errorf("%d lines of the log say that nothing could be exported", n)
		}
	}
}

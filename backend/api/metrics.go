package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark"
)

// metrics is what the API counts. A route is a pattern, never a path, so the number of series is bounded.
type metrics struct {
	requests    *prometheus.CounterVec   // by route, method and code
	duration    *prometheus.HistogramVec // by route and method, event streams left out
	inFlight    prometheus.Gauge         // event streams left out
	subscribers prometheus.Gauge
	putOff      prometheus.Counter
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_http_requests_total",
			Help: "Requests answered, by route, method and status code (499: the client went away).",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "drainmark_http_request_duration_seconds",
			Help:    "From a request's header to the end of its answer; waits that it asked for are included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "drainmark_http_requests_in_flight",
			Help: "Requests being answered now, event streams left out.",
		}),
		subscribers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "drainmark_http_event_subscribers",
			Help: "Event streams that are open now.",
		}),
		putOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "drainmark_http_event_streams_put_off_total",
			Help: "Event streams that could not be begun, and whose clients were told to come back.",
		}),
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.subscribers, m.putOff} {
		if err := to.Register(c); err != nil {
			return nil, drainmark.Errorf(drainmark.KindMisconfigured, "registering the API's metrics: %w", err)
		}
	}
	return m, nil
}

// answered counts a request that is over.
func (m *metrics) answered(rt route, method string, status int, took time.Duration) {
	if rt.method == "" && !isStandard(method) {
		method = "other"
	}
	m.requests.WithLabelValues(rt.path, method, strconv.Itoa(status)).Inc()
	if rt.options&streams == 0 {
		m.duration.WithLabelValues(rt.path, method).Observe(took.Seconds())
	}
}

// isStandard says whether a method is one that has a series of its own on routes that take any.
func isStandard(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

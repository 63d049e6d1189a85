package frontend

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the frontend counts.
type metrics struct {
	attempts *prometheus.CounterVec // by backend and outcome
	problems *prometheus.CounterVec // by problem
	lookups  *prometheus.CounterVec // by name and outcome
}

func newMetrics() *metrics {
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_frontend_attempts_total",
			Help: "Attempts to have a backend answer a request, by backend and outcome: answered, refused (nothing was sent), failed.",
		}, []string{"backend", "outcome"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_frontend_problems_total",
			Help: "Requests that no backend has answered, by the problem that the frontend answered with.",
		}, []string{"problem"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_frontend_lookups_total",
			Help: "Lookups of the names that lead to backends, by name and outcome: found, empty (no address), failed.",
		}, []string{"name", "outcome"}),
	}
}

// register registers the metrics, and those of the pool's backends.
func (m *metrics) register(to prometheus.Registerer, p *pool) error {
	if to == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.problems, m.lookups, backendsNow{p}} {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("registering the frontend's metrics: %w", err)
		}
	}
	return nil
}

// of returns the counters of a backend.
func (m *metrics) of(backend string) (answers, refusals, failures prometheus.Counter) {
	attempts := m.attempts.MustCurryWith(prometheus.Labels{"backend": backend})
	return attempts.WithLabelValues("answered"), attempts.WithLabelValues("refused"), attempts.WithLabelValues("failed")
}

// ofName returns the counters of a name that is looked up.
func (m *metrics) ofName(name string) (found, empty, failed prometheus.Counter) {
	lookups := m.lookups.MustCurryWith(prometheus.Labels{"name": name})
	return lookups.WithLabelValues("found"), lookups.WithLabelValues("empty"), lookups.WithLabelValues("failed")
}

// forget drops the counters of a backend: there may be a new one every few seconds.
func (m *metrics) forget(backend string) {
	m.attempts.DeletePartialMatch(prometheus.Labels{"backend": backend})
}

// backendsNow collects how the backends of a pool do.
type backendsNow struct{ pool *pool }

var (
	inFlight = prometheus.NewDesc("drainmark_frontend_backend_requests_in_flight",
		"Requests at the backend now, event streams included.", []string{"backend"}, nil)
	isUp = prometheus.NewDesc("drainmark_frontend_backend_up",
		"1 if the backend has answered last, 0 if it has failed since, or says that it is stopping.", []string{"backend"}, nil)
)

// Describe is called by a registry.
func (backendsNow) Describe(to chan<- *prometheus.Desc) {
	to <- inFlight
	to <- isUp
}

// Collect is called by a registry. A backend that is gone is neither up nor down.
func (c backendsNow) Collect(to chan<- prometheus.Metric) {
	for _, b := range c.pool.all() {
		to <- prometheus.MustNewConstMetric(inFlight, prometheus.GaugeValue, float64(b.outstanding.Load()), b.name)
		if b.gone.Load() {
			continue
		}
		up := 1.0
		if b.suspected() {
			up = 0
		}
		to <- prometheus.MustNewConstMetric(isUp, prometheus.GaugeValue, up, b.name)
	}
}

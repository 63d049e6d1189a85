package frontend

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the frontend counts.
type metrics struct {
	attempts *prometheus.CounterVec // by backend and outcome
	problems *prometheus.CounterVec // by problem
}

// newMetrics makes the metrics, and registers them and those of each backend.
func newMetrics(to prometheus.Registerer, backends []*backend) (*metrics, error) {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_frontend_attempts_total",
			Help: "Attempts to have a backend answer a request, by backend and outcome: answered, refused (nothing was sent), failed.",
		}, []string{"backend", "outcome"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_frontend_problems_total",
			Help: "Requests that no backend has answered, by the problem that the frontend answered with.",
		}, []string{"problem"}),
	}
	collectors := []prometheus.Collector{m.attempts, m.problems}
	for _, b := range backends {
		b.answers = m.attempts.WithLabelValues(b.url.Host, "answered")
		b.refusals = m.attempts.WithLabelValues(b.url.Host, "refused")
		b.failures = m.attempts.WithLabelValues(b.url.Host, "failed")
		labels := prometheus.Labels{"backend": b.url.Host}
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "drainmark_frontend_backend_requests_in_flight", ConstLabels: labels,
			Help: "Requests at the backend now, event streams included.",
		}, func() float64 { return float64(b.outstanding.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "drainmark_frontend_backend_up", ConstLabels: labels,
				Help: "1 if the backend has answered last, 0 if it has failed since, or says that it is stopping.",
			}, func() float64 {
				if b.suspected() {
					return 0
				}
				return 1
			}))
	}
	if to == nil {
		return m, nil
	}
	for _, c := range collectors {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("registering the frontend's metrics: %w", err)
		}
	}
	return m, nil
}

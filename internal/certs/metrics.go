package certs

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what a source counts.
type metrics struct{ read, failed prometheus.Counter }

func newMetrics(s *Source) (*metrics, error) {
	name := prometheus.Labels{"certificate": s.config.Name}
	readings := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_tls_reloads_total", ConstLabels: name,
		Help: "Times that TLS files were read again, by certificate (server, backend) and outcome: read, or failed, when the old ones are used on.",
	}, []string{"outcome"})
	m := &metrics{readings.WithLabelValues("read"), readings.WithLabelValues("failed")}
	collectors := []prometheus.Collector{readings}
	if s.config.Cert != "" {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "drainmark_tls_certificate_not_after_seconds", ConstLabels: name,
			Help: "When the certificate in use ends, in seconds since 1970, by certificate: server, backend.",
		}, func() float64 { return float64(notAfter(s.Now().Pair).Unix()) }))
	}
	if s.config.Metrics == nil {
		return m, nil
	}
	for _, c := range collectors {
		if err := s.config.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the TLS files %q: %w", s.config.Name, err)
		}
	}
	return m, nil
}

package httpserve

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Why something is refused here, before any handler.
const (
	forConnections = "connections"
	forHeaders     = "headers"
	forAddress     = "address_connections"
)

// metrics is what a server counts.
type metrics struct {
	refused        map[string]prometheus.Counter // by the limit that was reached
	refusedStreams prometheus.Counter
	unsecured      prometheus.Counter
}

// newMetrics makes the metrics of a server, and registers them.
func newMetrics(to prometheus.Registerer, s *server) (*metrics, error) {
	m := &metrics{refused: map[string]prometheus.Counter{}}
	collectors := []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drainmark_http_connections", ConstLabels: prometheus.Labels{"server": s.name},
		Help: "Connections that are open now, by server: api, or admin.",
	}, func() float64 { return float64(max(0, s.open.Load()-s.streams.Load())) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drainmark_http_connections_limit", ConstLabels: prometheus.Labels{"server": s.name},
		Help: "Connections that the server takes at once.",
	}, func() float64 { return float64(s.connections) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drainmark_http_streams", ConstLabels: prometheus.Labels{"server": s.name},
		Help: "Requests over HTTP/2 that are under way. Each counts as a connection for the limit.",
	}, func() float64 { return float64(s.streams.Load()) })}
	m.refusedStreams = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "drainmark_http_streams_refused_total", ConstLabels: prometheus.Labels{"server": s.name},
		Help: "Requests over HTTP/2 that were refused because connections and such requests had reached the limit.",
	})
	m.unsecured = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "drainmark_http_tls_handshakes_failed_total", ConstLabels: prometheus.Labels{"server": s.name},
		Help: "TLS handshakes of clients that failed.",
	})
	collectors = append(collectors, m.refusedStreams, m.unsecured)
	for _, reason := range []string{forConnections, forHeaders, forAddress} {
		m.refused[reason] = prometheus.NewCounter(prometheus.CounterOpts{
			Name: "drainmark_http_connections_refused_total", ConstLabels: prometheus.Labels{"server": s.name, "limit": reason},
			Help: "Connections that were refused, by the limit that was reached: connections, address_connections, or headers (bytes).",
		})
		collectors = append(collectors, m.refused[reason])
	}
	if to == nil {
		return m, nil
	}
	for _, c := range collectors {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the server %q: %w", s.name, err)
		}
	}
	return m, nil
}

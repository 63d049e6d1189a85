package quota

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark/auth"
)

// anonymous is the label of all requests without credentials. Addresses have none: there may be any number of them.
const anonymous = "anonymous"

func labelOf(who auth.Principal) string { return label(who.Name) }

func label(name string) string {
	if name == "" {
		return anonymous
	}
	return name
}

type metrics struct{ refused *prometheus.CounterVec }

func newMetrics(to prometheus.Registerer, a *Accounts) (*metrics, error) {
	m := &metrics{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_http_rate_limited_total",
		Help: "Requests refused because somebody would take more than the limits allow, by limit and principal (anonymous: without credentials).",
	}, []string{"limit", "principal"})}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.refused, holdings{a}} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of accounts: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) refuse(limit, label string) { m.refused.WithLabelValues(limit, label).Inc() }

// holdings collects what principals hold of the budgets.
type holdings struct{ accounts *Accounts }

var (
	heldNow = prometheus.NewDesc("drainmark_http_principal_held",
		"What a principal holds now of a budget, by the setting that bounds it for all.", []string{"budget", "principal"}, nil)
	heldMost = prometheus.NewDesc("drainmark_http_principal_held_limit",
		"What a principal may hold of a budget.", []string{"budget", "principal"}, nil)
)

// Describe implements prometheus.Collector.
func (holdings) Describe(to chan<- *prometheus.Desc) { to <- heldNow; to <- heldMost }

// Collect implements prometheus.Collector.
func (h holdings) Collect(to chan<- prometheus.Metric) {
	h.accounts.each(func(label string, one *account) {
		one.mu.Lock()
		held, limits := one.held, one.most
		one.mu.Unlock()
		for b := range held {
			to <- prometheus.MustNewConstMetric(heldNow, prometheus.GaugeValue, float64(held[b]), budgets[b].setting, label)
			to <- prometheus.MustNewConstMetric(heldMost, prometheus.GaugeValue, float64(limits[b].number), budgets[b].setting, label)
		}
	})
}

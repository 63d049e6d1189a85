package replicas

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	active   *prometheus.GaugeVec
	up       *prometheus.GaugeVec
	behind   *prometheus.GaugeVec
	switches prometheus.Counter
	lowered  prometheus.Counter
}

func newMetrics() *metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "drainmark_replica_" + name, Help: help}, []string{"replica"})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "drainmark_replica_" + name, Help: help})
	}
	return &metrics{
		active:   gauge("active", "1 for the replica that is read from."),
		up:       gauge("up", "1 while the replica answers."),
		behind:   gauge("behind_seconds", "How far the replica is behind: the age of what it lacks, since another one has shown it."),
		switches: counter("switches_total", "Times that reads went over to another replica."),
		lowered: counter("lowered_total", "Times that an older state was shown than before, because the store has lost "+
			"its tail or every replica left lags."),
	}
}

func (m *metrics) register(r prometheus.Registerer) {
	if r != nil {
		r.MustRegister(m.active, m.up, m.behind, m.switches, m.lowered)
	}
}

func (m *metrics) forget(replica string) {
	m.active.DeleteLabelValues(replica)
	m.up.DeleteLabelValues(replica)
	m.behind.DeleteLabelValues(replica)
}

package effect

import "github.com/prometheus/client_golang/prometheus"

// Metrics returns what counts the calls of effects.
func Metrics(r prometheus.Registerer, effects List) func(Call) {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_effect_calls_total",
		Help: "Calls of effects, by what they ended with: applied, rejected, wait, failed (for a record), broken (the effect, or the schema) or database.",
	}, []string{"effect", "outcome"})
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_effect_records_total", Help: "Records that effects were called with and that they have applied.",
	}, []string{"effect"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drainmark_effect_duration_seconds", Help: "Duration of calls of effects.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
	}, []string{"effect"})
	for _, e := range effects {
		for _, outcome := range []string{"applied", "rejected", "wait", "failed", "broken", "database"} {
			calls.WithLabelValues(e.Name, outcome) // from 0, so that the first one is an increase
		}
		records.WithLabelValues(e.Name)
	}
	r.MustRegister(calls, records, took)
	return func(c Call) {
		calls.WithLabelValues(c.Effect, c.Outcome).Inc()
		took.WithLabelValues(c.Effect).Observe(c.Took.Seconds())
		if c.Outcome == "applied" {
			records.WithLabelValues(c.Effect).Add(float64(c.Records))
		}
	}
}

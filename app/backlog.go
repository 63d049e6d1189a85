package app

import (
	"context"
	"strconv"
	"time"

	"github.com/drainmark/drainmark/backend"
	"github.com/prometheus/client_golang/prometheus"
)

// backlogCollector reads the backlog when the metrics are read.
type backlogCollector struct {
	role                                  *role
	backend                               *backend.Backend
	pending, exact, oldest, held, unknown *prometheus.Desc
}

// registerBacklog adds the backlog to the role's metrics.
func registerBacklog(r *role, b *backend.Backend) {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("drainmark_backlog_"+name, help, []string{"partition"}, nil)
	}
	r.registry.MustRegister(&backlogCollector{
		role: r, backend: b,
		pending: desc("records", "Records accepted and not yet persisted; see drainmark_backlog_exact."),
		exact:   desc("exact", "1 if drainmark_backlog_records is exact, 0 if it is a lower bound."),
		oldest:  desc("oldest_seconds", "Age of the oldest pending batch; 0 if nothing is pending."),
		held:    desc("partition_held", "1 if a consumer holds the partition."),
		unknown: desc("unknown", "1 if store or broker did not answer for the partition: series of what is not known are absent."),
	})
}

// Describe is for prometheus.Collector.
func (c *backlogCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.pending
	descs <- c.exact
	descs <- c.oldest
	descs <- c.held
	descs <- c.unknown
}

// Collect is for prometheus.Collector. It leaves out what store or broker do not tell in time, and says that it is unknown.
func (c *backlogCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.role.ctx), backlogTime) // also while the role stops
	defer cancel()
	for _, p := range c.backend.KnownBacklog(ctx) {
		label := strconv.Itoa(p.Partition)
		gauge := func(d *prometheus.Desc, v float64) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
		}
		gauge(c.unknown, oneIf(p.Uncounted != nil || p.Unclaimed != nil))
		if p.Unclaimed == nil {
			gauge(c.held, oneIf(p.Claim != nil))
		}
		if p.Uncounted != nil {
			c.role.logger.Debug("counting a partition's backlog for the metrics failed", "partition", p.Partition, "error", p.Uncounted)
			continue
		}
		gauge(c.pending, float64(p.Pending.Records))
		gauge(c.exact, oneIf(p.Pending.Exact))
		age, _ := p.Oldest()
		gauge(c.oldest, age.Seconds())
	}
}

// backlogTime is how long reading the backlog for the metrics may take.
const backlogTime = 2 * time.Second

// workingCollector asks what works when the metrics are read, as GET /v1/status does.
type workingCollector struct {
	role    *role
	backend *backend.Backend
	works   *prometheus.Desc
}

// registerWorking adds what works to the role's metrics.
func registerWorking(r *role, b *backend.Backend) {
	r.registry.MustRegister(&workingCollector{role: r, backend: b, works: prometheus.NewDesc("drainmark_backend_works",
		"1 if that works now, by what: appends, reads, persisting. 0 if it does not, or that is not known.", []string{"what"}, nil)})
}

// Describe is for prometheus.Collector.
func (c *workingCollector) Describe(descs chan<- *prometheus.Desc) { descs <- c.works }

// Collect is for prometheus.Collector.
func (c *workingCollector) Collect(metrics chan<- prometheus.Metric) {
	now := c.backend.Working(context.WithoutCancel(c.role.ctx))
	for what, works := range map[string]bool{
		"appends": now.Appends == nil, "reads": now.Reads == nil, "persisting": now.Persisting == nil,
	} {
		metrics <- prometheus.MustNewConstMetric(c.works, prometheus.GaugeValue, oneIf(works), what)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

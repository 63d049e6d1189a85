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
	role                         *role
	backend                      *backend.Backend
	pending, exact, oldest, held *prometheus.Desc
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
	})
}

// Describe is for prometheus.Collector.
func (c *backlogCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.pending
	descs <- c.exact
	descs <- c.oldest
	descs <- c.held
}

// Collect is for prometheus.Collector. While the store or the broker does not answer there are no values.
func (c *backlogCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.role.ctx), backlogTime) // also while the role stops
	defer cancel()
	partitions, err := c.backend.Backlog(ctx)
	if err != nil {
		c.role.logger.Debug("reading the backlog for the metrics failed", "error", err)
		return
	}
	truth := map[bool]float64{true: 1}
	for _, p := range partitions {
		label := strconv.Itoa(p.Partition)
		gauge := func(d *prometheus.Desc, v float64) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
		}
		gauge(c.pending, float64(p.Pending.Records))
		gauge(c.exact, truth[p.Pending.Exact])
		gauge(c.held, truth[p.Claim != nil])
		age, _ := p.Oldest()
		gauge(c.oldest, age.Seconds())
	}
}

// backlogTime is how long reading the backlog for the metrics may take.
const backlogTime = 2 * time.Second

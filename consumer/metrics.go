package consumer

import (
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	persisted      prometheus.Counter
	duplicates     prometheus.Counter
	keyDuplicates  prometheus.Counter
	setAside       *prometheus.CounterVec
	gaps           prometheus.Counter
	missingRecords prometheus.Counter
	brokerLosses   prometheus.Counter
	lostRecords    prometheus.Counter
	fencedCommits  prometheus.Counter
	commitFailures prometheus.Counter
	givenUp        prometheus.Counter
	brokerTroubles prometheus.Counter
	commitDuration prometheus.Histogram
	commitRecords  prometheus.Histogram
	effectFailures *prometheus.CounterVec
	effectHolds    *prometheus.GaugeVec
	storeBroken    prometheus.Gauge
	held           *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "drainmark_consumer_" + name, Help: help})
	}
	m := &metrics{
		persisted:      counter("persisted_messages_total", "Messages appended to the store."),
		duplicates:     counter("duplicates_dropped_total", "Records that came again and were dropped by their marks."),
		keyDuplicates:  counter("key_duplicates_dropped_total", "Appends that were dropped because their idempotency key was known."),
		gaps:           counter("gaps_total", "Subscriptions that showed a gap in a producer's sequences."),
		missingRecords: counter("missing_records_total", "Accepted records that the broker did not deliver and that were passed."),
		brokerLosses:   counter("broker_losses_total", "Times that the broker had lost what it had stored, before it was read: purged, deleted, or a partition made anew."),
		lostRecords:    counter("lost_records_total", "Committed records that the store has lost, by a failover or a restore."),
		fencedCommits:  counter("fenced_commits_total", "Commits that the store fenced."),
		commitFailures: counter("commit_failures_total", "Attempts to commit that the store did not answer properly."),
		brokerTroubles: counter("broker_troubles_total", "Subscriptions that could not be made, or ended, or delivered nothing though something was ready."),
		givenUp:        counter("given_up_total", "Partitions given up, for other consumers to take, because the broker did not let them be drained."),
		storeBroken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "drainmark_consumer_store_broken",
			Help: "1 while something that the store is asked to do fails until somebody repairs the store.",
		}),
		commitDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drainmark_consumer_commit_duration_seconds", Help: "Duration of successful commits.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		commitRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drainmark_consumer_commit_operations", Help: "Operations in a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "drainmark_consumer_claim_held", Help: "1 while this consumer holds the partition.",
		}, []string{"partition"}),
	}
	m.setAside = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_consumer_dead_letters_total",
		Help: "Records set aside as dead letters; test is true for those of drainmark verify, which makes some on purpose.",
	}, []string{"test"})
	for _, test := range []bool{false, true} {
		m.setAside.WithLabelValues(strconv.FormatBool(test)) // from 0, so that the first one is an increase
	}
	m.effectFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_consumer_effect_failures_total", Help: "Attempts after which a partition waited because an effect did not let it go on.",
	}, []string{"effect"})
	m.effectHolds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "drainmark_consumer_effect_holds",
		Help: "1 while an effect does not let a partition of this consumer go on.",
	}, []string{"partition"})
	if r != nil {
		r.MustRegister(m.persisted, m.duplicates, m.keyDuplicates, m.setAside, m.gaps, m.missingRecords, m.brokerLosses, m.lostRecords,
			m.fencedCommits, m.commitFailures, m.givenUp, m.brokerTroubles, m.commitDuration, m.commitRecords, m.storeBroken, m.held, m.effectFailures, m.effectHolds)
	}
	return m
}

// committed counts what a commit did.
func (m *metrics) committed(took time.Duration, c *store.Commit, keyDuplicates int) {
	m.commitDuration.Observe(took.Seconds())
	m.commitRecords.Observe(float64(len(c.Operations)))
	m.keyDuplicates.Add(float64(keyDuplicates))
	appended := -keyDuplicates
	for i := range c.Operations {
		switch op := &c.Operations[i]; {
		case op.Kind == store.Append:
			appended++
		case op.Kind == store.SetAside && !op.Letter.Discarded:
			m.setAside.WithLabelValues(strconv.FormatBool(drainmark.IsTestLog(op.Letter.Log))).Inc()
		}
	}
	m.persisted.Add(float64(appended))
}

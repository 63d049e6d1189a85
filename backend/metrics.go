package backend

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	publishedRecords prometheus.Counter
	publishFailures  prometheus.Counter
	publishDuration  prometheus.Histogram
	batchRecords     prometheus.Histogram
	refreshes        prometheus.Counter
	waiters          prometheus.Gauge
	subscribers      prometheus.Gauge
	feedReads        prometheus.Counter
	feedBytes        prometheus.Gauge
	answerBytes      prometheus.Gauge
	barriers         prometheus.Counter
	markersAgain     prometheus.Counter
	lostRecords      prometheus.Counter
	markers          prometheus.Counter
	flagRaises       prometheus.Counter
	flagProofs       prometheus.Counter
	wanted           prometheus.Gauge
	notPersisting    prometheus.Gauge
	readsBroken      prometheus.Gauge
	brokenReads      prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "drainmark_backend_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "drainmark_backend_" + name, Help: help})
	}
	m := &metrics{
		publishedRecords: counter("published_records_total", "Records that the broker has confirmed."),
		publishFailures:  counter("publish_failures_total", "Attempts to publish a batch that failed."),
		refreshes:        counter("progress_reads_total", "Reads of a partition's progress from the store's reader."),
		waiters:          gauge("waiters", "Requests that wait for a receipt, a barrier or a state of the reader."),
		subscribers:      gauge("subscribers", "Open event streams."),
		feedReads:        counter("feed_reads_total", "Reads of the store's reader for followed logs."),
		feedBytes:        gauge("feed_bytes", "Bytes that the followed logs keep in memory."),
		answerBytes:      gauge("answer_bytes", "Bytes of pages and lists that are being answered with."),
		barriers:         counter("barriers_total", "Barriers asked for."),
		markersAgain:     counter("barrier_fences_again_total", "Fences sent again because a partition was opened anew meanwhile."),
		lostRecords:      counter("lost_records_total", "Records of this backend that were persisted and are not any more."),
		markers:          counter("markers_total", "Fences sent behind accepted records that nobody delivered, so that a consumer sees whether they are lost."),
		flagRaises:       counter("flag_raises_total", "Raises of the flag that says that something may not be persisted. Only brokers that cannot count have one."),
		flagProofs:       counter("flag_proofs_total", "Times that the flag was lowered, because everything accepted was persisted."),
		wanted:           gauge("consumers_wanted", "How many consumers were wanted when somebody asked last."),
		notPersisting:    gauge("not_persisting_seconds", "For how long records of this backend have waited in a partition of which nothing was persisted; the longest."),
		readsBroken:      gauge("reads_broken", "1 while something of the store cannot be read until somebody repairs it."),
		brokenReads:      counter("broken_reads_total", "Reads of the store that failed in a way that somebody has to repair."),
		publishDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drainmark_backend_publish_duration_seconds", Help: "From handing a batch to the broker to its confirmation.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
		batchRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drainmark_backend_batch_records", Help: "Records in a published batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
	}
	if r != nil {
		r.MustRegister(m.publishedRecords, m.publishFailures, m.refreshes, m.waiters, m.subscribers, m.feedReads, m.feedBytes,
			m.answerBytes, m.barriers, m.markersAgain, m.lostRecords, m.markers, m.flagRaises, m.flagProofs, m.wanted, m.notPersisting, m.readsBroken, m.brokenReads, m.publishDuration, m.batchRecords)
	}
	return m
}

func (m *metrics) published(took time.Duration, records int) {
	m.publishedRecords.Add(float64(records))
	m.publishDuration.Observe(took.Seconds())
	m.batchRecords.Observe(float64(records))
}

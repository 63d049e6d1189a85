package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prometheusbridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/testbed"
)

// mute is what partitions, of a broker or a store, do not answer: they hang until the caller gives up.
type mute map[int]bool

func (m mute) ask(ctx context.Context, partition int) error {
	if m[partition] {
		<-ctx.Done()
	}
	return ctx.Err()
}

type muteBroker struct {
	broker.Broker
	mute mute
}

func (b muteBroker) Backlog(ctx context.Context, partition int, p drainmark.Progress) (broker.Backlog, error) {
	if err := b.mute.ask(ctx, partition); err != nil {
		return broker.Backlog{}, err
	}
	return b.Broker.Backlog(ctx, partition, p)
}

type muteReader struct {
	store.Reader
	mute   mute
	claims *atomic.Bool // whether who holds what is not told
}

func (r muteReader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	if err := r.mute.ask(ctx, partition); err != nil {
		return drainmark.Progress{}, err
	}
	return r.Reader.Progress(ctx, partition)
}

func (r muteReader) Claims(ctx context.Context) ([]store.Claim, error) {
	if r.claims.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.Reader.Claims(ctx)
}

// A partition that store or broker do not answer for is said to be unknown, by Prometheus and by OTLP, and takes no other
// one's numbers away.
func TestThePartitionsThatAnswerKeepTheirMetrics(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct {
		queue, rows        mute
		claims             bool
		unknown, uncounted []int
	}{
		"all answer":                         {},
		"the broker hangs on a partition":    {queue: mute{1: true}, unknown: []int{1}, uncounted: []int{1}},
		"the store hangs on a partition":     {rows: mute{2: true}, unknown: []int{2}, uncounted: []int{2}},
		"the broker hangs on all":            {queue: mute{0: true, 1: true, 2: true}, unknown: []int{0, 1, 2}, uncounted: []int{0, 1, 2}},
		"the store does not tell the claims": {claims: true, unknown: []int{0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbed.Run(t, brokermemory.Options{Partitions: 3, Ordered: true}, func(b *testbed.Bed) {
				reader := muteReader{b.Reader, of.rows, &atomic.Bool{}}
				reader.claims.Store(of.claims)
				registry := backlogMetrics(b, muteBroker{b.Connect(), of.queue}, reader)
				series := gathered(t, registry)
				for p := range 3 {
					at := fmt.Sprintf("{partition=%d}", p)
					counted := !slices.Contains(of.uncounted, p)
					for _, metric := range []string{"records", "exact", "oldest_seconds"} {
						if _, is := series["drainmark_backlog_"+metric+at]; is != counted {
							t.Errorf("%s%s is there: %v", metric, at, is)
						}
					}
					if _, is := series["drainmark_backlog_partition_held"+at]; is != !of.claims {
						t.Errorf("held%s is there: %v", at, is)
					}
					if got := series["drainmark_backlog_unknown"+at]; got != oneIf(slices.Contains(of.unknown, p)) {
						t.Errorf("unknown%s is %v", at, got)
					}
				}
				if got := exportedPoints(t, registry, "drainmark_backlog_unknown"); got != 3 {
					t.Errorf("OTLP has %d partitions that are known or not", got)
				}
				if got := exportedPoints(t, registry, "drainmark_backlog_records"); got != 3-len(of.uncounted) {
					t.Errorf("OTLP has %d partitions that are counted", got)
				}
			})
		})
	}
}

// backlogMetrics runs a backend and returns its metrics.
func backlogMetrics(b *testbed.Bed, queue broker.Broker, reader store.Reader) *prometheus.Registry {
	b.Helper()
	made, err := backend.New(backend.Config{Broker: queue, Reader: reader, Deployment: b.Deployment, Logger: b.Logger()})
	if err != nil {
		b.Fatal(err)
	}
	b.Start(made.Run)
	r := &role{ctx: b.Context(), logger: b.Logger(), registry: prometheus.NewRegistry()}
	registerBacklog(r, made)
	registerWorking(r, made)
	b.Wait(time.Second)
	return r.registry
}

// gathered reads the metrics, which takes no longer than a scraper waits.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	began := time.Now()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second { // of the bubble's time
		t.Errorf("the metrics took %v", took)
	}
	series := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			series[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue()
		}
	}
	synctest.Wait()
	return series
}

// exportedPoints returns how many series of a metric OTLP exports.
func exportedPoints(t *testing.T, registry *prometheus.Registry, name string) (n int) {
	t.Helper()
	scopes, err := prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(registry)).Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			if gauge, is := m.Data.(metricdata.Gauge[float64]); is && m.Name == name {
				n += len(gauge.DataPoints)
			}
		}
	}
	return n
}

// The metrics say what works, also while nobody appends.
func TestWhatWorksIsAMetric(t *testing.T) {
	t.Parallel()
	testbed.Run(t, brokermemory.Options{Partitions: 2, Ordered: true}, func(b *testbed.Bed) {
		reader := muteReader{b.Reader, nil, &atomic.Bool{}}
		registry := backlogMetrics(b, b.Connect(), reader)
		expect := func(when string, appends, reads, persisting float64) {
			t.Helper()
			series := gathered(t, registry)
			for what, want := range map[string]float64{"appends": appends, "reads": reads, "persisting": persisting} {
				if got, is := series["drainmark_backend_works{what="+what+"}"]; !is || got != want {
					t.Errorf("%s, %s work: %v (is there: %v)", when, what, got, is)
				}
			}
		}
		expect("with no consumer for a second", 1, 1, 0)
		holder := b.DB.Store()
		for p := range 2 {
			if _, err := holder.Claim(b.Context(), store.Claim{Partition: p, Owner: "consumer", Token: uint64(p + 1)}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		expect("with a consumer", 1, 1, 1)
		reader.claims.Store(true)
		expect("while the store does not tell who holds what", 1, 1, 0)
	})
}

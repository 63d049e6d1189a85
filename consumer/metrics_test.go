package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
)

// Metrics tell what the test application does on purpose, and giving up, apart from what somebody has to be woken for.
func TestDeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) {
			return "too bad", strings.HasPrefix(string(m.Body), "bad")
		}
		counted := func(real, test float64) {
			t.Helper()
			metric := r.consumer.metrics.setAside
			got, tested := testutil.ToFloat64(metric.WithLabelValues("false")), testutil.ToFloat64(metric.WithLabelValues("true"))
			if got != real || tested != test {
				t.Errorf("%v dead letters are counted, and %v of tests; want %v and %v", got, tested, real, test)
			}
		}
		r.begin()
		of := func(log string) drainmark.Record {
			record := message("bad")
			record.Log = log
			return record
		}
		counted(0, 0)
		r.publish(1, of("log"), of("drainmark-verify"), of("drainmark-verify-2"), of("drainmark-canary-model"), of("drainmark"))
		r.Wait(time.Second)
		counted(2, 3)
		r.publish(6, drainmark.Record{Kind: drainmark.Discard, Target: r.letters()[0].ID})
		r.Wait(time.Second)
		counted(2, 3)
	})
}

package app

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// BenchmarkVisibleOnAStandby appends 1,000 messages a second, whether or not the last ones are answered, and waits for each
// until a streaming standby of PostgreSQL shows it. It reports how long that took, from before the request was sent.
func BenchmarkVisibleOnAStandby(b *testing.B) {
	primary := servers.StartPostgres(b, servers.PostgresOptions{})
	standby := servers.StartPostgres(b, servers.PostgresOptions{ReplicaOf: primary})
	nats, master := startNATS(b, b.TempDir()), primary.URL(servers.PostgresUser)
	launch(b, "consumer", "--broker", nats, "--store", master, "--admin-listen", "127.0.0.1:0")
	p := start(b, append([]string{"backend", "--broker", nats, "--replica", standby.URL(servers.PostgresUser)}, free...)...)
	c, body := benchClient(1000), benchBody()
	visible := func() time.Duration {
		began := time.Now()
		if status, answer := send(b, c, http.MethodPost, p.api+"/v1/logs/bench/messages", "text/plain", "wait=10", body); status != http.StatusCreated {
			b.Errorf("it is answered %d %s", status, strings.TrimSpace(string(answer)))
		}
		return time.Since(began)
	}
	for range 100 { // until everything is connected
		visible()
	}
	var mu sync.Mutex
	var took []time.Duration
	var under sync.WaitGroup
	due := time.NewTicker(time.Millisecond)
	defer due.Stop()
	for b.Loop() {
		<-due.C
		under.Go(func() {
			d := visible()
			mu.Lock()
			defer mu.Unlock()
			took = append(took, d)
		})
	}
	under.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "appends/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

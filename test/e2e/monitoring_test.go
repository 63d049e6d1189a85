package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

var metricName = regexp.MustCompile(`\b(drainmark|process)_[a-z_]+`)

// Every metric that alerts and dashboard ask for is one that a real deployment has: this one, or one of those that were
// recorded, in which effects hold and promises are broken.
func TestTheMonitoredMetricsExist(t *testing.T) {
	t.Parallel()
	secure := newSecured(t)
	secure.write("access.yaml", "limits: {requests: 2}\n"+strings.Replace(secure.read("access.yaml"), "grants: [", `grants: ["append:*", `, 1))
	broker, store := servers.StartNATS(t, servers.NATSOptions{}), servers.StartRedis(t, servers.RedisOptions{})
	replica := servers.StartRedis(t, servers.RedisOptions{ReplicaOf: store})
	d := deploy(t, setup{
		broker: broker.URL(), store: store.URL(), replicas: [][]string{{store.URL(), replica.URL()}}, backends: 1, consumers: 1, frontend: true, secured: secure,
	})
	have := map[string]bool{}
	until := func(what string, sees func(a answer) bool) {
		await(t, what, patience, func() bool {
			a, err := send(t.Context(), d.http, request{method: "POST", url: messagesURL(d.url, "guestbook"), body: []byte("hello"), header: []string{"Content-Type", "text/plain"}})
			return err == nil && sees(a)
		})
	}
	until("an append is accepted", func(a answer) bool { return a.status == http.StatusAccepted })
	until("appends come too fast", func(a answer) bool { return a.status == http.StatusTooManyRequests })
	for _, p := range []*program{d.backends[0], d.consumers[0]} {
		d.scrapeNames(p, have)
	}
	d.backends[0].kill()
	until("no backend answers", func(a answer) bool { return a.status == http.StatusServiceUnavailable })
	d.scrapeNames(d.frontend, have)
	recorded, err := filepath.Glob("../../deploy/monitoring/recorded/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range recorded {
		noteNames(t, path, have)
	}
	wanted := map[string]bool{}
	noteNames(t, "../../deploy/monitoring/alerts.yaml", wanted)
	noteNames(t, "../../deploy/monitoring/dashboard.json", wanted)
	if len(wanted) < 40 {
		t.Errorf("alerts and dashboard ask for %d metrics only", len(wanted))
	}
	for name := range wanted {
		if !have[name] {
			t.Errorf("no deployment has %s", name)
		}
	}
}

// scrapeNames notes the names of a process's series.
func (d *deployment) scrapeNames(p *program, have map[string]bool) {
	d.t.Helper()
	a, err := send(d.t.Context(), d.http, request{method: "GET", url: p.adminURL() + "/metrics"})
	if err != nil || a.status != http.StatusOK {
		d.t.Fatal(fmt.Errorf("%s's metrics: %d %w", p.name, a.status, err))
	}
	for line := range strings.Lines(string(a.body)) {
		if name := metricName.FindString(line); strings.HasPrefix(line, name) && name != "" {
			have[name] = true
		}
	}
}

// noteNames notes the names of the metrics in a file.
func noteNames(t *testing.T, path string, found map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range metricName.FindAllString(string(text), -1) {
		found[name] = true
	}
}

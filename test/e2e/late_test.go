package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestABackendIsStartedWhileTheStoreIsDown: on RabbitMQ, and with replicas that are as dead as the master, a backend that
// is started anew accepts appends at once, and reads when the store is back.
func TestABackendIsStartedWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	s := startStack(t, 1)
	d := deploy(t, s.setup(2, 1))
	const log = "late"
	d.appendTo(d.urls[0], log, "before")
	d.barrier(d.urls[1])
	for _, p := range d.backends {
		p.kill()
	}
	s.replicas[0].Kill()
	s.master.Kill()
	for _, p := range d.backends {
		p.start()
	}
	for i, url := range d.urls {
		await(t, url+" is ready", patience, func() bool {
			d.backends[i].find("serving the API")
			ready, err := get(t.Context(), d.backends[i].adminURL()+"/readyz")
			return err == nil && ready.status == http.StatusOK
		})
		d.appendTo(url, log, "meanwhile")
		page, err := get(t.Context(), messagesURL(url, log))
		if err != nil || page.status != http.StatusServiceUnavailable {
			t.Errorf("reading while the store is down: %d %s %v", page.status, page.body, err)
		}
	}
	s.master.Start()
	s.replicas[0].Start()
	for _, url := range d.urls {
		d.barrier(url)
		var bodies []string
		for _, m := range d.readAll(url, log, "") {
			bodies = append(bodies, m.Body)
		}
		if got := strings.Join(bodies, " "); got != "before meanwhile meanwhile" {
			t.Errorf("%s shows %q", url, got)
		}
	}
}

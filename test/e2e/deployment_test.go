package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// setup is what a deployment is made of.
type setup struct {
	broker, store string
	// replicas are where backend i reads from: element i modulo their number. None: from the store.
	replicas      [][]string
	backends      int
	consumers     int
	frontend      bool
	backendFlags  []string
	consumerFlags []string
	planted       string   // the promise that all programs break on purpose, empty for none
	clocks        bool     // the clocks of the programs can be set wrong, which only some builds can do
	secured       *secured // nil for a deployment in which everybody may do everything
	roles         bool     // each role logs in as its user in deploy/permissions
	// brokerOf returns where a program, such as consumer-0, finds the broker, nil for where all find it.
	brokerOf func(program string) (url string)
}

// deployment is a running Drainmark.
type deployment struct {
	t         testing.TB
	backends  []*program
	consumers []*program
	frontend  *program // nil if there is none
	urls      []string // of the backends
	url       string   // of the frontend, or of the first backend
	http      *http.Client
	secured   *secured // nil if everybody may do everything
}

// as returns a URL with a user's login, if roles have users.
func (s setup) as(user, url string) string {
	if s.roles {
		return servers.As(user, url)
	}
	return url
}

// deploy starts a deployment, and waits until it answers. Everything ends with the test.
func deploy(t testing.TB, s setup) *deployment {
	t.Helper()
	d := &deployment{t: t, http: newHTTPClient(t), secured: s.secured}
	scheme, secure := "http", func(string) []string { return nil }
	if s.secured != nil {
		scheme, secure = "https", s.secured.flags
		d.http.Transport = s.secured
	}
	if s.brokerOf == nil {
		s.brokerOf = func(string) string { return s.broker }
	}
	for i := range s.consumers {
		d.consumers = append(d.consumers, newProgram(t, fmt.Sprint("consumer ", i), append([]string{
			"consumer", "--broker", s.as(servers.ConsumerUser, s.brokerOf(fmt.Sprint("consumer-", i))),
			"--store", s.as(servers.ConsumerUser, s.store), "--admin-listen", servers.Host + ":0",
		}, slices.Concat(s.consumerFlags, secure("consumer"))...)...))
	}
	for i := range s.backends {
		listen := fmt.Sprintf("%s:%d", servers.Host, servers.Port(t))
		broker := s.as(servers.BackendUser, s.brokerOf(fmt.Sprint("backend-", i)))
		arguments := append([]string{"backend", "--broker", broker, "--listen", listen, "--admin-listen", servers.Host + ":0"},
			slices.Concat(s.backendFlags, secure("backend"))...)
		if len(s.replicas) == 0 {
			arguments = append(arguments, "--store", s.as(servers.BackendUser, s.store))
		} else {
			for _, url := range s.replicas[i%len(s.replicas)] {
				arguments = append(arguments, "--replica", s.as(servers.BackendUser, url))
			}
		}
		d.backends = append(d.backends, newProgram(t, fmt.Sprint("backend ", i), arguments...))
		d.urls = append(d.urls, scheme+"://"+listen)
	}
	d.url = d.urls[0]
	if s.frontend {
		listen := fmt.Sprintf("%s:%d", servers.Host, servers.Port(t))
		d.frontend = newProgram(t, "frontend", append([]string{"frontend", "--listen", listen, "--admin-listen", servers.Host + ":0",
			"--backend", strings.Join(d.urls, ",")}, secure("frontend")...)...)
		d.url = scheme + "://" + listen
	}
	for _, p := range d.programs() {
		p.planted, p.store, p.clocks = s.planted, s.store, s.clocks
		p.start()
	}
	for _, p := range d.consumers {
		p.find("consumer is running")
	}
	d.awaitAPI()
	return d
}

func (d *deployment) programs() []*program {
	all := append(append([]*program{}, d.consumers...), d.backends...)
	if d.frontend != nil {
		all = append(all, d.frontend)
	}
	return all
}

// addresses are where clients can ask: the backends, and the frontend.
func (d *deployment) addresses() []string {
	if d.frontend == nil {
		return d.urls
	}
	return append(slices.Clone(d.urls), d.url)
}

// awaitAPI waits until every backend, and the frontend, answers.
func (d *deployment) awaitAPI() {
	d.t.Helper()
	for _, url := range d.addresses() {
		await(d.t, url+" answers", patience, func() bool {
			a, err := send(d.t.Context(), d.http, request{method: "GET", url: url + "/v1/logs"})
			return err == nil && a.status == http.StatusOK
		})
	}
}

// appendTo appends messages one after the other, which must all be accepted, and returns the last receipt.
func (d *deployment) appendTo(base, log string, bodies ...string) (receipt string) {
	d.t.Helper()
	for _, body := range bodies {
		a, err := send(d.t.Context(), d.http, request{
			method: "POST", url: messagesURL(base, log), body: []byte(body), header: []string{"Content-Type", "text/plain"},
		})
		if err != nil || a.status != http.StatusAccepted {
			d.t.Fatalf("appending %q: %d %s %v", body, a.status, a.body, err)
		}
		receipt = a.header.Get("Drainmark-Receipt")
	}
	return receipt
}

// barrier asks a backend for a barrier until it is reached, and returns its receipt.
func (d *deployment) barrier(base string) (receipt string) {
	d.t.Helper()
	receipt, err := d.tryBarrier(base)
	if err != nil {
		d.t.Fatal(err)
	}
	return receipt
}

// tryBarrier does the same, and returns an error that says what is the matter if it is not reached in time.
func (d *deployment) tryBarrier(base string) (receipt string, err error) {
	url, began := base+"/v1/barriers", time.Now()
	var s status
	for time.Since(began) < patience {
		if s, err = ask(d.t.Context(), d.http, http.MethodPost, url, 5); err != nil {
			url = base + "/v1/barriers"
			continue
		}
		if s.State == "reached" {
			return s.Receipt, nil
		}
		url = base + "/v1/barriers?receipt=" + s.Receipt
	}
	backlog, _ := get(d.t.Context(), base+"/v1/backlog")
	letters, _ := get(d.t.Context(), base+"/v1/dead-letters")
	return "", fmt.Errorf("after %v a barrier is not reached: %s %q %v. The backlog: %s The dead letters: %s", patience, s.State, s.Reason, err,
		backlog.body, letters.body)
}

// readAll reads a log whole, from a state that holds the receipts.
func (d *deployment) readAll(base, log, receipts string) (all []message) {
	d.t.Helper()
	for after := uint64(0); ; {
		p, code, err := readPage(d.t.Context(), d.http, base, log, after, 1000, receipts, 30)
		if code == http.StatusNotFound {
			return nil
		}
		if err != nil {
			d.t.Fatalf("reading %s behind %d: %v", log, after, err)
		}
		all = append(all, p.Messages...)
		if len(p.Messages) == 0 {
			return all
		}
		after = p.Messages[len(p.Messages)-1].Position
	}
}

// metric returns the sum of a metric of consumers.
func (d *deployment) metric(name string) (sum float64) {
	d.t.Helper()
	for _, c := range d.consumers {
		sum += c.metric(name)
	}
	return sum
}

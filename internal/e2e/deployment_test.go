package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/servers"
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
	planted       string // the promise that all programs break on purpose; empty for none
	clocks        bool   // the clocks of the programs can be set wrong, which only some builds can do
	// brokerOf returns where a program, such as consumer-0, finds the broker; nil for where all find it.
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
}

// deploy starts a deployment, and waits until it answers. Everything ends with the test.
func deploy(t testing.TB, s setup) *deployment {
	t.Helper()
	d := &deployment{t: t, http: newHTTPClient(t)}
	if s.brokerOf == nil {
		s.brokerOf = func(string) string { return s.broker }
	}
	for i := range s.consumers {
		d.consumers = append(d.consumers, newProgram(t, fmt.Sprint("consumer ", i), append([]string{
			"consumer", "--broker", s.brokerOf(fmt.Sprint("consumer-", i)), "--store", s.store, "--admin-listen", servers.Host + ":0",
		}, s.consumerFlags...)...))
	}
	for i := range s.backends {
		listen := fmt.Sprintf("%s:%d", servers.Host, servers.Port(t))
		broker := s.brokerOf(fmt.Sprint("backend-", i))
		arguments := append([]string{"backend", "--broker", broker, "--listen", listen, "--admin-listen", servers.Host + ":0"}, s.backendFlags...)
		if len(s.replicas) == 0 {
			arguments = append(arguments, "--store", s.store)
		} else {
			for _, url := range s.replicas[i%len(s.replicas)] {
				arguments = append(arguments, "--replica", url)
			}
		}
		d.backends = append(d.backends, newProgram(t, fmt.Sprint("backend ", i), arguments...))
		d.urls = append(d.urls, "http://"+listen)
	}
	d.url = d.urls[0]
	if s.frontend {
		listen := fmt.Sprintf("%s:%d", servers.Host, servers.Port(t))
		d.frontend = newProgram(t, "frontend", "frontend", "--listen", listen, "--admin-listen", servers.Host+":0",
			"--backend", strings.Join(d.urls, ","))
		d.url = "http://" + listen
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

// targets are where clients can ask.
func (d *deployment) targets() (all []target) {
	for i, url := range d.urls {
		all = append(all, target{url, d.backends[i]})
	}
	if d.frontend != nil {
		all = append(all, target{d.url, nil})
	}
	return all
}

// awaitAPI waits until every backend, and the frontend, answers.
func (d *deployment) awaitAPI() {
	d.t.Helper()
	for _, at := range d.targets() {
		await(d.t, at.url+" answers", patience, func() bool {
			a, err := send(d.t.Context(), d.http, request{method: "GET", url: at.url + "/v1/logs"})
			return err == nil && a.status == http.StatusOK
		})
	}
}

// appendTo appends messages one after the other, each of which must be accepted, and returns the last receipt.
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
func (d *deployment) readAll(base, log, receipts string) (all reading) {
	d.t.Helper()
	for after := uint64(0); ; {
		p, code, err := readPage(d.t.Context(), d.http, base, log, after, 1000, receipts, 10)
		if code == http.StatusNotFound {
			return reading{}
		}
		if err != nil {
			d.t.Fatalf("reading %s behind %d: %v", log, after, err)
		}
		all.messages = append(all.messages, p.Messages...)
		all.last, all.count = p.LastPosition, p.Count
		if len(p.Messages) == 0 {
			return all
		}
		after = p.Messages[len(p.Messages)-1].Position
	}
}

// settle waits, when all clients have stopped and everything runs again, for a barrier through every backend, reads
// every log whole from each, and judges the history.
func (d *deployment) settle(h *history) {
	d.t.Helper()
	d.t.Log(h.summary())
	d.awaitAPI()
	var receipts []string
	for _, url := range d.urls {
		receipt, err := d.tryBarrier(url)
		if err != nil {
			d.t.Error(err)
			receipts = nil // what is there is still worth judging
			break
		}
		receipts = append(receipts, receipt)
	}
	held := strings.Join(receipts, ",")
	d.askReceipts(h, func(c *appendCall, state string) { c.before = state })
	final := map[string]reading{}
	for _, log := range logNames {
		final[log] = d.readAll(d.urls[0], log, held)
		for _, url := range d.urls[1:] {
			d.compare(log, final[log], d.readAll(url, log, held))
		}
	}
	d.askReceipts(h, func(c *appendCall, state string) { c.after = state })
	found := h.judge(final)
	for _, v := range worst(found) {
		d.t.Error(v)
	}
	if len(found) > 0 {
		d.t.Errorf("%d violations in all", len(found))
	}
}

// askReceipts asks what has become of the appends of unknown outcome that have a receipt.
func (d *deployment) askReceipts(h *history, note func(*appendCall, string)) {
	d.t.Helper()
	for _, c := range h.calls {
		if c.outcome != unknown || c.receipt == "" {
			continue
		}
		s, err := ask(d.t.Context(), d.http, http.MethodGet, d.urls[0]+"/v1/receipts/"+c.receipt, 0)
		if err != nil {
			d.t.Errorf("the receipt of %q: %v", c.bodies[0], err)
		}
		note(c, s.State)
	}
}

// compare checks that two backends show the same log.
func (d *deployment) compare(log string, a, b reading) {
	d.t.Helper()
	if a.last != b.last || len(a.messages) != len(b.messages) {
		d.t.Errorf("%s: one backend shows %d messages up to %d, another %d up to %d", log, len(a.messages), a.last, len(b.messages), b.last)
		return
	}
	for i := range a.messages {
		if a.messages[i] != b.messages[i] {
			d.t.Errorf("%s: one backend shows %+v, another %+v", log, a.messages[i], b.messages[i])
			return
		}
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

// enough fails the test if so little happened that it proves nothing.
func (d *deployment) enough(h *history, appends int) {
	d.t.Helper()
	switch n := h.count(accepted, 0, ever); {
	case n < appends:
		d.t.Errorf("only %d appends were accepted: this proves nothing", n)
	case len(h.barriers) < 3 || len(h.readBacks) < 20 || len(h.reads) < 100:
		d.t.Errorf("only %s: this proves nothing", h.summary())
	}
}

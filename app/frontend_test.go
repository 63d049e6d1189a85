package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// startFrontend starts a frontend process on a free port, in front of some backends.
func startFrontend(t testing.TB, backends ...*program) *program {
	t.Helper()
	var urls []string
	for _, b := range backends {
		urls = append(urls, b.api)
	}
	return startFrontendOf(t, urls...)
}

// startFrontendOf is startFrontend in front of backends that some URLs name.
func startFrontendOf(t testing.TB, urls ...string) *program {
	t.Helper()
	arguments := append([]string{"frontend"}, free...)
	for _, u := range urls {
		arguments = append(arguments, "--backend", u)
	}
	p := start(t, arguments...)
	p.admin = strings.TrimSuffix(p.find(`admin address" url=(\S+)`), "/readyz")
	return p
}

func TestFrontendBadSettings(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{
		"frontend": "--backend",
		"frontend --backend http://me:secret@a:1":                                                        "http://HOST:PORT",
		"frontend --backend http://a:1/x":                                                                "DRAINMARK_BACKEND",
		"frontend --backend dns+http://me:secret@a:1":                                                    "dns+http://HOST:PORT",
		"frontend --backend dns+http://a:1,http://a:1":                                                   "named twice",
		"frontend --backend dns://a:1":                                                                   "dns+http://HOST:PORT",
		"frontend --backend http://a:1,http://a:1":                                                       "named twice",
		"frontend --backend http://me:secret%zz@a:1":                                                     "--backend (DRAINMARK_BACKEND): one is not a URL",
		"frontend --backend http://a:1 --path-prefix x":                                                  "--path-prefix (DRAINMARK_PATH_PREFIX)",
		"frontend --backend http://a:1 --answer-timeout 0s":                                              "--answer-timeout (DRAINMARK_ANSWER_TIMEOUT)",
		"frontend --backend http://a:1 --listen nowhere":                                                 "--listen",
		"frontend --backend http://a:1 --login-issuer https://a":                                         "--login-client-id",
		"frontend --backend http://a:1 --login-client-id x":                                              "--login-issuer",
		"frontend --backend http://a:1 --login-issuer https://me:secret@a --login-client-id x":           "without a password",
		"frontend --backend http://a:1 --login-issuer http://a --login-client-id x":                      "begin with https",
		"frontend --backend http://a:1 --login-issuer https://a --login-client-id x --login-scopes x":    "openid must be among them",
		"frontend --backend http://a:1 --login-issuer https://a --login-client-id x --login-ca /nowhere": "--login-ca",
		"frontend --backend http://a:1 --admin-listen nowhere":                                           "--admin-listen",
		"frontend --backend http://a:1 --listen 127.0.0.1:1:1":                                           "HOST:PORT",
		"frontend --backend http://a:1 --log-level loud --listen :":                                      "--log-level",
	} {
		t.Run(arguments, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var stdout, stderr bytes.Buffer
			code := run(ctx, append([]string{"frontend", "--admin-listen", "127.0.0.1:0"}, strings.Fields(arguments)[1:]...), &stdout, &stderr)
			if code != exitUsage || !strings.Contains(stderr.String(), want) || strings.Contains(stderr.String(), "secret") {
				t.Errorf("exit code %d, and %q does not say %q", code, stderr.String(), want)
			}
		})
	}
}

// load makes requests of one kind through a frontend until it is told to stop.
type load struct {
	frontend *program
	stop     atomic.Bool
	running  sync.WaitGroup
	reads    atomic.Int64
	accepted atomic.Int64
	unknown  atomic.Int64
	mu       sync.Mutex
	receipts []string
}

// loadPace is between two requests of one client of a load, which are eight.
const loadPace = 20 * time.Millisecond

func (l *load) read(t *testing.T) {
	for ; !l.stop.Load(); time.Sleep(loadPace) {
		// An answer that has begun cannot be taken back: a page of this size is written in one piece.
		a, err := l.frontend.call("GET", "/v1/logs/guestbook/messages?limit=3", "")
		if err != nil || a.status != http.StatusOK {
			t.Errorf("GET: %d %s, %v", a.status, a.body, err)
			return
		}
		l.reads.Add(1)
	}
}

func (l *load) append(t *testing.T) {
	for ; !l.stop.Load(); time.Sleep(loadPace) {
		a, err := l.frontend.call("POST", "/v1/logs/guestbook/messages", "hello", "Content-Type", "text/plain")
		if err != nil {
			t.Errorf("POST: %v", err)
			return
		}
		var said struct{ Type, Receipt string }
		a.decode(t, &said)
		switch {
		case a.status == http.StatusAccepted:
			l.accepted.Add(1)
			l.mu.Lock()
			l.receipts = append(l.receipts, said.Receipt)
			l.mu.Unlock()
		case a.status == http.StatusGatewayTimeout && said.Type == "urn:drainmark:problem:outcome-unknown":
			l.unknown.Add(1)
		default:
			t.Errorf("POST: %d %s", a.status, a.body)
			return
		}
	}
}

// Two backends share a broker and a store. One is killed again and again while requests run: no read fails, and an append
// succeeds or has an outcome that is said to be unknown. Afterwards everything that was accepted is there.
func TestFrontendWithABackendThatIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := "--broker=" + startNATS(t, filepath.Join(dir, "nats"))
	store := "--store=sqlite:" + filepath.Join(dir, "store.db")
	launch(t, "consumer", broker, store, "--admin-listen", "127.0.0.1:0").find("(consumer is running)")
	newBackend := func(listen string) *program {
		return start(t, "backend", broker, store, "--listen", listen, "--admin-listen", "127.0.0.1:0")
	}
	address := fmt.Sprintf("%s:%d", servers.Host, servers.Port(t)) // is free again when the backend comes back
	first, second := newBackend("127.0.0.1:0"), newBackend(address)
	f := startFrontend(t, first, second)
	f.isReady()
	f.want(http.StatusCreated, "POST", "/v1/logs/guestbook/messages", "first", "Prefer", "wait=20", "Content-Type", "text/plain")

	l := &load{frontend: f}
	for range 4 {
		l.running.Go(func() { l.read(t) })
		l.running.Go(func() { l.append(t) })
	}
	for range 5 {
		before := l.reads.Load() + l.accepted.Load()
		f.await("serves with both backends", func() bool { return l.reads.Load()+l.accepted.Load() > before+200 })
		second.kill()
		before = l.reads.Load() + l.accepted.Load()
		f.await("serves with one backend", func() bool { return l.reads.Load()+l.accepted.Load() > before+200 })
		f.isReady()
		second = newBackend(address)
	}
	l.stop.Store(true)
	l.running.Wait()
	t.Logf("%d reads, %d appends accepted, %d unknown", l.reads.Load(), l.accepted.Load(), l.unknown.Load())
	f.barrier()
	all := f.readAll("guestbook")
	if n := int64(len(all.Messages)) - 1; n < l.accepted.Load() || n > l.accepted.Load()+l.unknown.Load() {
		t.Errorf("%d messages, of %d accepted and %d of which it is not known", n, l.accepted.Load(), l.unknown.Load())
	}
	for chunk := range slices.Chunk(l.receipts, 50) { // which receipts may be merged at once
		var status struct{ State string }
		if f.want(http.StatusOK, "GET", "/v1/receipts/"+strings.Join(chunk, ","), "").decode(t, &status); status.State != "persisted" {
			t.Errorf("at the barrier receipts are %s", status.State)
		}
	}

	first.kill()
	second.kill()
	a := f.withoutBackends(t)
	if a.header.Get("Retry-After") == "" || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("with no backend: %v %s", a.header, a.body)
	}
	f.want(http.StatusServiceUnavailable, "GET", "/readyz", "")
	f.want(http.StatusOK, "GET", "/", "")
	if took, code := f.stop(); code != exitOK || took > soon {
		t.Errorf("exit code %d after %v", code, took)
	}
}

// withoutBackends returns what an append is answered once no backend runs. The first ones may still be sent on connections
// whose end the frontend has not seen, so that their outcome is unknown.
func (p *program) withoutBackends(t *testing.T) (a answer) {
	t.Helper()
	p.await("says that no backend answers", func() bool {
		var err error
		if a, err = p.call("POST", "/v1/logs/guestbook/messages", "x"); err != nil {
			t.Fatal(err)
		}
		if a.status != http.StatusServiceUnavailable && !bytes.Contains(a.body, []byte("outcome-unknown")) {
			t.Fatalf("with no backend: %d %s", a.status, a.body)
		}
		return a.status == http.StatusServiceUnavailable
	})
	return a
}

// "up" serves the page beside its API. So does a frontend in front, which also passes waits and events on, and looks up
// where it finds its backend.
func TestPageAndAPIInOnePlace(t *testing.T) {
	t.Parallel()
	u := up(t, t.TempDir())
	f := startFrontendOf(t, strings.Replace(u.api, "http://127.0.0.1", "dns+http://localhost", 1))
	for _, p := range []*program{u, f} {
		page := p.want(http.StatusOK, "GET", "/", "")
		if !bytes.Contains(page.body, []byte("<h1>Guestbook</h1>")) || !strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("the page is %s with %v", page.body, page.header)
		}
		p.want(http.StatusOK, "GET", "/guestbook.js", "")
		var problem struct{ Type string }
		p.want(http.StatusNotFound, "GET", "/v1/nothing", "").decode(t, &problem)
		if problem.Type != "urn:drainmark:problem:not-found" {
			t.Errorf("what the API does not have is %q", problem.Type)
		}
		p.want(http.StatusCreated, "POST", "/v1/logs/guestbook/messages", "hello", "Prefer", "wait=20", "Content-Type", "text/plain")
	}
	response, err := http.Get(f.api + "/v1/logs/guestbook/events?after=0")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	position := 0
	for position < 2 && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var m struct{ Position int }
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				t.Fatal(err)
			}
			position = m.Position
		}
	}
	next := f.want(http.StatusOK, "GET", "/v1/logs/guestbook/messages?limit=1", "").header.Get("Link")
	f.want(http.StatusOK, "GET", strings.TrimPrefix(strings.Split(next, ">")[0], "<"), "")
	took, code := f.stop()
	if code != exitOK {
		t.Errorf("with an open stream the frontend ends with exit code %d", code)
	}
	for lines.Scan() { // to the end of the stream: in good order, so that it was ended, and not cut off at last
	}
	if lines.Err() != nil || position != 2 {
		t.Errorf("%v after the frontend was stopped: %v, at position %d", took, lines.Err(), position)
	}
}

// BenchmarkFrontend compares single POSTs over 64 connections through a frontend process with the same ones sent to the
// backend directly.
func BenchmarkFrontend(b *testing.B) {
	u := upBench(b, b.TempDir())
	f := startFrontend(b, u)
	const workers, each = 64, 200
	c := benchClient(workers)
	defer c.CloseIdleConnections()
	rate := func(url string) float64 {
		var running sync.WaitGroup
		begin := time.Now()
		for range workers {
			running.Go(func() {
				for range each {
					if status, answer := send(b, c, "POST", url+"/v1/logs/bench/messages", "text/plain", "", benchBody()); status != http.StatusAccepted {
						b.Error(status, string(answer))
						return
					}
				}
			})
		}
		running.Wait()
		return workers * each / time.Since(begin).Seconds()
	}
	rate(u.api)
	rate(f.api)
	var direct, forwarded float64
	for b.Loop() {
		direct += rate(u.api)
		forwarded += rate(f.api)
	}
	b.ReportMetric(direct/float64(b.N), "direct/s")
	b.ReportMetric(forwarded/float64(b.N), "forwarded/s")
	b.ReportMetric(forwarded/direct, "ratio")
}

package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

// startWith starts a server whose requests all have a context under base.
func startWith(t *testing.T, h http.Handler, base context.Context) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.BaseContext = func(net.Listener) context.Context { return base }
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func TestPathsThatThereAreNot(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	for _, path := range []string{
		"/", "/v1/", "/v2", "/v1/logs/", "/v1/logs/guestbook/trimmed", "/v1//logs", "/v1/../v1/logs", "/v1/logs/a//messages", "/v1/logs//messages",
		"/v1/receipts", "/v1/receipts/", "/v1/dead-letters/a/b", "/v1/logs/a/messages/1/2",
	} {
		for _, method := range []string{"GET", "POST", "PROPFIND"} {
			s.do(method, path, "").wantProblem(t, drainmark.KindNotFound, "GET /v1")
		}
	}
}

// Every answer says which backend has given it, errors too.
func TestWhoAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{}, func(c *Config) { c.Backend = "4bf92f35" })
	for _, path := range []string{"/v1", "/v2", "/v1/receipts/x", "/v1/logs?limit=0"} {
		s.do("GET", path, "").wantHeader(t, "Drainmark-Backend", "4bf92f35")
	}
}

func TestMethodsThatThereAreNot(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	for path, allow := range map[string]string{
		"/v1": "GET, HEAD", "/v1/openapi.json": "GET, HEAD", "/v1/logs": "GET, HEAD", messagesPath: "DELETE, GET, HEAD, POST",
		"/v1/logs/guestbook": "DELETE", messagesPath + "/7": "DELETE", "/v1/logs/guestbook/trim": "POST",
		eventsPath: "GET, HEAD", "/v1/receipts/x": "GET, HEAD", "/v1/barriers": "POST", "/v1/backlog": "GET, HEAD",
		"/v1/dead-letters": "DELETE, GET, HEAD, POST", "/v1/dead-letters/x": "DELETE", "/v1/dead-letters/x/retry": "POST",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			if slices.Contains(strings.Split(allow, ", "), method) {
				continue
			}
			a := s.do(method, path, "")
			a.wantHeader(t, "Allow", allow)
			if a.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: status %d", method, path, a.StatusCode)
			}
			if method != "HEAD" {
				a.wantProblem(t, drainmark.KindMethod, method, allow)
			}
		}
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	service := holds(0, 3)
	service.logs = func(context.Context, string, int) ([]drainmark.LogInfo, error) { return nil, nil }
	service.status = says(backend.Pending, "")
	service.backlog = failBacklog(nil)
	service.deadLetters = failDeadLetters(nil)
	s := serve(t, service)
	for _, rt := range routes() {
		if rt.method != "GET" || rt.options&streams != 0 {
			continue
		}
		get, head := s.do("GET", rt.realPath(), ""), s.do("HEAD", rt.realPath(), "")
		if head.StatusCode != 200 || len(head.body) != 0 || head.ContentLength != int64(len(get.body)) {
			t.Errorf("HEAD %s: status %d, %d of %d bytes", rt.path, head.StatusCode, len(head.body), head.ContentLength)
		}
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control"} {
			head.wantHeader(t, name, get.Header.Get(name))
		}
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	t.Run("a handler that panics is a problem, and in the log", func(t *testing.T) {
		t.Parallel()
		var log lockedBuffer
		s := serve(t, &fake{backlog: func(context.Context) ([]backend.PartitionBacklog, error) { panic("ouch") }},
			func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		p := s.do("GET", "/v1/backlog", "").wantProblem(t, drainmark.KindInternal)
		if strings.Contains(p.Detail, "ouch") || !strings.Contains(log.String(), "ouch") || !strings.Contains(log.String(), "serve_test.go") {
			t.Errorf("the detail is %q, and the log %q", p.Detail, log.String())
		}
	})
	t.Run("what it panics with is in the log without secrets", func(t *testing.T) {
		t.Parallel()
		var log lockedBuffer
		shown := http.Header{"Authorization": {"Bearer canary-of-an-issuer"}, "X": {"dmk_canary", "nats://me:canary@host"}}
		s := serve(t, &fake{backlog: func(context.Context) ([]backend.PartitionBacklog, error) { panic(shown) }},
			func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		got := s.do("GET", "/v1/backlog", "")
		if strings.Contains(log.String()+string(got.body), "canary") || strings.Count(log.String(), "Authorization:[[redacted]]") != 2 {
			t.Errorf("%s, and the log %q", got.body, log.String())
		}
	})
	t.Run("a handler that aborts is left to", func(t *testing.T) {
		t.Parallel()
		h := mustNew(t, Config{Service: &fake{backlog: func(context.Context) ([]backend.PartitionBacklog, error) { panic(http.ErrAbortHandler) }}})
		if p := panicOf(h, "/v1/backlog", httptest.NewRecorder()); p != http.ErrAbortHandler {
			t.Errorf("it panics with %v", p)
		}
	})
	t.Run("an answer that has begun is cut off", func(t *testing.T) {
		t.Parallel()
		service := newFeed().service()
		service.subscribe = func(context.Context, string, uint64) (backend.Subscription, error) { return panicking{}, nil }
		h := mustNew(t, Config{Service: service, Logger: slog.New(slog.DiscardHandler)})
		w := httptest.NewRecorder()
		if p := panicOf(h, eventsPath, w); p != http.ErrAbortHandler || strings.Contains(w.Body.String(), "problem") {
			t.Errorf("it panics with %v after %q", p, w.Body.String())
		}
	})
}

type panicking struct{}

func (panicking) Next(context.Context) ([]drainmark.Message, error) { panic("ouch") }
func (panicking) Share(func(context.Context, int64) error)          {}
func (panicking) Close()                                            {}

func panicOf(h http.Handler, path string, w http.ResponseWriter) (p any) {
	defer func() { p = recover() }()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return nil
}

func mustNew(t *testing.T, c Config) http.Handler {
	t.Helper()
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLog(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	service := accepts(func(string, []drainmark.Record) {})
	service.backlog = failBacklog(errNotScripted)
	s := serve(t, service, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.do("POST", messagesPath, "confidential").want(t, 202)
	s.do("GET", "/v1/backlog", "").wantProblem(t, drainmark.KindInternal)
	s.http.Close() // waits for the requests
	for _, want := range []string{
		"route=/v1/logs/{log}/messages method=POST status=202", "level=ERROR", errNotScripted.Error(), "route=/v1/backlog method=GET status=500", "took=",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q: %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "confidential") || strings.Contains(log.String(), "guestbook") {
		t.Errorf("the log says too much: %s", log.String())
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	f := newFeed()
	service := f.service()
	service.append = func(context.Context, string, []drainmark.Record) (drainmark.Receipt, error) {
		if n := gauge(t, registry, "drainmark_http_requests_in_flight"); n != 1 {
			t.Errorf("%v requests are in flight", n)
		}
		return receiptOne, nil
	}
	s := serve(t, service, func(c *Config) { c.Metrics = registry })
	s.do("POST", messagesPath, "x")
	s.do("POST", "/v1/logs/other/messages", "x")
	s.do("GET", "/v1/logs/A/messages", "")
	s.do("GET", "/nowhere", "")
	s.do("BREW", "/v1/logs", "")
	s.do("PUT", "/v1/logs", "")
	l := s.listen(eventsPath)
	if n := gauge(t, registry, "drainmark_http_event_subscribers"); n != 1 {
		t.Errorf("%v subscribers", n)
	}
	l.response.Body.Close()
	wait(t, f.closed, "the subscription is closed")
	s.http.Close() // waits for the requests
	want := []string{
		"GET /v1/logs/{log}/events 200 1", "GET /v1/logs/{log}/messages 400 1", "GET unknown 404 1",
		"POST /v1/logs/{log}/messages 202 2", "PUT /v1/logs 405 1", "other /v1/logs 405 1",
	}
	if got := requests(t, registry); !slices.Equal(got, want) {
		t.Errorf("the requests are %q, want %q", got, want)
	}
	for _, name := range []string{"drainmark_http_requests_in_flight", "drainmark_http_event_subscribers"} {
		if n := gauge(t, registry, name); n != 0 {
			t.Errorf("%s is %v in the end", name, n)
		}
	}
	if n := len(gather(t, registry, "drainmark_http_request_duration_seconds")); n != 5 {
		t.Errorf("%d series of durations; want 5, none of them of events", n)
	}
}

// gather returns the labels, separated by spaces, and the value of each series of a metric. A histogram has no value.
func gather(t *testing.T, registry *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Error(err)
	}
	series := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			var text []string
			for _, name := range []string{"method", "route", "code", "limit", "budget", "principal"} {
				if labels[name] != "" {
					text = append(text, labels[name])
				}
			}
			series[strings.Join(text, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return series
}

// requests returns "method route code number" of all requests that were counted.
func requests(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	var lines []string
	for labels, n := range gather(t, registry, "drainmark_http_requests_total") {
		lines = append(lines, fmt.Sprintf("%s %v", labels, n))
	}
	slices.Sort(lines)
	return lines
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	n, ok := gather(t, registry, name)[""]
	if !ok {
		t.Errorf("there is no %s", name)
	}
	return n
}

// A client that goes away has not been told anything, and broker and store had nothing to do with it.
func TestClientsThatGoAway(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	registry := prometheus.NewRegistry()
	ctx, leave := context.WithCancel(t.Context())
	s := serve(t, &fake{backlog: func(ctx context.Context) ([]backend.PartitionBacklog, error) {
		leave()
		<-ctx.Done()
		return nil, ctx.Err()
	}}, func(c *Config) {
		c.Metrics, c.Logger = registry, slog.New(slog.NewTextHandler(&logged, nil))
	})
	if response, err := s.http.Client().Transport.RoundTrip(s.request("GET", "/v1/backlog", nil).WithContext(ctx)); err == nil {
		response.Body.Close()
		t.Fatal("there is an answer")
	}
	s.http.Close() // waits for the request
	if got := requests(t, registry); !slices.Equal(got, []string{"GET /v1/backlog 499 1"}) {
		t.Errorf("the requests are %q", got)
	}
	if logged.Len() > 0 {
		t.Errorf("logged: %s", &logged)
	}
}

func TestRequestsHaveTheirTime(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{backlog: func(ctx context.Context) ([]backend.PartitionBacklog, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}, func(c *Config) { c.Limits.Request = 20 * time.Millisecond })
	s.do("GET", "/v1/backlog", "").wantProblem(t, drainmark.KindUnavailable, "20ms")
}

func TestConnectionsAreKeptAfterErrors(t *testing.T) {
	t.Parallel()
	s := serve(t, accepts(func(string, []drainmark.Record) {}))
	connection, err := net.Dial("tcp", s.http.Listener.Addr().String()) // http.Transport may also let go of a good one
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	answers := bufio.NewReader(connection)
	for range 5 {
		for _, r := range []*http.Request{
			s.request("POST", messagesPath, strings.NewReader("x"), "Content-Encoding: gzip"),
			s.request("GET", "/v1/logs/A/messages", strings.NewReader("a body that is not wanted")),
			s.request("POST", messagesPath, strings.NewReader("x")),
		} {
			if err := r.Write(connection); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(answers, r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || response.Close {
				t.Fatalf("%s %s ends the connection: %v", r.Method, r.URL.Path, err)
			}
			checkDocumented(t, r, answer{response, body})
		}
	}
}

func TestSlowReadersOfAPage(t *testing.T) {
	t.Parallel()
	w := &deadlines{sink: sink{header: http.Header{}}}
	began := time.Now()
	mustNew(t, Config{Service: holds(0, 3)}).ServeHTTP(w, httptest.NewRequest("GET", messagesPath, nil))
	const limit = 10 * time.Second
	if w.status != 200 || w.write.Before(began.Add(limit)) || w.write.After(time.Now().Add(limit)) {
		t.Errorf("status %d, to be written within %v", w.status, w.write.Sub(began))
	}
}

// deadlines is a ResponseWriter that knows when it has to be done.
type deadlines struct {
	sink
	write time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.write = at
	return nil
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	mustNew(t, Config{Service: &fake{}, Metrics: registry})
	for name, c := range map[string]Config{
		"metrics that are registered already": {Metrics: registry},
		"a limit below 0":                     {Limits: Limits{Lines: -1}},
		"a wait below 0":                      {Limits: Limits{Wait: -1}},
		"a page larger than the largest":      {Limits: Limits{Page: 11, MaxPage: 10}},
		"bodies that hold no request":         {Limits: Limits{Bodies: 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := New(c); drainmark.KindOf(err) != drainmark.KindMisconfigured {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	got, err := Limits{MaxPage: 50}.withDefaults()
	want := Limits{
		Message: 262_144, Many: 8_388_608, Lines: 10_000, Bodies: 268_435_456, Page: 50, MaxPage: 50, Named: 1000,
		Wait: time.Minute, Request: 10 * time.Second, Heartbeat: 15 * time.Second, Write: 10 * time.Second, RetryAfter: time.Second,
	}
	if err != nil || got != want {
		t.Errorf("they are %+v, %v; want %+v", got, err, want)
	}
}

func TestProblemsAndBack(t *testing.T) {
	t.Parallel()
	statuses := map[drainmark.Kind]int{
		"invalid": 400, "invalid-receipt": 400, "receipt-expired": 410, "unauthenticated": 401, "forbidden": 403, "not-found": 404, "method": 405, "media-type": 415, "too-large": 413,
		"conflict": 409, "not-reached": 412, "backlog-full": 503, "disk-full": 503, "too-many": 503, "rate-limited": 429, "unavailable": 503, "outcome-unknown": 504,
		"misconfigured": 500, "internal": 500,
	}
	if len(problems) != len(statuses) {
		t.Errorf("%d kinds of problem, want %d", len(problems), len(statuses))
	}
	for kind, status := range statuses {
		p := ProblemOf(drainmark.Errorf(kind, "what happened"))
		if p.Status != status || p.Type != "urn:drainmark:problem:"+string(kind) || p.Title == "" {
			t.Errorf("%s is %+v", kind, p)
		}
		back := p.Err()
		if back.Kind != kind || (back.Message == "what happened") == (kind == drainmark.KindInternal) {
			t.Errorf("%s comes back as %s: %s", kind, back.Kind, back.Message)
		}
	}
	if p := ProblemOf(drainmark.Errorf("new", "what happened")); p.Status != 500 || p.Type != "urn:drainmark:problem:internal" {
		t.Errorf("a kind that nobody knows is %+v", p)
	}
	if err := (Problem{Type: "about:blank"}).Err(); err.Kind != drainmark.KindInternal {
		t.Errorf("a problem that nobody knows is %s", err.Kind)
	}
}

// An error may contain what a client has sent, but not all of a long text.
func TestDetailsAreShort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		strings.Repeat("x", 400):       strings.Repeat("x", 400),
		strings.Repeat("x", 401):       strings.Repeat("x", 397) + "…",
		strings.Repeat("é", 201):       strings.Repeat("é", 198) + "…",
		strings.Repeat("x", 9_000_000): strings.Repeat("x", 397) + "…",
		strings.Repeat("\x80", 500):    "…",
	} {
		if got := ProblemOf(drainmark.Errorf(drainmark.KindInvalid, "%s", text)).Detail; got != want {
			t.Errorf("%d bytes are %q", len(text), got)
		}
	}
	s := serve(t, &fake{})
	a := s.do("POST", messagesPath, `{"body":`+strings.Repeat("9", 1_000_000)+"}\n", "Content-Type: "+manyType)
	if a.wantProblem(t, drainmark.KindInvalid); len(a.body) > 1000 {
		t.Errorf("the problem has %d bytes", len(a.body))
	}
}

func TestNoCORS(t *testing.T) {
	t.Parallel()
	a := serve(t, holds(0, 1)).do("GET", messagesPath, "", "Origin: https://elsewhere.example")
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("the answer has %s", name)
		}
	}
	a.want(t, 200)
}

package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	many := Config{}
	for range maxURLs + 1 {
		many.Backends = append(many.Backends, &url.URL{Scheme: "http", Host: "a"})
	}
	fine := Config{}.with(t, "http://a")
	taken := prometheus.NewRegistry()
	if _, err := New(Config{Metrics: taken}.with(t, "http://a")); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Config{
		"0 backends":             {},
		"65 backends":            many,
		"http://HOST:PORT":       Config{}.with(t, "a:80"),
		"nothing more":           Config{}.with(t, "http://me:secret@a"),
		`"b": its URL`:           Config{}.with(t, "http://b/path"),
		`"c": its URL`:           Config{}.with(t, "http://c/?q=1"),
		`"d" is named twice`:     Config{}.with(t, "http://d", "http://d/"),
		`"e" is named twice`:     Config{}.with(t, "http://e", "dns+http://e"),
		`"f" is named twice`:     Config{}.with(t, "dns+https://f", "dns+http://f"),
		`"g": its URL`:           Config{}.with(t, "dns+ftp://g"),
		`":8080": its URL`:       Config{}.with(t, "dns+http://:8080"),
		"for all addresses of a": Config{}.with(t, "dns://h:8080"),
		`"i:65536": its port`:    Config{}.with(t, "http://i:65536"),
		`"j:0": its port`:        Config{}.with(t, "dns+http://j:0"),
		"none can be below 0":    {Backends: fine.Backends, Limits: Limits{Idle: -1}},
		`prefix "a"`:             {Backends: fine.Backends, PathPrefix: "a"},
		`prefix "/a/../b"`:       {Backends: fine.Backends, PathPrefix: "/a/../b"},
		`prefix "/a b"`:          {Backends: fine.Backends, PathPrefix: "/a b"},
		`prefix "/v1/x"`:         {Backends: fine.Backends, PathPrefix: "/v1/x"},
		"registering the front":  {Backends: fine.Backends, Metrics: taken},
		`prefix "//example.org"`: {Backends: fine.Backends, PathPrefix: "//example.org"},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}

func TestBehindAPath(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Link", `</v1/logs/guestbook/messages?after=2>; rel="next", </v1/logs>; rel="up"`)
		w.Header().Add("Link", `<?after=2>; rel="next"`)
		_, _ = io.WriteString(w, r.RequestURI)
	})
	s := startSite(t, Config{PathPrefix: "/drain/mark/"}, backend.URL)
	for _, prefix := range []string{"/drain/mark", ""} { // not stripped by what is in front, and stripped
		a := do(t, "GET", s.URL+prefix+"/v1/logs/a%2Fb?after=0", "")
		if a.body != "/v1/logs/a%2Fb?after=0" {
			t.Errorf("the backend was asked for %s", a.body)
		}
		want := `</drain/mark/v1/logs/guestbook/messages?after=2>; rel="next", </drain/mark/v1/logs>; rel="up" <?after=2>; rel="next"`
		if got := strings.Join(a.Header["Link"], " "); got != want {
			t.Errorf("Link: %s", got)
		}
		if a := do(t, "GET", s.URL+prefix+"/", ""); !strings.Contains(a.body, "<title>") {
			t.Errorf("the page is %d %q", a.StatusCode, a.body)
		}
	}
	if a := do(t, "GET", s.URL+"/drain/mark?a=b", ""); a.StatusCode != http.StatusPermanentRedirect || a.Header.Get("Location") != "/drain/mark/?a=b" {
		t.Errorf("%d to %q", a.StatusCode, a.Header.Get("Location"))
	}
	for _, path := range []string{"//evil.example/drain/mark", "/drain/mark//evil.example", "/%2f%2fevil.example/drain/mark", "/drain/mark%2f..%2f..%2f%2fevil.example",
		"/drain/mark/..//evil.example", `/\evil.example`, "/drain/mark?/@evil.example", "/drain/mark;@evil.example"} {
		a := do(t, "GET", s.URL+path, "")
		if to := a.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/drain/mark/") {
			t.Errorf("%s leads to %q", path, to)
		}
	}
	if a := do(t, "GET", s.URL+"/drain/market", ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("a path that only begins so: %d", a.StatusCode)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	hung, _ := hangs(t)
	failing := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	refusing := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	for name, test := range map[string]struct {
		backends []string
		ready    bool
	}{
		"the backend refuses the host": {[]string{refusing.URL}, false},
		"one backend of three answers": {[]string{dead(t), hung, says(t, "{}").URL}, true},
		"no backend answers":           {[]string{dead(t), hung, failing.URL}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, Config{}, test.backends...)
			ctx := t.Context()
			if !test.ready { // or it would wait for the one that hangs
				limited, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				defer cancel()
				ctx = limited
			}
			if err := s.frontend.Ready(ctx); (err == nil) != test.ready {
				t.Errorf("%v", err)
			}
			for _, b := range s.frontend.pool.list() {
				if n := b.outstanding.Load(); n != 0 {
					t.Errorf("%d requests are under way at %s", n, b.url.Host)
				}
			}
		})
	}
	t.Run("asking finds out that a backend is there again", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, Config{}, says(t, "{}").URL)
		b := s.frontend.pool.list()[0]
		b.suspect(io.EOF)
		if err := s.frontend.Ready(t.Context()); err != nil || b.suspected() {
			t.Errorf("%v, suspected: %v", err, b.suspected())
		}
	})
}

// lockedBuffer is a buffer that a log can be written to.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestMetricsAndLog(t *testing.T) {
	t.Parallel()
	registry, log := prometheus.NewRegistry(), &lockedBuffer{}
	broken := startBreaker(t, 0)
	c := Config{Metrics: registry, Logger: slog.New(slog.NewTextHandler(log, nil))}
	s := startSite(t, c, broken.url, dead(t))
	s.frontend.pool.turn.Store(1)
	do(t, "POST", s.URL+messages, "hello")
	do(t, "GET", s.URL+messages, "")
	broken.mend()
	await(t, "the backend answers again", func() bool { return do(t, "GET", s.URL+messages, "").StatusCode == http.StatusOK })
	if first := testutil.ToFloat64(s.frontend.metrics.attempts.WithLabelValues(strings.TrimPrefix(broken.url, "http://"), "failed")); first != 2 {
		t.Errorf("%v attempts have failed", first)
	}
	text := log.String()
	for _, what := range []string{`level=WARN msg="the backend does not answer"`, `level=INFO msg="the backend answers again"`} {
		if strings.Count(text, what+" backend="+strings.TrimPrefix(broken.url, "http://")) != 1 {
			t.Errorf("the log has not once %s:\n%s", what, text)
		}
	}
	for name, want := range map[string]int{
		"drainmark_frontend_problems_total": 2, "drainmark_frontend_backend_up": 2, "drainmark_frontend_backend_requests_in_flight": 2,
		"drainmark_frontend_attempts_total": 6,
	} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n != want {
			t.Errorf("%s has %d series, %v", name, n, err)
		}
	}
}

func TestABackendWithTLS(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	s := startSite(t, Config{}, secure.URL)
	// Its certificate is not one that is trusted, so nothing was sent.
	if got := do(t, "POST", s.URL+messages, "hello").problem(t); got != "unavailable" {
		t.Errorf("the problem is %s", got)
	}
	s.frontend.pool.list()[0].transport.DialTLSContext = unconnected((&tls.Dialer{
		Config: secure.Client().Transport.(*http.Transport).TLSClientConfig,
	}).DialContext)
	if a := do(t, "POST", s.URL+messages, "hello"); a.body != "hello" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	var unsent unsentError
	if err := error(unsentError{io.EOF}); !errors.As(err, &unsent) || !errors.Is(err, io.EOF) {
		t.Error("an unsentError hides its cause")
	}
}

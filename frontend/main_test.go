package frontend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/internal/httpserve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a frontend behind a real server.
type site struct {
	*httptest.Server
	frontend *Frontend
}

// with adds backends, and a log that is nowhere.
func (c Config) with(t testing.TB, backends ...string) Config {
	t.Helper()
	for _, text := range backends {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Backends = append(c.Backends, u)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// startSite starts a frontend in front of some backends.
func startSite(t testing.TB, c Config, backends ...string) *site {
	t.Helper()
	f, err := New(c.with(t, backends...))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{httptest.NewServer(httpserve.Handler(f, f.limits.Answer)), f}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		f.Close()
	})
	return s
}

// startBackend starts a backend that is a handler.
func startBackend(t testing.TB, serve http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// says is a backend that answers with a text.
func says(t testing.TB, text string) *httptest.Server {
	return startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text)
	})
}

// echoes is a backend that answers with a text and the request's body.
func echoes(t testing.TB, text string) *httptest.Server {
	return startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, text)
		_, _ = w.Write(body)
	})
}

// dead returns the URL of a backend that refuses connections. A socket that does not listen holds its port.
func dead(t testing.TB) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// answer is a response, read whole.
type answer struct {
	*http.Response
	body string
}

// do makes a request on a connection of its own, so that what a test sees does not depend on the one before.
func do(t testing.TB, method, url, body string, header ...string) answer {
	t.Helper()
	a, err := try(method, url, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

func try(method, url, body string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	return answer{response, string(read)}, err
}

// problem reads a problem's type, which must have its status and header.
func (a answer) problem(t testing.TB) string {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("not a problem: %d %s %q", a.StatusCode, a.Header, a.body)
	}
	if p.Status != a.StatusCode || p.Title == "" || p.Detail == "" || strings.Contains(p.Detail, "127.0.0.1") {
		t.Errorf("%d with %+v", a.StatusCode, p)
	}
	if retry := a.Header.Get("Retry-After"); (retry != "") != (a.StatusCode == http.StatusServiceUnavailable) {
		t.Errorf("%d with Retry-After %q", a.StatusCode, retry)
	}
	return strings.TrimPrefix(p.Type, "urn:drainmark:problem:")
}

// breaker is a backend that reads each request whole and then closes the connection without an answer, but answers its
// first requests.
type breaker struct {
	url      string
	mu       sync.Mutex
	answers  int // how many requests it still answers
	received int // requests that were not answered
}

func startBreaker(t testing.TB, answers int) *breaker {
	t.Helper()
	b := &breaker{answers: answers}
	s := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.answers > 0 {
			b.answers--
			return
		}
		b.received++
		panic(http.ErrAbortHandler)
	})
	b.url = s.URL
	return b
}

func (b *breaker) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received
}

// mend lets it answer from now on.
func (b *breaker) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = 1 << 30
}

// await waits until something holds, at most for a minute.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after a minute not yet: %s", what)
		}
	}
}

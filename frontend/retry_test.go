package frontend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/drainmark/drainmark/test/patient"
)

// messages is a path of the API. The answers of these tests' backends do not depend on it.
const messages = "/v1/logs/guestbook/messages"

// failing starts a backend that does not answer in some way, and returns its URL and how often it was reached.
type failing func(testing.TB) (string, func() int)

func refuses(t testing.TB) (string, func() int) { return dead(t), func() int { return 0 } }

func breaks(t testing.TB) (string, func() int) {
	b := startBreaker(t, 0)
	return b.url, b.count
}

func hangs(t testing.TB) (string, func() int) {
	b := startBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	return b.URL, func() int { return 1 }
}

// saysBytes answers with some bytes.
func saysBytes(text string) failing {
	return func(t testing.TB) (string, func() int) {
		b := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		})
		return b.URL, func() int { return 1 }
	}
}

// The outcomes of a request, and what is sent, for TestWhatIsRepeated.
const (
	repeated = "the other backend" // answers
	none     = "unavailable"
	unknown  = "outcome-unknown"
	large    = "more than is held in memory before it is sent"
	bad      = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: what\r\n\r\n"
	gone     = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nDrainmark-Stopping: true\r\nContent-Length: 0\r\n\r\n"
)

// whatIsRepeated says what becomes of a request that a backend does not answer.
var whatIsRepeated = []struct {
	name         string
	first        failing
	method, body string
	key          bool
	want         string
	received     int
}{
	{"a refused connection: GET goes to the next backend", refuses, "GET", "", false, repeated, 0},
	{"a refused connection: HEAD goes to the next backend", refuses, "HEAD", "", false, repeated, 0},
	{"a refused connection: POST with its body goes to the next backend", refuses, "POST", "hello", false, repeated, 0},
	{"a refused connection: POST without a body goes to the next backend", refuses, "POST", "", false, repeated, 0},
	{"a refused connection: DELETE goes to the next backend", refuses, "DELETE", "", false, repeated, 0},
	{"received and not answered: GET goes to the next backend", breaks, "GET", "", false, repeated, 1},
	{"received and not answered: HEAD goes to the next backend", breaks, "HEAD", "", false, repeated, 1},
	{"received and not answered: POST is not repeated", breaks, "POST", "hello", false, unknown, 1},
	{"received and not answered: POST without a body is not repeated", breaks, "POST", "", false, unknown, 1},
	{"received and not answered: POST with a key is not repeated", breaks, "POST", "hello", true, unknown, 1},
	{"received and not answered: DELETE is not repeated", breaks, "DELETE", "", false, unknown, 1},
	{"received and not answered: PUT is not repeated", breaks, "PUT", "hello", false, unknown, 1},
	{"received and not answered: OPTIONS is not repeated", breaks, "OPTIONS", "", false, unknown, 1},
	{"a refused connection: POST with a streamed body goes to the next backend", refuses, "POST", large, false, repeated, 0},
	{"received and not answered: GET with a body goes to the next backend", breaks, "GET", "hello", false, repeated, 1},
	{"received and not answered: GET whose body was streamed is not repeated", breaks, "GET", large, false, none, 1},
	{"received and not answered: POST with a streamed body is not repeated", breaks, "POST", large, false, unknown, 1},
	{"received and not answered: POST with a streamed body and a key is not repeated", breaks, "POST", large, true, unknown, 1},
	{"no answer in time: GET goes to the next backend", hangs, "GET", "", false, repeated, 1},
	{"no answer in time: POST is not repeated", hangs, "POST", "hello", false, unknown, 1},
	{"another protocol: GET goes to the next backend", saysBytes(bad), "GET", "", false, repeated, 1},
	{"another protocol: POST is not repeated", saysBytes(bad), "POST", "hello", false, unknown, 1},
	{"not received, because the backend is stopping: GET goes to the next backend", saysBytes(gone), "GET", "", false, repeated, 1},
	{"not received, because the backend is stopping: POST goes to the next backend", saysBytes(gone), "POST", "hello", false, repeated, 1},
	{"not received, because the backend is stopping: a streamed POST is known not to be done", saysBytes(gone), "POST", large, false, none, 1},
	{"no HTTP: GET goes to the next backend", saysBytes("what?"), "GET", "", false, repeated, 1},
	{"no HTTP: POST is not repeated", saysBytes("what?"), "POST", "hello", false, unknown, 1},
}

// TestWhatIsRepeated has two backends, and the one that does not answer has its turn.
func TestWhatIsRepeated(t *testing.T) {
	t.Parallel()
	for _, test := range whatIsRepeated {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body := test.body
			if body == large {
				body = strings.Repeat(large, 2*smallBody/len(large))
			}
			first, received := test.first(t)
			second := echoes(t, repeated).URL
			limit := time.Minute
			if strings.HasPrefix(test.name, "no answer in time") {
				limit = 500 * time.Millisecond
			}
			patient.Within(t, limit, func(limit time.Duration) error {
				s := startSite(t, Config{Limits: Limits{Answer: limit}}, first, second)
				s.frontend.pool.turn.Store(1)
				var header []string
				if test.key {
					header = []string{"Idempotency-Key", "k"}
				}
				a := do(t, test.method, s.URL+messages, body, header...)
				switch {
				case test.want != repeated:
					if got := a.problem(t); got != test.want {
						return fmt.Errorf("the problem is %s", got)
					}
				case a.StatusCode != http.StatusOK || test.method != "HEAD" && a.body != repeated+body:
					return fmt.Errorf("%d %q", a.StatusCode, a.body)
				}
				return nil
			})
			if got := received(); got != test.received {
				t.Errorf("the first backend has received the request %d times", got)
			}
		})
	}
}

// A request on a connection that was used before is what http.Transport likes to send again by itself.
func TestARequestThatChangesSomethingIsSentOnceOnAUsedConnection(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"POST", "DELETE", "PUT"} {
		for _, key := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
			for _, body := range []string{"", "hello"} {
				t.Run(method+" "+body+" "+key, func(t *testing.T) {
					t.Parallel()
					b := startBreaker(t, 1)
					s := startSite(t, Config{}, b.url)
					do(t, "GET", s.URL+messages, "")
					var header []string
					if key != "" {
						header = []string{key, "k"}
					}
					if got := do(t, method, s.URL+messages, body, header...).problem(t); got != "outcome-unknown" {
						t.Errorf("the problem is %s", got)
					}
					if b.count() != 1 {
						t.Errorf("received %d times", b.count())
					}
				})
			}
		}
	}
}

func TestNoBackendAnswers(t *testing.T) {
	t.Parallel()
	broken := startBreaker(t, 0)
	s := startSite(t, Config{}, dead(t), broken.url, dead(t))
	for _, method := range []string{"GET", "HEAD", "DELETE", "POST"} {
		a := do(t, method, s.URL+messages, "")
		if method == "HEAD" {
			if a.StatusCode != http.StatusServiceUnavailable || a.body != "" {
				t.Errorf("HEAD: %d %q", a.StatusCode, a.body)
			}
			continue
		}
		want := "unavailable"
		if method != "GET" { // the broken one has received it
			want = "outcome-unknown"
		}
		if got := a.problem(t); got != want {
			t.Errorf("%s: %s", method, got)
		}
	}
	down := startSite(t, Config{}, dead(t), dead(t))
	events := do(t, "GET", down.URL+"/v1/logs/guestbook/events", "", "Accept", "text/event-stream")
	if events.StatusCode != 200 || events.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(events.body, "\nretry: ") {
		t.Errorf("who wants events, and would give up for ever after an error, gets %d %q", events.StatusCode, events.body)
	}
	for range 3 {
		if got := do(t, "POST", down.URL+messages, "hello").problem(t); got != "unavailable" {
			t.Errorf("POST to backends that are down: %s", got)
		}
	}
}

// The frontend has its own table of problems, so that it need not import the API. It must say the same.
func TestProblemsAreTheAPIsOwn(t *testing.T) {
	t.Parallel()
	for _, k := range []*kind{invalid, tooMany, unavailable, outcomeUnknown} {
		p := api.ProblemOf(drainmark.Errorf(drainmark.Kind(k.name), "x"))
		if p.Type != api.ProblemPrefix+k.name || p.Title != k.title || p.Status != k.status {
			t.Errorf("%+v is %+v in the API", k, p)
		}
	}
	s := startSite(t, Config{}, dead(t))
	var p api.Problem
	if err := json.Unmarshal([]byte(do(t, "GET", s.URL+"/v1/x", "").body), &p); err != nil || p.Err().Kind != drainmark.KindUnavailable {
		t.Errorf("%+v, %v", p, err)
	}
}

// chosen lets a pool choose n times, with all requests staying under way, and returns the names of the backends.
func chosen(p *pool, n int) string {
	var names []string
	for range n {
		b := p.next(nil)
		b.outstanding.Add(1)
		names = append(names, b.url.Host)
	}
	return strings.Join(names, " ")
}

func testPool(t *testing.T) *pool {
	return startSite(t, Config{}, "http://a", "http://b", "http://c").frontend.pool
}

func TestChoosing(t *testing.T) {
	t.Parallel()
	t.Run("idle backends take turns", func(t *testing.T) {
		t.Parallel()
		p := testPool(t)
		seen := map[string]int{}
		for range 30 {
			seen[p.next(nil).url.Host]++
		}
		if seen["a"] != 10 || seen["b"] != 10 || seen["c"] != 10 {
			t.Errorf("%v", seen)
		}
	})
	t.Run("the backend with the fewest requests under way is next", func(t *testing.T) {
		t.Parallel()
		p := testPool(t)
		p.list()[0].outstanding.Store(3)
		p.list()[1].outstanding.Store(1)
		if got := chosen(p, 3); got != "c b c" && got != "c c b" {
			t.Errorf("chosen: %s", got)
		}
	})
	t.Run("each backend is tried once", func(t *testing.T) {
		t.Parallel()
		p := testPool(t)
		var tried []*backend
		for range p.list() {
			b := p.next(tried)
			if slices.Contains(tried, b) {
				t.Errorf("%s is tried twice", b.name)
			}
			tried = append(tried, b)
		}
		if b := p.next(tried); b != nil {
			t.Errorf("%s is tried once more", b.name)
		}
	})
}

// TestRest needs no network, so it has the time of its own.
func TestRest(t *testing.T) {
	t.Parallel()
	newTestPool := func(t *testing.T) *pool {
		c := Config{}
		f, err := New(c.with(t, "http://a", "http://b"))
		if err != nil {
			t.Fatal(err)
		}
		return f.pool
	}
	request, err := http.NewRequest("GET", "http://a/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	often := func(p *pool) (a int) {
		for range 100 {
			if p.next(nil) == p.list()[0] {
				a++
			}
		}
		return a
	}
	t.Run("a backend that has failed is passed over, and then gets one request to prove itself", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newTestPool(t)
			a := p.list()[0]
			for range 20 { // many requests fail together, which is one failure
				a.failed(request, unsentError{io.EOF})
			}
			rest := firstRest
			for range 8 {
				time.Sleep(rest - time.Nanosecond)
				if n := often(p); n != 0 {
					t.Errorf("within its rest of %v it was chosen %d times", rest, n)
				}
				time.Sleep(time.Nanosecond)
				if n := often(p); n != 1 {
					t.Errorf("after its rest of %v it was chosen %d times", rest, n)
				}
				a.failed(request, unsentError{io.EOF})
				rest = min(2*rest, longestRest)
			}
			a.answered()
			if n := often(p); n != 50 {
				t.Errorf("after it has answered it was chosen %d times", n)
			}
			a.failed(request, unsentError{io.EOF})
			time.Sleep(firstRest)
			if n := often(p); n != 1 {
				t.Errorf("after a new rest it was chosen %d times", n)
			}
		})
	})
	t.Run("when all have failed, the one that has rested most is tried", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newTestPool(t)
			p.list()[0].failed(request, unsentError{io.EOF})
			time.Sleep(firstRest / 2)
			p.list()[1].failed(request, unsentError{io.EOF})
			if n := often(p); n != 100 {
				t.Errorf("it was chosen %d times", n)
			}
		})
	})
}

func TestABackendComesBack(t *testing.T) {
	t.Parallel()
	broken := startBreaker(t, 0)
	s := startSite(t, Config{}, broken.url, says(t, "fine").URL)
	await(t, "the first backend has failed", func() bool {
		if a := do(t, "GET", s.URL+messages, ""); a.body != "fine" {
			t.Fatalf("%d %q", a.StatusCode, a.body)
		}
		return broken.count() > 0
	})
	first := s.frontend.pool.list()[0]
	if !first.suspected() {
		t.Error("the backend that has failed is not suspected")
	}
	broken.mend()
	await(t, "the first backend answers again", func() bool {
		do(t, "GET", s.URL+messages, "")
		return !first.suspected()
	})
}

// A backend that says that it is stopping gets no more requests while there is another, is used again when it no longer
// says so, and its client is told nothing.
func TestABackendThatIsStopping(t *testing.T) {
	t.Parallel()
	var leaves atomic.Bool
	var asked, connections atomic.Int64
	first := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if leaves.Load() {
			w.Header().Set(stoppingHeader, "true")
		}
		_, _ = io.WriteString(w, "first")
	}))
	first.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			connections.Add(1)
		case http.StateClosed:
			connections.Add(-1)
		}
	}
	first.Start()
	t.Cleanup(first.Close)
	var log lockedBuffer
	s := startSite(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, first.URL, echoes(t, "second").URL)
	await(t, "a connection to the first is kept", func() bool {
		do(t, "POST", s.URL+messages, "")
		return connections.Load() > 0
	})
	leaves.Store(true)
	await(t, "it says that it is stopping", func() bool {
		if a := do(t, "POST", s.URL+messages, ""); a.Header.Get(stoppingHeader) != "" {
			t.Error("the client is told")
		}
		return strings.Contains(log.String(), "the backend is stopping")
	})
	await(t, "its connections are closed", func() bool { return connections.Load() == 0 })
	before := asked.Load()
	const requests = 50
	for range requests {
		do(t, "POST", s.URL+messages, "")
	}
	if n := asked.Load() - before; n > requests/2 {
		t.Errorf("it has got %d of %d requests", n, requests)
	}
	leaves.Store(false)
	await(t, "it is asked again", func() bool {
		do(t, "POST", s.URL+messages, "")
		return strings.Contains(log.String(), "the backend answers again")
	})
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("it is said not to answer: %s", log.String())
	}
}

// closing is a connection that tells when it is closed on this side.
type closing struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A connection that the backend has closed between two requests, which http.Transport notices when it has just chosen
// it, is like one that was refused. It says so only in words.
func TestAConnectionThatWasClosedBeforeTheRequestIsUnsent(t *testing.T) {
	t.Parallel()
	first := echoes(t, "first")
	s := startSite(t, Config{}, first.URL, echoes(t, "second").URL)
	p := s.frontend.pool
	var made *closing
	p.list()[0].transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		made = &closing{Conn: c, closed: make(chan struct{})}
		return made, err
	}
	send := func(trace *httptrace.ClientTrace) string {
		t.Helper()
		p.turn.Store(1)
		ctx := httptrace.WithClientTrace(t.Context(), trace)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, messages, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		body, err := io.ReadAll(a.Body)
		if err != nil {
			t.Error(err)
		}
		return string(body)
	}
	put := make(chan error, 1)
	if got := send(&httptrace.ClientTrace{PutIdleConn: func(err error) { put <- err }}); got != "firsthello" {
		t.Fatalf("the first backend answers %q", got)
	}
	if err := <-put; err != nil {
		t.Fatal(err)
	}
	reused := false
	got := send(&httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if c.Reused {
			reused = true
			first.CloseClientConnections()
			<-made.closed
		}
	}})
	if !reused || got != "secondhello" {
		t.Errorf("on a used connection (%v) that was closed: %q", reused, got)
	}
}

package frontend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/httpserve"
	"github.com/drainmark/drainmark/test/patient"
)

func TestARequestArrivesAsItWas(t *testing.T) {
	t.Parallel()
	requests := make(chan *http.Request, 1)
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		requests <- r
	})
	s := startSite(t, Config{}, backend.URL)
	const target = "/v1/logs//a%2Fb/../messages?a=1;b=%zz&c=%20"
	do(t, "POST", s.URL+target, "hello", "Content-Type", "text/x", "Idempotency-Key", `"k"`, "Prefer", "wait=60",
		"Drainmark-Receipt", "r1", "Drainmark-Receipt", "r2", "Last-Event-ID", "7", "Traceparent", "00-1", "Tracestate", "a=1",
		"Drainmark-Header-X_y", "a  b", "Drainmark-Header-X_y", "c", "ce-id", "a%20b", "Accept", "application/cloudevents-batch+json", "If-None-Match", `W/"x"`,
		"Accept-Encoding", "br", "X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "bad", "X-Forwarded-Proto", "gopher",
		"Forwarded", "for=6.6.6.6", "Connection", "X-Hop, Upgrade", "X-Hop", "1", "Te", "gzip", "Upgrade", "h2c", "Proxy-Authorization", "secret")
	r := <-requests
	if r.RequestURI != target || r.Method != "POST" || "http://"+r.Host != backend.URL || r.ContentLength != 5 {
		t.Errorf("%s %s at %s with %d bytes", r.Method, r.RequestURI, r.Host, r.ContentLength)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != "hello" {
		t.Errorf("the body is %q", body)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/x", "Idempotency-Key": `"k"`, "Prefer": "wait=60", "Drainmark-Receipt": "r1, r2", "Last-Event-ID": "7",
		"Traceparent": "00-1", "Tracestate": "a=1", "Drainmark-Header-X_y": "a  b, c", "Ce-Id": "a%20b", "Accept": "application/cloudevents-batch+json", "If-None-Match": `W/"x"`, "Accept-Encoding": "br",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": strings.TrimPrefix(s.URL, "http://"), "X-Forwarded-Proto": "http", "Forwarded": "",
		"Connection": "", "X-Hop": "", "Te": "", "Upgrade": "", "Proxy-Authorization": "",
	} {
		if got := strings.Join(r.Header.Values(name), ", "); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
}

func TestAnAnswerArrivesAsItWas(t *testing.T) {
	t.Parallel()
	header := map[string]string{
		"Content-Type": "application/problem+json", "Drainmark-Receipt": strings.Repeat("r", 5600), "Etag": `W/"guestbook/1"`,
		"Link": `</v1/logs/guestbook/messages?after=2>; rel="next"`, "Retry-After": "7", "Preference-Applied": "wait=3", "Cache-Control": "no-store",
		"Allow": "GET", "X-Content-Type-Options": "nosniff",
	}
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		if accepted := r.Header.Get("Accept-Encoding"); accepted != "" {
			t.Errorf("the backend may answer in %s, which the client has not said", accepted)
		}
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Proxy-Authenticate", "what")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"type":"x"}`)
	})
	s := startSite(t, Config{}, backend.URL)
	a := do(t, "GET", s.URL+messages, "")
	if a.StatusCode != http.StatusServiceUnavailable || a.body != `{"type":"x"}` || a.ContentLength != int64(len(a.body)) {
		t.Errorf("%d %q of %d bytes", a.StatusCode, a.body, a.ContentLength)
	}
	for name, want := range header {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	for _, name := range []string{"Keep-Alive", "Proxy-Authenticate"} {
		if a.Header.Get(name) != "" {
			t.Errorf("%s is passed on", name)
		}
	}
	if s.frontend.pool.list()[0].suspected() {
		t.Error("a backend that says that it is not available has answered all the same")
	}
}

func TestEventsArriveAtOnce(t *testing.T) {
	t.Parallel()
	patient.Within(t, 50*time.Millisecond, func(limit time.Duration) error {
		return eventsArrive(t, Limits{Client: limit, Answer: 4 * limit})
	})
}

// eventsArrive has a backend send events for longer than any limit for a request, and says what is wrong.
func eventsArrive(t *testing.T, limits Limits) error {
	t.Helper()
	next := make(chan string)
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event := <-next:
				_, _ = io.WriteString(w, event+"\n")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	s := startSite(t, Config{Limits: limits}, backend.URL)
	response, err := http.Get(s.URL + "/v1/logs/guestbook/events") // returns before there is an event
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	tick := time.NewTicker(limits.Answer / 10)
	defer tick.Stop()
	for i := range 20 {
		<-tick.C
		event := fmt.Sprint("event ", i)
		select {
		case next <- event:
		case <-time.After(limits.Answer):
			return errors.New("the backend's stream has ended")
		}
		if line, err := lines.ReadString('\n'); err != nil || line != event+"\n" {
			return fmt.Errorf("%q, %v", line, err)
		}
	}
	return nil
}

func TestABodyIsStreamed(t *testing.T) {
	t.Parallel()
	first := make(chan string, 1)
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		part := make([]byte, smallBody)
		_, _ = io.ReadFull(r.Body, part)
		first <- string(part)
		rest, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintln(w, rest, err)
	})
	s := startSite(t, Config{}, backend.URL)
	body, to := io.Pipe()
	go func() {
		part := strings.Repeat("part", smallBody/4)
		_, _ = io.WriteString(to, part)
		if got := <-first; got != part { // it has arrived, and the client has not sent the rest
			t.Errorf("the first part is %q", got)
		}
		_, _ = to.Write(make([]byte, 1<<20))
		_ = to.Close()
	}()
	response, err := http.Post(s.URL+messages, "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if read, _ := io.ReadAll(response.Body); string(read) != "1048576 <nil>\n" {
		t.Errorf("the rest: %q", read)
	}
}

func TestInformationalAnswersAndContinue(t *testing.T) {
	t.Parallel()
	var reads sync.Map
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		body, _ := io.ReadAll(r.Body)
		reads.Store(string(body), true)
		w.WriteHeader(http.StatusAccepted)
	})
	s := startSite(t, Config{}, backend.URL)
	var codes []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { codes = append(codes, code); return nil },
	})
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+messages, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	response, err := (&http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, ok := reads.Load("hello"); !ok || response.StatusCode != http.StatusAccepted || len(codes) < 2 || codes[0] != http.StatusEarlyHints {
		t.Errorf("%d, after %v", response.StatusCode, codes)
	}
}

func TestAClientThatIsGone(t *testing.T) {
	t.Parallel()
	arrived, gone := make(chan struct{}), make(chan struct{})
	backend := startBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	s := startSite(t, Config{}, backend.URL)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+messages, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-arrived; cancel() }()
	if response, err := http.DefaultClient.Do(r); err == nil {
		_ = response.Body.Close()
		t.Fatal("there is an answer")
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Fatal("the backend still works for a client that is gone")
	}
	b := s.frontend.pool.list()[0]
	await(t, "nothing is under way", func() bool { return b.outstanding.Load() == 0 })
	if b.suspected() {
		t.Error("the backend is blamed")
	}
}

// dialSite opens a connection to a site, for what http.Client does not do.
func dialSite(t *testing.T, s *site) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

func TestAClientThatDoesNotSendItsBody(t *testing.T) {
	t.Parallel()
	for name, rest := range map[string]string{
		"a body that stops coming":   "Content-Length: 10\r\n\r\nhello",
		"a large one":                "Content-Length: 10000\r\n\r\nhello",
		"a body that is not chunked": "Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := startBackend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
			s := startSite(t, Config{}, backend.URL)
			conn := dialSite(t, s)
			_, _ = io.WriteString(conn, "POST "+messages+" HTTP/1.1\r\nHost: x\r\n"+rest)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if got := (answer{response, string(body)}).problem(t); got != "invalid" {
				t.Errorf("the problem is %s", got)
			}
			if s.frontend.pool.list()[0].suspected() {
				t.Error("the backend is blamed")
			}
		})
	}
}

func TestAClientThatDoesNotReadItsAnswer(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	s := startSite(t, Config{Limits: Limits{Client: 100 * time.Millisecond}}, backend.URL)
	_, _ = io.WriteString(dialSite(t, s), "GET "+messages+" HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-over:
	case <-time.After(time.Minute):
		t.Fatal("the answer is still being written")
	}
}

// A backend may answer before it has the whole body, when that is too large for instance.
func TestAnEarlyAnswer(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	s := startSite(t, Config{}, backend.URL)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, size := range []int{1 << 10, 200 << 10, 10 << 20} {
		for range 10 {
			response, err := client.Post(s.URL+messages, "text/plain", strings.NewReader(strings.Repeat("x", size)))
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusRequestEntityTooLarge || string(body) != "too large\n" {
				t.Fatalf("%d bytes: %d %q, %v", size, response.StatusCode, body, err)
			}
		}
	}
}

// follow has a backend send an event to a client, and nothing more until it is cut off.
func follow(t *testing.T, c Config) (backend *httptest.Server, events *http.Response, err error) {
	t.Helper()
	backend = startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	events, err = http.Get(startSite(t, c, backend.URL).URL + "/v1/logs/guestbook/events")
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = events.Body.Close() })
	_, err = io.ReadFull(events.Body, make([]byte, len("id: 1\n\n")))
	return backend, events, err
}

func TestTheEndOfAnEventStream(t *testing.T) {
	t.Parallel()
	t.Run("a backend that dies cuts the stream", func(t *testing.T) {
		t.Parallel()
		backend, events, err := follow(t, Config{})
		if err != nil {
			t.Fatal(err)
		}
		backend.CloseClientConnections()
		if rest, err := io.ReadAll(events.Body); err == nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
	t.Run("a frontend that stops ends the stream in good order", func(t *testing.T) {
		t.Parallel()
		patient.Within(t, 50*time.Millisecond, func(limit time.Duration) error {
			stopping, stop := context.WithCancel(t.Context())
			defer stop()
			_, events, err := follow(t, Config{Stopping: stopping, Limits: Limits{Client: limit}})
			if err != nil {
				return err
			}
			<-time.After(2 * limit) // a silence longer than the client gets for a write
			stop()
			if rest, err := io.ReadAll(events.Body); err != nil || len(rest) > 0 {
				return fmt.Errorf("%q, %v", rest, err)
			}
			return nil
		})
	})
}

func TestAnAnswerThatBreaksOffIsCutOff(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "not all")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	s := startSite(t, Config{}, backend.URL)
	if a, err := try("GET", s.URL+messages, ""); err == nil {
		t.Errorf("%d %q passes for whole", a.StatusCode, a.body)
	}
	if b := s.frontend.pool.list()[0]; b.suspected() {
		t.Error("the backend is suspected, though clients that read slowly can have it do that")
	} else {
		await(t, "nothing is under way", func() bool { return b.outstanding.Load() == 0 })
	}
}

func TestAHeaderThatIsTooLarge(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", 2*maxAnswerHeader))
	})
	s := startSite(t, Config{}, backend.URL)
	if got := do(t, "GET", s.URL+messages, "").problem(t); got != "unavailable" {
		t.Errorf("the problem is %s", got)
	}
}

// A client that only says that a body follows gets no backend to wait for it, and no memory.
func TestABodyThatIsOnlyAnnounced(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	backend := startBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	s := startSite(t, Config{Limits: Limits{Bodies: 3*smallBody + 5}}, backend.URL)
	begin := strings.Repeat("x", smallBody-1) // which gives them four seconds more than the two that everybody has
	for range 3 {
		_, _ = io.WriteString(dialSite(t, s), "POST "+messages+" HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n"+begin)
	}
	await(t, "the three have their memory", func() bool { return s.frontend.bodies.Used() == 3*smallBody })
	do(t, "POST", s.URL+messages, "hello")
	if a := do(t, "POST", s.URL+messages, "hello!"); a.problem(t) != "too-many" || a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%s %s", a.Status, a.body)
	}
	await(t, "their memory is given back", func() bool { return s.frontend.bodies.Used() == 0 })
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests reached the backend", n)
	}
}

func TestAQueryThatIsTooLong(t *testing.T) {
	t.Parallel()
	s := startSite(t, Config{}, says(t, "fine").URL)
	if a := do(t, "GET", s.URL+messages+"?"+strings.Repeat("a", maxQuery), ""); a.StatusCode != http.StatusOK {
		t.Error(a.Status)
	}
	a := do(t, "GET", s.URL+messages+"?"+strings.Repeat("a", maxQuery+1), "")
	if a.StatusCode != http.StatusRequestURITooLong || a.problem(t) != "too-large" {
		t.Errorf("%s %s", a.Status, a.body)
	}
}

// One client can ask for an answer that cannot be read. That says nothing about the backend, which answers others.
func TestAnAnswerThatCannotBeRead(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", maxAnswerHeader)
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.Header().Set("Link", large)
		}
		_, _ = io.WriteString(w, "fine")
	})
	var log lockedBuffer
	s := startSite(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, backend.URL)
	b := s.frontend.pool.list()[0]
	do(t, "GET", s.URL+messages, "")
	for range 20 {
		if a := do(t, "GET", s.URL+messages+"?large", ""); a.problem(t) != "unavailable" {
			t.Errorf("%s %s", a.Status, a.body)
		}
		if b.suspected() {
			t.Fatal("the backend is suspected")
		}
	}
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("the log has %s", log.String())
	}
	b.answeredAt.Store(never) // it has not answered anybody for long
	do(t, "GET", s.URL+messages+"?large", "")
	if !b.suspected() {
		t.Error("what answers nobody so that it can be read is not suspected")
	}
}

// A header that the server adds to every answer is not there twice.
func TestHeadersForBrowsersAreThereOnce(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(httpserve.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), time.Minute))
	t.Cleanup(backend.Close)
	a := do(t, "GET", startSite(t, Config{}, backend.URL).URL+messages, "")
	for _, name := range []string{"Content-Security-Policy", "Cross-Origin-Resource-Policy", "X-Content-Type-Options"} {
		if values := a.Header.Values(name); len(values) != 1 {
			t.Errorf("%s: %q", name, values)
		}
	}
}

package client

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a server that answers each request with the next of its steps, and every further one with the last.
type script struct {
	*httptest.Server
	mu       sync.Mutex
	steps    []http.HandlerFunc
	requests []received
}

// received is a request that the script has got.
type received struct {
	*http.Request
	body string
	at   time.Time
}

func startScript(t testing.TB, steps ...http.HandlerFunc) *script {
	t.Helper()
	s := &script{steps: steps}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	s.mu.Lock()
	s.requests = append(s.requests, received{r, string(body), time.Now()})
	step := s.steps[min(len(s.requests), len(s.steps))-1]
	s.mu.Unlock()
	step(w, r)
}

func (s *script) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.requests...)
}

// says answers with a status, headers as "Name: value", and a body.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// problem answers as the API says no.
func problem(status int, kind Kind, headers ...string) http.HandlerFunc {
	body := fmt.Sprintf(`{"type":"urn:drainmark:problem:%s","title":"a title","status":%d,"detail":"a detail"}`, kind, status)
	return says(status, body, append(headers, "Content-Type: application/problem+json")...)
}

// accepts answers as the API does to an append, or a clear.
func accepts(receipt string, count int) http.HandlerFunc {
	return says(202, fmt.Sprintf(`{"receipt":%q,"count":%d,"state":"accepted"}`, receipt, count))
}

// cut closes the connection, without an answer or after a part of one.
func cut(part string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer connection.Close()
		_, _ = buffered.WriteString(part)
		_ = buffered.Flush()
	}
}

// hangs does not answer until the client has gone.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// quick is a Retry for tests.
func quick(attempts int) Retry {
	return Retry{Attempts: attempts, Least: time.Millisecond, Most: 5 * time.Millisecond}
}

func newClient(t testing.TB, config Config) *Client {
	t.Helper()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// streams answers with an event stream of some texts, sends each at once, and then closes the connection.
func streams(texts ...string) http.HandlerFunc {
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer connection.Close()
		for _, text := range append([]string{head}, texts...) {
			if writeFlush(buffered.Writer, text) != nil {
				return
			}
		}
	}
}

func writeFlush(w *bufio.Writer, text string) error {
	if _, err := w.WriteString(text); err != nil {
		return err
	}
	return w.Flush()
}

// eventOf is a message as an event.
func eventOf(position int) string {
	return fmt.Sprintf("id: %d\nevent: message\ndata: %s\n\n", position, messageOf(position))
}

func messageOf(position int) string {
	return fmt.Sprintf(`{"position":%d,"id":"0-ab-%d","body":"m%[1]d","content_type":"text/plain",`+
		`"accepted_at":"2026-03-01T10:00:00.000001Z","persisted_at":"2026-03-01T10:00:00.004000Z"}`, position, position)
}

// pageOf answers with a page of a log.
func pageOf(log string, last, count int, positions ...int) http.HandlerFunc {
	var messages []string
	for _, position := range positions {
		messages = append(messages, messageOf(position))
	}
	return says(200, fmt.Sprintf(`{"log":%q,"messages":[%s],"last_position":%d,"count":%d}`, log, strings.Join(messages, ","), last, count),
		`ETag: W/"tag"`)
}

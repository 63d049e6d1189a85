package httpserve

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestARequestWhoseBodyDoesNotComeIsAnswered(t *testing.T) {
	t.Parallel()
	announced := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n"
	chunked := "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	expects := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n"
	for name, c := range map[string]struct {
		handler http.Handler
		request string
		status  int
		detail  string
	}{
		"it is refused at once":                   {refuses, announced, 413, "refused"},
		"chunked, it is refused at once":          {refuses, chunked, 413, "refused"},
		"it waits for a word, and is refused":     {refuses, expects, 413, "refused"},
		"it does not begin":                       {reads, announced, 400, "too slowly: 0 bytes"},
		"chunked, it does not begin":              {reads, chunked, 400, "too slowly: 0 bytes"},
		"it stops":                                {reads, announced + "abc", 400, "too slowly: 3 bytes"},
		"chunked, it stops":                       {reads, chunked + "3\r\nabc\r\n", 400, "too slowly: 3 bytes"},
		"a GET's":                                 {reads, strings.Replace(announced, "POST", "GET", 1), 400, "too slowly"},
		"a handler that answers nothing":          {http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), announced, 200, ""},
		"a handler that knows no Content-Length":  {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }), announced, 200, "x"},
		"the multiplexer finds nothing for it":    {http.NewServeMux(), announced, 404, "not found"},
		"a handler that sends its answer in part": {flushes, announced, 200, "in parts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := start(t, Config{Handler: c.handler}).dial(t)
			send(t, conn, c.request)
			from := bufio.NewReader(conn)
			answer, body := receive(t, from)
			if answer.StatusCode != c.status || !strings.Contains(body, c.detail) {
				t.Errorf("%d %q, not %d %q", answer.StatusCode, body, c.status, c.detail)
			}
			expectEnd(t, from)
		})
	}
}

var flushes = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "in ")
	_ = http.NewResponseController(w).Flush()
	_, _ = io.WriteString(w, "parts")
})

func TestABodyThatTricklesIsRefused(t *testing.T) {
	t.Parallel()
	conn := start(t, Config{Handler: reads}).dial(t)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = io.WriteString(conn, "x")
			}
		}
	}()
	if answer, body := receive(t, bufio.NewReader(conn)); answer.StatusCode != 400 || !strings.Contains(body, "too slowly") {
		t.Errorf("%d %q", answer.StatusCode, body)
	}
}

// The deadline is looked at, not waited for: how long a test takes says nothing on a busy machine.
func TestABodyHasTheTimeThatItEarns(t *testing.T) {
	t.Parallel()
	began := time.Now()
	for received, want := range map[int64]time.Duration{
		0: 2 * time.Second, 100: 2*time.Second + 97_656_250, 1 << 10: 3 * time.Second, 4 << 10: 6 * time.Second, 8 << 20: 10 * time.Second,
	} {
		b := body{began: began, limit: 10 * time.Second}
		b.received.Store(received)
		if got := b.deadline().Sub(began); got != want {
			t.Errorf("after %d bytes it has %v, not %v", received, got, want)
		}
	}
}

// A client that sends all of its request before it reads gets the answer, and not a reset connection.
func TestALargeRequestThatIsRefusedGetsItsAnswer(t *testing.T) {
	t.Parallel()
	for _, megabytes := range []int{1, 5, 20} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d MB, chunked: %v", megabytes, chunked), func(t *testing.T) {
				t.Parallel()
				conn := start(t, Config{Handler: refuses}).dial(t)
				sendLarge(t, conn, megabytes, chunked)
				from := bufio.NewReader(conn)
				answer, body := receive(t, from)
				if answer.StatusCode != http.StatusRequestEntityTooLarge || body != "refused\n" || !answer.Close {
					t.Errorf("%d %q, close: %v", answer.StatusCode, body, answer.Close)
				}
				expectEnd(t, from)
			})
		}
	}
}

func sendLarge(t *testing.T, conn net.Conn, megabytes int, chunked bool) {
	t.Helper()
	const size = 1_000_000
	piece, end := strings.Repeat("x", size), ""
	header := fmt.Sprintf("Content-Length: %d", megabytes*size)
	if chunked {
		header, end = "Transfer-Encoding: chunked", "0\r\n\r\n"
		piece = fmt.Sprintf("%x\r\n%s\r\n", size, piece)
	}
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
	for range megabytes {
		send(t, conn, piece)
	}
	send(t, conn, end)
}

// A request that net/http refuses by itself is answered too, although more of the request comes.
func TestARequestThatIsNoneGetsItsAnswer(t *testing.T) {
	t.Parallel()
	more := strings.Repeat("x", 5_000_000)
	for request, status := range map[string]int{
		"POST / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n":                             400,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":            501,
		"POST / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 70_000) + "\r\n": 431,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			conn := start(t, Config{Handler: reads}).dial(t)
			send(t, conn, request+more)
			from := bufio.NewReader(conn)
			if answer, _ := receive(t, from); answer.StatusCode != status {
				t.Error(answer.Status)
			}
			expectEnd(t, from)
		})
	}
}

// A handler that panics on purpose gives no answer, and nobody waits for the rest of its request.
func TestAnAbortedRequestEndsItsConnection(t *testing.T) {
	t.Parallel()
	conn := start(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}).dial(t)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n")
	if rest, _ := io.ReadAll(conn); len(rest) > 0 {
		t.Errorf("it was answered %q", rest)
	}
}

func TestAConnectionIsUsedAgainAfterASmallBodyThatNobodyRead(t *testing.T) {
	t.Parallel()
	conn := start(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "7") // or the answer's end would come after the body
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "refused")
	})}).dial(t)
	from := bufio.NewReader(conn)
	for range 20 {
		send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n")
		if answer, _ := receive(t, from); answer.StatusCode != 413 || answer.Close {
			t.Fatalf("%s, close: %v", answer.Status, answer.Close)
		}
		send(t, conn, "content") // after the answer: a slow client
	}
}

func TestWhatIsLeftOfABodyIsNeverTakenForARequest(t *testing.T) {
	t.Parallel()
	hidden := "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, length := range map[string]int{"a small one that comes late": len(hidden), "a large one": 100_000, "a huge one": 1_000_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			conn := start(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				http.Error(w, r.URL.Path, http.StatusForbidden)
			})}).dial(t)
			send(t, conn, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", length))
			from := bufio.NewReader(conn)
			receive(t, from)
			if length == len(hidden) { // its time ends, and the server does not read on: it ends its side
				_, _ = from.Peek(1)
			}
			_, _ = io.WriteString(conn, hidden+hidden) // it may have been closed
			if rest, _ := io.ReadAll(from); len(rest) > 0 || asked.Load() != 1 {
				t.Errorf("%d requests; the second was answered %q", asked.Load(), rest)
			}
		})
	}
}

func TestARequestThatTellsItsLengthInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	const chunk = "5\r\nhello\r\n0\r\n\r\n"
	for name, c := range map[string]struct {
		header string
		status int
	}{
		"both":                    {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
		"the other way around":    {"transfer-encoding: chunked\r\nX: y\r\nCONTENT-LENGTH:5\r\n", 400},
		"only chunked":            {"Transfer-Encoding: chunked\r\nX-Content-Length: 5\r\nX: Content-Length: 5\r\n", 200},
		"a chunk that looks like": {"Transfer-Encoding: chunked\r\n", 200},
	} {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, in one piece: %v", name, whole), func(t *testing.T) {
				t.Parallel()
				conn := start(t, Config{Handler: reads}).dial(t)
				from := bufio.NewReader(conn)
				for range 3 {
					request := "POST / HTTP/1.1\r\nHost: x\r\n" + c.header + "\r\n" + chunk
					if name == "a chunk that looks like" {
						request = strings.Replace(request, chunk, "12\r\n\nContent-Length: 5\r\n0\r\n\r\n", 1)
					}
					if whole {
						send(t, conn, request)
					} else {
						for i := range request {
							send(t, conn, request[i:i+1])
						}
					}
					answer, body := receive(t, from)
					if answer.StatusCode != c.status {
						t.Fatalf("%s: %q", answer.Status, body)
					}
					if answer.Close {
						break
					}
				}
			})
		}
	}
}

// A client that has read an answer in full and sends the next request at once is understood, whatever the body was.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: reads})
	conn := s.dial(t)
	from := bufio.NewReader(conn)
	for i := range 200 {
		text := fmt.Sprint(i)
		request := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		if i%2 == 0 {
			request = fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(text), text)
		}
		send(t, conn, request)
		if answer, body := receive(t, from); answer.StatusCode != 200 || body != text {
			t.Fatalf("%d: %s %q", i, answer.Status, body)
		}
	}
}

func TestAnswersHaveHeadersForBrowsers(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			w.Header().Set("Content-Security-Policy", "a page's own")
		}
	})})
	for path, policy := range map[string]string{"/": "default-src 'none'; frame-ancestors 'none'", "/page": "a page's own"} {
		for range 2 { // headers that a handler sets for one answer are not in the next
			answer, err := s.client.Get("http://" + s.address + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			for name, want := range map[string]string{
				"Content-Security-Policy": policy, "Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
			} {
				if got := answer.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: %s is %q", path, name, got)
				}
			}
		}
	}
}

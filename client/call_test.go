package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	html        = "<html>somebody else's</html>"
	receiptLine = "Drainmark-Receipt: R1"
)

// failure is what a server does about an append, and what its error says.
type failure struct {
	name      string
	step      http.HandlerFunc
	nothing   bool
	retryable bool
	want      Error // the fields that are not zero
	is        error
}

// failures are the errors of a failed append, for each way in which it can fail.
var failures = []failure{
	{"a connection that is cut before the answer leaves it open", cut(""), false, true, Error{}, nil},
	{"a connection that is cut in the header leaves it open", cut("HTTP/1.1 202 Acc"), false, true, Error{}, nil},
	{"half an answer leaves it open, and its receipt tells", cut("HTTP/1.1 202 Accepted\r\nContent-Length: 90\r\n" + receiptLine +
		"\r\n\r\n{\"receipt\":\"R1\""), false, true, Error{Status: 202, Receipt: "R1"}, nil},
	{"half a refusal leaves it open", cut("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 90\r\n\r\n{"), false, true, Error{Status: 503}, nil},
	{"unavailable was not done", problem(503, Unavailable, "Retry-After: 7"), true, true,
		Error{Kind: Unavailable, Status: 503, Title: "a title", Detail: "a detail", RetryAfter: 7 * time.Second}, nil},
	{"backlog-full was not done", problem(503, BacklogFull), true, true, Error{Kind: BacklogFull, Status: 503}, nil},
	{"too-many was not done", problem(503, TooMany), true, true, Error{Kind: TooMany, Status: 503}, nil},
	{"a 503 of somebody else leaves it open", says(503, html), false, true, Error{Status: 503}, nil},
	{"a 503 of somebody else's problem leaves it open", says(503, `{"type":"about:blank","title":"unavailable"}`), false, true, Error{Status: 503}, nil},
	{"a 503 of another kind leaves it open", problem(503, Internal), false, true, Error{Kind: Internal, Status: 503}, nil},
	{"a 502 leaves it open", says(502, html), false, true, Error{Status: 502}, nil},
	{"a 500 leaves it open", problem(500, Internal), false, true, Error{Kind: Internal, Status: 500}, nil},
	{"misconfigured stays so", problem(500, Misconfigured), false, false, Error{Kind: Misconfigured, Status: 500}, nil},
	{"not implemented stays so", says(501, html), false, false, Error{Status: 501}, nil},
	{"outcome-unknown leaves it open, and its receipt tells", says(504, `{"type":"urn:drainmark:problem:outcome-unknown","receipt":"R1"}`), false, true,
		Error{Kind: OutcomeUnknown, Status: 504, Receipt: "R1"}, nil},
	{"the receipt may be in the header", problem(504, OutcomeUnknown, receiptLine), false, true,
		Error{Kind: OutcomeUnknown, Status: 504, Receipt: "R1"}, nil},
	{"invalid was not done", problem(400, Invalid), true, false, Error{Kind: Invalid, Status: 400}, nil},
	{"too-large was not done", problem(413, TooLarge), true, false, Error{Kind: TooLarge, Status: 413}, nil},
	{"a 404 of somebody else was not done", says(404, html), true, false, Error{Status: 404}, nil},
	{"a 429 of somebody else was not done", says(429, html, "Retry-After: 2"), true, true, Error{Status: 429, RetryAfter: 2 * time.Second}, nil},
	{"a 408 leaves it open", says(408, html), false, true, Error{Status: 408}, nil},
	{"a 408 of a server that is stopping was not done", problem(408, Unavailable), true, true, Error{Kind: Unavailable, Status: 408}, nil},
	{"a 499 leaves it open", says(499, html), false, false, Error{Status: 499}, nil},
	{"a redirection is not followed", says(307, "", "Location: /elsewhere"), false, false, Error{Status: 307}, ErrProtocol},
	{"not modified is no answer to an append", says(304, ""), false, false, Error{Status: 304}, ErrProtocol},
	{"a 200 of somebody else is not understood", says(200, html), false, false, Error{Status: 200}, ErrProtocol},
	{"half of some JSON is not understood", says(202, `{"receipt":"R`), false, false, Error{Status: 202}, ErrProtocol},
	{"another count is not understood", accepts("R1", 2), false, false, Error{Status: 202}, ErrProtocol},
	{"no receipt is not understood", accepts("", 1), false, false, Error{Status: 202}, ErrProtocol},
	{"no state is not understood", says(202, `{"receipt":"R1","count":1}`), false, false, Error{Status: 202}, ErrProtocol},
	{"a very large answer is not taken", says(202, strings.Repeat(" ", 4097)), false, false, Error{Status: 202}, ErrProtocol},
	{"no answer in time leaves it open", hangs, false, true, Error{}, context.DeadlineExceeded},
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.check(t)
		})
	}
}

// check appends, and looks at the error.
func (f failure) check(t *testing.T) {
	s, err := f.happen(t)
	if NothingDone(err) != f.nothing || Retryable(err) != f.retryable {
		t.Errorf("nothing done %v, retryable %v: %v", NothingDone(err), Retryable(err), err)
	}
	if n := len(s.got()); n != 1 {
		t.Errorf("%d requests", n)
	}
	f.judge(t, err)
}

// happen appends, and returns the server and the error. The server has the request, for which a short limit need not suffice on
// a busy machine.
func (f failure) happen(t *testing.T) (s *script, err error) {
	limit := time.Minute
	if strings.HasPrefix(f.name, "no answer in time") {
		limit = 50 * time.Millisecond
	}
	for ; ; limit *= 5 {
		s = startScript(t, f.step)
		c := newClient(t, Config{URL: s.URL, Timeout: limit})
		c.limit = 4096
		_, err = c.Append(t.Context(), "log", Message{Body: []byte("m")}, 0)
		if len(s.got()) > 0 || limit >= time.Minute {
			return s, err
		}
	}
}

// judge looks at the error of an append.
func (f failure) judge(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("it is %T %v", err, err)
	}
	got := Error{Kind: e.Kind, Status: e.Status, Receipt: e.Receipt, RetryAfter: e.RetryAfter}
	if f.want.Title != "" {
		got.Title, got.Detail = e.Title, e.Detail
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", f.want) {
		t.Errorf("%+v instead of %+v", got, f.want)
	}
	if e.Method != "POST" || e.Path != "/v1/logs/log/messages" || e.Attempts != 1 {
		t.Errorf("%s %s, %d attempts", e.Method, e.Path, e.Attempts)
	}
	if f.is != nil && !errors.Is(err, f.is) || f.is == nil && errors.Is(err, ErrProtocol) {
		t.Errorf("its chain has not %v: %v", f.is, err)
	}
	if strings.Contains(f.name, "very large") && !strings.Contains(err.Error(), "4096 bytes, the limit") {
		t.Errorf("the limit is not named: %v", err)
	}
}

// unused returns an address that refuses connections: a socket that does not listen holds its port.
func unused(t *testing.T) string {
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
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	address := unused(t)
	c := newClient(t, Config{URL: "http://user:secret@" + address + "/prefix", Retry: quick(3)})
	_, err := c.Append(t.Context(), "log", Message{}, 0)
	if !NothingDone(err) || !Retryable(err) {
		t.Errorf("without a connection: nothing done %v, retryable %v: %v", NothingDone(err), Retryable(err), err)
	}
	for _, shown := range []string{"secret", "user", "http:", "prefix"} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), shown) {
			t.Errorf("the error shows %q: %v", shown, err)
		}
	}
	if !strings.Contains(err.Error(), "attempt 3") {
		t.Errorf("it does not say how often it was tried: %v", err)
	}
}

func TestContextThatHasEnded(t *testing.T) {
	t.Parallel()
	s := startScript(t, accepts("R1", 1))
	c := newClient(t, Config{URL: s.URL, Retry: DefaultRetry, Observe: func(a Attempt) { t.Errorf("observed %+v", a) }})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("a reason")
	cancel(reason)
	_, err := c.Append(ctx, "log", Message{}, 0)
	if !NothingDone(err) || !errors.Is(err, reason) || len(s.got()) != 0 {
		t.Errorf("nothing done %v, %d requests: %v", NothingDone(err), len(s.got()), err)
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	s := startScript(t, accepts("R1", 1))
	c := newClient(t, Config{URL: s.URL})
	bad := "a\nb"
	calls := map[string]func() error{
		"a key":          func() error { _, err := c.Append(t.Context(), "log", Message{Key: bad}, 0); return err },
		"a content type": func() error { _, err := c.Append(t.Context(), "log", Message{ContentType: bad}, 0); return err },
		"a key of many":  func() error { _, err := c.AppendMany(t.Context(), "log", []Message{{Key: bad}}, 0); return err },
		"no messages":    func() error { _, err := c.AppendMany(t.Context(), "log", nil, 0); return err },
		"a receipt": func() error {
			_, err := c.Messages(t.Context(), "log", ReadOptions{Receipts: Receipt(bad)})
			return err
		},
		"an earlier page": func() error { _, err := c.Messages(t.Context(), "log", ReadOptions{IfNoneMatch: bad}); return err },
		"a content type too": func() error {
			_, err := c.AppendMany(t.Context(), "log", []Message{{ContentType: "ä"}}, 0)
			return err
		},
	}
	for name, call := range calls {
		if err := call(); KindOf(err) != Invalid || !NothingDone(err) || Retryable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.got()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	appending := func(c *Client) error {
		_, err := c.Append(context.Background(), "log", Message{Body: []byte("m")}, 0)
		return err
	}
	many := func(c *Client) error {
		_, err := c.AppendMany(context.Background(), "log", []Message{{Key: "k"}}, 0)
		return err
	}
	clearing := func(c *Client) error { _, err := c.Clear(context.Background(), "log", 0); return err }
	retrying := func(c *Client) error { _, err := c.RetryDeadLetter(context.Background(), "1", 0); return err }
	discarding := func(c *Client) error { _, err := c.DiscardDeadLetter(context.Background(), "1", 0); return err }
	barrier := func(c *Client) error { _, err := c.Barrier(context.Background(), 0); return err }
	backlog := func(c *Client) error { _, err := c.Backlog(context.Background()); return err }
	refused, ok := problem(503, Unavailable), accepts("R1", 1)
	cases := []struct {
		name     string
		call     func(*Client) error
		steps    []http.HandlerFunc
		attempts int // the limit
		requests int
		fails    bool
		nothing  bool
	}{
		{"an append in doubt is sent again", appending, []http.HandlerFunc{cut(""), problem(504, OutcomeUnknown), says(502, ""), ok}, 9, 4, false, false},
		{"many with keys are sent again", many, []http.HandlerFunc{cut(""), ok}, 9, 2, false, false},
		{"without retries nothing is sent again", appending, []http.HandlerFunc{refused, ok}, 1, 1, true, true},
		{"refused each time is nothing done", appending, []http.HandlerFunc{refused}, 3, 3, true, true},
		{"a doubt is not forgotten when the last attempt is refused", appending, []http.HandlerFunc{refused, cut(""), refused}, 3, 3, true, false},
		{"what stays the same is not asked again", appending, []http.HandlerFunc{problem(400, Invalid), ok}, 9, 1, true, true},
		{"a doubt is not forgotten when the last attempt is invalid", appending, []http.HandlerFunc{cut(""), problem(400, Invalid)}, 9, 2, true, false},
		{"a clear that was not done is made again", clearing, []http.HandlerFunc{refused, ok}, 9, 2, false, false},
		{"a clear in doubt is not made again", clearing, []http.HandlerFunc{cut(""), ok}, 9, 1, true, false},
		{"a retry in doubt is not made again", retrying, []http.HandlerFunc{refused, cut(""), ok}, 9, 2, true, false},
		{"a discard in doubt is not made again", discarding, []http.HandlerFunc{says(502, ""), ok}, 9, 1, true, false},
		{"a barrier in doubt is asked for again", barrier, []http.HandlerFunc{cut(""), says(200, `{"receipt":"R","state":"reached"}`)}, 9, 2, false, false},
		{"reading is done again", backlog, []http.HandlerFunc{cut(""), says(503, ""), says(200, `{"partitions":[{}]}`)}, 9, 3, false, false},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, test.steps...)
			err := test.call(newClient(t, Config{URL: s.URL, Retry: quick(test.attempts)}))
			if (err != nil) != test.fails || NothingDone(err) != test.nothing {
				t.Errorf("nothing done %v: %v", NothingDone(err), err)
			}
			got := s.got()
			if len(got) != test.requests {
				t.Fatalf("%d requests instead of %d", len(got), test.requests)
			}
			var e *Error
			if errors.As(err, &e) && e.Attempts != test.requests {
				t.Errorf("it speaks of %d attempts", e.Attempts)
			}
			for _, r := range got[1:] {
				if r.body != got[0].body || r.Header.Get("Idempotency-Key") != got[0].Header.Get("Idempotency-Key") {
					t.Errorf("%q with the key %q is sent again as %q with %q", got[0].body, got[0].Header.Get("Idempotency-Key"), r.body,
						r.Header.Get("Idempotency-Key"))
				}
			}
		})
	}
}

func TestReceiptOfAnEarlierAttempt(t *testing.T) {
	t.Parallel()
	s := startScript(t, problem(504, OutcomeUnknown, "Drainmark-Receipt: R1"), problem(503, Unavailable))
	_, err := newClient(t, Config{URL: s.URL, Retry: quick(3)}).Append(t.Context(), "log", Message{}, 0)
	var e *Error
	if !errors.As(err, &e) || e.Receipt != "R1" || e.Kind != Unavailable || NothingDone(err) {
		t.Errorf("%+v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	t.Run("no request is made before it", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(503, BacklogFull, "Retry-After: 1"), accepts("R1", 1))
		if _, err := newClient(t, Config{URL: s.URL, Retry: quick(2)}).Append(t.Context(), "log", Message{}, 0); err != nil {
			t.Fatal(err)
		}
		if got := s.got(); got[1].at.Sub(got[0].at) < time.Second {
			t.Errorf("it came back after %v", got[1].at.Sub(got[0].at))
		}
	})
	t.Run("one that is too long for Elapsed ends the call at once", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(503, BacklogFull, "Retry-After: 3600"))
		start := time.Now()
		_, err := newClient(t, Config{URL: s.URL, Retry: Retry{Elapsed: 30 * time.Second}}).Append(t.Context(), "log", Message{}, 0)
		if KindOf(err) != BacklogFull || time.Since(start) >= 30*time.Second || len(s.got()) != 1 {
			t.Errorf("after %v and %d requests: %v", time.Since(start), len(s.got()), err)
		}
	})
	t.Run("the context ends the pause, and the error has both", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(503, BacklogFull, "Retry-After: 3600"))
		ctx, observe := endsAfterAnAnswer(t)
		_, err := newClient(t, Config{URL: s.URL, Retry: quick(2), Observe: observe}).Append(ctx, "log", Message{}, 0)
		if KindOf(err) != BacklogFull || !errors.Is(err, context.Canceled) || !NothingDone(err) {
			t.Errorf("%v", err)
		}
	})
	for text, want := range map[string]time.Duration{"": 0, "0": 0, "5": 5 * time.Second, "-1": 0, "soon": 0, "99999999": 24 * time.Hour,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0} {
		if got := retryAfter(text); got != want {
			t.Errorf("%q is %v", text, got)
		}
	}
	if got := retryAfter(time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)); got < 59*time.Minute || got > time.Hour {
		t.Errorf("a date in an hour is %v", got)
	}
}

// net/http sends a request again by itself that has an idempotency key, if the server closes the connection that it was
// to be kept. A recorder of attempts must see each.
func TestNothingIsSentAgainBehindOurBack(t *testing.T) {
	t.Parallel()
	s := startScript(t, accepts("R1", 1), cut(""), accepts("R1", 1))
	c := newClient(t, Config{URL: s.URL})
	if _, err := c.Append(t.Context(), "log", Message{Key: "k1"}, 0); err != nil {
		t.Fatal(err)
	}
	_, err := c.Append(t.Context(), "log", Message{Key: "k2"}, 0)
	if err == nil || NothingDone(err) || len(s.got()) != 2 {
		t.Errorf("%d requests: %v", len(s.got()), err)
	}
	if key := s.got()[1].Header.Get("Idempotency-Key"); key != `"k2"` {
		t.Errorf("the key is %s", key)
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	s := startScript(t, problem(503, Unavailable), cut(""), accepts("R1", 1))
	var mu sync.Mutex
	var seen []Attempt
	c := newClient(t, Config{URL: s.URL + "/prefix/", Retry: quick(5), Observe: func(a Attempt) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, a)
	}})
	if _, err := c.Append(t.Context(), "log", Message{}, 0); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || seen[0].Status != 503 || !NothingDone(seen[0].Err) || seen[1].Status != 0 || NothingDone(seen[1].Err) ||
		seen[2].Status != 202 || seen[2].Err != nil {
		t.Fatalf("observed %+v", seen)
	}
	for _, a := range seen {
		if a.Method != "POST" || a.Path != "/v1/logs/log/messages" || a.Start.IsZero() || a.End.Before(a.Start) {
			t.Errorf("observed %+v", a)
		}
	}
	if path := s.got()[0].URL.Path; path != "/prefix/v1/logs/log/messages" {
		t.Errorf("the path is %s", path)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{
		{}, {URL: "localhost:8080"}, {URL: "ftp://host"}, {URL: "http://"}, {URL: "http://user:sec/ret@host"}, {URL: "http://user:secret@host:x"},
		{URL: "http://user:secret@host?a=b"}, {URL: "http://host#secret"}, {URL: "http://host", Timeout: -1}, {URL: "http://host", IdleConns: -1},
		{URL: "http://host", Retry: Retry{Attempts: -1}}, {URL: "http://host", Retry: Retry{Least: 2, Most: 1}},
	} {
		if _, err := New(config); err == nil || strings.Contains(err.Error(), "sec") {
			t.Errorf("%+v: %v", config, err)
		}
	}
}

func TestSomebodyElsesHTTPClient(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(302, "", "Location: /elsewhere"))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	theirs := &http.Client{Transport: transport}
	user := strings.Replace(s.URL, "http://", "http://user:secret@", 1)
	_, err := newClient(t, Config{URL: user, HTTP: theirs}).Clear(t.Context(), "log", 0)
	if !errors.Is(err, ErrProtocol) || len(s.got()) != 1 || theirs.CheckRedirect != nil {
		t.Errorf("%d requests: %v", len(s.got()), err)
	}
	if name, password, _ := s.got()[0].BasicAuth(); name != "user" || password != "secret" {
		t.Errorf("it came from %q with %q", name, password)
	}
}

// A server whose certificate is not trusted is sent no request, so nothing was done.
func TestNothingIsDoneByAServerThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // which would say that the client has gone
	server.StartTLS()
	t.Cleanup(server.Close)
	_, err := newClient(t, Config{URL: server.URL}).Append(t.Context(), "log", Message{}, 0)
	if !NothingDone(err) || !strings.Contains(err.Error(), "certificate") || len(asked) > 0 {
		t.Errorf("%d requests: %v", len(asked), err)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	p := pace{least: 20 * time.Millisecond, most: time.Second}
	for i, most := range []time.Duration{20, 40, 80, 160, 320, 640, 1000, 1000} {
		most *= time.Millisecond
		if got := p.next(0); got < most/2 || got > most {
			t.Errorf("pause %d is %v", i, got)
		}
	}
	if p.reset(); p.next(0) > 20*time.Millisecond || p.next(time.Minute) < time.Minute {
		t.Error("after a reset it begins again, and Retry-After is the least")
	}
}

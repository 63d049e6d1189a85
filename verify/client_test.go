package verify

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const someRun = "0123456789abcdef"

func TestBodiesAreRecognised(t *testing.T) {
	t.Parallel()
	h := &history{clients: 7, appends: make([]appendCall, 100)}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range h.appends {
		body, contentType := h.bodyOf(someRun, message(i), 50, random)
		if m, c, fault := h.recognise(someRun, body, contentType); m != message(i) || c != intact {
			t.Errorf("message %d is recognised as %d, condition %d: %s", i, m, c, fault)
		}
		if m, c, _ := h.recognise("fedcba9876543210", body, contentType); m != nobody || c != foreign {
			t.Errorf("message %d of another run is recognised as %d, condition %d", i, m, c)
		}
	}
	for _, body := range []string{"", "hello", bodyMagic, "\n\n"} {
		if m, c, _ := h.recognise(someRun, []byte(body), textType); m != nobody || c != foreign {
			t.Errorf("%q is recognised as %d, condition %d", body, m, c)
		}
	}
}

func TestEveryDamageIsSeenAndNoneMakesAStranger(t *testing.T) {
	t.Parallel()
	h := &history{clients: 7, appends: make([]appendCall, 100)}
	for _, number := range []int{3, binaryEach} {
		m := h.index(2, number)
		body, contentType := h.bodyOf(someRun, m, 50, rand.New(rand.NewPCG(1, 2)))
		check := func(changed []byte, what string, at int) {
			found, c, fault := h.recognise(someRun, changed, contentType)
			if c != damaged || found != m && found != nobody || fault == "" {
				t.Errorf("%s at %d: message %d, condition %d, fault %q", what, at, found, c, fault)
			}
		}
		for bit := range 8 * len(body) {
			changed := append([]byte{}, body...)
			changed[bit/8] ^= 1 << (bit % 8)
			check(changed, "a flipped bit", bit)
		}
		for n := len(bodyMagic) + len(someRun); n < len(body); n++ {
			check(body[:n], "cut off", n)
			check(body[len(body)-n:], "begun late", n)
			for _, more := range []byte("x0+\n") {
				check(append(append(append([]byte{}, body[:n]...), more), body[n:]...), "a byte more", n)
			}
		}
		for _, at := range []int{0, len(body) / 2, len(body) - 1} {
			changed := append([]byte{}, body...)
			changed[at] ^= 0x80
			if found, _, _ := h.recognise(someRun, changed, contentType); found != m {
				t.Errorf("a flipped bit at %d: message %d, want %d", at, found, m)
			}
		}
		if _, c, _ := h.recognise(someRun, body, "text/html"); c != damaged {
			t.Errorf("another content type: condition %d", c)
		}
	}
}

func TestMessagesAreCountedOff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clients := rapid.IntRange(1, 20).Draw(t, "clients")
		h := &history{clients: clients, appends: make([]appendCall, rapid.IntRange(clients, 200).Draw(t, "messages"))}
		met := make([]bool, len(h.appends))
		for c := range clients {
			for n := 1; n <= h.messagesOf(c); n++ {
				m := h.index(c, n)
				if met[m] || h.client(m) != c || h.number(m) != n {
					t.Fatalf("client %d's message %d is %d, which is client %d's message %d", c, n, m, h.client(m), h.number(m))
				}
				met[m] = true
				if h.parseIdentity(someRun, []byte(h.identityOf(someRun, m))) != m {
					t.Fatalf("the identity of %d is not parsed", m)
				}
			}
		}
		for m, ok := range met {
			if !ok {
				t.Fatalf("message %d is nobody's", m)
			}
		}
	})
}

func TestWhatAFailedCallMeans(t *testing.T) {
	t.Parallel()
	ours := func(status int, kind string) error {
		return &problem{Status: status, Type: "urn:drainmark:problem:" + kind}
	}
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	cases := []struct {
		name                string
		err                 error
		nothing, worthwhile bool
	}{
		{"no connection", dial, true, true},
		{"a connection that broke", &net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}, false, true},
		{"a time that was over", context.DeadlineExceeded, false, true},
		{"backlog full", ours(503, "backlog-full"), true, true},
		{"unavailable", ours(503, "unavailable"), true, true},
		{"too many", ours(503, "too-many"), true, true},
		{"a proxy's 503", &problem{Status: 503}, false, true},
		{"another 503 of ours", ours(503, "internal"), false, true},
		{"a proxy's 502", &problem{Status: 502}, false, true},
		{"outcome unknown", ours(504, "outcome-unknown"), false, true},
		{"an internal error", ours(500, "internal"), false, true},
		{"a timeout of the request", &problem{Status: 408}, false, true},
		{"too many requests", &problem{Status: 429}, true, true},
		{"not reached", ours(412, "not-reached"), true, true},
		{"too large", ours(413, "too-large"), true, false},
		{"not found", ours(404, "not-found"), true, false},
		{"not implemented", &problem{Status: 501}, false, false},
		{"an answer of something else", errProtocol, false, false},
	}
	for _, c := range cases {
		if got := nothingDone(c.err); got != c.nothing {
			t.Errorf("%s: nothingDone is %v", c.name, got)
		}
		if got := worthRetrying(c.err); got != c.worthwhile {
			t.Errorf("%s: worthRetrying is %v", c.name, got)
		}
	}
}

// answering starts a server with one answer for everything, and returns a client for it.
func answering(t *testing.T, answer http.HandlerFunc) *client {
	t.Helper()
	server := httptest.NewServer(answer)
	c := newClient(server.URL+"/", 1)
	t.Cleanup(func() { c.close(); server.Close() })
	return c
}

func TestProblemsAreRead(t *testing.T) {
	t.Parallel()
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"type": "urn:drainmark:problem:backlog-full", "title": "The backlog is full", "detail": "64 MiB, the limit", "status": 200}`)
	})
	_, err := c.barrier(t.Context())
	var p *problem
	if !errors.As(err, &p) || p.Status != 503 || p.retryAfter != 7*time.Second || !nothingDone(err) || !strings.Contains(err.Error(), "64 MiB, the limit") {
		t.Errorf("the error is %v: %+v", err, p)
	}
}

func TestCallsSayWhatTheAPIWants(t *testing.T) {
	t.Parallel()
	var got *http.Request
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, `{"receipt": "r", "state": "accepted", "count": 1, "log": "l"}`)
	})
	if _, err := c.append(t.Context(), singleAppend("l", []byte("x"), textType, "key")); err != nil {
		t.Error(err)
	}
	if got.Method != "POST" || got.URL.Path != "/v1/logs/l/messages" || got.Header.Get("Idempotency-Key") != "key" ||
		got.Header.Get("Content-Type") != textType || got.Header.Get("Prefer") != "" {
		t.Errorf("an append is %s %s with %v", got.Method, got.URL, got.Header)
	}
	if _, err := c.messages(t.Context(), "l", 5, 10, "receipt", true); err != nil {
		t.Error(err)
	}
	if got.Method != "GET" || got.URL.RequestURI() != "/v1/logs/l/messages?after=5&limit=10" || got.Header.Get("Drainmark-Receipt") != "receipt" ||
		got.Header.Get("Prefer") != "wait=10" {
		t.Errorf("a read is %s %s with %v", got.Method, got.URL, got.Header)
	}
	if _, err := c.messages(t.Context(), "l", 0, 1, "", false); err != nil || got.Header.Get("Prefer") != "" || len(got.Header["Drainmark-Receipt"]) != 0 {
		t.Errorf("a plain read has %v, error %v", got.Header, err)
	}
}

func TestAnswersThatAreNotTheAPIsAreRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ answer, what string }{
		"an append with no receipt":          {`{"count": 1}`, "append"},
		"an append with another count":       {`{"receipt": "r", "count": 2}`, "append"},
		"an append that is no JSON":          {`OK`, "append"},
		"a page of another log":              {`{"log": "other", "messages": []}`, "page"},
		"a page with a position below 0":     {`{"log": "l", "messages": [{"position": -1}]}`, "page"},
		"a page with a body that is no text": {`{"log": "l", "messages": [{"body_base64": "!"}]}`, "page"},
		"a barrier with no receipt":          {`{"state": "reached"}`, "barrier"},
	}
	for name, refused := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, refused.answer) })
			var err error
			switch refused.what {
			case "append":
				_, err = c.append(t.Context(), singleAppend("l", nil, textType, "k"))
			case "page":
				_, err = c.messages(t.Context(), "l", 0, 1, "", false)
			case "barrier":
				_, err = c.barrier(t.Context())
			}
			if !errors.Is(err, errProtocol) {
				t.Errorf("error %v, want errProtocol", err)
			}
		})
	}
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
func (endless) Close() error               { return nil }

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	_, err := readAnswer(&http.Response{Body: endless{}, ContentLength: -1})
	if !errors.Is(err, errProtocol) || !strings.Contains(err.Error(), "67108864 bytes, the limit") {
		t.Errorf("error %v, want one that names the limit", err)
	}
}

func TestBackoffWaitsAsLongAsIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			err         error
			least, most time.Duration
		}{
			{nil, backoffLeast / 2, backoffLeast},
			{&problem{Status: 503, retryAfter: 3 * time.Second}, 3 * time.Second, 3*time.Second + backoffLeast},
			{&problem{Status: 503, retryAfter: time.Hour}, patienceMost, patienceMost + backoffLeast},
		} {
			began := time.Now()
			if err := (&backoff{}).wait(t.Context(), c.err); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("after %v it waits %v, want %v to %v", c.err, took, c.least, c.most)
			}
		}
	})
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	b := backoff{}
	for range 20 {
		if err := b.wait(ctx, nil); !errors.Is(err, cause) {
			t.Fatalf("error %v, want the context's cause", err)
		}
	}
	if b.next != backoffMost {
		t.Errorf("after 20 tries it waits %v, want %v", b.next, backoffMost)
	}
}

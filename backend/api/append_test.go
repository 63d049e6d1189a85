package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

const messagesPath = "/v1/logs/guestbook/messages"

// madeHeaders makes headers of names and values.
func madeHeaders(pairs ...string) drainmark.Headers {
	var list []drainmark.Header
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, drainmark.Header{Name: pairs[i], Value: pairs[i+1]})
	}
	headers, err := drainmark.NewHeaders(list...)
	if err != nil {
		panic(err)
	}
	return headers
}

// headerPairs are so many names and values of so many bytes together.
func headerPairs(n, size int) (pairs []string) {
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("x%02d", i), strings.Repeat("v", size-3))
	}
	return pairs
}

// headerLines are the same as headers of a request.
func headerLines(n, size int) (lines []string) {
	pairs := headerPairs(n, size)
	for i := 0; i < len(pairs); i += 2 {
		lines = append(lines, headerPrefix+pairs[i]+": "+pairs[i+1])
	}
	return lines
}

func TestAppendOne(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		headers []string
		want    drainmark.Record
	}{
		"a message is appended as it is": {"hello", []string{"Content-Type: text/plain; charset=latin1"},
			drainmark.Record{Body: []byte("hello"), ContentType: "text/plain; charset=latin1"}},
		"without a content type it is bytes":       {"hello", nil, drainmark.Record{Body: []byte("hello"), ContentType: "application/octet-stream"}},
		"it may be empty":                          {"", nil, drainmark.Record{ContentType: "application/octet-stream"}},
		"it may have every byte":                   {"\x00\xff\r\n\xc3", nil, drainmark.Record{Body: []byte("\x00\xff\r\n\xc3"), ContentType: "application/octet-stream"}},
		"JSON is a message like any other":         {`{"body":"x"}`, []string{"Content-Type: application/json"}, drainmark.Record{Body: []byte(`{"body":"x"}`), ContentType: "application/json"}},
		"a content type need not be one":           {"x", []string{"Content-Type: whatever, really"}, drainmark.Record{Body: []byte("x"), ContentType: "whatever, really"}},
		"the identity coding is none":              {"x", []string{"Content-Encoding: identity"}, drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream"}},
		"an idempotency key goes along":            {"x", []string{`Idempotency-Key: "k 1"`}, drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream", Key: "k 1"}},
		"a trace goes along":                       {"x", []string{"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream", Headers: madeHeaders("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")}},
		"a malformed trace is no reason to say no": {"x", []string{"Traceparent: hello"}, drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream"}},
		"headers go along, with names in lower case and values without the space around them": {"x",
			[]string{"Drainmark-Header-Tenant:  a, \"b\"; c=~ \t", "drainmark-header-x_y: ", "Drainmark: no", "Drainmark-Headers: no"},
			drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream", Headers: madeHeaders("tenant", `a, "b"; c=~`, "x_y", "")}},
		"there may be as many headers as the limit": {"x", headerLines(16, 256),
			drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream", Headers: madeHeaders(headerPairs(16, 256)...)}},
		"the trace context does not count": {"x", append(headerLines(16, 256), "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate: a=1", "Tracestate: b=2"),
			drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream", Headers: madeHeaders(append(headerPairs(16, 256),
				"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate", "a=1,b=2")...)}},
		"a message's own trace context stands for the request's": {"x",
			[]string{"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate: a=1", "Drainmark-Header-Traceparent: 00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
			drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream", Headers: madeHeaders("traceparent", "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")}},
		"a message may be as large as the limit":        {strings.Repeat("x", 256<<10), nil, drainmark.Record{Body: bytes.Repeat([]byte("x"), 256<<10), ContentType: "application/octet-stream"}},
		"a content type may be as long as the limit":    {"x", []string{"Content-Type: " + strings.Repeat("t", 255)}, drainmark.Record{Body: []byte("x"), ContentType: strings.Repeat("t", 255)}},
		"a malformed preference is no reason to say no": {"x", []string{"Prefer: wait=\"x"}, drainmark.Record{Body: []byte("x"), ContentType: "application/octet-stream"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []drainmark.Record
			s := serve(t, accepts(func(log string, records []drainmark.Record) {
				got = records
				if log != "guestbook" {
					t.Errorf("the log is %q", log)
				}
			}))
			a := s.do("POST", messagesPath, test.body, test.headers...)
			v := a.want(t, 202)
			if v["receipt"] != receiptOne.String() || v["state"] != "accepted" || v["count"] != 1.0 {
				t.Errorf("the answer is %s", a.body)
			}
			a.wantHeader(t, receiptHeader, receiptOne.String())
			if len(got) != 1 || got[0].Kind != drainmark.Append || got[0].Log != "guestbook" || !bytes.Equal(got[0].Body, test.want.Body) ||
				got[0].ContentType != test.want.ContentType || got[0].Key != test.want.Key || got[0].Headers != test.want.Headers {
				t.Errorf("appended %.300q", fmt.Sprint(got))
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 256<<10+1)
	tests := map[string]struct {
		path, body string
		headers    []string
		kind       drainmark.Kind
		words      []string
	}{
		"a log that cannot be": {"/v1/logs/Guest%20book/messages", "x", nil, drainmark.KindInvalid, []string{"log name"}},
		"a log name too long":  {"/v1/logs/" + strings.Repeat("a", 129) + "/messages", "x", nil, drainmark.KindInvalid, []string{"128"}},
		"a message too large":  {messagesPath, large, nil, drainmark.KindTooLarge, []string{"262144 bytes"}},
		"a content type too long": {messagesPath, "x", []string{"Content-Type: " + strings.Repeat("t", 256)},
			drainmark.KindInvalid, []string{"Content-Type", "255"}},
		"an empty content type":            {messagesPath, "x", []string{"Content-Type: "}, drainmark.KindInvalid, []string{"Content-Type"}},
		"a content type beyond ASCII":      {messagesPath, "x", []string{"Content-Type: te\xe4t"}, drainmark.KindInvalid, []string{"Content-Type"}},
		"two content types":                {messagesPath, "x", []string{"Content-Type: text/plain", "Content-Type: text/html"}, drainmark.KindInvalid, []string{"2 Content-Type headers"}},
		"a content coding":                 {messagesPath, "x", []string{"Content-Encoding: gzip"}, drainmark.KindMediaType, []string{"gzip", "identity"}},
		"a second content coding":          {messagesPath, "x", []string{"Content-Encoding: identity, br"}, drainmark.KindMediaType, []string{"br"}},
		"headers over the limit in number": {messagesPath, "x", headerLines(17, 10), drainmark.KindTooLarge, []string{"17 headers", "limit is 16"}},
		"headers over the limit in bytes": {messagesPath, "x", append(headerLines(15, 256), "Drainmark-Header-A: "+strings.Repeat("v", 256)),
			drainmark.KindTooLarge, []string{"4097 bytes", "limit is 4096"}},
		"a header twice":                  {messagesPath, "x", []string{"Drainmark-Header-A: x", "Drainmark-Header-a: y"}, drainmark.KindInvalid, []string{"2 Drainmark-Header-A headers"}},
		"a header without a name":         {messagesPath, "x", []string{"Drainmark-Header-: x"}, drainmark.KindInvalid, []string{"without a name"}},
		"a header beyond ASCII":           {messagesPath, "x", []string{"Drainmark-Header-A: Zo\xc3\xab"}, drainmark.KindInvalid, []string{"Drainmark-Header-A", "character 3", "line of many"}},
		"a header with a tab within":      {messagesPath, "x", []string{"Drainmark-Header-A: x\ty"}, drainmark.KindInvalid, []string{"Drainmark-Header-A", "character 2"}},
		"a trace of its own that is none": {messagesPath, "x", []string{"Drainmark-Header-Traceparent: hello"}, drainmark.KindInvalid, []string{"traceparent"}},
		"a tracestate of its own without a traceparent": {messagesPath, "x", []string{"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Drainmark-Header-Tracestate: a=1"},
			drainmark.KindInvalid, []string{"traceparent"}},
		"a tracestate of its own that is none": {messagesPath, "x", []string{"Drainmark-Header-Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Drainmark-Header-Tracestate: a"},
			drainmark.KindInvalid, []string{"tracestate"}},
		"a header of the request besides many": {messagesPath, `{"body":"a"}`, []string{"Content-Type: application/x-ndjson", "Drainmark-Header-A: x"},
			drainmark.KindInvalid, []string{"each line has its own headers"}},
		"a line with too many headers": {messagesPath, "{\"body\":\"\"}\n{\"body\":\"\",\"headers\":" + string(madeHeaders(headerPairs(16, 9)...).AppendJSON(nil)[:16*15]) + ",\"b\":\"\"}}",
			[]string{"Content-Type: application/x-ndjson"}, drainmark.KindTooLarge, []string{"line 2", "17 headers", "limit is 16"}},
		"a key that is none":             {messagesPath, "x", []string{`Idempotency-Key: ""`}, drainmark.KindInvalid, []string{"Idempotency-Key", "255"}},
		"a line that is none":            {messagesPath, "{\"body\":\"a\"}\nx", []string{"Content-Type: application/x-ndjson"}, drainmark.KindInvalid, []string{"line 2"}},
		"a line that is too long":        {messagesPath, `{"body":"` + large + `"}`, []string{"Content-Type: application/x-ndjson"}, drainmark.KindTooLarge, []string{"line 1", "262144"}},
		"no lines":                       {messagesPath, "", []string{"Content-Type: application/x-ndjson"}, drainmark.KindInvalid, []string{"no messages"}},
		"too many lines":                 {messagesPath, strings.Repeat("{\"body\":\"\"}\n", 10_001), []string{"Content-Type: application/x-ndjson"}, drainmark.KindTooLarge, []string{"10000"}},
		"a request of many too large":    {messagesPath, strings.Repeat("\n", 8<<20+1), []string{"Content-Type: application/x-ndjson"}, drainmark.KindTooLarge, []string{"8388608"}},
		"many in another content coding": {messagesPath, "x", []string{"Content-Type: application/x-ndjson", "Content-Encoding: gzip"}, drainmark.KindMediaType, []string{"gzip"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, accepts(func(string, []drainmark.Record) { t.Error("it was appended") }))
			a := s.do("POST", test.path, test.body, test.headers...)
			a.wantProblem(t, test.kind, test.words...)
			if test.kind == drainmark.KindMediaType {
				a.wantHeader(t, "Accept-Encoding", "identity")
			}
		})
	}
	t.Run("a message too large that does not say how large it is", func(t *testing.T) {
		t.Parallel()
		s := serve(t, accepts(func(string, []drainmark.Record) { t.Error("it was appended") }))
		// A client that goes on sending when it is answered is the test of httpserve, whose connections linger.
		for _, more := range []int{0, 1} {
			body := iotest.HalfReader(strings.NewReader(large + strings.Repeat("x", more)))
			s.send(s.request("POST", messagesPath, body)).wantProblem(t, drainmark.KindTooLarge, "262144")
		}
	})
}

func TestAppendOfUnknownLength(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 64<<10 + 2, 200_000, 256 << 10} {
		t.Run(fmt.Sprintf("a message of %d bytes arrives whole", size), func(t *testing.T) {
			t.Parallel()
			want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			s := serve(t, accepts(func(_ string, records []drainmark.Record) {
				if !bytes.Equal(records[0].Body, want) {
					t.Errorf("%d bytes arrived", len(records[0].Body))
				}
			}))
			s.send(s.request("POST", messagesPath, iotest.HalfReader(bytes.NewReader(want)))).want(t, 202)
		})
	}
}

func TestAppendMany(t *testing.T) {
	t.Parallel()
	var got []drainmark.Record
	s := serve(t, accepts(func(_ string, records []drainmark.Record) { got = records }))
	a := s.do("POST", messagesPath, "{\"body\":\"a\"}\n\n{\"body_base64\":\"AAE=\",\"key\":\"own\"}\n{\"body\":\"c\"}",
		"Content-Type: Application/X-NDJSON; charset=utf-8", "Idempotency-Key: all", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if v := a.want(t, 202); v["count"] != 3.0 || v["state"] != "accepted" || v["receipt"] != receiptOne.String() {
		t.Errorf("the answer is %s", a.body)
	}
	if v := a.want(t, 202); fmt.Sprint(v["marks"]) != fmt.Sprint(drainmark.SpanTexts(receiptOne.Spans)) || v["id"] != nil {
		t.Errorf("the marks are %v, the id %v", v["marks"], v["id"])
	}
	want := []string{"append guestbook a all/1", "append guestbook \x00\x01 own", "append guestbook c all/3"}
	for i, r := range got {
		if line := fmt.Sprintf("%s %s %s %s", r.Kind, r.Log, r.Body, r.Key); line != want[i] {
			t.Errorf("message %d is %q, want %q", i+1, line, want[i])
		}
		if want := madeHeaders("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"); r.Headers != want {
			t.Errorf("message %d has the headers %q", i+1, r.Headers)
		}
	}
}

func TestAppendWaits(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prefer  string
		state   backend.State
		err     error
		status  int
		want    string
		applied string
		waited  time.Duration
	}{
		"persisted within the wait":             {"wait=10", backend.Persisted, nil, 201, "persisted", "wait=10", 10 * time.Second},
		"pending after the wait":                {"wait=10", backend.Pending, nil, 202, "accepted", "wait=10", 10 * time.Second},
		"stalled":                               {"wait=10", backend.Stalled, nil, 202, "accepted", "wait=10", 10 * time.Second},
		"rejected meanwhile":                    {"wait=10", backend.Rejected, nil, 202, "rejected", "wait=10", 10 * time.Second},
		"a wait over the limit is the limit":    {"wait=61", backend.Persisted, nil, 201, "persisted", "wait=60", 60 * time.Second},
		"nobody can wait: it is still accepted": {"wait=10", "", drainmark.Errorf(drainmark.KindTooMany, "waiters"), 202, "accepted", "wait=10", 10 * time.Second},
		"no wait is no question":                {"wait=0", "never asked", nil, 202, "accepted", "wait=0", -1},
		"no preference is no question":          {"return=minimal", "never asked", nil, 202, "accepted", "", -1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := accepts(func(string, []drainmark.Record) {})
			waited := time.Duration(-1)
			service.status = func(_ context.Context, r drainmark.Receipt, wait time.Duration) (backend.Status, error) {
				waited = wait
				return backend.Status{Receipt: r, State: test.state, Reason: "the reason"}, test.err
			}
			a := serve(t, service).do("POST", messagesPath, "x", "Prefer: "+test.prefer)
			v := a.want(t, test.status)
			if v["state"] != test.want || v["receipt"] != receiptOne.String() || waited != test.waited {
				t.Errorf("the answer is %s after a wait of %v", a.body, waited)
			}
			if reason, ok := v["reason"]; ok != (test.state == backend.Rejected) || ok && reason != "the reason" {
				t.Errorf("the reason is %v", reason)
			}
			a.wantHeader(t, "Preference-Applied", test.applied)
			a.wantHeader(t, receiptHeader, receiptOne.String())
		})
	}
}

func TestAppendFails(t *testing.T) {
	t.Parallel()
	unknown := drainmark.Errorf(drainmark.KindOutcomeUnknown, "the broker has not confirmed")
	tests := map[string]struct {
		receipt drainmark.Receipt
		err     error
		kind    drainmark.Kind
		told    bool // the receipt is in the answer
		retry   string
	}{
		"the backlog is full":                {drainmark.Receipt{}, drainmark.Errorf(drainmark.KindBacklogFull, "full"), drainmark.KindBacklogFull, false, "1"},
		"the disk is full":                   {drainmark.Receipt{}, drainmark.Errorf(drainmark.KindDiskFull, "full"), drainmark.KindDiskFull, false, "10"},
		"the broker does not answer":         {drainmark.Receipt{}, drainmark.Errorf(drainmark.KindUnavailable, "no"), drainmark.KindUnavailable, false, "1"},
		"an unknown outcome has its receipt": {receiptBoth, unknown, drainmark.KindOutcomeUnknown, true, ""},
		"an unknown outcome that is wrapped": {receiptBoth, fmt.Errorf("appending: %w", unknown), drainmark.KindOutcomeUnknown, true, ""},
		"an unknown outcome without one":     {drainmark.Receipt{}, unknown, drainmark.KindOutcomeUnknown, false, ""},
		"a deadline that nobody interpreted": {receiptOne, context.DeadlineExceeded, drainmark.KindOutcomeUnknown, true, ""},
		"an error of no kind":                {receiptOne, errNotScripted, drainmark.KindInternal, false, ""},
		"a setting is wrong":                 {drainmark.Receipt{}, drainmark.Errorf(drainmark.KindMisconfigured, "wrong"), drainmark.KindMisconfigured, false, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{append: func(context.Context, string, []drainmark.Record) (drainmark.Receipt, error) {
				return test.receipt, test.err
			}})
			a := s.do("POST", messagesPath, "x")
			p := a.wantProblem(t, test.kind)
			want := ""
			if test.told {
				want = test.receipt.String()
			}
			if p.Receipt != want {
				t.Errorf("the receipt is %q, want %q", p.Receipt, want)
			}
			a.wantHeader(t, receiptHeader, want)
			a.wantHeader(t, "Retry-After", test.retry)
			a.wantHeader(t, "Cache-Control", "no-store")
			if strings.Contains(string(a.body), "secret") {
				t.Errorf("the answer says what is for the log only: %s", a.body)
			}
		})
	}
}

func TestAppendHasItsTimeWhateverTheWait(t *testing.T) {
	t.Parallel()
	for _, prefer := range []string{"wait=0", "wait=30"} {
		t.Run("the broker gets the time of a request with "+prefer, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			service := accepts(func(string, []drainmark.Record) {})
			service.append = func(ctx context.Context, _ string, _ []drainmark.Record) (drainmark.Receipt, error) {
				wantDeadline(t, ctx, began, 10*time.Second)
				return receiptOne, nil
			}
			service.status = func(ctx context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
				wantDeadline(t, ctx, began, 40*time.Second)
				return backend.Status{Receipt: r, State: backend.Pending}, nil
			}
			serve(t, service).do("POST", messagesPath, "x", "Prefer: "+prefer).want(t, 202)
		})
	}
}

// wantDeadline fails the test unless the deadline is that long after a moment between began and now.
func wantDeadline(t *testing.T, ctx context.Context, began time.Time, want time.Duration) {
	t.Helper()
	deadline, ok := ctx.Deadline()
	if !ok || deadline.Before(began.Add(want)) || deadline.After(time.Now().Add(want)) {
		t.Errorf("the deadline is in %v, want %v", deadline.Sub(began), want)
	}
}

func TestTheTimeOfABodyIsNotThatOfTheWait(t *testing.T) {
	t.Parallel()
	service := accepts(func(string, []drainmark.Record) {})
	service.status = func(ctx context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
		select {
		case <-ctx.Done():
			t.Error("the request ended when its body's time was over")
		case <-time.After(1500 * time.Millisecond): // well after
		}
		return backend.Status{Receipt: r, State: backend.Persisted}, nil
	}
	s := serve(t, service, func(c *Config) { c.Limits.Request = time.Second })
	s.do("POST", messagesPath, "x", "Prefer: wait=30").want(t, 201)
}

func TestStoppingCutsAWaitShort(t *testing.T) {
	t.Parallel()
	stopping, stop := context.WithCancel(t.Context())
	service := accepts(func(string, []drainmark.Record) {})
	service.status = func(ctx context.Context, r drainmark.Receipt, wait time.Duration) (backend.Status, error) {
		if wait > 0 {
			stop()
			<-ctx.Done()
			return backend.Status{}, ctx.Err()
		}
		return backend.Status{Receipt: r, State: backend.Persisted}, ctx.Err()
	}
	s := serve(t, service, func(c *Config) { c.Stopping = stopping })
	s.do("POST", messagesPath, "x", "Prefer: wait=60").want(t, 201)
}

func TestClear(t *testing.T) {
	t.Parallel()
	t.Run("a clear is published, and ignores idempotency keys", func(t *testing.T) {
		t.Parallel()
		var got drainmark.Record
		s := serve(t, accepts(func(_ string, records []drainmark.Record) { got = records[0] }))
		a := s.do("DELETE", messagesPath, "", "Idempotency-Key: \"", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		if v := a.want(t, 202); v["receipt"] != receiptOne.String() || v["state"] != "accepted" || len(v) != 2 {
			t.Errorf("the answer is %s", a.body)
		}
		a.wantHeader(t, receiptHeader, receiptOne.String())
		if got.Kind != drainmark.Clear || got.Log != "guestbook" || got.Key != "" || got.Headers.IsZero() {
			t.Errorf("published %+v", got)
		}
	})
	for state, status := range map[backend.State]int{backend.Persisted: 200, backend.Pending: 202, backend.Rejected: 202} {
		t.Run(fmt.Sprintf("with a wait, a clear that is %s is answered with %d", state, status), func(t *testing.T) {
			t.Parallel()
			service := accepts(func(string, []drainmark.Record) {})
			service.status = says(state, "")
			serve(t, service).do("DELETE", messagesPath, "", "Prefer: wait=1").want(t, status)
		})
	}
	t.Run("a log that cannot be is refused", func(t *testing.T) {
		t.Parallel()
		serve(t, &fake{}).do("DELETE", "/v1/logs/-/messages", "").wantProblem(t, drainmark.KindInvalid)
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, lines := range []int{0, 1000} {
		b.Run(strconv.Itoa(lines)+" lines", func(b *testing.B) {
			service := accepts(func(string, []drainmark.Record) {})
			h, err := New(Config{Service: service})
			if err != nil {
				b.Fatal(err)
			}
			body := []byte(strings.Repeat("x", 200))
			contentType := "text/plain"
			if lines > 0 {
				body = []byte(strings.Repeat(`{"body":"`+string(body)+"\"}\n", lines))
				contentType = manyType
			}
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), "POST", messagesPath, bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Content-Type", contentType)
				w := sink{header: http.Header{}}
				if h.ServeHTTP(&w, r); w.status != 202 {
					b.Fatal("status", w.status)
				}
			}
		})
	}
}

// sink is a ResponseWriter that forgets.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func TestTheNamesOfNDJSON(t *testing.T) {
	t.Parallel()
	for name, many := range map[string]bool{
		"application/x-ndjson": true, "application/ndjson": true, "application/jsonl": true, "application/x-jsonlines": true,
		"application/json-lines; charset=utf-8": true, "Application/NDJSON": true,
		"application/json": false, "text/plain": false, "application/x-ndjsonx": false,
	} {
		got := 0
		s := serve(t, accepts(func(_ string, records []drainmark.Record) { got = len(records) }))
		s.do("POST", messagesPath, `{"body":"a"}`+"\n"+`{"body":"b"}`, "Content-Type: "+name).want(t, 202)
		if (got == 2) != many {
			t.Errorf("%s is %d messages", name, got)
		}
	}
}

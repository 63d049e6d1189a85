package verify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/check"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runAgainst runs against a fake: 400 messages of 4 clients, 100 of each.
func runAgainst(t *testing.T, f *fake, change func(*Config)) check.Result {
	t.Helper()
	config := Config{Workload: Appends, Messages: 400, Concurrency: 4, Batch: 1, Timeout: time.Minute}
	if change != nil {
		change(&config)
	}
	if config.URLs == nil {
		config.URLs = []string{startFake(t, f)}
	}
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatalf("the run failed: %v", err)
	}
	return report
}

// inVirtualTime is runAgainst for what depends on time: in a bubble, where each request takes a millisecond, and goes through
// what is put around the fake.
func inVirtualTime(t *testing.T, f *fake, change func(*Config), around ...func(http.Handler) http.Handler) (r check.Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		handler, listener := f.handler(), make(pipes)
		for _, put := range around {
			handler = put(handler)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Millisecond)
			handler.ServeHTTP(w, r)
		})}
		go func() { _ = server.Serve(listener) }() // until it is closed
		defer server.Close()
		transport := &http.Transport{DialContext: listener.dial}
		defer transport.CloseIdleConnections()
		r = runAgainst(t, f, func(c *Config) {
			c.URLs, c.http = []string{"http://fake"}, &http.Client{Transport: transport}
			change(c)
		})
	})
	return r
}

// pipes is a network that is all in memory: each connection is the server's end of one.
type pipes chan net.Conn

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept is called by the server.
func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

// Close is called by the server.
func (p pipes) Close() error {
	close(p)
	return nil
}

// Addr is called by the server.
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// broken lists the promises that a report says are broken.
func broken(r *check.Result) string {
	var names []string
	for _, p := range r.Promises {
		if p.State == check.PromiseBroken {
			names = append(names, p.Promise)
		}
	}
	return strings.Join(names, " ")
}

func text(r *check.Result) string {
	var b bytes.Buffer
	_ = Print(*r, &b)
	return b.String()
}

func batchOf(n int) func(*Config) { return func(c *Config) { c.Batch = n } }

func TestADeploymentThatKeepsItsPromisesIsFoundToHoldThem(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		fake   *fake
		change func(*Config)
	}{
		{"what is accepted is visible at once", &fake{}, nil},
		{"what is accepted is visible later", &fake{lag: 30}, nil},
		{"messages come in batches", &fake{lag: 30}, batchOf(7)},
		{"all messages of a client come in one batch", &fake{lag: 1000}, batchOf(1000)},
		{"barriers and receipts are pending for long", &fake{lag: 30, faults: faults{pendings: 3}}, nil},
		{"appends are refused now and then", &fake{lag: 5, faults: faults{failBefore: 5}}, nil},
		{"appends are done and called unknown", &fake{lag: 5, faults: faults{failAfter: 5, failAs: "504"}}, nil},
		{"batches are done and called unknown", &fake{lag: 5, faults: faults{failAfter: 5, failAs: "504"}}, batchOf(7)},
		{"the connection is cut behind an append", &fake{lag: 5, faults: faults{failAfter: 5, failAs: "cut"}}, nil},
		{"appends are done and called refused, but their keys count", &fake{lag: 5, faults: faults{failAfter: 5, failAs: "503"}}, nil},
		{"reads with a receipt are refused now and then", &fake{lag: 50, faults: faults{refuseReads: 3}}, nil},
		{"appends take a while", &fake{takes: 30 * time.Millisecond}, func(c *Config) { c.Workload, c.Messages = Mixed, 30 }},
		{"there is one client", &fake{}, func(c *Config) { c.Concurrency = 1 }},
		{"there is one message", &fake{lag: 1}, func(c *Config) { c.Messages = 1 }},
		{"there are more messages than a page has", &fake{}, func(c *Config) { c.Messages, c.Batch, c.Size = 2500, 100, 1 }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := runAgainst(t, c.fake, c.change)
			if r.Verdict != check.Held || broken(&r) != "" {
				t.Errorf("the verdict is %s\n%s", r.Verdict, text(&r))
			}
			if r.Appends.Done != r.Appends.Messages {
				t.Errorf("%d of %d messages were accepted", r.Appends.Done, r.Appends.Messages)
			}
			if c.fake.faults.failAfter+c.fake.faults.failBefore > 0 && r.Appends.Retries == 0 {
				t.Error("there were no retries")
			}
		})
	}
}

func TestAnAppendInDoubtMayBeThereOrNot(t *testing.T) {
	t.Parallel()
	for name, stores := range map[string]bool{"and it is there": true, "and it is not there": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{lag: 10, faults: faults{doubt: "1/30", doubtStores: stores}}
			r := inVirtualTime(t, f, func(c *Config) { c.Patience = 5 * time.Second })
			if r.Verdict != check.Held || r.Appends.Unknown != 1 || r.Appends.Done != 399 || r.Appends.Retries == 0 {
				t.Errorf("the verdict is %s, the appends are %+v\n%s", r.Verdict, r.Appends, text(&r))
			}
		})
	}
}

// Without a key, what may have been stored is not sent again, for then it could be there twice.
func TestWhatHasNoKeyIsSentAgainOnlyIfNothingWasDone(t *testing.T) {
	t.Parallel()
	for _, f := range []faults{{failAfter: 5, failAs: "504"}, {failAfter: 5, failAs: "cut"}, {failBefore: 5}} {
		r := runAgainst(t, &fake{faults: f}, func(c *Config) { c.Workload = Mixed })
		if r.Verdict != check.Held || r.Appends.Retries == 0 || (r.Appends.Unknown > 0) != (f.failAfter > 0) {
			t.Errorf("%+v: the verdict is %s, the appends are %+v\n%s", f, r.Verdict, r.Appends, text(&r))
		}
	}
}

func TestARunEndsWhenItIsEnough(t *testing.T) {
	t.Parallel()
	for _, duration := range []time.Duration{0, time.Hour} {
		enough := make(chan struct{})
		f := &fake{faults: faults{posted: func(n int) {
			if n == 300 {
				close(enough)
			}
		}}}
		r := runAgainst(t, f, func(c *Config) { c.Messages, c.Duration, c.Rate, c.Enough = 0, duration, 2000, enough })
		if r.Verdict != check.Held || r.Appends.Done < 250 {
			t.Errorf("the verdict is %s, the appends are %+v\n%s", r.Verdict, r.Appends, text(&r))
		}
	}
}

// flip changes a byte of a message's body.
func flip(at func(body string) int) func(*stored) {
	return func(m *stored) {
		i := at(m.body)
		m.body = m.body[:i] + string([]byte{m.body[i] ^ 1}) + m.body[i+1:]
	}
}

func TestABrokenPromiseIsNamed(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		want   string // all that are broken (one in brackets may be, if a barrier was reached just then)
		faults faults
		change func(*Config)
	}{
		{"the last message is lost", "P1", faults{lose: "3/100"}, nil},
		{"a message that is read back is lost", "P1 P6", faults{lose: "2/26"}, nil},
		{"a message is lost and its position is used up", "P1 P4", faults{skip: "1/20"}, nil},
		{"the last position is used up", "P1 P4", faults{skip: "0/100"}, func(c *Config) { c.Concurrency, c.Messages = 1, 100 }},
		{"a message stands in the log again, far behind", "P2", faults{double: "0/2", until: "0/100"}, nil},
		{"requests are sent again and their keys mean nothing", "P2", faults{ignoreKeys: true}, nil},
		{"a batch is sent again and its keys mean nothing", "P2", faults{ignoreKeys: true}, func(c *Config) { c.Messages, c.Batch = 2000, 10 }},
		{"a stored append is called refused, and its key means nothing", "P2", faults{ignoreKeys: true, failAfter: 9, failAs: "503"}, nil},
		{"a stored append is cut off, and its key means nothing", "P2", faults{ignoreKeys: true, failAfter: 9, failAs: "cut"}, nil},
		{"what has no key is appended twice", "P2", faults{doubleUnkeyed: true}, func(c *Config) { c.Workload = Mixed }},
		{"two messages of a client change places", "P3 (P5)", faults{hold: "1/30", until: "1/31"}, nil},
		{"a message stands behind later ones of all clients", "P3 (P5)", faults{hold: "1/30", until: "1/90"}, nil},
		{"a batch is turned round", "P3", faults{reverseLines: true}, batchOf(2)},
		{"positions begin again after a clear", "P4", faults{resetOnClear: true}, nil},
		{"the last position is one too high", "P1 P4 P6", faults{lastPositionBy: 1}, nil},
		{"small pages show other places", "P4", faults{pageFault: swapOnSmallPages}, nil},
		{"small pages leave out their last message", "P4", faults{pageFault: shortenSmallPages}, nil},
		{"small pages show another id", "P4", faults{pageFault: renameOnSmallPages}, nil},
		{"small pages show another body", "P4", faults{pageFault: alterOnSmallPages}, nil},
		{"the count is one too low", "P4 P5", faults{countBy: -1}, nil},
		{"the barrier is reached five requests early", "P5", faults{early: 5}, nil}, // the last may only have been sent again
		{"a receipt is persisted one message early", "P6", faults{earlyReceipts: 1}, nil},
		{"a clear leaves a message", "clear", faults{keepOnClear: 1}, nil},
		{"a read with a receipt does not wait", "P6", faults{stale: true}, nil},
		{"a byte of a payload is flipped", "P1", faults{change: "1/33", changeBy: flip(func(b string) int { return len(b) / 2 })}, nil},
		{"a byte of a payload that is not text is flipped", "P1", faults{change: "1/32", changeBy: flip(func(b string) int { return len(b) / 2 })}, nil},
		{"the first byte is flipped", "P1", faults{change: "1/33", changeBy: flip(func(string) int { return 0 })}, nil},
		{"the last byte is flipped", "P1", faults{change: "1/33", changeBy: flip(func(b string) int { return len(b) - 1 })}, nil},
		{"the last byte is cut off", "P1", faults{change: "1/33", changeBy: func(m *stored) { m.body = m.body[:len(m.body)-1] }}, nil},
		{"a byte is added", "P1", faults{change: "1/33", changeBy: func(m *stored) { m.body += "\n" }}, nil},
		{"the content type is another", "P1", faults{change: "1/33", changeBy: func(m *stored) { m.ContentType = "text/plain" }}, nil},
		{"the headers are lost", "P1", faults{change: "1/32", changeBy: func(m *stored) { m.Headers = nil }}, nil},
		{"a header has another value", "P1", faults{change: "1/31", changeBy: func(m *stored) { m.Headers["verify-message"] += " " }}, nil},
		{"an empty header is lost", "P1", faults{change: "1/32", changeBy: func(m *stored) { delete(m.Headers, "verify-empty") }}, nil},
		{"a message has a header that it was sent without", "P1", faults{change: "1/33", changeBy: func(m *stored) { m.Headers = map[string]string{"a": ""} }}, nil},
		{"a trace context of its own is another's", "P1", faults{change: "1/35", changeBy: func(m *stored) { m.Headers["tracestate"] = "a=b" }}, nil},
		{"small pages show other headers", "P4", faults{pageFault: traceOnSmallPages}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lag := 30
			if c.faults.stale {
				lag = 1000 // or what others append would push it into view
			}
			r := runAgainst(t, &fake{lag: lag, faults: c.faults}, c.change)
			want, maybe, _ := strings.Cut(c.want, " (")
			got := broken(&r)
			if maybe != "" {
				got = strings.TrimSuffix(got, " "+strings.TrimSuffix(maybe, ")"))
			}
			if r.Verdict != check.Broken || got != want {
				t.Errorf("the verdict is %s, broken are %q, want %q\n%s", r.Verdict, got, c.want, text(&r))
			}
		})
	}
}

// traceOnSmallPages shows a trace context that the message was not sent with, which somebody on the way may have added, but
// which cannot come and go.
func traceOnSmallPages(p *pageFor) {
	for i := range p.messages {
		if m := &p.messages[i]; p.limit == secondPages && m.Headers["traceparent"] == "" {
			headers := map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
			maps.Copy(headers, m.Headers)
			m.Headers = headers
			return
		}
	}
}

func swapOnSmallPages(p *pageFor) {
	if p.limit == secondPages && len(p.messages) > 10 {
		a, b := &p.messages[3], &p.messages[4]
		*a, *b = *b, *a
		a.Position, b.Position = b.Position, a.Position
	}
}

func renameOnSmallPages(p *pageFor) {
	if p.limit == secondPages && len(p.messages) > 10 {
		p.messages[3].ID += "0"
	}
}

func alterOnSmallPages(p *pageFor) {
	if p.limit == secondPages && len(p.messages) > 10 {
		other := "hello"
		p.messages[3].Text, p.messages[3].Bytes = &other, nil
	}
}

func shortenSmallPages(p *pageFor) {
	if p.limit == secondPages && len(p.messages) == p.limit {
		p.messages = slices.Delete(p.messages, p.limit-2, p.limit-1)
	}
}

func TestExamplesSayWhichMessage(t *testing.T) {
	t.Parallel()
	r := runAgainst(t, &fake{faults: faults{double: "2/7", until: "2/90"}}, nil)
	p := r.Promises[1]
	if p.Promise != "P2" || p.Violations != 1 || len(p.Examples) != 1 {
		t.Fatalf("promise 2 is %+v", p)
	}
	v := p.Examples[0]
	if v.Client == nil || *v.Client != 2 || v.Number != 7 || v.Position == 0 || !strings.Contains(v.Expected, "only at position") {
		t.Errorf("the example is %+v", v)
	}
	for _, want := range []string{"P2", "BROKEN", "client 2's message 7", "verdict: broken"} {
		if !strings.Contains(text(&r), want) {
			t.Errorf("%q is not in\n%s", want, text(&r))
		}
	}
}

func TestTooManyViolationsAreCountedAndFiveAreShown(t *testing.T) {
	t.Parallel()
	r := runAgainst(t, &fake{faults: faults{reverseLines: true}}, batchOf(10))
	if p := r.Promises[2]; p.Violations != 360 || len(p.Examples) != check.MaxExamples {
		t.Errorf("%d violations, %d examples, want 360 (nine of each ten) and %d", p.Violations, len(p.Examples), check.MaxExamples)
	}
}

func TestSomebodyElseInTheLogIsNotHeldAgainstTheDeployment(t *testing.T) {
	t.Parallel()
	cases := map[string]faults{
		"a message of somebody else":                 {stranger: "1/50"},
		"a message of somebody else, at the end":     {stranger: "3/100"},
		"somebody else's clear, and a message":       {clearBehind: "1/50", stranger: "1/60"},
		"somebody else's message behind the clear":   {stranger: "clear"},
		"messages of somebody else during a reading": {strangerOnRead: true},
	}
	many := map[string]int{"messages of somebody else during a reading": 2500} // more than a page
	for name, faults := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{faults: faults}
			r := runAgainst(t, f, func(c *Config) {
				c.Messages, c.Batch, c.Concurrency = cmp.Or(many[name], 400), cmp.Or(many[name]/25, 1), 4
			})
			if r.Verdict != check.Inconclusive || broken(&r) != "" || r.Reason == "" {
				t.Errorf("the verdict is %s, reason %q\n%s", r.Verdict, r.Reason, text(&r))
			}
		})
	}
}

func TestARealFaultIsFoundThoughSomebodyElseWritesToo(t *testing.T) {
	t.Parallel()
	r := runAgainst(t, &fake{faults: faults{stranger: "1/50", lose: "2/40"}}, nil)
	if r.Verdict != check.Broken || !strings.Contains(broken(&r), "P1") {
		t.Errorf("the verdict is %s\n%s", r.Verdict, text(&r))
	}
}

func TestARunThatRunsOutOfTimeIsInconclusive(t *testing.T) {
	t.Parallel()
	f := &fake{faults: faults{neverReach: true}}
	var progress bytes.Buffer
	r := inVirtualTime(t, f, func(c *Config) { c.Messages, c.Timeout, c.Out = 20, 3*time.Second, &progress })
	if r.Verdict != check.Inconclusive || broken(&r) != "" || !strings.Contains(r.Reason, "time is over") || !strings.HasPrefix(r.Reason, "barrier: ") {
		t.Errorf("the verdict is %s, reason %q\n%s", r.Verdict, r.Reason, text(&r))
	}
	if !strings.Contains(progress.String(), "20 of 20 messages accepted") {
		t.Errorf("progress is %q", progress.String())
	}
}

func TestARunThatRunsOutOfTimeSaysWhatWasLeft(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t, &fake{faults: faults{failBefore: 2}}, func(c *Config) { c.Timeout, c.Messages = 200*time.Millisecond, 1_000_000 })
	a := r.Appends
	if r.Verdict != check.Inconclusive || a.Messages == 1_000_000 || a.Done == 0 || a.Done+a.Refused+a.Unknown != a.Messages {
		t.Errorf("the verdict is %s, the appends are %+v", r.Verdict, a)
	}
}

func TestACanceledRunReturnsItsReportAndTheReason(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{faults: faults{neverReach: true, posted: func(n int) {
		if n == 50 {
			cancel()
		}
	}}}
	url := startFake(t, f)
	r, err := Run(ctx, Config{URLs: []string{url}, Workload: Appends, Batch: 1, Messages: 100, Concurrency: 4, Timeout: time.Minute})
	if !errors.Is(err, context.Canceled) || r.Verdict != check.Inconclusive {
		t.Errorf("verdict %s, error %v", r.Verdict, err)
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	const nobody = "http://127.0.0.1:1" // a port that no server of a test is ever given
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	t.Cleanup(other.Close)
	t.Run("when nobody answers", func(t *testing.T) {
		t.Parallel()
		r, err := Run(t.Context(), Config{URLs: []string{nobody}, Contact: 50 * time.Millisecond})
		if !errors.Is(err, ErrUnreachable) || r.Verdict != check.Inconclusive {
			t.Errorf("verdict %s, error %v", r.Verdict, err)
		}
	})
	t.Run("when somebody else answers", func(t *testing.T) {
		t.Parallel()
		r, err := Run(t.Context(), Config{URLs: []string{other.URL}})
		if !errors.Is(err, client.ErrProtocol) || errors.Is(err, ErrUnreachable) || r.Verdict != check.Inconclusive {
			t.Errorf("verdict %s, error %v", r.Verdict, err)
		}
	})
	t.Run("when messages are refused for good", func(t *testing.T) {
		t.Parallel()
		f := &fake{}
		url := startFake(t, f)
		r, err := Run(t.Context(), Config{URLs: []string{url + "/elsewhere"}})
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || r.Verdict != check.Inconclusive {
			t.Errorf("verdict %s, error %v", r.Verdict, err)
		}
	})
	for name, c := range map[string]Config{
		"with no URL":                      {},
		"with a URL of another scheme":     {URLs: []string{"ftp://host"}},
		"with too many messages":           {URLs: []string{nobody}, Messages: maxMessages + 1},
		"with messages below 0":            {URLs: []string{nobody}, Messages: -1},
		"with too many clients":            {URLs: []string{nobody}, Concurrency: maxConcurrency + 1},
		"with batches that are too large":  {URLs: []string{nobody}, Batch: maxBatch + 1},
		"with payloads that are too large": {URLs: []string{nobody}, Size: MaxSize + 1},
		"with a timeout below 0":           {URLs: []string{nobody}, Timeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Run(t.Context(), c); !errors.Is(err, ErrConfig) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	url := strings.Replace(startFake(t, &fake{}), "http://", "http://me:secret@", 1)
	r, err := Run(t.Context(), Config{URLs: []string{url}, Messages: 10})
	if err != nil || r.Verdict != check.Held {
		t.Fatalf("verdict %s, error %v", r.Verdict, err)
	}
	document, _ := json.Marshal(r)
	if strings.Contains(string(document)+text(&r), "secret") || !strings.Contains(r.URL, "me:xxxxx@") {
		t.Errorf("the report is %s", document)
	}
	_, err = Run(t.Context(), Config{URLs: []string{"http://me:secret@127.0.0.1:1"}, Contact: 10 * time.Millisecond})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}
}

func TestTheReportAsJSON(t *testing.T) {
	t.Parallel()
	r := runAgainst(t, &fake{faults: faults{lose: "0/5"}}, nil)
	document, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back check.Result
	if err := json.Unmarshal(document, &back); err != nil {
		t.Fatal(err)
	}
	if back.Verdict != check.Broken || len(back.Promises) != 11 || back.Promises[0].Examples[0].Number != 5 || *back.Promises[0].Examples[0].Client != 0 {
		t.Errorf("the document is %s", document)
	}
	for _, name := range []string{`"verdict":"broken"`, `"promise":"P1"`, `"state":"broken"`, `"accept_p99_ms":`, `"appends_per_second":`,
		`"reached_after_ms":`, `"violations":1`, `"examples":[]`, `"client":0`, `"foreign":{"count":0,"examples":[]}`} {
		if !strings.Contains(string(document), name) {
			t.Errorf("%s is not in %s", name, document)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	t.Run("has a line a step elsewhere", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		inVirtualTime(t, &fake{}, func(c *Config) { c.Out = &out })
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 6 || !strings.HasPrefix(lines[2], "[3/6] append   400 of 400 messages accepted, ") || strings.Contains(out.String(), "\r") {
			t.Errorf("progress is %q", lines)
		}
	})
	t.Run("stays in its place on a terminal", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			d := newDisplay(&out, true, false)
			d.begin(4, 6, "barrier", nil)
			time.Sleep(300 * time.Millisecond)
			d.note("stalled no consumer")
			d.refresh()
			d.end(nil)
			d.refresh() // between two steps there is nothing to show
			if want := "\r[4/6] barrier  stalled no consumer, 0.3 s\x1b[K"; out.String() != want+want+"\n" {
				t.Errorf("progress is %q", out.String())
			}
		})
	})
}

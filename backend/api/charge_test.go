package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/internal/address"
	"github.com/drainmark/drainmark/store"
)

// limited is an API that says yes to everything, and knows everybody who says in a header who they are, with these limits.
func limited(t *testing.T, l auth.Limits, change ...func(*Config)) (*server, *prometheus.Registry) {
	t.Helper()
	if l.Share == 0 {
		l.Share = 25
	}
	registry := prometheus.NewRegistry()
	accounts, err := quota.New(quota.Config{Budgets: quota.Budgets{8000, 8000, 8000, 8, 8, 8000}, Request: 4000, Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	return guarded(t, append([]func(*Config){func(c *Config) {
		c.Accounts, c.Limits = accounts, Limits{Message: 4000, Many: 4000, Bodies: 8000}
	}}, append(change, func(c *Config) {
		c.Access = func(r *http.Request) (auth.Principal, error) {
			if r.Header.Get("Who") == "" {
				return auth.Principal{}, fmt.Errorf("who is it: %w", auth.ErrUnknown)
			}
			p, err := auth.Open(r)
			p.Name, p.Limits = r.Header.Get("Who"), &l
			return p, err
		}
	})...)...), registry
}

// after returns what Retry-After says.
func (a answer) after(t *testing.T) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		t.Fatalf("Retry-After: %v", err)
	}
	return time.Duration(n) * time.Second
}

// TestRequestsAreLimited on each route that needs somebody who is known, for that one alone.
func TestRequestsAreLimited(t *testing.T) {
	t.Parallel()
	s, registry := limited(t, auth.Limits{Requests: 1, Bytes: 1 << 40})
	for call, suffices := range needs {
		method, path, _ := strings.Cut(call, " ")
		who := "Who: " + call
		first := s.do(method, path, "", who)
		var second answer
		for range 100 { // a slow machine may have filled the bucket meanwhile
			if second = s.do(method, path, "", who); second.StatusCode == 429 {
				break
			}
		}
		if suffices == nil {
			if second.StatusCode != 200 || first.Header.Get("RateLimit") != "" {
				t.Errorf("%s, which is for all: %d", call, second.StatusCode)
			}
			continue
		}
		second.wantProblem(t, drainmark.KindRateLimited, "1 requests a second", "(requests)")
		second.wantHeader(t, "WWW-Authenticate", "")
		second.wantHeader(t, "RateLimit-Policy", `"requests";q=1;w=1, "bytes";q=1099511627776;qu="content-bytes";w=1`)
		if first.StatusCode == 429 || second.after(t) != time.Second || !strings.Contains(second.Header.Get("RateLimit"), `"requests";r=0;t=1`) {
			t.Errorf("%s: %d, then %v", call, first.StatusCode, second.Header)
		}
	}
	if got := gather(t, registry, "drainmark_http_rate_limited_total"); len(got) != len(needs)-2 {
		t.Errorf("it is counted for %v", got)
	}
}

// TestBytesAreLimited, of what arrives and of what is announced, and one request at the limit always passes.
func TestBytesAreLimited(t *testing.T) {
	t.Parallel()
	s, _ := limited(t, auth.Limits{Bytes: 1})
	body := strings.Repeat("x", 4000)
	s.do("POST", "/v1/logs/a/messages", body, "Who: shop").want(t, 202)
	for _, size := range []int64{4000, -1} {
		r := s.request("POST", "/v1/logs/a/messages", io.NopCloser(strings.NewReader(body)), "Who: shop")
		r.ContentLength = size
		got := s.send(r)
		got.wantProblem(t, drainmark.KindRateLimited, "1 bytes a second")
		if after := got.after(t); after < time.Hour-10*time.Minute || after > 4001*time.Second {
			t.Errorf("after %v", after)
		}
	}
	s.do("POST", "/v1/logs/a/messages", body, "Who: other").want(t, 202)
}

// TestNewLogsAndKeysAreLimited: not those that exist, and not without a limit.
func TestNewLogsAndKeysAreLimited(t *testing.T) {
	t.Parallel()
	asked := 0
	s, _ := limited(t, auth.Limits{NewLogs: 1, Keys: 2}, func(c *Config) {
		c.Service.(*fake).messages = func(_ context.Context, log string, _ uint64, _ int, _ *drainmark.Receipt, _ time.Duration) (store.Page, error) {
			if asked++; log == "old" {
				return store.Page{}, nil
			}
			return store.Page{}, drainmark.Errorf(drainmark.KindNotFound, "nobody has written to it")
		}
	})
	appendTo := func(log string, headers ...string) answer {
		return s.do("POST", "/v1/logs/"+log+"/messages", "x", append(headers, "Who: shop")...)
	}
	for _, log := range []string{"old", "old", "new", "new"} {
		appendTo(log).want(t, 202)
	}
	again := appendTo("newer")
	again.wantProblem(t, drainmark.KindRateLimited, "1 new logs an hour", "(new_logs)")
	if after := again.after(t); after < 50*time.Minute || after > time.Hour || asked != 3 {
		t.Errorf("after %v; the service was asked %d times", after, asked)
	}
	three := `{"body":"a","key":"1"}` + "\n" + `{"body":"a","key":"2"}` + "\n" + `{"body":"a","key":"3"}`
	s.do("POST", "/v1/logs/old/messages", three, "Who: shop", "Content-Type: application/x-ndjson").wantProblem(t, drainmark.KindTooLarge, "2 idempotency keys", "never")
	appendTo("old", "Idempotency-Key: a").want(t, 202)
	appendTo("old", "Idempotency-Key: b").want(t, 202)
	appendTo("old", "Idempotency-Key: c").wantProblem(t, drainmark.KindRateLimited, "(keys)")
	appendTo("old").want(t, 202)
}

// TestOpenDeadLettersAreLimited: appends of whoever has so many are refused, and nothing else.
func TestOpenDeadLettersAreLimited(t *testing.T) {
	t.Parallel()
	s, registry := limited(t, auth.Limits{Letters: 3}, func(c *Config) {
		c.Service.(*fake).openLetters = func(principal string, most int64) (int64, time.Duration) {
			if most != 3 {
				t.Errorf("asked for %d of %s", most, principal)
			}
			return map[string]int64{"shop": 3, "other": 2}[principal], 1500 * time.Millisecond
		}
	})
	s.do("POST", "/v1/logs/a/messages", "x", "Who: other").want(t, 202)
	for _, contentType := range []string{"text/plain", manyType} {
		got := s.do("POST", "/v1/logs/a/messages", `{"body":"x"}`, "Who: shop", "Content-Type: "+contentType)
		got.wantProblem(t, drainmark.KindRateLimited, "shop has 3 open dead letters or more", "(letters)", "retry or discard")
		if after := got.after(t); after != 2*time.Second {
			t.Errorf("after %v", after)
		}
	}
	s.do("DELETE", "/v1/logs/a/messages", "", "Who: shop").want(t, 202)
	s.do("DELETE", "/v1/dead-letters/x", "", "Who: shop").want(t, 202)
	if n := gather(t, registry, "drainmark_http_rate_limited_total")["letters shop"]; n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
	unlimited, _ := limited(t, auth.Limits{})
	unlimited.do("POST", "/v1/logs/a/messages", "x", "Who: shop").want(t, 202)
}

// TestFailedLoginsAreLimited for an address, which a proxy tells, and not for whoever has a good token.
func TestFailedLoginsAreLimited(t *testing.T) {
	t.Parallel()
	s, _ := limited(t, auth.Limits{}, func(c *Config) {
		var err error
		if c.Proxies, err = address.Parse([]string{"127.0.0.0/8", "::1"}); err != nil {
			t.Fatal(err)
		}
	})
	for range 10 {
		s.do("GET", "/v1/status", "", "X-Forwarded-For: 192.0.2.1").want(t, 401)
	}
	var got answer
	for range 100 { // a slow machine may have filled the bucket meanwhile
		if got = s.do("GET", "/v1/status", "", "X-Forwarded-For: 192.0.2.1"); got.StatusCode == 429 {
			break
		}
	}
	got.wantProblem(t, drainmark.KindRateLimited, "10 requests in a minute")
	got.wantHeader(t, "WWW-Authenticate", Challenge)
	if after := got.after(t); after < time.Second || after > 6*time.Second {
		t.Errorf("after %v", after)
	}
	s.do("GET", "/v1/status", "", "X-Forwarded-For: 192.0.2.1", "Who: shop").want(t, 200)
	s.do("GET", "/v1/status", "", "X-Forwarded-For: 192.0.2.1, 192.0.2.2").want(t, 401)
}

// TestWhatIsHeldIsGivenBack, however a request ends: while it lasts, somebody else gets what there is.
func TestWhatIsHeldIsGivenBack(t *testing.T) {
	t.Parallel()
	entered, over := make(chan struct{}, 9), make(chan struct{})
	s, registry := limited(t, auth.Limits{Followed: 1}, func(c *Config) {
		f := c.Service.(*fake)
		f.status = func(ctx context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
			entered <- struct{}{}
			select {
			case <-ctx.Done():
			case <-over:
			}
			panic("ouch")
		}
		f.subscribe = func(context.Context, string, uint64) (backend.Subscription, error) {
			entered <- struct{}{}
			return newFeed(), nil
		}
	})
	held := func(budget string) float64 {
		return gather(t, registry, "drainmark_http_principal_held")[budget+" shop"]
	}
	barrier := func(ctx context.Context) {
		r := s.request("POST", "/v1/barriers", nil, "Who: shop").WithContext(ctx)
		if response, err := s.http.Client().Do(r); err == nil {
			_ = response.Body.Close()
		}
	}
	ctx, cut := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	for range 2 {
		go func() { barrier(ctx); done <- struct{}{} }()
		<-entered
	}
	s.do("POST", "/v1/barriers", "", "Who: shop").wantProblem(t, drainmark.KindRateLimited, "share of waiters", "is 2")
	s.do("GET", "/v1/receipts/"+receiptOne.String(), "", "Who: shop", "Prefer: wait=9").wantProblem(t, drainmark.KindRateLimited, "waiters")
	cut()
	<-done
	<-done
	eventually(t, "the waiters are given back", func() bool { return held("waiters") == 0 })
	one := s.listen("/v1/logs/a/events?after=0", "Who: shop")
	<-entered
	eventually(t, "what it has to send is counted", func() bool { return held("stream-bytes") == 1000 })
	s.do("GET", "/v1/logs/b/events?after=0", "", "Who: shop").wantProblem(t, drainmark.KindRateLimited, "(followed)")
	if got := s.do("GET", "/v1/logs/b/events?after=0", "", "Who: shop", "Accept: text/event-stream"); got.StatusCode != 200 || !strings.Contains(string(got.body), "retry: ") {
		t.Errorf("an EventSource is answered with %d %s", got.StatusCode, got.body)
	}
	_ = one.response.Body.Close()
	eventually(t, "the stream is given back", func() bool { return held("subscribers") == 0 && held("stream-bytes") == 0 })
	close(over)
}

// eventually polls.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + ": it is not so after a minute")
		}
	}
}

// BenchmarkAppendOfAPrincipal is an append within the API, with and without accounts, and with a limit of dead letters.
func BenchmarkAppendOfAPrincipal(b *testing.B) {
	for name, limits := range map[string]*auth.Limits{"accounts=false": nil, "accounts=true": everybody, "letters": {Share: 25, Letters: 100}} {
		b.Run(name, func(b *testing.B) {
			service := accepts(func(string, []drainmark.Record) {})
			service.openLetters = func(string, int64) (int64, time.Duration) { return 0, 0 }
			c := Config{Service: service, Logger: slog.New(slog.DiscardHandler)}
			c.Access = func(r *http.Request) (auth.Principal, error) {
				p, err := auth.Open(r)
				p.Name, p.Limits = "shop", limits
				return p, err
			}
			if limits != nil {
				var err error
				if c.Accounts, err = quota.New(quota.Config{Budgets: quota.Budgets{1 << 28, 1 << 28, 1 << 26, 10_000, 10_000}, Request: 8 << 20}); err != nil {
					b.Fatal(err)
				}
			}
			h, err := New(c)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/logs/a/messages", strings.NewReader("hello")))
				if w.Code != 202 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}

// everybody has the limits of a file that sets none.
var everybody = &auth.Limits{Share: 25}

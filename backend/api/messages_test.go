package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// holds is a fake whose log has the messages 1 to last. Those up to cleared have been cleared.
func holds(cleared, last uint64) *fake {
	return &fake{messages: func(_ context.Context, log string, after uint64, limit int, _ *drainmark.Receipt, _ time.Duration) (store.Page, error) {
		if log != "guestbook" {
			return store.Page{}, drainmark.Errorf(drainmark.KindNotFound, "nobody has written to %s", log)
		}
		page := store.Page{
			Log:     drainmark.LogInfo{Name: log, LastPosition: last, ClearedThrough: cleared},
			Version: drainmark.Version{Token: 0xabc, Revision: 9},
		}
		for p := max(after, cleared) + 1; p <= last && len(page.Messages) < limit; p++ {
			m := message(p, fmt.Sprintf("message %d", p))
			if p%5 == 0 {
				m.Headers = madeHeaders("tenant", fmt.Sprint(p))
			}
			page.Messages = append(page.Messages, m)
		}
		return page, nil
	}}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	const cleared, last = 10, 250
	tests := map[string]struct {
		query       string
		first, last int // positions on the page, 0 for none
		next        string
	}{
		"a page begins with the first message there is": {"", 11, 110, "after=110&limit=100"},
		"after is where it begins":                      {"?after=200", 201, 250, ""},
		"limit is how many":                             {"?after=200&limit=7", 201, 207, "after=207&limit=7"},
		"a page may be of one":                          {"?limit=1", 11, 11, "after=11&limit=1"},
		"a page may be of 1,000":                        {"?limit=1000", 11, 250, ""},
		"a page that ends with the log has no next":     {"?after=240&limit=10", 241, 250, ""},
		"a page behind the log is empty":                {"?after=250", 0, 0, ""},
		"a page far behind the log is empty":            {"?after=9007199254740991", 0, 0, ""},
		"other parameters mean nothing":                 {"?colour=red&after=249", 250, 250, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, holds(cleared, last)).do("GET", messagesPath+test.query, "")
			v := a.want(t, 200)
			if v["log"] != "guestbook" || v["last_position"] != 250.0 || v["count"] != 240.0 {
				t.Errorf("the page says log %v, last_position %v, count %v", v["log"], v["last_position"], v["count"])
			}
			messages := v["messages"].([]any)
			if test.first == 0 && len(messages) != 0 || test.first != 0 && len(messages) != test.last-test.first+1 {
				t.Fatalf("%d messages", len(messages))
			}
			for i, m := range messages {
				position := test.first + i
				var headers any
				if position%5 == 0 {
					headers = map[string]any{"tenant": fmt.Sprint(position)}
				}
				if m := m.(map[string]any); m["position"] != float64(position) || !reflect.DeepEqual(m["headers"], headers) {
					t.Fatalf("message %d is %v", i, m)
				}
			}
			want := ""
			if test.next != "" {
				want = "<" + messagesPath + "?" + test.next + `>; rel="next"`
			}
			a.wantHeader(t, "Link", want)
			a.wantHeader(t, "Cache-Control", "no-cache")
			a.wantHeader(t, "Content-Type", "application/json")
		})
	}
}

func TestMessagesRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path  string
		kind  drainmark.Kind
		words []string
	}{
		"a log that nobody has written to": {"/v1/logs/nobody/messages", drainmark.KindNotFound, []string{"nobody"}},
		"a log that cannot be":             {"/v1/logs/A/messages", drainmark.KindInvalid, []string{"log name"}},
		"an after that is no number":       {messagesPath + "?after=x", drainmark.KindInvalid, []string{"after", `"x"`, "0 to 9007199254740991"}},
		"an after that is empty":           {messagesPath + "?after=", drainmark.KindInvalid, []string{"after"}},
		"an after below 0":                 {messagesPath + "?after=-1", drainmark.KindInvalid, []string{"after"}},
		"an after too high":                {messagesPath + "?after=9007199254740992", drainmark.KindInvalid, []string{"after"}},
		"a limit of 0":                     {messagesPath + "?limit=0", drainmark.KindInvalid, []string{"limit", "1 to 1000"}},
		"a limit too high":                 {messagesPath + "?limit=1001", drainmark.KindInvalid, []string{"limit", "1 to 1000"}},
		"a limit that is no number":        {messagesPath + "?limit=ten", drainmark.KindInvalid, []string{"limit"}},
		"a query that is none":             {messagesPath + "?after=%zz", drainmark.KindInvalid, []string{"query"}},
		"a receipt that is none":           {messagesPath + "?receipt=x", drainmark.KindInvalidReceipt, nil},
		"too many receipts":                {messagesPath + "?receipt=" + strings.Repeat("x,", 1001), drainmark.KindTooLarge, []string{"1001 receipts", "1000"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve(t, holds(0, 10)).do("GET", test.path, "").wantProblem(t, test.kind, test.words...)
		})
	}
}

func TestMessagesWithTag(t *testing.T) {
	t.Parallel()
	tag := func(service *fake, path string) string {
		return serve(t, service).do("GET", path, "").Header.Get("ETag")
	}
	one := tag(holds(2, 10), messagesPath+"?after=3&limit=4")
	t.Run("the same page has the same tag, and need not be sent again", func(t *testing.T) {
		t.Parallel()
		a := serve(t, holds(2, 10)).do("GET", messagesPath+"?limit=4&after=3", "", `If-None-Match: "other", `+one)
		if a.StatusCode != http.StatusNotModified || len(a.body) != 0 {
			t.Errorf("status %d with %d bytes", a.StatusCode, len(a.body))
		}
		a.wantHeader(t, "ETag", one)
		a.wantHeader(t, "Cache-Control", "no-cache")
	})
	t.Run("the tag is weak", func(t *testing.T) {
		t.Parallel()
		if !strings.HasPrefix(one, `W/"`) {
			t.Errorf("it is %s", one)
		}
	})
	for name, other := range map[string]string{
		"another page":       tag(holds(2, 10), messagesPath+"?after=4&limit=4"),
		"another limit":      tag(holds(2, 10), messagesPath+"?after=3&limit=5"),
		"a newer log":        tag(holds(2, 11), messagesPath+"?after=3&limit=4"),
		"a log that cleared": tag(holds(3, 10), messagesPath+"?after=3&limit=4"),
		"another epoch": tag(&fake{messages: func(context.Context, string, uint64, int, *drainmark.Receipt, time.Duration) (store.Page, error) {
			page, err := holds(2, 10).messages(t.Context(), "guestbook", 3, 4, nil, 0)
			page.Version.Token++
			return page, err
		}}, messagesPath+"?after=3&limit=4"),
	} {
		t.Run(name+" has another tag", func(t *testing.T) {
			t.Parallel()
			if other == one || other == "" {
				t.Errorf("it is %s too", other)
			}
			a := serve(t, holds(2, 10)).do("GET", messagesPath+"?limit=4&after=3", "", "If-None-Match: "+other)
			a.want(t, 200)
		})
	}
}

func TestMessagesWithReceipt(t *testing.T) {
	t.Parallel()
	one, two := receiptOne.String(), receiptTwo.String()
	tests := map[string]struct {
		query   string
		headers []string
		want    string // what is needed
		wait    time.Duration
	}{
		"no receipt":                       {"", nil, "", 0},
		"one in the header":                {"", []string{"Drainmark-Receipt: " + one}, one, 0},
		"one in the query":                 {"?receipt=" + one, nil, one, 0},
		"two in one header are merged":     {"", []string{"Drainmark-Receipt: " + one + ", " + two}, receiptBoth.String(), 0},
		"two headers are merged":           {"", []string{"Drainmark-Receipt: " + one, "Drainmark-Receipt: " + two}, receiptBoth.String(), 0},
		"two in the query are merged":      {"?receipt=" + one + "&receipt=" + two, nil, receiptBoth.String(), 0},
		"header and query are merged":      {"?receipt=" + two, []string{"Drainmark-Receipt: " + one}, receiptBoth.String(), 0},
		"an empty header is no receipt":    {"", []string{"Drainmark-Receipt: ,"}, "", 0},
		"a wait is handed on":              {"?receipt=" + one, []string{"Prefer: wait=7"}, one, 7 * time.Second},
		"a wait over the limit is limited": {"?receipt=" + one, []string{"Prefer: wait=700"}, one, 60 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			service := &fake{messages: func(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (store.Page, error) {
				got := ""
				if need != nil {
					got = need.String()
				}
				if got != test.want || wait != test.wait {
					t.Errorf("needs %q within %v", got, wait)
				}
				wantDeadline(t, ctx, began, 10*time.Second+test.wait)
				return holds(0, 3).messages(ctx, log, after, limit, nil, 0)
			}}
			serve(t, service).do("GET", messagesPath+test.query, "", test.headers...).want(t, 200)
		})
	}
	t.Run("a state that does not come is 412", func(t *testing.T) {
		t.Parallel()
		a := serve(t, failing(drainmark.Errorf(drainmark.KindNotReached, "not yet"))).do("GET", messagesPath+"?receipt="+one, "", "Prefer: wait=1")
		a.wantProblem(t, drainmark.KindNotReached)
		a.wantHeader(t, "Retry-After", "1")
		a.wantHeader(t, "Preference-Applied", "wait=1")
	})
	t.Run("the next page needs the query's receipts too", func(t *testing.T) {
		t.Parallel()
		a := serve(t, holds(0, 3)).do("GET", messagesPath+"?limit=2&receipt="+one+"&receipt="+two, "", "Drainmark-Receipt: "+one)
		a.wantHeader(t, "Link", "<"+messagesPath+"?after=2&limit=2&receipt="+receiptBoth.String()+`>; rel="next"`)
	})
	t.Run("stopping cuts the wait short", func(t *testing.T) {
		t.Parallel()
		stopping, stop := context.WithCancel(t.Context())
		service := &fake{messages: func(ctx context.Context, _ string, _ uint64, _ int, _ *drainmark.Receipt, wait time.Duration) (store.Page, error) {
			if wait > 0 {
				stop()
				<-ctx.Done()
			}
			return store.Page{}, drainmark.Errorf(drainmark.KindNotReached, "not yet")
		}}
		s := serve(t, service, func(c *Config) { c.Stopping = stopping })
		s.do("GET", messagesPath+"?receipt="+one, "", "Prefer: wait=60").wantProblem(t, drainmark.KindNotReached)
	})
}

// failing is a fake whose every call fails.
func failing(err error) *fake {
	return &fake{
		append: func(context.Context, string, []drainmark.Record) (drainmark.Receipt, error) {
			return drainmark.Receipt{}, err
		},
		publish: func(context.Context, drainmark.Record) (drainmark.Receipt, error) { return drainmark.Receipt{}, err },
		barrier: func(context.Context, []string) (drainmark.Receipt, error) { return drainmark.Receipt{}, err },
		messages: func(context.Context, string, uint64, int, *drainmark.Receipt, time.Duration) (store.Page, error) {
			return store.Page{}, err
		},
		status:      failStatus(err),
		logs:        func(context.Context, string, int) ([]drainmark.LogInfo, error) { return nil, err },
		backlog:     failBacklog(err),
		deadLetters: failDeadLetters(err),
		settle: func(drainmark.RecordKind, backend.LetterFilter, string, int) (backend.Settled, error) {
			return backend.Settled{}, err
		},
		count:     func(backend.LetterFilter) (backend.Settled, error) { return backend.Settled{}, err },
		subscribe: failSubscribe(err),
	}
}

// kindsOf returns which kinds of error a route can get from the service, beside those that every one can.
func (rt route) kindsOf() []drainmark.Kind {
	reading := []drainmark.Kind{drainmark.KindUnavailable, drainmark.KindTooMany, drainmark.KindInternal, drainmark.KindMisconfigured}
	publishing := slices.Concat(reading, []drainmark.Kind{drainmark.KindBacklogFull, drainmark.KindOutcomeUnknown})
	asking := slices.Concat(reading, []drainmark.Kind{drainmark.KindInvalidReceipt, drainmark.KindReceiptExpired, drainmark.KindTooLarge})
	switch rt.method + " " + rt.path {
	case "GET /v1", "GET /v1/openapi.json", "GET /v1/status", "GET /v1/consumers":
		return nil
	case "GET /v1/logs/{log}/messages":
		return append(asking, drainmark.KindNotFound, drainmark.KindNotReached)
	case "GET /v1/receipts/{receipt}":
		return asking
	case "POST /v1/barriers":
		return slices.Concat(publishing, asking)
	case "POST /v1/logs/{log}/messages", "DELETE /v1/logs/{log}/messages", "DELETE /v1/logs/{log}/messages/{position}",
		"POST /v1/logs/{log}/trim", "DELETE /v1/logs/{log}", "DELETE /v1/dead-letters", "POST /v1/dead-letters":
		return publishing
	case "POST /v1/dead-letters/{id}/retry", "DELETE /v1/dead-letters/{id}":
		return append(publishing, drainmark.KindNotFound, drainmark.KindConflict)
	}
	return reading
}

func TestErrorsOfTheService(t *testing.T) {
	t.Parallel()
	for _, rt := range routes() {
		for _, kind := range rt.kindsOf() {
			t.Run(fmt.Sprintf("%s %s answers %s as it is documented", rt.method, rt.path, kind), func(t *testing.T) {
				t.Parallel()
				s := serve(t, failing(drainmark.Errorf(kind, "what went wrong")))
				a := s.do(rt.method, rt.realPath(), "")
				p := a.wantProblem(t, kind)
				if (p.Detail == "what went wrong") == (kind == drainmark.KindInternal) {
					t.Errorf("the detail is %q", p.Detail)
				}
				if want := map[bool]string{true: "1"}[p.Status == 503 || p.Status == 412]; a.Header.Get("Retry-After") != want {
					t.Errorf("Retry-After: %q, want %q", a.Header.Get("Retry-After"), want)
				}
			})
		}
		if len(rt.kindsOf()) == 0 {
			continue
		}
		t.Run(fmt.Sprintf("%s %s that takes too long says so", rt.method, rt.path), func(t *testing.T) {
			t.Parallel()
			kind := drainmark.KindUnavailable
			if rt.method != "GET" {
				kind = drainmark.KindOutcomeUnknown
			}
			serve(t, failing(fmt.Errorf("asking: %w", context.DeadlineExceeded))).do(rt.method, rt.realPath(), "").wantProblem(t, kind)
		})
	}
}

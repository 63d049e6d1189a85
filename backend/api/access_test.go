package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// byName is an authenticator of requests that say plainly in a header what is granted to them: "append:a read:*". Without
// the header they are nobody's.
func byName(r *http.Request) (auth.Principal, error) {
	if len(r.Header["Grants"]) == 0 {
		return auth.Principal{}, fmt.Errorf("who is it: %w", auth.ErrUnknown)
	}
	p := auth.Principal{Name: "tester", How: "test"}
	for _, text := range strings.Fields(r.Header.Get("Grants")) {
		g, err := auth.ParseGrant(text)
		if err != nil {
			return p, err
		}
		p.Grants = append(p.Grants, g)
	}
	return p, nil
}

// guarded is an API whose service says yes to everything.
func guarded(t *testing.T, change ...func(*Config)) *server {
	f := accepts(func(string, []drainmark.Record) {})
	f.status = says(backend.Persisted, "")
	f.barrier = func(context.Context, []string) (drainmark.Receipt, error) { return receiptOne, nil }
	f.backlog = func(context.Context) ([]backend.PartitionBacklog, error) {
		return []backend.PartitionBacklog{{Stalled: "secret", Claim: &store.Claim{Owner: "secret host"}}}, nil
	}
	f.messages = func(context.Context, string, uint64, int, *drainmark.Receipt, time.Duration) (store.Page, error) {
		return store.Page{Log: drainmark.LogInfo{Name: "mine"}}, nil
	}
	f.letterLog = func(string) (string, error) { return "mine", nil }
	f.settle = func(drainmark.RecordKind, backend.LetterFilter, string, int) (backend.Settled, error) {
		return backend.Settled{}, nil
	}
	f.deadLetters = func(context.Context, backend.LetterFilter, string, int) (backend.DeadLetters, error) {
		return backend.DeadLetters{}, nil
	}
	f.logs = func(context.Context, string, int) ([]drainmark.LogInfo, error) { return nil, nil }
	f.working = func(context.Context) backend.Working { return backend.Working{} }
	f.consumers = func(context.Context) backend.Wanted { return backend.Wanted{} }
	f.subscribe = func(context.Context, string, uint64) (backend.Subscription, error) {
		return nil, drainmark.Errorf(drainmark.KindTooMany, "it was allowed")
	}
	return serve(t, f, append([]func(*Config){func(c *Config) { c.Access = byName }}, change...)...)
}

// anyLetters suffices for lists, which have only what may be seen.
var anyLetters = []string{"letters:mine", "letters:other", "letters:min.*", "letters:*"}

// needs is the model: what a request needs, of which one suffices. It is written down apart from the table of routes.
var needs = map[string][]string{
	"GET /v1": nil, "GET /v1/openapi.json": nil,
	"GET /v1/logs":                            {"anything"},
	"POST /v1/logs/mine/messages":             {"append:mine", "append:*"},
	"GET /v1/logs/mine/messages":              {"read:mine", "read:*"},
	"GET /v1/logs/mine/events":                {"read:mine", "read:*"},
	"DELETE /v1/logs/mine/messages":           {"clear:mine", "clear:*"},
	"DELETE /v1/logs/mine/messages/7":         {"erase:mine", "erase:*"},
	"POST /v1/logs/mine/trim?through=7":       {"clear:mine", "clear:*"},
	"DELETE /v1/logs/mine":                    {"clear:mine", "clear:*"},
	"GET /v1/receipts/" + receiptOne.String(): {"anything"},
	"POST /v1/barriers":                       {"barrier:*"},
	"POST /v1/barriers?log=mine":              {"barrier:mine", "barrier:*"},
	"GET /v1/backlog":                         {"status"},
	"GET /v1/status":                          {"status"},
	"GET /v1/consumers":                       {"status"},
	"GET /v1/dead-letters":                    anyLetters,
	"DELETE /v1/dead-letters?log=mine":        anyLetters,
	"POST /v1/dead-letters?log=mine":          anyLetters,
	"POST /v1/dead-letters/1-a/retry":         {"letters:mine", "letters:*"},
	"DELETE /v1/dead-letters/1-a":             {"letters:mine", "letters:*"},
}

// allGrants has each verb for this log, for another one, and for all.
func allGrants() []string {
	all := []string{"", "status", "admin"}
	for _, verb := range []string{"append", "read", "clear", "erase", "letters", "barrier"} {
		for _, log := range []string{"mine", "other", "min.*", "*"} {
			all = append(all, verb+":"+log)
		}
	}
	return all
}

// TestWhoMayDoWhat asks for everything with each single grant, and without credentials.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	asked := map[string]bool{}
	for call, suffices := range needs {
		method, path, _ := strings.Cut(call, " ")
		asked[routeOf(s, method, path)] = true
		for _, grant := range append(allGrants(), "nobody") {
			headers := []string{"Grants: " + grant}
			if grant == "nobody" {
				headers = nil
			}
			got := s.do(method, path, "", headers...)
			allowed := suffices == nil || grant != "nobody" && (grant == "admin" || suffices[0] == "anything" || slices.Contains(suffices, grant))
			refused := got.StatusCode == 401 || got.StatusCode == 403 || got.StatusCode == 404
			switch {
			case allowed == refused:
				t.Errorf("%s with %q: %d %s", call, grant, got.StatusCode, got.body)
			case grant == "nobody" && !allowed && (got.StatusCode != 401 || got.Header.Get("WWW-Authenticate") != Challenge):
				t.Errorf("%s by nobody: %d %v", call, got.StatusCode, got.Header)
			}
		}
	}
	for _, rt := range routes() {
		if !asked[rt.method+" "+rt.path] {
			t.Errorf("the model does not know %s %s", rt.method, rt.path)
		}
	}
}

func routeOf(s *server, method, path string) string {
	_, pattern := s.api.mux.Handler(s.request(method, path, nil))
	return pattern
}

// TestEachRouteHasAVerb holds the table complete: a route without a verb is refused to everybody.
func TestEachRouteHasAVerb(t *testing.T) {
	t.Parallel()
	for _, rt := range routes() {
		if rt.verb == "" {
			t.Errorf("%s %s has no verb", rt.method, rt.path)
		}
	}
	if p := (auth.Principal{Grants: auth.Grants{{Verb: auth.Read, Logs: auth.Every}}}); p.MaySome("") || p.May("", "a") {
		t.Error("no verb is granted")
	}
}

// TestOthersLogsAreNotListed has logs of several among which only some may be read.
func TestOthersLogsAreNotListed(t *testing.T) {
	t.Parallel()
	var all []drainmark.LogInfo
	for _, name := range []string{"a", "a.x", "b", "b.1", "b.2", "b1", "c", "c-1", "c.1", "d"} {
		all = append(all, drainmark.LogInfo{Name: name, LastPosition: 1})
	}
	reads := 0
	s := serve(t, &fake{logs: func(_ context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
		reads++
		i, found := slices.BinarySearchFunc(all, after, func(l drainmark.LogInfo, name string) int { return strings.Compare(l.Name, name) })
		if found {
			i++
		}
		return all[i:min(len(all), i+limit)], nil
	}}, func(c *Config) { c.Access = byName })
	for _, c := range []struct{ grants, query, want, next string }{
		{"read:*", "?limit=100", "a a.x b b.1 b.2 b1 c c-1 c.1 d", ""},
		{"read:b.*", "?limit=100", "b.1 b.2", ""},
		{"read:b.* read:c read:nosuch", "?limit=100", "b.1 b.2 c", ""},
		{"read:d read:a.x", "?limit=1", "a.x", "after=a.x"},
		{"read:d read:a.x", "?limit=1&after=a.x", "d", ""},
		{"append:*", "?limit=100", "", ""},
		{"read:zzz", "?limit=1", "", ""},
	} {
		got := s.do("GET", "/v1/logs"+c.query, "", "Grants: "+c.grants)
		var names []string
		for _, l := range got.want(t, 200)["logs"].([]any) {
			names = append(names, l.(map[string]any)["name"].(string))
		}
		if said := strings.Join(names, " "); said != c.want || !strings.Contains(got.Header.Get("Link"), c.next) || c.next == "" && got.Header.Get("Link") != "" {
			t.Errorf("%s %s: %q, and next %q", c.grants, c.query, said, got.Header.Get("Link"))
		}
	}
	if reads > 25 {
		t.Errorf("%d reads: what may not be read is to be jumped over", reads)
	}
}

// TestOthersLettersAreNotThere: a dead letter of a log that is not granted, and one that is of no log.
func TestOthersLettersAreNotThere(t *testing.T) {
	t.Parallel()
	s := guarded(t, func(c *Config) {
		f := c.Service.(*fake)
		f.letterLog = func(id string) (string, error) {
			var err error
			if strings.HasSuffix(id, "-discarded") {
				err = drainmark.Errorf(drainmark.KindConflict, "it was discarded")
			} else if id == "1-nosuch" {
				err = drainmark.Errorf(drainmark.KindNotFound, "there is none, and nothing is missing")
			}
			_, log, _ := strings.Cut(strings.TrimSuffix(id, "-discarded"), "-")
			if log != "mine" && log != "other" { // missing records are of no log
				log = ""
			}
			return log, err
		}
		f.deadLetters = func(_ context.Context, filter backend.LetterFilter, _ string, _ int) (backend.DeadLetters, error) {
			if filter.May == nil || !filter.May("mine") || filter.May("other") || filter.May("") {
				t.Error("the filter does not keep others' letters back")
			}
			return backend.DeadLetters{}, nil
		}
	})
	for id, want := range map[string]int{"1-mine": 202, "1-mine-discarded": 409, "1-other": 404, "1-other-discarded": 404, "1-missing": 404, "1-nosuch": 404} {
		got := s.do("DELETE", "/v1/dead-letters/"+id, "", "Grants: letters:mine")
		if text := fmt.Sprintf("there is no dead letter \\\"%s\\\"\"}", id); got.StatusCode != want || want == 404 && !strings.Contains(string(got.body), text) {
			t.Errorf("%s: %d %s", id, got.StatusCode, got.body)
		}
	}
	s.do("GET", "/v1/dead-letters", "", "Grants: letters:mine").want(t, 200)
	s.do("DELETE", "/v1/dead-letters/1-missing", "", "Grants: letters:*").want(t, 404)
	s.do("DELETE", "/v1/dead-letters/1-missing", "", "Grants: admin").want(t, 202)
}

// TestReasonsAreForThoseWhomTheyConcern: why a record is rejected may quote it.
func TestReasonsAreForThoseWhomTheyConcern(t *testing.T) {
	t.Parallel()
	s := guarded(t, func(c *Config) {
		c.Service.(*fake).status = func(_ context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
			return backend.Status{Receipt: r, State: backend.Rejected, Reason: "secret 1", Rejected: backend.Rejections{
				Records: 2, Letters: []string{"1-a", "1-b"}, Reasons: []string{"secret 1", "secret 2"}, Logs: []string{"mine", "other"}, Reason: "secret 1",
			}}, nil
		}
	})
	for grants, want := range map[string]string{"letters:*": "1 2", "append:mine": "1", "letters:other": "2", "read:*": "", "admin": "1 2"} {
		got := s.do("GET", "/v1/receipts/"+receiptOne.String(), "", "Grants: "+grants)
		for _, secret := range []string{"1", "2"} {
			if told := bytes.Contains(got.body, []byte("secret "+secret)); told != strings.Contains(want, secret) {
				t.Errorf("%s: %s", grants, got.body)
			}
		}
	}
}

// TestCausesAreForThoseWhomTheyConcern: why an effect does not let a record pass may quote it.
func TestCausesAreForThoseWhomTheyConcern(t *testing.T) {
	t.Parallel()
	cause := backend.Cause{Text: "secret", Log: "mine"}
	state := backend.Pending
	s := guarded(t, func(c *Config) {
		f := c.Service.(*fake)
		f.status = func(_ context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
			return backend.Status{Receipt: r, State: state, Reason: "an effect fails", Cause: cause}, nil
		}
		f.working = func(context.Context) backend.Working {
			return backend.Working{Persisting: drainmark.Errorf(drainmark.KindUnavailable, "an effect fails"), Cause: cause}
		}
	})
	receipt := "GET /v1/receipts/" + receiptOne.String()
	for _, c := range []struct {
		state        backend.State
		call, grants string
		told         bool
	}{
		{backend.Pending, receipt, "letters:mine", true}, {backend.Pending, receipt, "letters:*", true}, {backend.Pending, receipt, "append:mine", true},
		{backend.Pending, receipt, "append:other read:mine status barrier:*", false}, {backend.Pending, receipt, "letters:other", false},
		{backend.Stalled, receipt, "letters:mine", true}, {backend.Stalled, receipt, "append:mine read:mine", false},
		{backend.Stalled, "POST /v1/barriers", "barrier:*", false}, {backend.Stalled, "POST /v1/barriers", "barrier:* letters:mine", true},
		{backend.Stalled, "GET /v1/status", "status", false}, {backend.Stalled, "GET /v1/status", "admin", true},
	} {
		state = c.state
		method, path, _ := strings.Cut(c.call, " ")
		got := s.do(method, path, "", "Grants: "+c.grants)
		if text := string(got.body); !strings.Contains(text, "an effect fails") || strings.Contains(text, "an effect fails: secret") != c.told {
			t.Errorf("%s, %s by %q: %d %s", c.state, c.call, c.grants, got.StatusCode, got.body)
		}
	}
	if cause.Log = ""; bytes.Contains(s.do("GET", receipt[4:], "", "Grants: letters:mine append:*").body, []byte("secret")) {
		t.Error("a cause of which the log is not known is for those who may see all letters")
	}
}

// TestTheBacklogKeepsCausesBack: they may quote a record, and owners name machines.
func TestTheBacklogKeepsCausesBack(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	if got := s.do("GET", "/v1/backlog", "", "Grants: status"); bytes.Contains(got.body, []byte("secret")) || !bytes.Contains(got.body, []byte(`"owner":""`)) {
		t.Errorf("%s", got.body)
	}
	if got := s.do("GET", "/v1/backlog", "", "Grants: admin"); !bytes.Contains(got.body, []byte(`"stalled":"secret"`)) || !bytes.Contains(got.body, []byte("secret host")) {
		t.Errorf("%s", got.body)
	}
}

// TestAudit has what cannot be undone in the audit log, each time, and what was refused.
func TestAudit(t *testing.T) {
	t.Parallel()
	var said, elsewhere bytes.Buffer
	s := guarded(t, func(c *Config) {
		c.Audit, c.Logger = slog.New(slog.NewTextHandler(&said, nil)), slog.New(slog.NewTextHandler(&elsewhere, nil))
	})
	s.do("DELETE", "/v1/logs/mine/messages", "", "Grants: clear:mine").want(t, 202)
	s.do("DELETE", "/v1/logs/mine/messages", "", "Grants: clear:mine").want(t, 202)
	s.do("DELETE", "/v1/logs/mine/messages", "", "Grants: read:mine", "X-Forwarded-For: 192.0.2.7").want(t, 403)
	s.do("GET", "/v1/logs/mine/messages", "", "Grants: read:mine").want(t, 200)
	s.http.Close()
	text := said.String()
	for _, part := range []string{
		`msg=done part=audit principal=tester how=test`, `method=DELETE route=/v1/logs/{log}/messages verb=clear status=202 log=mine receipt=`,
		`msg="access was refused"`, "for 192.0.2.7", "status=403", `reason="tester is not granted clear for the log mine"`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the audit log lacks %q:\n%s", part, text)
		}
	}
	if strings.Count(text, "msg=done") != 2 || strings.Contains(text, "method=GET") || strings.Contains(elsewhere.String(), "audit") {
		t.Errorf("the audit log is\n%s, and elsewhere it says\n%s", text, elsewhere.String())
	}
}

// TestForbiddenFromWhereItComes: an authenticator may refuse everybody.
func TestForbiddenFromWhereItComes(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{}, func(c *Config) {
		c.Access = func(*http.Request) (auth.Principal, error) {
			return auth.Principal{}, errors.Join(auth.ErrForbidden, errors.New("not from here"))
		}
	})
	for _, path := range []string{"/v1/status", "/v1/logs", "/v1/receipts/" + receiptOne.String()} {
		s.do("GET", path, "").want(t, 403)
	}
	s.do("GET", "/v1", "").want(t, 200)
}

// TestNotKnownNow: where it cannot be known who makes a request, it is not refused as wrong, so that its client tries again.
func TestNotKnownNow(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{}, func(c *Config) {
		c.Access = func(*http.Request) (auth.Principal, error) {
			return auth.Principal{}, fmt.Errorf("the issuer is away: %w", auth.ErrUnavailable)
		}
	})
	for _, path := range []string{"/v1/status", "/v1/logs", "/v1/logs/mine/messages"} {
		got := s.do("GET", path, "")
		got.wantProblem(t, drainmark.KindUnavailable, "the issuer is away")
		if got.Header.Get("Retry-After") == "" || got.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %v", path, got.Header)
		}
	}
}

package app

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/verify/protocol"
)

// playProtocol plays the protocol against a URL, and returns the exit code and what was found by number.
func playProtocol(t *testing.T, url string, arguments ...string) (int, map[string]protocol.Finding) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), append([]string{"verify", "protocol", "--json", "--url", url}, arguments...), &stdout, &stderr)
	var result protocol.Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout.String(), stderr.String())
	}
	found := map[string]protocol.Finding{}
	for _, f := range result.Findings {
		found[f.Number] = f
	}
	return code, found
}

// broken returns the numbers of what is broken.
func broken(found map[string]protocol.Finding) (all []string) {
	for _, f := range found {
		if f.State == protocol.Broken {
			all = append(all, f.Number)
		}
	}
	slices.Sort(all)
	return all
}

// The program keeps its protocol, behind a frontend too. A run leaves a report and nothing else.
func TestProtocolIsKept(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	dir := filepath.Join(t.TempDir(), "report")
	for name, url := range map[string]string{"up": p.api, "frontend": startFrontend(t, p).api} {
		code, found := playProtocol(t, url, "--report", filepath.Join(dir, name))
		for _, f := range found {
			if f.State == protocol.Broken {
				t.Errorf("%s: %s %s: %s", name, f.Number, f.Title, f.Seen)
			}
		}
		played := len(protocol.Cases) + len(protocol.Rules) + len(protocol.Elsewhere)
		if code != exitOK || len(found) != played {
			t.Errorf("%s: exit code %d with %d findings of %d", name, code, len(found), played)
		}
	}
	if reports, err := filepath.Glob(filepath.Join(dir, "*", "protocol.json")); err != nil || len(reports) != 2 {
		t.Errorf("reports %v: %v", reports, err)
	}
	p.barrier()
	var letters struct {
		Letters []any `json:"dead_letters"`
	}
	if p.want(200, "GET", "/v1/dead-letters", "").decode(t, &letters); len(letters.Letters) != 0 {
		t.Errorf("dead letters are left: %v", letters.Letters)
	}
	var logs struct{ Logs []any }
	if p.want(200, "GET", "/v1/logs", "").decode(t, &logs); len(logs.Logs) != 0 {
		t.Errorf("logs are left: %v", logs.Logs)
	}
}

// Where tokens are asked for, they are shown, and what is said about them is tested.
func TestProtocolWithATokenIsKept(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "access.yaml")
	token, entry := principal(t, "all", "admin")
	writeAccess(t, file, entry)
	p := up(t, filepath.Join(t.TempDir(), "data"), "--access", file)
	shown := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(shown, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	code, found := playProtocol(t, p.api, "--token-file", shown)
	if code != exitOK || found["W-1"].State != protocol.Held || found["A-1"].State != protocol.Held {
		t.Errorf("exit code %d: %v, %v", code, found["W-1"], found["A-1"])
	}
	if code, found = playProtocol(t, p.api); code != exitInconclusive || found["A-1"].State != protocol.Untested {
		t.Errorf("without a token: exit code %d: %v; broken are %v", code, found["A-1"], broken(found))
	}
}

// A server that does not answer, and settings that cannot be, have exit codes of their own.
func TestProtocolCannotBePlayed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code      int
		arguments []string
	}{
		{exitUnavailable, []string{"--url", "http://127.0.0.1:1", "--contact", "200ms"}},
		{exitUsage, []string{"--url", "ftp://127.0.0.1"}},
		{exitUsage, []string{"--url", "http://127.0.0.1:1,http://127.0.0.1:2"}},
		{exitUsage, []string{"--contact", "0s"}},
		{exitUsage, []string{"--only", "A-1,Y-1"}},
		{exitUsage, []string{"--report", os.DevNull}},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"verify", "protocol"}, c.arguments...), &stdout, &stderr); code != c.code || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, not %d: %s", c.arguments, code, c.code, stderr.String())
		}
	}
}

// wrong is a server that breaks one thing: what it does to requests, and to answers.
type wrong struct {
	number string // of the statement that it breaks
	with   string // numbers of cases to play besides, for a statement about every answer
	name   string
	ask    func(*http.Request)
	answer func(*http.Response)
}

var (
	positions    = regexp.MustCompile(`"(position|last_position)":\d`)
	acceptsBad   = restatus(400, 202) // what should be refused
	refusesOddly = restatus(400, 422) // with a status of its own
)

var wrongServers = []wrong{
	{"M-1", "", "any name is not found", nil, restatus(400, 404)},
	{"M-2", "", "a log is always there", nil, restatus(404, 200)},
	{"M-3", "", "content types are forgotten", nil, rewrite(200, `"content_type":"[^"]*`, `"content_type":"text/plain`)},
	{"M-4", "", "positions off by one", nil, func(r *http.Response) {
		change(r, func(body []byte) []byte {
			return positions.ReplaceAllFunc(body, func(one []byte) []byte { return append(one[:len(one)-1], one[len(one)-1]+1) })
		})
	}},
	{"M-5", "", "ids are all the same", nil, rewrite(0, `-\d+"`, `-7"`)},
	{"M-6", "", "a receipt has a dot", nil, rewrite(202, `"receipt":"`, `"receipt":"a.`)},
	{"M-7", "", "a receipt is pending again", nil, func(r *http.Response) {
		if r.Request.Header.Get("Prefer") == "" {
			rewrite(200, `"persisted"`, `"pending"`)(r)
		}
	}},
	{"G-1", "", "what there is not is gone", nil, restatus(404, 410)},
	{"G-2", "", "405 without Allow", nil, without("Allow")},
	{"G-3", "", "HEAD without an ETag", nil, func(r *http.Response) {
		if r.Request.Method == "HEAD" {
			r.Header.Del("ETag")
		}
	}},
	{"G-4", "A-1", "JSON that does not say so", nil, func(r *http.Response) { r.Header.Set("Content-Type", "text/json") }},
	{"G-5", "A-1", "answers that name no backend", nil, without("Drainmark-Backend")},
	{"G-6", "", "a wait that is cut", drop("Prefer"), nil},
	{"G-7", "A-1", "answers that are open", nil, without("Cross-Origin-Resource-Policy")},
	{"G-8", "", "OpenAPI 3.0", nil, rewrite(200, `"openapi":\s*"3.1`, `"openapi":"3.0`)},
	{"G-9", "", "two lengths are repaired", nil, nil}, // the proxy itself does that
	{"G-10", "", "a body over the limit is malformed", nil, restatus(413, 400)},
	{"G-11", "", "codings are not looked at", drop("Content-Encoding"), nil},
	{"G-12", "A-1", "202 is 203", nil, restatus(202, 203)},
	{"A-1", "", "202 without a receipt", nil, rewrite(202, `"receipt":"[^"]*",`, ``)},
	{"A-1", "", "202 without Drainmark-Receipt", nil, without("Drainmark-Receipt")},
	{"A-2", "", "201 is 202", nil, restatus(201, 202)},
	{"A-3", "", "messages are text by default", nil, rewrite(200, `application/octet-stream`, `text/plain`)},
	{"A-4", "", "empty bodies are left out", nil, rewrite(200, `"body":"",`, ``)},
	{"A-5", "", "headers are forgotten", drop("Drainmark-Header-Tenant"), nil},
	{"A-6", "", "traces are forgotten", drop("Traceparent"), nil},
	{"A-7", "", "two types are taken", nil, acceptsBad},
	{"A-8", "", "marks are of more messages", nil, rewrite(201, `\.\.(\d+)"`, `..${1}0"`)},
	{"A-9", "", "the bad line is not named", nil, rewrite(400, `line \d`, `a line`)},
	{"A-10", "", "lines are not checked", nil, acceptsBad},
	{"A-11", "", "one type is not known", func(r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/jsonlines") {
			r.Header.Set("Content-Type", "application/json")
		}
	}, nil},
	{"A-12", "", "text without a charset", nil, rewrite(200, `text/plain; charset=utf-8`, `text/plain`)},
	{"K-1", "", "keys are not looked at", drop("Idempotency-Key"), nil},
	{"K-2", "", "another message with the key is taken", drop("Idempotency-Key"), nil},
	{"K-3", "", "keys are refused in another way", nil, refusesOddly},
	{"K-4", "", "lines have no keys", drop("Idempotency-Key"), nil},
	{"K-5", "", "the first message with the key is shown", nil, rewrite(200, `"body":"y"`, `"body":"x"`)},
	{"K-6", "", "traces make another message", drop("Idempotency-Key"), nil},
	{"R-1", "", "a count that is wrong", nil, rewrite(200, `"count":1`, `"count":2`)},
	{"R-2", "", "one of two receipts is answered", nil, rewrite(200, `"count":2`, `"count":1`)},
	{"R-3", "", "a place that is wrong", nil, rewrite(200, `"position":2`, `"position":3`)},
	{"R-4", "", "bad receipts are not found", nil, restatus(400, 404)},
	{"R-5", "", "a rejection that is not told", nil, rewrite(0, `"rejected":\{`, `"other":{`)},
	{"R-6", "", "too many receipts are malformed", nil, restatus(413, 400)},
	{"S-1", "", "times in seconds", nil, rewrite(200, `\.\d{6}Z`, `Z`)},
	{"S-2", "", "no Link", nil, without("Link")},
	{"S-2", "", "after is not looked at", func(r *http.Request) { r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "after=", "nosuch=") }, nil},
	{"S-3", "", "limits are refused in another way", nil, refusesOddly},
	{"S-4", "", "binary is shown as text", nil, rewrite(200, `"body_base64"`, `"body"`)},
	{"S-5", "", "an ETag that never changes", nil, func(r *http.Response) { r.Header.Set("ETag", `W/"same"`) }},
	{"S-5", "", "no 304", drop("If-None-Match"), nil},
	{"S-6", "", "receipts are not looked at", drop("Drainmark-Receipt"), nil},
	{"S-7", "", "412 without Retry-After", nil, without("Retry-After")},
	{"S-8", "", "Link without receipts", nil, func(r *http.Response) { r.Header.Set("Link", `</>; rel="next"`) }},
	{"S-9", "", "no messages are left out", nil, rewrite(200, `"messages":\[\],`, ``)},
	{"E-1", "", "a stream that does not say where it begins", nil, withoutLines(`^id: `)},
	{"E-2", "", "events without an id", nil, withoutLines(`^id: [1-9]`)},
	{"E-3", "", "Last-Event-ID is not looked at", drop("Last-Event-ID"), nil},
	{"E-4", "", "streams begin at the start", func(r *http.Request) { r.URL.RawQuery = "after=0" }, nil},
	{"E-5", "", "streams of new logs are not found", nil, func(r *http.Response) {
		if strings.HasSuffix(r.Request.URL.Path, "/events") {
			restatus(200, 404)(r)
		}
	}},
	{"E-6", "", "places are refused in another way", nil, refusesOddly},
	{"X-1", "", "batches are messages", func(r *http.Request) {
		if strings.Contains(r.Header.Get("Content-Type"), "batch") {
			r.Header.Set("Content-Type", "text/plain")
		}
	}, nil},
	{"X-2", "", "attributes are not looked at", drop("Ce-Id"), nil},
	{"X-3", "", "positions are numbers of 32 bits", nil, rewrite(200, `"drainmarkposition":"1"`, `"drainmarkposition":0`)},
	{"X-4", "", "only keys are keys", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, nil},
	{"X-5", "", "format is not looked at", func(r *http.Request) { r.URL.RawQuery = "after=0" }, nil},
	{"X-6", "", "every event has one source", nil, rewrite(200, `"source":"[^"]*"`, `"source":"/"`)},
	{"C-1", "", "a clear without Drainmark-Receipt", nil, without("Drainmark-Receipt")},
	{"C-2", "", "last_position is the count", nil, rewrite(200, `"last_position":\d+,"count":(\d+)`, `"last_position":$1,"count":$1`)},
	{"C-3", "", "clearing again is a conflict", nil, func(r *http.Response) {
		if r.Request.Method == "DELETE" {
			restatus(200, 409)(r)
		}
	}},
	{"C-4", "", "where a log begins is left out", nil, rewrite(200, `,"first_position":\d+`, ``)},
	{"C-5", "", "an erased message does not say so", nil, rewrite(200, `,"erased":true`, ``)},
	{"C-6", "", "a deleted log is empty", nil, restatus(404, 200)},
	{"C-7", "", "a trim that is a clear", func(r *http.Request) {
		if r.Method == "DELETE" {
			r.URL.RawQuery = ""
		}
	}, nil},
	{"B-1", "", "a barrier without set_aside", nil, rewrite(200, `,"set_aside":\d+`, ``)},
	{"B-2", "", "pages behind a barrier are from before it", nil, rewrite(200, `"last_position":\d+`, `"last_position":1`)},
	{"B-3", "", "a barrier is not asked for again", nil, func(r *http.Response) {
		if r.Request.URL.Query().Has("receipt") {
			restatus(200, 202)(r)
		}
	}},
	{"B-4", "", "receipts of writes ask for barriers", nil, acceptsBad},
	{"B-5", "", "types are refused in another way", nil, restatus(415, 400)},
	{"B-6", "", "dead letters do not count", nil, rewrite(200, `"set_aside":\d+`, `"set_aside":0`)},
	{"O-1", "", "no Link of the logs", nil, without("Link")},
	{"O-2", "", "what is ready is left out", nil, rewrite(200, `"ready"`, `"other"`)},
	{"O-3", "", "what works has a reason", nil, rewrite(200, `"reason":null`, `"reason":""`)},
	{"O-4", "", "known is left out", nil, rewrite(200, `"known":true,`, ``)},
	{"D-1", "", "bodies are not shown", nil, rewrite(200, `"body":"y"`, `"body":""`)},
	{"D-2", "", "a retry is done at once", nil, func(r *http.Response) {
		if strings.HasSuffix(r.Request.URL.Path, "/retry") {
			restatus(202, 200)(r)
		}
	}},
	{"D-3", "", "a discarded letter is not found", nil, restatus(409, 404)},
	{"D-4", "", "letters that there are not are a conflict", nil, restatus(404, 409)},
	{"D-5", "", "nothing is counted", nil, rewrite(200, `"state":"counted"`, `"state":"nothing"`)},
	{"F-1", "G-1", "a problem without a type", nil, rewrite(404, `"type":"[^"]*",`, ``)},
	{"F-1", "G-1", "a problem that is plain JSON", nil, func(r *http.Response) { r.Header.Set("Content-Type", "application/json") }},
	{"F-2", "M-2", "a problem with another status", nil, restatus(404, 409)},
	{"F-3", "G-1", "a detail that is long", nil, rewrite(404, `"detail":"`, `"detail":"`+strings.Repeat("x", 400))},
	{"F-4", "G-1", "errors that caches keep", nil, without("Cache-Control")},
	{"F-5", "S-7", "412 without Retry-After", nil, without("Retry-After")},
	{"W-1", "", "401 that does not say what to show", nil, func(r *http.Response) {
		restatus(200, 401)(r)
		rewrite(401, `^\{`, `{"type":"urn:drainmark:problem:unauthenticated",`)(r)
	}},
	{"W-2", "", "nothing is public", nil, restatus(200, 401)},
	{"V-1", "", "unknown parameters are refused", nil, func(r *http.Response) {
		if r.Request.URL.RawQuery != "" {
			restatus(200, 400)(r)
		}
	}},
}

// rewrite changes the bodies of answers with a status, 0 for any.
func rewrite(status int, pattern, text string) func(*http.Response) {
	re := regexp.MustCompile(pattern)
	return func(r *http.Response) {
		if status == 0 || r.StatusCode == status {
			change(r, func(body []byte) []byte { return re.ReplaceAll(body, []byte(text)) })
		}
	}
}

func without(header string) func(*http.Response) {
	return func(r *http.Response) { r.Header.Del(header) }
}

// restatus gives answers with a status another one.
func restatus(from, to int) func(*http.Response) {
	return func(r *http.Response) {
		if r.StatusCode == from {
			r.StatusCode = to
		}
	}
}

func drop(header string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(header) }
}

// change replaces the body of an answer that is not a stream.
func change(r *http.Response, replaced func([]byte) []byte) {
	if r.Header.Get("Content-Type") == "text/event-stream" || r.Request.Method == "HEAD" {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = r.Body.Close()
	body = replaced(body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
}

// withoutLines leaves lines of event streams out.
func withoutLines(pattern string) func(*http.Response) {
	re := regexp.MustCompile(pattern)
	return func(r *http.Response) {
		if r.Header.Get("Content-Type") != "text/event-stream" {
			return
		}
		from := r.Body
		reader, writer := io.Pipe()
		go func() {
			for lines := bufio.NewScanner(from); lines.Scan(); {
				if !re.MatchString(lines.Text()) {
					_, _ = io.WriteString(writer, lines.Text()+"\n")
				}
			}
			_ = writer.Close()
		}()
		r.Body = struct {
			io.Reader
			io.Closer
		}{reader, from}
	}
}

// Servers that break one thing are found, by the number of the statement that they break.
func TestProtocolFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	target, err := url.Parse(p.api)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrongServers {
		t.Run(strings.ReplaceAll(w.number+" "+w.name, " ", "-"), func(t *testing.T) {
			server := httptest.NewServer(w.before(target))
			defer server.Close()
			code, found := playProtocol(t, server.URL, "--only", strings.Trim(w.number+","+w.with, ","))
			if now := found[w.number]; code != exitFailed || now.State != protocol.Broken || now.Seen == "" {
				t.Errorf("exit code %d: %+v", code, now)
			}
		})
	}
}

// The proxy that the wrong servers are breaks no statement by itself, but for the one that it repairs (G-9). And each
// statement that is played or looked at has a server that breaks it.
func TestProtocolThroughAProxy(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	target, err := url.Parse(p.api)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(wrong{}.before(target))
	defer server.Close()
	code, found := playProtocol(t, server.URL)
	if now := broken(found); code != exitFailed || !slices.Equal(now, []string{"G-9"}) {
		t.Errorf("exit code %d, and broken are %v: %v", code, now, found)
	}
	for number, f := range found {
		hasServer := slices.ContainsFunc(wrongServers, func(w wrong) bool { return w.number == number })
		elsewhere := slices.ContainsFunc(protocol.Elsewhere, func(e protocol.Untestable) bool { return e.Number == number })
		if hasServer == elsewhere {
			t.Errorf("%s %s has a wrong server: %v", number, f.Title, hasServer)
		}
	}
}

// A server may send comments in its streams at any time.
func TestProtocolPassesOverComments(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	target, err := url.Parse(p.api)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(wrong{answer: func(r *http.Response) {
		if r.Header.Get("Content-Type") == "text/event-stream" {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(strings.NewReader(": hello\n\n:\n\n"), r.Body), r.Body}
		}
	}}.before(target))
	defer server.Close()
	code, found := playProtocol(t, server.URL, "--only", "E-1,E-2,E-4,E-5,X-5")
	for _, f := range found {
		if f.State != protocol.Held {
			t.Errorf("%+v", f)
		}
	}
	if code != exitOK || len(found) != 5 {
		t.Errorf("exit code %d with %d findings", code, len(found))
	}
}

// before returns the wrong server, which stands before a right one.
func (w wrong) before(target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if w.ask != nil {
				w.ask(r.Out)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if w.answer != nil {
				w.answer(r)
			}
			return nil
		},
	}
}

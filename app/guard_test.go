package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/backend/api"
)

// asked is a request as a browser, or something else, makes it.
type asked struct {
	method, path, host string
	header             []string // names and values
}

const (
	appendPath  = "/v1/logs/guestbook/messages"
	loopback    = "127.0.0.1:8080"
	everywhere  = "0.0.0.0:8080"
	allowedPage = "https://app.example"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	plain := []string{"Content-Type", "text/plain"}
	from := func(origin, site string) []string {
		return []string{"Content-Type", "text/plain", "Origin", origin, "Sec-Fetch-Site", site}
	}
	for name, test := range map[string]struct {
		asked
		at             string // 127.0.0.1:8080 if empty
		hosts, origins []string
		strict         bool
		refused        string // why, empty if it must not be
	}{
		"what is no browser may append":                     {asked: asked{"POST", appendPath, "localhost:8080", plain}},
		"what is no browser may append by the address":      {asked: asked{"POST", appendPath, "127.0.0.1:8080", plain}},
		"a client without a Host may":                       {asked: asked{"GET", "/v1", "", nil}},
		"a page of its own may append":                      {asked: asked{"POST", appendPath, "localhost:8080", from("http://localhost:8080", "same-origin")}},
		"a page of its own may clear":                       {asked: asked{"DELETE", appendPath, "[::1]:8080", from("http://[::1]:8080", "same-origin")}},
		"a browser that says nothing of sites may":          {asked: asked{"POST", appendPath, "localhost:8080", []string{"Origin", "http://localhost:8080"}}},
		"an address that was typed may be read":             {asked: asked{"GET", "/", "localhost:8080", []string{"Sec-Fetch-Site", "none"}}},
		"a link on another site may be followed":            {asked: asked{"GET", "/", "localhost:8080", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}}},
		"another site's form may not append":                {asked: asked{"POST", appendPath, "localhost:8080", from("http://evil.example", "cross-site")}, refused: "another site"},
		"another site's script may not append":              {asked: asked{"POST", appendPath, "127.0.0.1:8080", from("null", "cross-site")}, refused: "another site"},
		"an old browser's foreign origin may not append":    {asked: asked{"POST", appendPath, "localhost:8080", []string{"Origin", "http://evil.example"}}, refused: "another site"},
		"another port of this machine may not append":       {asked: asked{"POST", appendPath, "localhost:8080", from("http://localhost:9999", "same-site")}, refused: "another site"},
		"another site may not clear":                        {asked: asked{"DELETE", appendPath, "localhost:8080", from("http://evil.example", "cross-site")}, refused: "another site"},
		"another site may not retry a dead letter":          {asked: asked{"POST", "/v1/dead-letters/1-x-1/retry", "localhost:8080", from("http://evil.example", "cross-site")}, refused: "another site"},
		"another site may not ask for barriers":             {asked: asked{"POST", "/v1/barriers", "localhost:8080", from("http://evil.example", "cross-site")}, refused: "another site"},
		"a name that leads here may not read":               {asked: asked{"GET", "/v1/logs", "evil.example:8080", []string{"Sec-Fetch-Site", "same-origin"}}, refused: "another host"},
		"a name that leads here may not clear":              {asked: asked{"DELETE", appendPath, "evil.example:8080", from("http://evil.example:8080", "same-origin")}, refused: "another host"},
		"a name that begins like localhost may not":         {asked: asked{"GET", "/", "localhost.evil.example", nil}, refused: "another host"},
		"a name with an address in it may not":              {asked: asked{"GET", "/", "127.0.0.1.evil.example", nil}, refused: "another host"},
		"elsewhere than on loopback any name may":           {asked: asked{"POST", appendPath, "drainmark.example", plain}, at: everywhere},
		"elsewhere another site may not append either":      {asked: asked{"POST", appendPath, "drainmark.example", from("http://evil.example", "cross-site")}, at: everywhere, refused: "another site"},
		"a name that is allowed may":                        {asked: asked{"GET", "/v1/logs", "Drainmark.example:8080", nil}, hosts: []string{"drainmark.example"}},
		"a name and port that are allowed may":              {asked: asked{"GET", "/v1/logs", "drainmark.example:81", nil}, hosts: []string{"drainmark.example:81"}},
		"another name than is allowed may not":              {asked: asked{"GET", "/v1/logs", "evil.example", nil}, hosts: []string{"drainmark.example"}, refused: "another host"},
		"with names, others may not elsewhere either":       {asked: asked{"GET", "/v1/logs", "evil.example", nil}, at: everywhere, hosts: []string{"drainmark.example"}, refused: "another host"},
		"any name may if that is said":                      {asked: asked{"GET", "/v1/logs", "evil.example", nil}, hosts: []string{"*"}},
		"an origin that is allowed may append":              {asked: asked{"POST", appendPath, "localhost:8080", from(allowedPage, "cross-site")}, origins: []string{allowedPage}},
		"an origin like one that is allowed may not append": {asked: asked{"POST", appendPath, "localhost:8080", from(allowedPage+".evil.example", "cross-site")}, origins: []string{allowedPage}, refused: "another site"},
		"an allowed origin does not allow another host":     {asked: asked{"POST", appendPath, "evil.example", from(allowedPage, "cross-site")}, origins: []string{allowedPage}, refused: "another host"},
		"guarded strictly, what is no browser may read":     {asked: asked{"GET", "/metrics", "localhost:9090", nil}, strict: true},
		"guarded strictly, an address may be typed":         {asked: asked{"GET", "/metrics", "localhost:9090", []string{"Sec-Fetch-Site", "none"}}, strict: true},
		"guarded strictly, another site may not read":       {asked: asked{"GET", "/debug/pprof/profile", "localhost:9090", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}}, strict: true, refused: "another site"},
		"guarded strictly, a foreign origin may not read":   {asked: asked{"HEAD", "/metrics", "localhost:9090", []string{"Origin", "http://localhost:8080"}}, strict: true, refused: "another site"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.at == "" {
				test.at = loopback
			}
			w, reached := test.ask(t, test.at, test.hosts, test.origins, test.strict)
			if (test.refused == "") != reached {
				t.Fatalf("it was reached: %v; %d %s", reached, w.Code, w.Body)
			}
			if reached {
				return
			}
			var problem struct{ Type, Detail string }
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Code != http.StatusForbidden ||
				w.Header().Get("Content-Type") != "application/problem+json" || problem.Type != "urn:drainmark:problem:forbidden" ||
				!strings.Contains(problem.Detail, test.refused) {
				t.Errorf("%d %v %s, %v", w.Code, w.Header(), w.Body, err)
			}
		})
	}
}

// ask has a guard answer, and says whether what it guards was reached.
func (a asked) ask(t *testing.T, at string, hosts, origins []string, strict bool) (w *httptest.ResponseRecorder, reached bool) {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached = r.Method == a.method }), address, hosts, origins, strict)
	r := httptest.NewRequestWithContext(t.Context(), a.method, a.path, nil)
	r.Host = a.host
	for i := 0; i < len(a.header); i += 2 {
		r.Header.Set(a.header[i], a.header[i+1])
	}
	w = httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w, reached
}

func TestWhatAllowedOriginsAreTold(t *testing.T) {
	t.Parallel()
	asks := []string{"Origin", allowedPage, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,ce-id,content-type,drainmark-header-tenant, prefer,x-other", "Sec-Fetch-Site", "cross-site"}
	preflight := asked{"OPTIONS", appendPath, "localhost:8080", asks}
	w, reached := preflight.ask(t, loopback, nil, []string{allowedPage}, false)
	h := w.Header()
	if reached || w.Code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != allowedPage ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("a preflight is answered %d %v", w.Code, h)
	}
	sent := strings.Split(strings.ToLower(h.Get("Access-Control-Allow-Headers")), ", ")
	for _, name := range []string{"authorization", "ce-id", "content-type", "drainmark-header-tenant", "idempotency-key", "prefer"} {
		if !slices.Contains(sent, name) {
			t.Errorf("a page may send %q, and not %s", sent, name)
		}
	}
	if slices.Contains(sent, "x-other") {
		t.Errorf("a page may send any header: %q", sent)
	}
	w, reached = preflight.ask(t, loopback, nil, nil, false)
	if !reached || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without allowed origins a preflight is answered %v", w.Header())
	}
	foreign := asked{"OPTIONS", appendPath, "localhost:8080", append([]string{}, asks...)}
	foreign.header[1] = "http://evil.example"
	w, _ = foreign.ask(t, loopback, nil, []string{allowedPage}, false)
	if w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Vary") != "Origin" {
		t.Errorf("another origin's preflight is answered %v", w.Header())
	}
	read := asked{"GET", appendPath, "localhost:8080", []string{"Origin", allowedPage}}
	w, reached = read.ask(t, loopback, nil, []string{allowedPage}, false)
	if !reached || w.Header().Get("Access-Control-Allow-Origin") != allowedPage || !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), "Drainmark-Receipt") ||
		!strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
		t.Errorf("a page of an allowed origin reads %v", w.Header())
	}
}

// asBrowser sends a request with a Host of its own.
func asBrowser(t *testing.T, base string, a asked) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, a.method, base+a.path, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if a.host != "" {
		r.Host = a.host
	}
	for i := 0; i < len(a.header); i += 2 {
		r.Header.Set(a.header[i], a.header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}
}

// The guards are around everything that is served, and a frontend that is asked by its own page can ask its backends.
func TestGuardedPrograms(t *testing.T) {
	t.Parallel()
	u := up(t, filepath.Join(t.TempDir(), "data"), "--allowed-origin", allowedPage)
	f := startFrontend(t, u)
	evil := []string{"Content-Type", "text/plain", "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}
	for _, p := range []*program{u, f} {
		for _, a := range []asked{
			{"POST", appendPath, "", evil}, {"DELETE", appendPath, "", evil}, {"POST", "/v1/barriers", "", evil},
			{"GET", "/v1/logs", "evil.example", nil}, {"GET", "/", "evil.example", nil},
		} {
			if got := asBrowser(t, p.api, a); got.status != http.StatusForbidden {
				t.Errorf("%s, %+v: %d %s", p.api, a, got.status, got.body)
			}
		}
		for _, a := range []asked{
			{"GET", "/debug/pprof/goroutine", "", evil}, {"GET", "/metrics", "evil.example", nil}, {"GET", "/debug/pprof/heap", "", []string{"Sec-Fetch-Site", "same-site"}},
		} {
			if got := asBrowser(t, p.admin, a); got.status != http.StatusForbidden {
				t.Errorf("%s, %+v: %d %.100s", p.admin, a, got.status, got.body)
			}
		}
		host := strings.TrimPrefix(p.api, "http://")
		for _, own := range [][]string{
			{"Content-Type", "text/plain", "Origin", p.api, "Sec-Fetch-Site", "same-origin"},
			{"Content-Type", "text/plain", "Origin", p.api}, // not a browser of today
			{"Content-Type", "text/plain"},
		} {
			if got := asBrowser(t, p.api, asked{"POST", appendPath, host, own}); got.status != http.StatusAccepted {
				t.Errorf("%s, its own page with %v: %d %s", p.api, own, got.status, got.body)
			}
		}
	}
	asBrowser(t, u.api, asked{"POST", appendPath, "", []string{"Content-Type", "text/plain", "Prefer", "wait=60"}})
	for _, path := range []string{appendPath, "/v1/logs", "/"} { // or a cache would show one site what another was told
		got := asBrowser(t, u.api, asked{"GET", path, "", nil})
		if vary := strings.Join(got.header.Values("Vary"), ", "); got.status != http.StatusOK || !strings.Contains(vary, "Origin") {
			t.Errorf("%s: %d, and it varies by %q", path, got.status, vary)
		}
	}
	got := asBrowser(t, u.api, asked{"POST", appendPath, "", []string{"Content-Type", "text/plain", "Origin", allowedPage, "Sec-Fetch-Site", "cross-site"}})
	if got.status != http.StatusAccepted || got.header.Get("Access-Control-Allow-Origin") != allowedPage || got.header.Get("Drainmark-Receipt") == "" {
		t.Errorf("an allowed origin's append: %d %v %s", got.status, got.header, got.body)
	}
	u.barrier()
	for path, own := range map[string]string{appendPath: "Accept", "/drainmark.js": "Accept-Encoding"} {
		got := asBrowser(t, u.api, asked{"GET", path, "", []string{"Origin", allowedPage, "Sec-Fetch-Site", "cross-site"}})
		if vary := got.header.Values("Vary"); got.status != http.StatusOK || !slices.Contains(vary, "Origin") || !slices.Contains(vary, own) {
			t.Errorf("%s: %d, and caches are told that it depends on %q", path, got.status, vary)
		}
	}
}

func TestAdminAddress(t *testing.T) {
	t.Parallel()
	here, there := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4zero, Port: 1}
	for _, test := range []struct {
		setting string
		at      net.Addr
		want    bool
	}{{"auto", here, true}, {"auto", there, false}, {"on", there, true}, {"off", here, false}} {
		if got := (admin{Profiles: test.setting}).profiles(test.at); got != test.want {
			t.Errorf("--profiles %s at %v: %v", test.setting, test.at, got)
		}
	}
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/cmdline": 404, "/debug/pprof/profile?seconds=61": 400,
		"/debug/pprof/trace?seconds=1e9": 400, "/debug/pprof/heap?seconds=NaN": 400, "/debug/pprof/profile?seconds=x": 400, "/livez": 200,
	} {
		for _, profiles := range []bool{true, false} {
			w := httptest.NewRecorder()
			r := &role{health: &health{stopping: t.Context()}, registry: newRegistry(), gate: api.NewGate(api.Config{Access: auth.Open})}
			adminHandler(r, profiles).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
			status := want
			if !profiles && strings.HasPrefix(path, "/debug") {
				status = 404
			}
			if w.Code != status {
				t.Errorf("%s with profiles %v: %d %.100s", path, profiles, w.Code, w.Body)
			}
		}
	}
}

// An address that others reach is warned of, and one that is loopback is not.
func TestOpenAddressesAreWarnedOf(t *testing.T) {
	t.Parallel()
	p := start(t, "up", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0", "--insecure")
	p.find(`level=WARN msg="(anybody who reaches this address can read, write and clear everything)" setting=--listen`)
	p.find(`level=WARN msg="(anybody who reaches this address can read the metrics).*" setting=--admin-listen`)
	if said := up(t, filepath.Join(t.TempDir(), "data")).said(); strings.Contains(said, "anybody") {
		t.Errorf("loopback is warned of: %s", said)
	}
}

func TestAnAddressIsListenedOnInItsOwnVersion(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"0.0.0.0:1": "tcp4", "127.0.0.1:1": "tcp4", "[::]:1": "tcp6", "[::1]:1": "tcp6", ":1": "tcp", "localhost:1": "tcp", "[fe80::1%lo]:1": "tcp6",
	} {
		if got := networkOf(address); got != want {
			t.Errorf("%s is listened on with %s", address, got)
		}
	}
	l, err := listen("listen", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if c, err := net.Dial("tcp6", "[::1]:"+port); err == nil {
		_ = c.Close()
		t.Error("0.0.0.0 is listened on with IPv6 too")
	}
}

func TestBadGuardSettings(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{
		"up --allowed-origin app.example":        "--allowed-origin (DRAINMARK_ALLOWED_ORIGIN): app.example",
		"up --allowed-origin https://a.example/": "nothing more",
		"up --allowed-origin *":                  "--allowed-origin",
		"up --allowed-origin https://A.example":  "lower case",
		"up --allowed-origin http://a.b:80":      "without the scheme's own port",
		"up --allowed-origin https://ä.example":  "as browsers send it",
		"up --profiles maybe":                    "--profiles (DRAINMARK_PROFILES): maybe: it must be auto, on or off",
	} {
		var stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if code := run(ctx, append(strings.Fields(arguments), append([]string{"--data", t.TempDir()}, free...)...), io.Discard, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %s", arguments, code, stderr.String())
		}
	}
}

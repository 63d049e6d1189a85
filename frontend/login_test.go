package frontend

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// discovered starts an issuer whose discovery document says what say returns, and counts how often it was asked.
func discovered(t *testing.T, say func(url string) string) (i *httptest.Server, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	i = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, say(i.URL))
	}))
	t.Cleanup(i.Close)
	return i, asked
}

// endpoints is a discovery document.
func endpoints(issuer, authorization, token string) string {
	return fmt.Sprintf(`{"issuer": %q, "authorization_endpoint": %q, "token_endpoint": %q, "client_id": "evil"}`, issuer, authorization, token)
}

// Pages are told of an issuer as soon as it answers. It is asked for that once, and the page to which it sends people back
// may ask its token endpoint's origin, and no other page.
func TestSigningInAtAnIssuerIsOffered(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	issuer, asked := discovered(t, func(url string) string {
		if !up.Load() {
			return "not now"
		}
		return endpoints(url, "https://login.example/a?p=1", "https://tokens.example:8443/t?p=1")
	})
	l := &login{Login: Login{Issuer: issuer.URL, ClientID: "pages", Scopes: "openid x"}, logger: slog.New(slog.DiscardHandler)}
	arrivals := l.arrivals(pages())
	get := func(h http.Handler, method, path string) *http.Response {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Result()
	}
	for range 3 {
		if a := get(l, "GET", "/login"); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
			t.Errorf("without the issuer: %d", a.StatusCode)
		}
	}
	if a := get(arrivals, "GET", "/signed-in"); a.StatusCode != http.StatusOK || a.Header.Get("Content-Security-Policy") != policy || asked.Load() != 1 {
		t.Errorf("without the issuer, which was asked %d times: %d, %s", asked.Load(), a.StatusCode, a.Header)
	}
	up.Store(true)
	l.tried = time.Time{} // as later
	for range 3 {
		w := httptest.NewRecorder()
		l.ServeHTTP(w, httptest.NewRequest("GET", "/login", nil))
		const rest = `"client_id":"pages","scope":"openid x","authorization_endpoint":"https://login.example/a?p=1","token_endpoint":"https://tokens.example:8443/t?p=1"}`
		if w.Code != http.StatusOK || w.Body.String() != `{"issuer":"`+issuer.URL+`",`+rest+"\n" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	want := strings.Replace(policy, "connect-src 'self';", "connect-src 'self' https://tokens.example:8443;", 1)
	if a := get(arrivals, "GET", "/signed-in?code=x"); a.Header.Get("Content-Security-Policy") != want || want == policy || asked.Load() != 2 {
		t.Errorf("the issuer was asked %d times, and the policy is %s", asked.Load(), a.Header)
	}
	for _, h := range []http.Handler{l, arrivals} {
		if a := get(h, "POST", "/signed-in"); a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST: %d", a.StatusCode)
		}
	}
}

// Where no issuer is set, a page is told so.
func TestNoIssuer(t *testing.T) {
	t.Parallel()
	s := startSite(t, Config{}, says(t, "the API").URL)
	if a := do(t, "GET", s.URL+"/login", ""); a.StatusCode != http.StatusNoContent || a.body != "" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	if a := do(t, "GET", s.URL+"/signed-in", ""); a.StatusCode != http.StatusOK || a.Header.Get("Content-Security-Policy") != policy {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

// An issuer that names endpoints that no page should be sent to, or another issuer, is none.
func TestBadEndpointsOfAnIssuer(t *testing.T) {
	t.Parallel()
	const good = "https://login.example/x"
	for what, say := range map[string]func(url string) string{
		"another issuer":      func(string) string { return endpoints("https://other.example", good, good) },
		"a script":            func(url string) string { return endpoints(url, "javascript:alert(1)", good) },
		"plain http":          func(url string) string { return endpoints(url, "http://login.example/x", good) },
		"tokens by http":      func(url string) string { return endpoints(url, good, "http://login.example/x") },
		"more for the policy": func(url string) string { return endpoints(url, good, "https://login.example;script-src/x") },
		"an IPv6 address":     func(url string) string { return endpoints(url, good, "https://[2001:db8::1]/x") },
		"a password":          func(url string) string { return endpoints(url, good, "https://me:pw@login.example/x") },
		"no token endpoint":   func(url string) string { return endpoints(url, good, "") },
	} {
		issuer, asked := discovered(t, say)
		l := &login{Login: Login{Issuer: issuer.URL, ClientID: "pages", Scopes: "openid"}, logger: slog.New(slog.DiscardHandler)}
		if o := l.find(t.Context()); o != nil || asked.Load() != 1 {
			t.Errorf("%s: %v", what, o)
		}
	}
}

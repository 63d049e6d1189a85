package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestGrants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		grants, verb, log string
		want              bool
	}{
		{"append:orders", "append", "orders", true},
		{"append:orders", "append", "orders.eu", false},
		{"append:orders", "append", "order", false},
		{"append:orders.*", "append", "orders.eu", true},
		{"append:orders.*", "append", "orders.eu.1", true},
		{"append:orders.*", "append", "orders", false},
		{"append:orders.*", "append", "ordersx", false},
		{"append:orders-*", "append", "orders-1", true},
		{"append:orders-*", "append", "orders.1", false},
		{"append:*", "append", "anything", true},
		{"append:*", "append", Every, true},
		{"append:orders.*", "append", Every, false},
		{"append:*", "read", "orders", false},
		{"read:a append:b", "read", "b", false},
		{"letters:*", "letters", "", false},
		{"admin", "letters", "", true},
		{"admin", "append", "orders", true},
		{"status", "status", Every, true},
		{"status", "admin", "", false},
		{"", "known", "", true},
		{"admin", "", "orders", true},
	} {
		grants, err := parseGrants(strings.Fields(c.grants))
		if err != nil {
			t.Fatal(err)
		}
		if got := grants.allow(Verb(c.verb), c.log); got != c.want {
			t.Errorf("%q lets %s %q: %v", c.grants, c.verb, c.log, got)
		}
	}
	for _, text := range []string{"", "append", "append:", "orders", "Append:*", "append:*.orders", "append:or*", "append:a*b", "admin:orders", "status:x", ":x", "append:**"} {
		if g, err := ParseGrant(text); err == nil {
			t.Errorf("%q is taken for %v", text, g)
		}
	}
}

// TestNextNeverSkips: between a log that is not granted and the place that next names, no log is.
func TestNextNeverSkips(t *testing.T) {
	t.Parallel()
	name := rapid.StringMatching(`[ab][ab.]{0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		var grants Grants
		for _, logs := range rapid.SliceOfN(name, 0, 3).Draw(t, "logs") {
			if rapid.Bool().Draw(t, "all below") {
				logs += ".*"
			}
			grants = append(grants, Grant{Read, logs})
		}
		behind, other := name.Draw(t, "behind"), name.Draw(t, "other")
		if grants.allow(Read, behind) || other <= behind || !grants.allow(Read, other) {
			return
		}
		if from, ok := grants.next(Read, behind); !ok || from > other {
			t.Fatalf("%v: behind %q it goes on at %q, %v, and %q is granted", grants, behind, from, ok, other)
		}
	})
}

// request makes a request with an Authorization header, or without one if it is empty.
func request(authorization string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// opened is a file of principals, with a clock that the test moves, and what was logged.
type opened struct {
	*File
	now time.Time
	log bytes.Buffer
}

func open(t *testing.T, text string) *opened {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.yaml")
	write(t, path, text)
	o := &opened{}
	var err error
	if o.File, err = Load(path, slog.New(slog.NewTextHandler(&o.log, nil))); err != nil {
		t.Fatal(err)
	}
	o.now = time.Now()
	o.File.now = func() time.Time { return o.now }
	o.next.Store(o.now.Add(reloadEvery).UnixNano()) // by that clock
	return o
}

// who returns the name of whoever makes a request, or the error.
func (o *opened) who(r *http.Request) string {
	p, err := o.Authenticate(r)
	switch {
	case errors.Is(err, ErrUnknown):
		return "unknown"
	case err != nil:
		return err.Error()
	}
	return p.How + " " + p.Name
}

func TestTokens(t *testing.T) {
	t.Parallel()
	first, firstSum := NewToken()
	second, secondSum := NewToken()
	other, _ := NewToken()
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	o := open(t, fmt.Sprintf("principals:\n  - name: shop\n    tokens: [{sha256: %s, expires: %s}, {sha256: %s}]\n    grants: [\"append:a\"]\n",
		firstSum, end.Format(time.RFC3339), secondSum))
	twice := request("Bearer " + first)
	twice.Header.Add("Authorization", "Bearer "+second)
	for _, c := range []struct {
		what string
		r    *http.Request
		want string
	}{
		{"one that expires", request("Bearer " + first), "token shop"},
		{"one that does not", request("bearer   " + second), "token shop"},
		{"one of nobody", request("Bearer " + other), "unknown"},
		{"the hash", request("Bearer " + firstSum), "unknown"},
		{"another scheme", request("Basic " + first), "unknown"},
		{"no scheme", request(first), "unknown"},
		{"an empty one", request("Bearer "), "unknown"},
		{"two", twice, "unknown"},
		{"none", request(""), "unknown"},
	} {
		if got := o.who(c.r); got != c.want {
			t.Errorf("%s: %s", c.what, got)
		}
	}
	o.now = end.Add(time.Second)
	if one, two := o.who(request("Bearer "+first)), o.who(request("Bearer "+second)); one != "unknown" || two != "token shop" {
		t.Errorf("after the first one's end: %s, %s", one, two)
	}
	if !strings.HasPrefix(first, "dmk_") || len(first) != len("dmk_")+43 || first == second {
		t.Errorf("tokens are %q and %q", first, second)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	o := open(t, "principals:\n  - {name: shop, certificates: [\"spiffe://example.org/shop\", shop.example.org], grants: [\"append:*\"]}\nanonymous: [status]\n")
	with := func(c *x509.Certificate, verified bool) *http.Request {
		r := request("")
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		if verified {
			r.TLS.VerifiedChains = [][]*x509.Certificate{{c}}
		}
		return r
	}
	uri := func(text string) *url.URL { u, _ := url.Parse(text); return u }
	named := func(cn string, uris ...*url.URL) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: cn}, URIs: uris}
	}
	bearing := with(named("shop.example.org"), true)
	bearing.Header.Set("Authorization", "Bearer dmk_x")
	for _, c := range []struct {
		what string
		r    *http.Request
		want string
	}{
		{"a URI", with(named("x", uri("spiffe://example.org/shop")), true), "certificate shop"},
		{"a common name", with(named("shop.example.org"), true), "certificate shop"},
		{"a common name beside the URI of another", with(named("shop.example.org", uri("spiffe://example.org/other")), true), "anonymous "},
		{"one that is not verified", with(named("shop.example.org"), false), "anonymous "},
		{"one that is not known", with(named("other"), true), "anonymous "},
		{"a known one, and a token that is wrong", bearing, "unknown"},
	} {
		if got := o.who(c.r); got != c.want {
			t.Errorf("%s: %s", c.what, got)
		}
	}
}

func TestTheFileIsReadAgain(t *testing.T) {
	t.Parallel()
	token, sum := NewToken()
	text := func(name string) string {
		return "principals: [{name: " + name + ", tokens: [{sha256: " + sum + "}]}]"
	}
	o := open(t, text("a"))
	expect := func(what, want string) {
		t.Helper()
		if got := o.who(request("Bearer " + token)); got != want {
			t.Errorf("%s: %s", what, got)
		}
	}
	write(t, o.path, text("b"))
	expect("at once", "token a")
	o.now = o.now.Add(reloadEvery)
	expect("after a while", "token b")
	for _, bad := range []string{"principals: [{name: }", "principals: [{}]", ""} {
		write(t, o.path, bad)
		for range 3 {
			o.now = o.now.Add(reloadEvery)
			if bad == "" {
				expect("when it is empty", "unknown")
			} else {
				expect("when it is wrong", "token b")
			}
		}
	}
	if err := os.Remove(o.path); err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(reloadEvery)
	expect("when it is gone", "unknown")
	if n := strings.Count(o.log.String(), "cannot be used"); n != 3 {
		t.Errorf("it is told %d times:\n%s", n, o.log.String())
	}
}

func TestFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	_, sum := NewToken()
	for text, says := range map[string]string{
		"principal: []":                                   "principal",
		"principals: [{name: }]":                          "0 bytes",
		"principals: [{name: \"a b\"}]":                   "visible ASCII",
		"principals: [{name: a}, {name: a}]":              "two principals",
		"principals: [{name: a, grants: [read]}]":         "for which logs",
		"principals: [{name: a, tokens: [{sha256: 12}]}]": "64 hexadecimal digits",
		"principals: [{name: a, tokens: [{sha256: " + sum + "}, {sha256: " + sum + "}]}]": "there already",
		"principals: [{name: a, tokens: [{}, {}, {}]}]":                                   "the limit is 2",
		"principals: [{name: a, certificates: [x]}, {name: b, certificates: [x]}]":        "there already",
		"anonymous: [everything]":                                      "anonymous",
		"principals: [{name: " + strings.Repeat("a", maxName+1) + "}]": "1 to 128",
		"# " + strings.Repeat("x", maxFile):                            "more than",
		"principals: [{name: a, tokens: [{sha256: " + sum + "}]}, {name: b, tokens: [{sha256: " + sum + "}]}]": "there already",
	} {
		path := filepath.Join(t.TempDir(), "access.yaml")
		write(t, path, text)
		if _, err := Load(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80q: %v", text, err)
		}
	}
	if _, err := Load("nosuch", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is not there is read")
	}
}

// TestLocal lets this machine do everything, whatever it claims, and nobody for whom a proxy forwards.
func TestLocal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, forwarded, header string
		want                    bool
	}{
		{"127.0.0.1:5", "", "", true},
		{"[::1]:5", "", "", true},
		{"[::ffff:127.0.0.1]:5", "", "", true},
		{"127.0.0.1:5", "127.0.0.1", "", true},
		{"127.0.0.1:5", "::1, 127.0.0.2", "", true},
		{"192.0.2.1:5", "", "", false},
		{"192.0.2.1:5", "127.0.0.1", "", false},
		{"127.0.0.1:5", "192.0.2.1", "", false},
		{"127.0.0.1:5", "127.0.0.1, 192.0.2.1", "", false},
		{"127.0.0.1:5", "unknown", "", false},
		{"127.0.0.1:5", " ", "", false},
		{"127.0.0.1:5", "", "for=127.0.0.1", false},
		{"", "", "", false},
	} {
		r := request("")
		r.RemoteAddr = c.from
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if c.header != "" {
			r.Header.Set("Forwarded", c.header)
		}
		p, err := Local(r)
		if got := err == nil && p.May(Admin, ""); got != c.want || !c.want && !errors.Is(err, ErrForbidden) {
			t.Errorf("%+v: %v (%v)", c, got, err)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	token, sum := NewToken()
	path := filepath.Join(b.TempDir(), "access.yaml")
	text := "principals:\n  - {name: shop, tokens: [{sha256: " + sum + "}], grants: [\"append:orders.*\", \"append:a\", \"append:b\"]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := Load(path, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := request("Bearer " + token)
	b.ReportAllocs()
	for b.Loop() {
		p, err := f.Authenticate(r)
		if err != nil || !p.May(Append, "b") {
			b.Fatal(err)
		}
	}
}

// TestLimits has those of the file's beginning for whatever a principal leaves out.
func TestLimits(t *testing.T) {
	t.Parallel()
	token, sum := NewToken()
	o := open(t, "limits: {requests: 100, bytes: 10MiB, keys: 7}\nprincipals:\n  - {name: shop, tokens: [{sha256: "+sum+"}], limits: {requests: 500, bytes: 0, share: 50%, new_logs: 3, waits: 4, streams: 5, followed: 6, letters: 8}}\nanonymous: []\n")
	for authorization, want := range map[string]Limits{
		"Bearer " + token: {Requests: 500, Keys: 7, NewLogs: 3, Waits: 4, Streams: 5, Followed: 6, Letters: 8, Share: 50},
		"":                {Requests: 100, Bytes: 10 << 20, Keys: 7, Share: 25},
	} {
		if p, err := o.Authenticate(request(authorization)); err != nil || *p.Limits != want {
			t.Errorf("%q: %+v, %v", authorization, p.Limits, err)
		}
	}
	for text, says := range map[string]string{
		"limits: {requests: -1}":          "whole number",
		"limits: {requests: 1.5}":         "whole number",
		"limits: {bytes: 10 miles}":       "number of bytes",
		"limits: {bytes: -1}":             "0 or more",
		"limits: {share: 0%}":             "1% to 100%",
		"limits: {share: 25}":             "1% to 100%",
		"limits: {connections: 5}":        "connections",
		"principals: [{name: anonymous}]": "without credentials",
	} {
		if _, err := parse([]byte(text), nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

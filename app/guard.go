package app

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/drainmark/drainmark/backend/api"
)

// browsing says which pages of other sites may use the API.
type browsing struct {
	AllowedOrigin []string `help:"Origin whose pages may use the API in a browser, such as https://app.example. Repeated, or several with commas between them." placeholder:"ORIGIN,…"`
}

func (b browsing) check() error {
	for _, origin := range b.AllowedOrigin {
		if !isOrigin(origin) {
			return badSetting("allowed-origin", origin, "it must be as browsers send it: http or https, :// and HOST[:PORT], in lower case, without the scheme's own port, and nothing more")
		}
	}
	return nil
}

// isOrigin says whether a browser sends an origin in that way. One that is written in another way would never be met.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || text != u.Scheme+"://"+u.Host {
		return false
	}
	usual, known := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	strange := strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf || unicode.IsUpper(r) })
	return known && u.Port() != usual && !strange
}

// Pages of an allowed origin may send and read these besides what every page may.
const (
	corsMethods = "GET, HEAD, POST, PUT, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, Prefer, Drainmark-Receipt, If-None-Match, Last-Event-ID, Traceparent, Tracestate"
	corsExposed = "Drainmark-Receipt, Drainmark-Backend, Drainmark-Stopping, Drainmark-First-Position, Drainmark-Last-Position, " +
		"ETag, Link, Preference-Applied, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate"
	corsMaxAge = "600" // seconds
)

// guard keeps browsers from doing what a page of another site wants, with everything that is behind it. Clients that
// are no browsers send no origin, and are not affected.
type guard struct {
	next    http.Handler
	hosts   []string // further host names that are allowed
	anyHost bool     // more than loopback is listened on, and no host was named: all are allowed
	origins []string
	strict  bool // reading is guarded too
	cross   *http.CrossOriginProtection
}

// newGuard guards what is served at an address.
func newGuard(next http.Handler, at net.Addr, hosts, origins []string, strict bool) *guard {
	g := &guard{
		next: next, hosts: hosts, anyHost: len(hosts) == 0 && !isLoopback(at.String()), origins: origins, strict: strict,
		cross: http.NewCrossOriginProtection(),
	}
	for _, origin := range origins {
		_ = g.cross.AddTrustedOrigin(origin) // it was checked with the other settings
	}
	return g
}

// ServeHTTP refuses requests for a host name that may be anybody's, who may have it lead here, and requests of pages of
// other sites that change something.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	allowed := g.share(w, r)
	switch {
	case !g.knows(r.Host):
		refuse(w, "the request is for another host than localhost, a loopback address, or one that --allowed-host names")
	case allowed && r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "":
		preflight(w, r)
	case g.foreign(r):
		refuse(w, "the request comes from a page of another site; --allowed-origin can allow it")
	default:
		g.next.ServeHTTP(w, r)
	}
}

// knows says whether a host is this machine's, or was named.
func (g *guard) knows(host string) bool {
	if g.anyHost || host == "" || isLoopback(host) {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return slices.ContainsFunc(g.hosts, func(h string) bool {
		return h == "*" || strings.EqualFold(h, host) || strings.EqualFold(h, name)
	})
}

// foreign says whether a page of another site has made the browser send the request, if that matters.
func (g *guard) foreign(r *http.Request) bool {
	if g.strict && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		posted := *r
		posted.Method = http.MethodPost // which is not taken for harmless
		r = &posted
	}
	return g.cross.Check(r) != nil
}

// share lets pages of allowed origins read the answer, and says whether the request is of one.
func (g *guard) share(w http.ResponseWriter, r *http.Request) bool {
	if len(g.origins) == 0 {
		return false
	}
	header := w.Header()
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !slices.Contains(g.origins, origin) {
		return false
	}
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Access-Control-Expose-Headers", corsExposed)
	return true
}

// corsFamilies begin the names of headers that a message is given: which there are is up to who sends it.
var corsFamilies = []string{"drainmark-header-", "ce-"}

// preflight answers a browser that asks whether a page of an allowed origin may send a request.
func preflight(w http.ResponseWriter, r *http.Request) {
	allowed := corsHeaders
	for _, list := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(strings.ToLower(list), ",") {
			name = strings.TrimSpace(name)
			if slices.ContainsFunc(corsFamilies, func(family string) bool { return strings.HasPrefix(name, family) }) {
				allowed += ", " + name
			}
		}
	}
	header := w.Header()
	header.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	header.Set("Access-Control-Allow-Methods", corsMethods)
	header.Set("Access-Control-Allow-Headers", allowed)
	header.Set("Access-Control-Max-Age", corsMaxAge)
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers a request that must not be made.
func refuse(w http.ResponseWriter, why string) {
	writeProblem(w, api.Problem{Type: "urn:drainmark:problem:forbidden", Title: "The request is not allowed", Status: http.StatusForbidden, Detail: why})
}

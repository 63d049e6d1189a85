// Package frontend serves the web page, and forwards the API to the backends.
//
// pool.go spreads requests over the backends and decides what may be sent again, directory.go and members.go know which
// backends there are, forward.go streams a request there and its answer back, page.go has the page. It knows nothing about messages: a request's meaning is the backend's
// business.
package frontend

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark/internal/budget"
	"github.com/drainmark/drainmark/internal/tracing"
)

// Config is what New needs. Only Backends must be set.
type Config struct {
	// Backends are the base URLs of the backends' APIs, without the /v1, at most 64: http://host:port or
	// https://host:port. With dns+http://host:port or dns+https://host:port each address of the host is a backend, and
	// the name is looked up again and again. There are at most 256 backends in all.
	Backends []*url.URL
	Resolver Resolver // for those names, nil for the system's
	// TLS returns the configuration for a new connection to a backend with https, and is asked for each. The name that
	// the backend's certificate must be of is added. nil for the system's authorities and no certificate of our own.
	TLS func() *tls.Config
	// PathPrefix is the path under which clients see the frontend, such as /drainmark, if it is not /. Requests are
	// taken with and without it, so a proxy in front may strip it or not, and Link headers get it.
	PathPrefix string
	Login      Login                 // where people sign in on the pages
	Logger     *slog.Logger          // nil for slog.Default()
	Metrics    prometheus.Registerer // where the metrics go, nil for nowhere
	Tracer     *tracing.Tracer       // makes the spans of requests, nil for none
	Limits     Limits                // zero fields are defaults
	// Stopping ends when the server begins to shut down: event streams end then. nil for never.
	Stopping context.Context
}

// Limits bounds what a request may cost. A zero field means its default.
type Limits struct {
	Dial time.Duration // how long connecting to a backend may take (default 2 s)
	// Answer is how long a backend may take to begin its answer. It must be above the longest that a backend takes: its
	// --max-wait and --request-timeout, together 70 s if they are not set (default 2 min).
	Answer time.Duration
	// Client is how long the client may take to accept one write of the answer (default 10 s, as for a backend's
	// clients).
	Client time.Duration
	Bodies int64 // bytes of memory for request bodies (default 256 MiB)
	Idle   int   // connections to one backend that are kept open though unused (default 256)
	// Lookup is how long the addresses of a name are used until it is looked up again, give or take a fifth (default 3 s).
	Lookup time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	if l.Dial < 0 || l.Answer < 0 || l.Client < 0 || l.Idle < 0 || l.Bodies < 0 || l.Lookup < 0 {
		return l, fmt.Errorf("the frontend's limits are %+v: none can be below 0", l)
	}
	return Limits{
		Dial: cmp.Or(l.Dial, 2*time.Second), Answer: cmp.Or(l.Answer, 2*time.Minute),
		Client: cmp.Or(l.Client, 10*time.Second), Idle: cmp.Or(l.Idle, 256),
		Bodies: cmp.Or(l.Bodies, 256<<20), Lookup: cmp.Or(l.Lookup, 3*time.Second),
	}, nil
}

// Frontend is the web page and the API in one handler. It serves any number of requests at the same time, and starts
// no goroutines that outlive a request besides those of its idle connections, and those that look names up: see Close.
//
// The server around it bounds the time of headers, of bodies and of idle connections (internal/httpserve does), and has
// no ReadTimeout or WriteTimeout: there are deadlines here for each write, and event streams last.
type Frontend struct {
	logger  *slog.Logger
	metrics *metrics
	tracer  *tracing.Tracer
	limits  Limits
	prefix  string
	pool    *pool
	bodies  *budget.Budget // bytes of memory for request bodies
	proxy   *httputil.ReverseProxy
	handler http.Handler
}

// CheckPathPrefix says why a path cannot be that under which clients see a frontend.
func CheckPathPrefix(prefix string) error {
	plain := func(c rune) bool {
		return c == '/' || c == '-' || c == '.' || c == '_' || c == '~' ||
			'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	trimmed := strings.TrimRight(prefix, "/")
	notPlain := strings.ContainsFunc(trimmed, func(c rune) bool { return !plain(c) })
	if trimmed != "" && (trimmed[0] != '/' || trimmed != path.Clean(trimmed) || notPlain || strings.HasPrefix(trimmed+"/", "/v1/")) {
		return fmt.Errorf("the path prefix %q must be a path such as /drainmark, of letters, digits and -._~, and not be /v1", prefix)
	}
	return nil
}

// New returns a frontend. It fails if a setting is impossible, and does not ask whether a backend is there. Close ends it.
func New(c Config) (*Frontend, error) {
	limits, err := c.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(CheckBackends(c.Backends), CheckPathPrefix(c.PathPrefix), c.Login.Check()); err != nil {
		return nil, err
	}
	f := &Frontend{logger: cmp.Or(c.Logger, slog.Default()), tracer: c.Tracer, limits: limits, prefix: strings.TrimRight(c.PathPrefix, "/")}
	if c.Stopping == nil {
		c.Stopping = context.Background()
	}
	f.metrics = newMetrics()
	f.pool = newPool(c, limits, f.logger, f.metrics)
	if err := f.metrics.register(c.Metrics, f.pool); err != nil {
		return nil, err
	}
	f.bodies = budget.New(limits.Bodies)
	f.proxy = f.newProxy()
	f.handler = WithPage(http.HandlerFunc(f.forward), c.Login, f.logger)
	f.pool.directory.begin()
	return f, nil
}

// WithPage serves the API with a handler of its own, under /v1, and the pages with the rest. People sign in on these as
// at says.
func WithPage(api http.Handler, at Login, logger *slog.Logger) http.Handler {
	site, signIn := pages(), &login{Login: at, logger: logger}
	others := map[string]http.Handler{"/v1": api, "/login": signIn, "/signed-in": signIn.arrivals(site)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler := others[r.URL.Path]
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/"):
			handler = api
		case handler == nil:
			handler = site
		}
		handler.ServeHTTP(w, r)
	})
}

// ServeHTTP answers one request.
func (f *Frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.prefix == "":
		f.handler.ServeHTTP(w, r)
	case r.URL.Path == f.prefix: // the page's URLs are relative to its folder
		to := url.URL{Path: f.prefix + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
	case strings.HasPrefix(r.URL.Path, f.prefix+"/"):
		http.StripPrefix(f.prefix, f.handler).ServeHTTP(w, r)
	default:
		f.handler.ServeHTTP(w, r)
	}
}

// Ready says whether at least one backend answers now. It asks all of them at once, until ctx ends.
func (f *Frontend) Ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	backends := f.pool.list()
	answers := make(chan error, len(backends))
	for _, b := range backends {
		go func() { answers <- f.pool.probe(ctx, b) }()
	}
	errs := []error{f.pool.directory.unknown()}
	ready := false
	for range backends { // all of them, so that no goroutine is left
		if err := <-answers; err != nil {
			errs = append(errs, err)
			continue
		}
		ready = true
		cancel()
	}
	if ready {
		return nil
	}
	return fmt.Errorf("no backend answers: %w", errors.Join(errs...))
}

// Close ends what looks names up, and closes the connections to backends that are not used. Call it when no request is
// under way.
func (f *Frontend) Close() {
	f.pool.directory.close()
	for _, b := range f.pool.all() {
		b.transport.CloseIdleConnections()
	}
}

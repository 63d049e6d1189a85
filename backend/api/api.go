// Package api speaks HTTP for a backend.Service: everything under /v1, as openapi.json describes it.
//
// It checks what comes in, against limits that each error names, and says what comes out. It decides nothing about
// messages. append.go, decode.go and scan.go take writes in, messages.go, events.go and encode.go show them,
// receipts.go answers what became of them. problem.go is the one place where an error becomes a status.
package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/internal/address"
	"github.com/drainmark/drainmark/internal/budget"
	"github.com/drainmark/drainmark/internal/tracing"
)

// The headers of the API's own.
const (
	receiptHeader     = "Drainmark-Receipt"
	backendHeader     = "Drainmark-Backend"
	idempotencyHeader = "Idempotency-Key"
)

// Config is what New needs. Only Service must be set.
type Config struct {
	Service backend.Service
	Logger  *slog.Logger          // nil for slog.Default()
	Audit   *slog.Logger          // where it says who was refused, and who did what cannot be undone. nil for Logger
	Limits  Limits                // zero fields are defaults
	Metrics prometheus.Registerer // where the metrics go, nil for nowhere
	Tracer  *tracing.Tracer       // makes the spans of requests, nil for none
	// Stopping ends when the server begins to shut down: event streams end then, and waits are cut short. nil for never.
	Stopping context.Context
	// Access says who makes a request. nil for auth.Open: everybody may do everything.
	Access auth.Authenticator
	// Accounts bound what each principal and each address takes. nil for no limits.
	Accounts *quota.Accounts
	// Proxies are those that say truly for whom they forward.
	Proxies address.Proxies
	// Backend is what every answer says has given it, so that a client behind a frontend can tell two backends apart:
	// a barrier speaks for the one that answers it. Empty for nothing.
	Backend string
}

// New returns the API. It serves any number of requests at the same time, and starts no goroutines of its own. It
// fails (KindMisconfigured) on limits that cannot be, or metrics that Metrics does not take.
//
// The server around it bounds the time of headers, of bodies and of idle connections (internal/httpserve does), and has
// no ReadTimeout or WriteTimeout: event streams last.
func New(c Config) (http.Handler, error) {
	limits, err := c.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	h := &handler{
		service: c.Service, limits: limits, metrics: metrics, mux: http.NewServeMux(),
		logger: cmp.Or(c.Logger, slog.Default()), stopping: c.Stopping, access: c.Access, backend: c.Backend, tracer: c.Tracer,
		accounts: c.Accounts, proxies: c.Proxies,
		bodies: budget.New(limits.Bodies + 1), // with the byte by which a body is found to be too large
	}
	h.lines = newLines(h.logger)
	h.audit = newAudit(cmp.Or(c.Audit, h.logger))
	if h.access == nil {
		h.access = auth.Open
	}
	if h.stopping == nil {
		h.stopping = context.Background()
	}
	h.register()
	return h, nil
}

// handler is the API. Only bodies, the known logs, and what accounts and metrics hold ever change.
type handler struct {
	service  backend.Service
	limits   Limits
	metrics  *metrics
	tracer   *tracing.Tracer
	logger   *slog.Logger
	lines    lines
	audit    audit
	stopping context.Context
	access   auth.Authenticator
	accounts *quota.Accounts
	proxies  address.Proxies
	known    knownLogs
	backend  string
	mux      *http.ServeMux
	bodies   *budget.Budget // bytes of request bodies in memory
}

// route is one thing that can be asked for.
type route struct {
	method  string
	path    string    // as http.ServeMux has it, and the OpenAPI document too
	verb    auth.Verb // what must be granted: for the log of the path, or if it has none, for at least one
	serve   func(*handler, http.ResponseWriter, *request) error
	options options
}

// options says what a route does besides.
type options uint8

const (
	waits   options = 1 << iota // honours Prefer: wait
	reads                       // reads the request's body itself
	streams                     // answers for as long as the client listens
	audits                      // is in the audit log, whatever becomes of it
)

// routes returns all routes.
func routes() []route {
	return []route{
		{"GET", "/v1", auth.Public, (*handler).index, 0},
		{"GET", "/v1/openapi.json", auth.Public, (*handler).openAPI, 0},
		{"GET", "/v1/logs", auth.Known, (*handler).logs, 0},
		{"POST", "/v1/logs/{log}/messages", auth.Append, (*handler).append, waits | reads},
		{"GET", "/v1/logs/{log}/messages", auth.Read, (*handler).messages, waits},
		{"DELETE", "/v1/logs/{log}/messages", auth.Clear, (*handler).clear, waits | audits},
		{"DELETE", "/v1/logs/{log}/messages/{position}", auth.Erase, (*handler).erase, waits | audits},
		{"POST", "/v1/logs/{log}/trim", auth.Clear, (*handler).trim, waits | audits},
		{"DELETE", "/v1/logs/{log}", auth.Clear, (*handler).deleteLog, waits | audits},
		{"GET", "/v1/logs/{log}/events", auth.Read, (*handler).events, streams},
		{"GET", "/v1/receipts/{receipt}", auth.Known, (*handler).receipt, waits},
		{"POST", "/v1/barriers", auth.Barrier, (*handler).barrier, waits | reads},
		{"GET", "/v1/backlog", auth.Status, (*handler).backlog, 0},
		{"GET", "/v1/status", auth.Status, (*handler).working, 0},
		{"GET", "/v1/consumers", auth.Status, (*handler).consumers, 0},
		{"GET", "/v1/dead-letters", auth.Letters, (*handler).deadLetters, 0},
		{"DELETE", "/v1/dead-letters", auth.Letters, (*handler).discardAll, waits | audits},
		{"POST", "/v1/dead-letters", auth.Letters, (*handler).retryAll, waits | audits},
		{"POST", "/v1/dead-letters/{id}/retry", auth.Letters, (*handler).retry, waits | audits},
		{"DELETE", "/v1/dead-letters/{id}", auth.Letters, (*handler).discard, waits | audits},
	}
}

// register gives the mux every route, and for each path what answers the methods that it does not have.
func (h *handler) register() {
	allowed := map[string][]string{}
	for _, rt := range routes() {
		h.mux.Handle(rt.method+" "+rt.path, h.instrument(rt))
		allowed[rt.path] = append(allowed[rt.path], rt.method)
		if rt.method == http.MethodGet {
			allowed[rt.path] = append(allowed[rt.path], http.MethodHead)
		}
	}
	for path, methods := range allowed {
		slices.Sort(methods)
		h.mux.Handle(path, h.instrument(route{path: path, verb: auth.Public, serve: wrongMethod(strings.Join(methods, ", "))}))
	}
	h.mux.Handle("/", h.instrument(unknown))
}

// unknown answers for every path that there is not.
var unknown = route{path: "unknown", verb: auth.Public, serve: func(_ *handler, _ http.ResponseWriter, r *request) error {
	return notFound("there is no %.100q; GET /v1 says what there is", r.URL.Path)
}}

func wrongMethod(allow string) func(*handler, http.ResponseWriter, *request) error {
	return func(_ *handler, w http.ResponseWriter, r *request) error {
		w.Header().Set("Allow", allow)
		return methodNotAllowed("%.20q is not a method of this resource; it has %s", r.Method, allow)
	}
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if escaped := r.URL.EscapedPath(); escaped != path.Clean(escaped) {
		h.instrument(unknown).ServeHTTP(w, r) // rather than http.ServeMux's redirection to the clean path
		return
	}
	h.mux.ServeHTTP(w, r)
}

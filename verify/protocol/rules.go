package protocol

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const problemPrefix = "urn:drainmark:problem:"

// Rule is a statement about every answer of a kind. wrong says what is wrong with one, "" for nothing.
type Rule struct {
	Number, Title string
	applies       func(answer) bool
	wrong         func(answer) string
}

func isProblem(a answer) bool { return a.status >= 400 }

// ofBackend says whether it must be a backend that has answered, and no server before it.
func ofBackend(a answer) bool { return a.status < 500 && a.status != 408 && a.status != 414 }

func withBody(a answer) bool { return a.method != "HEAD" && a.status != 204 && a.status != 304 }

// Routes are the statuses of each route, besides those that any may have.
var Routes = map[string][]int{
	"GET /v1": {200}, "GET /v1/openapi.json": {200, 304}, "GET /v1/logs": {200},
	"POST /v1/logs/{log}/messages": {201, 202, 204, 415, 504}, "GET /v1/logs/{log}/messages": {200, 304, 404, 410, 412},
	"DELETE /v1/logs/{log}/messages": {200, 202, 504}, "DELETE /v1/logs/{log}/messages/{position}": {200, 202, 504},
	"POST /v1/logs/{log}/trim": {200, 202, 504}, "DELETE /v1/logs/{log}": {200, 202, 504}, "GET /v1/logs/{log}/events": {200}, "GET /v1/receipts/{receipt}": {200, 410},
	"POST /v1/barriers": {200, 202, 410, 415, 504}, "GET /v1/backlog": {200}, "GET /v1/status": {200}, "GET /v1/consumers": {200},
	"GET /v1/dead-letters": {200}, "POST /v1/dead-letters": {200, 202, 504}, "DELETE /v1/dead-letters": {200, 202, 504},
	"POST /v1/dead-letters/{id}/retry": {200, 202, 404, 409, 504}, "DELETE /v1/dead-letters/{id}": {200, 202, 404, 409, 504},
}

var anyRoute = []int{400, 401, 403, 408, 413, 414, 429, 500, 503}

// parameters are the parts of paths that stand for many.
var parameters = strings.NewReplacer("/logs/{}", "/logs/{log}", "/receipts/{}", "/receipts/{receipt}", "/dead-letters/{}", "/dead-letters/{id}")

// routeOf returns the route of the request that was answered, as Routes has it. HEAD is GET.
func routeOf(a answer) string {
	parts := strings.Split(a.path, "/")
	if len(parts) > 3 && slices.Contains([]string{"logs", "receipts", "dead-letters"}, parts[2]) {
		parts[3] = "{}"
	}
	if len(parts) == 6 && parts[4] == "messages" {
		parts[5] = "{position}"
	}
	return strings.Replace(a.method, "HEAD", "GET", 1) + " " + parameters.Replace(strings.Join(parts, "/"))
}

func isRoute(a answer) bool { return Routes[routeOf(a)] != nil }

// Rules are looked at with every answer of a run.
var Rules = []Rule{
	{"G-4", "answers are JSON and say so", withBody, func(a answer) string {
		kind := a.header.Get("Content-Type")
		if !slices.Contains([]string{"application/json", "application/problem+json", batchOfEvents}, kind) || !json.Valid(a.body) {
			return fmt.Sprintf("Content-Type %q of %v", kind, a)
		}
		return ""
	}},
	{"G-5", "every answer of a backend names its run", ofBackend, func(a answer) string {
		return missing(a, "Drainmark-Backend")
	}},
	{"G-7", "every answer of a backend is closed to other sites", ofBackend, func(a answer) string {
		return cmp.Or(missing(a, "X-Content-Type-Options"), missing(a, "Cross-Origin-Resource-Policy"), missing(a, "Content-Security-Policy"))
	}},
	{"G-12", "a route has no other statuses than its own", isRoute, func(a answer) string {
		if own := Routes[routeOf(a)]; !slices.Contains(own, a.status) && !slices.Contains(anyRoute, a.status) {
			return fmt.Sprintf("%s: %v", routeOf(a), a)
		}
		return ""
	}},
	{"F-1", "an error is a problem with type, title, status and detail", isProblem, func(a answer) string {
		if a.method == "HEAD" {
			return ""
		}
		if a.header.Get("Content-Type") != "application/problem+json" {
			return fmt.Sprintf("Content-Type %q of %v", a.header.Get("Content-Type"), a)
		}
		if a.at("type") == "" || a.at("title") == "" || a.at("detail") == "" || a.at("status") != fmt.Sprint(a.status) {
			return a.String()
		}
		return ""
	}},
	{"F-2", "the type is a kind behind urn:drainmark:problem:, of the status", isProblem, func(a answer) string {
		kind, ours := strings.CutPrefix(a.at("type"), problemPrefix)
		if a.method != "HEAD" && (!ours || !slices.Contains(statuses[kind], a.status) && statuses[kind] != nil) {
			return a.String()
		}
		return ""
	}},
	{"F-3", "a detail has at most 400 bytes", isProblem, func(a answer) string {
		if n := len(a.at("detail")); n > 400 {
			return fmt.Sprintf("%d bytes: %v", n, a)
		}
		return ""
	}},
	{"F-4", "errors are not kept by caches", isProblem, func(a answer) string {
		if a.header.Get("Cache-Control") != "no-store" {
			return fmt.Sprintf("Cache-Control %q of %v", a.header.Get("Cache-Control"), a)
		}
		return ""
	}},
	{"F-5", "what may succeed later has Retry-After, in whole seconds", func(a answer) bool {
		return slices.Contains([]int{412, 429, 503}, a.status)
	}, func(a answer) string {
		if after := a.header.Get("Retry-After"); after == "" || strings.Trim(after, "0123456789") != "" {
			return fmt.Sprintf("Retry-After %q of %v", after, a)
		}
		return ""
	}},
}

// statuses are the statuses of the types that there are.
var statuses = map[string][]int{
	"invalid": {400}, "invalid-receipt": {400}, "unauthenticated": {401}, "forbidden": {403}, "not-found": {404}, "method": {405},
	"conflict": {409}, "receipt-expired": {410}, "not-reached": {412}, "too-large": {413, 414}, "media-type": {415},
	"rate-limited": {429}, "misconfigured": {500}, "internal": {500}, "backlog-full": {503}, "disk-full": {503}, "too-many": {503},
	"unavailable": {503, 408}, "outcome-unknown": {504},
}

func missing(a answer, header string) string {
	if a.header.Get(header) != "" {
		return ""
	}
	return fmt.Sprintf("no %s with %v", header, a)
}

// rule looks at an answer by all rules.
func (s *session) rule(a answer) {
	for _, r := range Rules {
		if !r.applies(a) {
			continue
		}
		s.rules[r.Number] = cmp.Or(s.rules[r.Number], r.wrong(a))
	}
}

// ruled is what was found of all rules.
func (s *session) ruled() (all []Finding) {
	for _, r := range Rules {
		f := Finding{Number: r.Number, Title: r.Title, State: Held}
		switch wrong, looked := s.rules[r.Number]; {
		case !looked:
			f.State, f.Seen = Untested, "no answer of the run was of the kind"
		case wrong != "":
			f.State, f.Seen = Broken, wrong
		}
		all = append(all, f)
	}
	return all
}

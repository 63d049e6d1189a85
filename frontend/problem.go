package frontend

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

// kind is a kind of error. The types, titles and statuses are those of the API, so that a client needs to know one set.
type kind struct {
	name   string
	status int
	title  string
	retry  bool // the same request may succeed later, and nothing was done
}

var (
	invalid        = &kind{"invalid", http.StatusBadRequest, "The request is malformed or out of range", false}
	tooLong        = &kind{"too-large", http.StatusRequestURITooLong, "A size is over its limit", false}
	tooMany        = &kind{"too-many", http.StatusServiceUnavailable, "Too much is going on at once", true}
	unavailable    = &kind{"unavailable", http.StatusServiceUnavailable, "It is not available now", true}
	outcomeUnknown = &kind{"outcome-unknown", http.StatusGatewayTimeout, "It may or may not have been done", false}
)

// retryAfter is what Retry-After says, in seconds.
const retryAfter = "1"

// wantsEvents says whether a client wants an event stream and nothing else, as an EventSource does.
func wantsEvents(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(strings.ToLower(r.Header.Get("Accept")), "text/event-stream")
}

// putOff answers with a stream that is over at once, which says when to come back, as backends do: after an error an
// EventSource would give up for ever.
func putOff(w http.ResponseWriter, detail string) {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = fmt.Fprintf(w, ": %s\nretry: %d\n\n", detail, 2000+rand.IntN(4000)) // if it fails there is nobody to tell
}

// failure is why a request was not answered by a backend. The text of its cause stays here, because it names hosts.
type failure struct {
	kind   *kind
	detail string
	cause  error
}

func (f *failure) Error() string { return f.detail + ": " + f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// fail answers with a problem, or not at all if the client is gone.
func (f *Frontend) fail(w http.ResponseWriter, r *http.Request, err error) {
	var why *failure
	switch {
	case errors.As(err, &why):
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // net/http takes it as: no answer
	default:
		why = &failure{unavailable, "the request could not be forwarded", err}
	}
	f.logger.Debug("a request was not answered by a backend", "method", r.Method, "problem", why.kind.name, "error", err)
	f.metrics.problems.WithLabelValues(why.kind.name).Inc()
	if why.kind.retry && wantsEvents(r) {
		putOff(w, why.detail)
		return
	}
	why.kind.write(w, why.detail)
}

// write answers with a problem of this kind (RFC 9457).
func (k *kind) write(w http.ResponseWriter, detail string) {
	body, _ := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"urn:drainmark:problem:" + k.name, k.title, k.status, detail}) // it cannot fail
	header := w.Header()
	if k.retry {
		header.Set("Retry-After", retryAfter)
	}
	header.Set("Content-Type", "application/problem+json")
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(k.status)
	_, _ = w.Write(append(body, '\n')) // if it fails there is nobody to tell
}

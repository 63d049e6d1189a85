package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// logName returns the log that the path names.
func (r *request) logName() (string, error) {
	name := r.PathValue("log")
	return name, drainmark.CheckLogName(name)
}

// principalOf returns the name of the principal whose request it is, or "" if nobody is known. It goes into every record
// that a request publishes.
func principalOf(r *request) string { return r.who.Name }

// oneType refuses a request with several Content-Type headers: which of them is meant nobody knows.
func (r *request) oneType() error {
	if n := len(r.Header["Content-Type"]); n > 1 {
		return invalid("there are %d Content-Type headers: there can be one", n)
	}
	return nil
}

// publishing returns the context for what comes before any wait.
func (h *handler) publishing(r *request) (context.Context, context.CancelFunc) {
	if r.wait == 0 {
		return r.Context(), func() {}
	}
	return context.WithDeadline(r.Context(), r.began.Add(h.limits.Request))
}

// waiting asks something that may wait, and asks it again without a wait when the server stops meanwhile.
func waiting[T any](h *handler, r *request, ask func(context.Context, time.Duration) (T, error)) (T, error) {
	if r.wait == 0 {
		return ask(r.Context(), 0)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	answer, err := ask(ctx, r.wait)
	if err != nil && ctx.Err() != nil {
		return ask(r.Context(), 0)
	}
	return answer, err
}

// query returns the request's parameters.
func (r *request) query() (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("malformed query: %w", err)
	}
	return q, nil
}

// number reads a number from low to high, which is value when the query has no such parameter.
func number(q url.Values, name string, low, high, value uint64) (uint64, error) {
	if !q.Has(name) {
		return value, nil
	}
	return inRange(name, q.Get(name), low, high)
}

func inRange(name, text string, low, high uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < low || n > high {
		return 0, invalid("%s is %.40q: it must be a number from %d to %d", name, text, low, high)
	}
	return n, nil
}

// pageLimit reads how many things a page shall have.
func (h *handler) pageLimit(q url.Values) (int, error) {
	n, err := number(q, "limit", 1, uint64(h.limits.MaxPage), uint64(h.limits.Page))
	return int(n), err
}

// names splits the values of a header or parameter that is a list, "a, b", and may be repeated.
func names(values []string) []string {
	var all []string
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				all = append(all, name)
			}
		}
	}
	return all
}

// parseReceipts reads the receipts that a request names, as one, or nil if it names none.
func (h *handler) parseReceipts(texts []string) (*drainmark.Receipt, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	if len(texts) > h.limits.Named {
		return nil, tooLarge("the request names %d receipts; the limit is %d", len(texts), h.limits.Named)
	}
	receipt, err := h.service.ParseReceipt(texts...)
	return &receipt, err
}

// hasType says whether a content type names a media type, whatever its parameters are.
func hasType(contentType, media string) bool {
	name, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(name), media)
}

// checkEncoding says why a body cannot be read as it is.
func checkEncoding(w http.ResponseWriter, r *request) error {
	for _, coding := range names(r.Header["Content-Encoding"]) {
		if !strings.EqualFold(coding, "identity") {
			w.Header().Set("Accept-Encoding", "identity")
			return mediaType("Content-Encoding %.40q: only identity can be taken", coding)
		}
	}
	return nil
}

// linkNext says where a list goes on (RFC 8288).
func linkNext(w http.ResponseWriter, path string, q url.Values) {
	w.Header().Set("Link", "<"+path+"?"+q.Encode()+`>; rel="next"`)
}

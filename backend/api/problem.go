package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth/quota"
)

// ProblemPrefix begins the type of every problem. The kind of the error ends it.
const ProblemPrefix = "urn:drainmark:problem:"

// statusClientClosed is what logs and metrics say of a request whose client went away before its answer.
const statusClientClosed = 499

// problems is the one place that says how each kind of error looks over HTTP.
var problems = map[drainmark.Kind]struct {
	status int
	title  string
	retry  int // the same request may succeed later: after so many times Limits.RetryAfter, 0 if not
}{
	drainmark.KindInvalid:         {http.StatusBadRequest, "The request is malformed or out of range", 0},
	drainmark.KindInvalidReceipt:  {http.StatusBadRequest, "The receipt is not one of this deployment", 0},
	drainmark.KindReceiptExpired:  {http.StatusGone, "The receipt is too old to be answered", 0},
	drainmark.KindUnauthenticated: {http.StatusUnauthorized, "The request says nobody who is known", 0},
	drainmark.KindForbidden:       {http.StatusForbidden, "The request is not allowed", 0},
	drainmark.KindNotFound:        {http.StatusNotFound, "There is no such thing", 0},
	drainmark.KindMethod:          {http.StatusMethodNotAllowed, "The resource has no such method", 0},
	drainmark.KindMediaType:       {http.StatusUnsupportedMediaType, "The body's type or encoding cannot be taken", 0},
	drainmark.KindTooLarge:        {http.StatusRequestEntityTooLarge, "A size is over its limit", 0},
	drainmark.KindConflict:        {http.StatusConflict, "The state of the thing does not allow it", 0},
	drainmark.KindNotReached:      {http.StatusPreconditionFailed, "The writes of the receipt are not visible here yet", 1},
	drainmark.KindBacklogFull:     {http.StatusServiceUnavailable, "The backlog is full", 1},
	drainmark.KindDiskFull:        {http.StatusServiceUnavailable, "The broker's disk is full", 10},
	drainmark.KindTooMany:         {http.StatusServiceUnavailable, "Too much is going on at once", 1},
	drainmark.KindRateLimited:     {http.StatusTooManyRequests, "Whoever asks takes more than their limits allow", 1},
	drainmark.KindUnavailable:     {http.StatusServiceUnavailable, "It is not available now", 1},
	drainmark.KindOutcomeUnknown:  {http.StatusGatewayTimeout, "It may or may not have been done", 0},
	drainmark.KindMisconfigured:   {http.StatusInternalServerError, "The deployment is not set up right", 0},
	drainmark.KindInternal:        {http.StatusInternalServerError, "Something went wrong here", 0},
}

// Problem is an error as the API writes it (RFC 9457).
type Problem struct {
	Type    string `json:"type"` // ProblemPrefix and a kind
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Receipt string `json:"receipt,omitempty"` // of writes whose outcome is unknown: it tells later
}

// ProblemOf returns how the API writes an error. The text of an internal error stays in the log.
func ProblemOf(err error) Problem {
	kind := drainmark.KindOf(err)
	known, ok := problems[kind]
	if !ok {
		kind = drainmark.KindInternal
		known = problems[kind]
	}
	p := Problem{Type: ProblemPrefix + string(kind), Title: known.title, Status: known.status, Detail: cut(err.Error())}
	switch kind {
	case drainmark.KindInternal:
		p.Detail = "an internal error; the server's log has more"
	case drainmark.KindUnavailable:
		p.Detail = withoutCause(err, "the broker or the store does not answer", "no answer, or an error")
	case drainmark.KindMisconfigured:
		p.Detail = withoutCause(err, "the broker or the store has to be repaired", "somebody has to repair something first")
	}
	return p
}

// withoutCause is what an error says was being done, and that it failed, without the cause that broker, store or
// network gave. The cause names hosts, queues, ports and files, which are for the log and not for clients. If nothing
// is left, it is the whole.
func withoutCause(err error, whole, failed string) string {
	said, cause := err.Error(), err
	for e := (*drainmark.Error)(nil); cause != nil && errors.As(cause, &e); {
		cause = e.Err
	}
	if cause == nil {
		return said
	}
	doing, found := strings.CutSuffix(said, cause.Error())
	doing = strings.TrimRight(doing, ": ")
	if !found || doing == "" {
		return whole + "; the server's log has more"
	}
	if isContextError(cause) { // what was being done says so already
		return doing + "; the server's log has more"
	}
	return doing + ": " + failed + "; the server's log has more"
}

// maxDetail is how many bytes of an error are told. The cause may come from a client, and have any length. Our own
// errors fit: the limit that was reached is named at the end of some.
const maxDetail = 400

// cut shortens a text to maxDetail bytes, at the end of a character.
func cut(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	const more = "…"
	end := maxDetail - len(more)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}

// Err is the way back: the error that the problem was made of, for a client.
func (p Problem) Err() *drainmark.Error {
	kind := drainmark.Kind(strings.TrimPrefix(p.Type, ProblemPrefix))
	if _, ok := problems[kind]; !ok {
		kind = drainmark.KindInternal
	}
	return &drainmark.Error{Kind: kind, Message: p.Detail}
}

// unknownOutcome is an error whose writes may have been done, and the receipt that will tell.
type unknownOutcome struct {
	error
	receipt string
}

func (u unknownOutcome) Unwrap() error { return u.error }

// afterPublish makes the error of something that was to be published: a deadline that nobody has interpreted means
// that the outcome is unknown, and an unknown outcome carries its receipt.
func afterPublish(receipt drainmark.Receipt, err error) error {
	if isBareContextError(err) {
		err = drainmark.Errorf(drainmark.KindOutcomeUnknown, "publishing: %w", err)
	}
	if drainmark.KindOf(err) == drainmark.KindOutcomeUnknown && len(receipt.Spans) > 0 {
		return unknownOutcome{err, receipt.String()}
	}
	return err
}

// isBareContextError says whether a context ended and nobody has said what that means.
func isBareContextError(err error) bool {
	return isContextError(err) && drainmark.KindOf(err) == drainmark.KindInternal
}

func isContextError(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// fail answers with the problem that an error is. No answer has begun.
func (h *handler) fail(w *recorder, r *http.Request, route string, err error) {
	err = h.interpreted(err)
	p := ProblemOf(err)
	gone := errors.Is(r.Context().Err(), context.Canceled) // the client: most likely nobody reads this
	if !gone || p.Status == http.StatusInternalServerError {
		h.lines.refused(route, p.Status, err)
	}
	var unknown unknownOutcome
	if errors.As(err, &unknown) {
		p.Receipt = unknown.receipt
		w.Header().Set(receiptHeader, p.Receipt)
	}
	challenge(w.Header(), p.Status, w.req != nil)
	if after := h.retryAfter(err); after > 0 {
		w.Header().Set("Retry-After", seconds(after))
	}
	if p.Status == http.StatusTooManyRequests && w.req != nil {
		w.req.use.Tell(w.Header())
	}
	w.Header().Set("Cache-Control", "no-store")
	body, _ := json.Marshal(p) // strings and a number: it cannot fail
	h.respond(w, p.Status, "application/problem+json", append(body, '\n'))
	if gone {
		w.status = statusClientClosed
	}
}

// challenge asks who it is, if a request was refused for want of that: also if too many have failed to say it.
func challenge(header http.Header, status int, known bool) {
	if status == http.StatusUnauthorized || status == http.StatusTooManyRequests && !known {
		header.Set("WWW-Authenticate", Challenge)
	}
}

// retryAfter returns after what time the request that failed may succeed, 0 for never.
func (h *handler) retryAfter(err error) time.Duration {
	if after, ok := quota.RefusedAfter(err); ok {
		return after
	}
	return time.Duration(problems[drainmark.KindOf(err)].retry) * h.limits.RetryAfter
}

// interpreted says what it means that a context ended, or that an account does not suffice, where nobody has.
func (h *handler) interpreted(err error) error {
	switch after, ok := quota.RefusedAfter(err); {
	case ok && after > 0:
		return drainmark.Errorf(drainmark.KindRateLimited, "%w", err)
	case ok:
		return drainmark.Errorf(drainmark.KindTooLarge, "%w, and so many at once never pass", err)
	}
	if isBareContextError(err) {
		return drainmark.Errorf(drainmark.KindUnavailable, "no answer within the request's time (limit %v): %w", h.limits.Request, err)
	}
	return err
}

// seconds writes a duration in whole seconds, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind says what is wrong, as the type of the API's problems does.
type Kind string

// The kinds of problems that the API answers with.
const (
	Invalid         Kind = "invalid"         // malformed or out of range
	InvalidReceipt  Kind = "invalid-receipt" // malformed, damaged or another deployment's
	Unauthenticated Kind = "unauthenticated" // no token that is known, and only somebody who is known may do this
	Forbidden       Kind = "forbidden"       // what is not granted, or a host name or origin that the server does not allow
	NotFound        Kind = "not-found"       // there is no such log or dead letter
	Method          Kind = "method"          // the path has no such method
	Conflict        Kind = "conflict"        // the thing is not in a state that allows it
	ReceiptExpired  Kind = "receipt-expired" // the receipt is too old to be answered
	NotReached      Kind = "not-reached"     // the receipt's writes are not visible there yet
	TooLarge        Kind = "too-large"       // a size is over its limit
	MediaType       Kind = "media-type"      // the body's type or coding cannot be taken
	Misconfigured   Kind = "misconfigured"   // the server's log says more
	Internal        Kind = "internal"        // the server's log says more
	BacklogFull     Kind = "backlog-full"    // no more is accepted until something has been persisted
	DiskFull        Kind = "disk-full"       // no more is accepted until somebody has made room on the broker's disk
	TooMany         Kind = "too-many"        // too many waiters, event streams or request bodies at once
	RateLimited     Kind = "rate-limited"    // whoever asks takes more than their limits allow; Retry-After says until when
	Unavailable     Kind = "unavailable"     // the broker or the store does not answer, and nothing was done
	OutcomeUnknown  Kind = "outcome-unknown" // it may or may not have been done, and the receipt tells
)

const problemPrefix = "urn:drainmark:problem:"

var (
	// ErrProtocol is in the chain of errors about an answer that is not one of Drainmark's API, or too large.
	ErrProtocol = errors.New("not an answer of Drainmark's API")
	// ErrPositions is in the chain of errors about a log whose positions have a gap where nothing was cleared, or go
	// back.
	ErrPositions = errors.New("the positions are not 1, 2, 3, …")
)

// Error is why a call failed. Every error of a Client's methods is one, or has one in its chain.
type Error struct {
	Method string
	Path   string // escaped, without the prefix and the query

	Kind       Kind   // "" if the API has not answered, but somebody else or nobody
	Status     int    // of the answer, 0 if there was none
	Title      string // of the problem: the same for all of its kind
	Detail     string // of the problem: names the limit or the value that is at fault
	RetryAfter time.Duration
	// Receipt is of writes that may have been done, and tells later what became of them, "" if there is none.
	Receipt Receipt
	// Attempts is how many requests were made. The rest is of the last one, but NothingDone is about all of them.
	Attempts int
	// Err is the cause, if it was not the API that said no: of the connection, of the context, or of an answer.
	Err error

	over    error // why there was no other attempt, if it is the context
	nothing bool  // certainly nothing was done
	again   bool  // the same call may succeed later
}

// Error describes it. It never has the URL of the Client.
func (e *Error) Error() string {
	parts := []string{fmt.Sprintf("%s %.80s", e.Method, e.Path)}
	if e.Status != 0 {
		parts = append(parts, strings.TrimSpace(strconv.Itoa(e.Status)+" "+http.StatusText(e.Status)))
	}
	for _, part := range []string{e.Title, e.Detail} {
		if part != "" {
			parts = append(parts, fmt.Sprintf("%.300s", part))
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	text := strings.Join(parts, ": ")
	if e.Attempts > 1 {
		text += fmt.Sprintf(" (attempt %d)", e.Attempts)
	}
	if e.over != nil {
		text += "; then " + e.over.Error()
	}
	return text
}

// Unwrap returns the causes.
func (e *Error) Unwrap() []error {
	var all []error
	for _, err := range []error{e.Err, e.over} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// RejectedError is in the error chain of an append that was accepted, if it was known before the wait was over that
// some of its messages, or all, can never be persisted. The others are persisted. Rejected ones are among the dead
// letters, where somebody may have them tried again. Sending them again the same way will not help.
type RejectedError struct {
	Status Status // with the reason, and which messages
}

// Error says how many messages are rejected, and why.
func (e *RejectedError) Error() string {
	if which := e.Status.Rejected; which != nil && e.Status.Count > 1 {
		least := map[bool]string{false: "at least "}[which.Exact]
		return fmt.Sprintf("%s%d of %d messages are rejected: %.300s", least, which.Count, e.Status.Count, e.Status.Reason)
	}
	return fmt.Sprintf("the message is rejected: %.300s", e.Status.Reason)
}

// rejected is the error of an append that was accepted and then rejected.
func (what *call) rejected(a *answer, s Status) *Error {
	return &Error{
		Method: what.method, Path: what.shown(), Status: a.status, Receipt: s.Receipt, Attempts: 1, Err: &RejectedError{s},
	}
}

// KindOf returns the kind of problem that a call failed with, "" if it was none of the API's.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// NothingDone says whether a call that failed certainly did nothing, and will not do it later either: in none of its
// attempts was there a connection, or the API, or a proxy before it, refused it. It is false where nobody can know:
// after a timeout, a broken connection, or an answer that a proxy may have made up, as a 502 or somebody's 503.
func NothingDone(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.nothing
}

// Retryable says whether a call that failed may succeed if it is made again. It does not say whether that is safe: see
// NothingDone. NotReached is not among it, because only the caller knows whether to go on waiting.
func Retryable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.again
}

// failed is the error of a request that had no answer, or not all of one.
func (what *call) failed(err error) *Error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // it would show the URL
	}
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	// A server is sent nothing that is not who it should be, or speaks no TLS where it should.
	var untrusted *tls.CertificateVerificationError
	unsent := dialing || errors.As(err, &untrusted) || errors.Is(err, http.ErrSchemeMismatch)
	return &Error{Method: what.method, Path: what.shown(), Err: err, nothing: unsent, again: true, Attempts: 1}
}

// unsent is the error of a call for which no request was made.
func (what *call) unsent(kind Kind, err error) *Error {
	return &Error{Method: what.method, Path: what.shown(), Kind: kind, Err: err, nothing: true}
}

// misunderstood is the error of an answer that says neither yes nor no in a way that is the API's.
func (what *call) misunderstood(a *answer, format string, args ...any) *Error {
	return &Error{
		Method: what.method, Path: what.shown(), Status: a.status, Receipt: receiptIn(a.header), Attempts: 1,
		Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrProtocol),
	}
}

// refused is the error of an answer that says no.
func (what *call) refused(a *answer) *Error {
	var problem struct{ Type, Title, Detail, Receipt string }
	if json.Unmarshal(a.body, &problem) != nil || !strings.HasPrefix(problem.Type, problemPrefix) {
		problem.Type, problem.Title, problem.Detail, problem.Receipt = "", "", "", "" // somebody else's
	}
	e := &Error{
		Method: what.method, Path: what.shown(), Kind: Kind(strings.TrimPrefix(problem.Type, problemPrefix)),
		Status: a.status, Title: problem.Title, Detail: problem.Detail, Receipt: Receipt(problem.Receipt),
		RetryAfter: retryAfter(a.header.Get("Retry-After")), Attempts: 1,
	}
	if e.Receipt == "" {
		e.Receipt = receiptIn(a.header)
	}
	e.nothing = provesNothingDone(e.Status, e.Kind)
	e.again = mayPass(e.Status, e.Kind)
	return e
}

// provesNothingDone says whether the answer is from a server that knows that nothing was done. A server that refuses a
// request as 4xx has not passed it on, except for the two statuses that report a timeout. A 5xx is made up by a proxy
// as well, after it has passed the request on.
func provesNothingDone(status int, kind Kind) bool {
	switch {
	case status == http.StatusServiceUnavailable:
		return kind == Unavailable || kind == BacklogFull || kind == DiskFull || kind == TooMany
	case status == http.StatusRequestTimeout: // a server that is stopping says so, but a proxy may have passed it on
		return kind == Unavailable
	case status == 499:
		return false
	}
	return status >= 400 && status < 500
}

// mayPass says whether the same request may be answered otherwise later.
func mayPass(status int, kind Kind) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500 && kind != Misconfigured
}

// retryAfter reads a Retry-After header (RFC 9110): seconds, or a date. More than a day is a day.
func retryAfter(text string) time.Duration {
	const most = 24 * time.Hour
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, most)
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(date), 0), most)
	}
	return 0
}

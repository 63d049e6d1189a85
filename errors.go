package drainmark

import (
	"errors"
	"fmt"
)

// Kind is the closed set of ways in which Drainmark says no. Each has one HTTP status and one exit code. An error
// without a Kind is KindInternal.
type Kind string

// The kinds. Their texts are part of the API: they end the problem types (urn:drainmark:problem:<kind>).
const (
	KindInvalid         Kind = "invalid"         // malformed or out of range, and asking again will not help
	KindInvalidReceipt  Kind = "invalid-receipt" // the receipt is malformed, damaged or another deployment's
	KindReceiptExpired  Kind = "receipt-expired" // the receipt is older than the progress that could answer it
	KindUnauthenticated Kind = "unauthenticated" // nobody who is known makes the request, and only somebody who is known may
	KindForbidden       Kind = "forbidden"       // who makes the request may not do this
	KindNotFound        Kind = "not-found"       // there is no such log, dead letter or page
	KindMethod          Kind = "method"          // the resource exists, and has no such method
	KindMediaType       Kind = "media-type"      // the content type is not one that can be taken here
	KindTooLarge        Kind = "too-large"       // a size is over its limit, which the message names
	KindConflict        Kind = "conflict"        // the thing is not in the state that the request needs
	KindNotReached      Kind = "not-reached"     // the reader does not show the receipt's writes yet
	KindBacklogFull     Kind = "backlog-full"    // no more can be accepted until something has been persisted
	KindDiskFull        Kind = "disk-full"       // no more can be accepted until somebody has made room on the broker's disk
	KindTooMany         Kind = "too-many"        // a limit on concurrent waiters or subscribers is reached
	KindRateLimited     Kind = "rate-limited"    // who makes the request would take more than their limits allow
	KindUnavailable     Kind = "unavailable"     // the broker, the store or an issuer of tokens does not answer, and nothing was done
	KindOutcomeUnknown  Kind = "outcome-unknown" // it may or may not have been done, and the receipt will tell
	KindMisconfigured   Kind = "misconfigured"   // a setting is wrong, or does not fit the deployment
	KindInternal        Kind = "internal"        // a fault of Drainmark's own
)

// Error is an error with its Kind. Message is for people: it says what was being done, and names every limit and every
// offending value, but never a password or a connection URL.
type Error struct {
	Kind    Kind
	Message string
	Err     error // the cause, or nil
}

// Errorf makes an Error. A %w in the format becomes the cause, as with fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost Error in err's chain, KindInternal if there is none, and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

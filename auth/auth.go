// Package auth says who makes a request, what they may do, and how much of it. It knows HTTP headers, certificates, signed
// tokens and a file of principals, and nothing of messages. backend/api asks it, for each route.
package auth

import (
	"errors"
	"net/http"
)

// Principal is somebody who makes requests.
type Principal struct {
	Name   string // as the file of principals or the token's issuer names it, "" for somebody unknown
	How    string // how they were recognized: token, certificate, jwt, anonymous or open
	Grants Grants
	Limits *Limits // how much they may take, nil for as much as there is
}

// May says whether the principal may do something with a log.
func (p *Principal) May(v Verb, log string) bool { return p.Grants.allow(v, log) }

// MaySome says whether the principal may do something with at least one log.
func (p *Principal) MaySome(v Verb) bool { return p.Grants.any(v) }

// MayAll says whether the principal may do something with every log.
func (p *Principal) MayAll(v Verb) bool { return p.Grants.allow(v, Every) }

// Authenticator says who makes a request. It may be called concurrently. The error is ErrUnknown if nobody who is known
// does, ErrForbidden if nothing is granted to whoever does or the request may not be made from where it comes, and
// ErrUnavailable if that cannot be known now. Its text is for the client, and has nothing of what the client has sent.
type Authenticator func(*http.Request) (Principal, error)

var (
	// ErrUnknown is of a request without credentials that are good, where some are needed.
	ErrUnknown = errors.New("not authenticated")
	// ErrForbidden is of a request that cannot be allowed, whoever makes it.
	ErrForbidden = errors.New("forbidden")
	// ErrUnavailable is of a request of which it cannot be known now who makes it. The same request may succeed later.
	ErrUnavailable = errors.New("unavailable")
)

// refusal is one of these errors, with the reason.
type refusal struct {
	kind   error
	reason string
}

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return r.kind }

// Open lets everybody do everything.
func Open(*http.Request) (Principal, error) {
	return Principal{How: "open", Grants: Grants{{Verb: Admin, Logs: Every}}}, nil
}

// Next returns the place in the order of names from which on the next log may stand with which the principal may do
// something, behind one with which not. false if there is none.
func (p *Principal) Next(v Verb, behind string) (from string, ok bool) {
	return p.Grants.next(v, behind)
}

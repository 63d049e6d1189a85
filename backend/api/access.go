package api

import (
	"errors"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
)

// Challenge is what a client is told that has to show who it is (WWW-Authenticate, RFC 6750).
const Challenge = `Bearer realm="drainmark"`

// identify says who makes the request. KindUnauthenticated, KindForbidden, KindUnavailable.
func identify(access auth.Authenticator, r *http.Request) (auth.Principal, error) {
	who, err := access(r)
	switch {
	case err == nil:
		return who, nil
	case errors.Is(err, auth.ErrForbidden):
		return who, drainmark.Errorf(drainmark.KindForbidden, "%w", err)
	case errors.Is(err, auth.ErrUnavailable):
		return who, drainmark.Errorf(drainmark.KindUnavailable, "%s", err.Error()) // without a cause: its text is for the client
	}
	return who, drainmark.Errorf(drainmark.KindUnauthenticated, "%w", err)
}

// authorize says whether the route's verb is granted: for the log of the path, or where there is none, for at least one.
// Such a route must look itself at what it is asked for. Whether the log exists makes no difference: so nobody learns that.
func (rt route) authorize(r *request) error {
	if r.PathValue("log") == "" {
		if !r.who.MaySome(rt.verb) {
			return forbidden(r, rt.verb, "")
		}
		return nil
	}
	log, err := r.logName()
	if err != nil {
		return err
	}
	return r.allowed(rt.verb, log)
}

// allowed says whether the verb is granted for a log, "" for what is of none.
func (r *request) allowed(v auth.Verb, log string) error {
	if r.who.May(v, log) {
		return nil
	}
	return forbidden(r, v, log)
}

func forbidden(r *request, v auth.Verb, log string) error {
	who := "a request without credentials"
	if r.who.Name != "" {
		who = r.who.Name
	}
	of := ""
	if log != "" {
		of = " for the log " + log
	}
	return drainmark.Errorf(drainmark.KindForbidden, "%s is not granted %s%s", who, v, of)
}

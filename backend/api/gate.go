package api

import (
	"log/slog"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/internal/address"
)

// Gate is before what is served besides the API, to those who may admin. It counts failed logins together with the API,
// and says in the audit log who was refused. Its methods may be called concurrently.
type Gate struct {
	access   auth.Authenticator
	accounts *quota.Accounts
	proxies  address.Proxies
	audit    audit
}

// NewGate returns a gate. Of the configuration it needs Access, Audit, Accounts and Proxies.
func NewGate(c Config) *Gate {
	to := c.Audit
	if to == nil {
		to = slog.Default()
	}
	return &Gate{c.Access, c.Accounts, c.Proxies, newAudit(to)}
}

// Admit returns who makes a request, and the problem to answer with, and its headers, if they may not: nil if they may.
func (g *Gate) Admit(header http.Header, r *http.Request) (who auth.Principal, refusal *Problem) {
	who, err := identify(g.access, r)
	if drainmark.KindOf(err) == drainmark.KindUnauthenticated {
		if many := g.accounts.Failed(g.proxies.Client(r.RemoteAddr, r.Header["X-Forwarded-For"])); many != nil {
			err = drainmark.Errorf(drainmark.KindRateLimited, "%w", many)
		}
	}
	if err == nil {
		err = (&request{Request: r, who: who}).allowed(auth.Admin, "")
	}
	if err == nil {
		return who, nil
	}
	return who, g.refuse(header, r, who, err)
}

// Refuse returns the problem to answer a request with that may not be made, whoever makes it.
func (g *Gate) Refuse(header http.Header, r *http.Request, why string) *Problem {
	return g.refuse(header, r, auth.Principal{}, drainmark.Errorf(drainmark.KindForbidden, "%s", why))
}

func (g *Gate) refuse(header http.Header, r *http.Request, who auth.Principal, err error) *Problem {
	p := ProblemOf(err)
	challenge(header, p.Status, who.Name != "")
	if after, ok := quota.RefusedAfter(err); ok {
		header.Set("Retry-After", seconds(after))
	}
	if p.Status < http.StatusInternalServerError {
		g.audit.refused.Log("principal", who.Name, "how", who.How, "from", from(r), "method", r.Method, "route", cut(r.URL.Path),
			"verb", auth.Admin, "status", p.Status, "reason", err)
	}
	return &p
}

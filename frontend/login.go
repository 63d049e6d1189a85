package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark/internal/issuers"
)

// Login is an issuer of tokens (OpenID Connect) at which people sign in on the pages: by authorization code with PKCE,
// as a public client, which has no secret. The pages do it. The server only says where, and never sees the code's secret.
type Login struct {
	Issuer   string // its URL, "" for none: then people paste a token
	ClientID string
	Scopes   string // with spaces between them, and openid among them
	CA       string // file of the certificates that vouch for the issuer, "" for the system's
}

// Check says what is wrong.
func (l Login) Check() error {
	switch {
	case l.Issuer == "" && l.ClientID == "" && l.CA == "":
		return nil
	case l.Issuer == "" || l.ClientID == "":
		return errors.New("an issuer and a client id go together")
	case !slices.Contains(strings.Fields(l.Scopes), "openid"):
		return fmt.Errorf("the scopes are %q: openid must be among them", l.Scopes)
	}
	if err := issuers.CheckURL(l.Issuer); err != nil {
		return err
	}
	_, err := issuers.Client(l.CA, "")
	return err
}

const (
	discoverWithin = 5 * time.Second
	discoverEvery  = 10 * time.Second // while the issuer does not answer, however often it is asked for
)

// offer is what a page has to know to have somebody sign in.
type offer struct {
	Issuer        string `json:"issuer"`
	ClientID      string `json:"client_id"`
	Scope         string `json:"scope"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
}

// login tells pages of an issuer. The issuer is asked when the first page wants to know, so its outage is none of ours,
// and once it has answered never again. Its methods may be called concurrently.
type login struct {
	Login
	logger *slog.Logger

	mu    sync.Mutex // held while the issuer is asked
	offer *offer     // nil as long as it has not answered
	tried time.Time
}

// ServeHTTP answers with the offer. The status is 204 if people only sign in by pasting a token.
func (l *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !onlyRead(w, r) {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(discoverWithin + pageTime)) // net/http takes it back
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if l.Issuer == "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	o := l.find(r.Context())
	if o == nil {
		unavailable.write(w, "nobody can sign in at "+l.Issuer+" now: it does not answer as an issuer does")
		return
	}
	header.Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o) // if it fails there is nobody to tell
}

// find returns the offer, nil if the issuer does not answer.
func (l *login) find(ctx context.Context) *offer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Issuer == "" || l.offer != nil || !l.tried.IsZero() && time.Since(l.tried) < discoverEvery {
		return l.offer
	}
	l.tried = time.Now()
	found, err := l.discover(context.WithoutCancel(ctx)) // others want to know too
	if err != nil {
		l.logger.Warn("nobody can sign in on the pages: the issuer does not answer", "issuer", l.Issuer, "error", err)
		return nil
	}
	l.offer = found
	return found
}

// discover asks the issuer.
func (l *login) discover(ctx context.Context) (*offer, error) {
	client, err := issuers.Client(l.CA, "")
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, discoverWithin)
	defer cancel()
	found := &offer{}
	if err := issuers.Discover(ctx, client, l.Issuer, found); err != nil {
		return nil, err
	}
	found.Issuer, found.ClientID, found.Scope = l.Issuer, l.ClientID, l.Scopes
	for _, endpoint := range []string{found.Authorization, found.Token} {
		if _, err := originOf(endpoint); err != nil {
			return nil, fmt.Errorf("its endpoint %.200q: %w", endpoint, err)
		}
	}
	return found, nil
}

// plainHost is a host that a policy can have: an IPv6 address it cannot.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$`)

// originOf returns the origin of an issuer's endpoint.
func originOf(endpoint string) (string, error) {
	bare, _, _ := strings.Cut(endpoint, "?") // some have a query
	if err := issuers.CheckURL(bare); err != nil {
		return "", err
	}
	u, err := url.Parse(bare)
	if err != nil || !plainHost.MatchString(u.Host) {
		return "", errors.New("its host must be a name or an IPv4 address")
	}
	return u.Scheme + "://" + u.Host, nil
}

// arrivals serves the page to which the issuer sends people back. It is the only one that may ask another origin than its
// own: that where it exchanges the code for a token.
func (l *login) arrivals(site page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed := policy
		if o := l.find(r.Context()); o != nil {
			origin, _ := originOf(o.Token) // it was checked
			allowed = strings.Replace(policy, "connect-src 'self'", "connect-src 'self' "+origin, 1)
		}
		site.serve(w, r, allowed)
	})
}

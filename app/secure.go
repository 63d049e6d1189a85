package app

import (
	"crypto/tls"
	"log/slog"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/drainmark/drainmark/internal/certs"
	"github.com/prometheus/client_golang/prometheus"
)

// securing is the TLS of what a role listens on.
type securing struct {
	TLSCert       string `name:"tls-cert" help:"File with the certificate to serve with TLS, and those between it and its authority, as PEM. Without one there is no TLS. It is read again when it changes, as the other files are." placeholder:"FILE" group:"TLS"`
	TLSKey        string `name:"tls-key" help:"File with the certificate's key." placeholder:"FILE" group:"TLS"`
	TLSClientCA   string `name:"tls-client-ca" help:"File with the authorities of clients' certificates." placeholder:"FILE" group:"TLS"`
	TLSClientAuth string `name:"tls-client-auth" help:"Whether clients must show a certificate: require, request (one that is shown must be right), or none. If not set, require with --tls-client-ca. /livez and /readyz never need one." placeholder:"require|request|none" group:"TLS"`
}

// The values of --tls-client-auth.
const (
	authRequire = "require"
	authRequest = "request"
	authNone    = "none"
)

// auth is the setting, or what it is if it is not set.
func (s securing) auth() string {
	switch {
	case s.TLSClientAuth != "":
		return s.TLSClientAuth
	case s.TLSClientCA != "":
		return authRequire
	}
	return authNone
}

func (s securing) check() error {
	switch auth := s.auth(); {
	case auth != authRequire && auth != authRequest && auth != authNone:
		return badSetting("tls-client-auth", auth, "it must be require, request or none")
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return drainmark.Errorf(drainmark.KindMisconfigured, "--tls-cert and --tls-key (DRAINMARK_TLS_CERT, DRAINMARK_TLS_KEY) go together: a certificate, and its key")
	case s.TLSCert == "" && (s.TLSClientCA != "" || auth != authNone):
		return drainmark.Errorf(drainmark.KindMisconfigured, "--tls-client-ca and --tls-client-auth (DRAINMARK_TLS_CLIENT_CA, DRAINMARK_TLS_CLIENT_AUTH) need --tls-cert: there is no TLS without it")
	case auth != authNone && s.TLSClientCA == "":
		return badSetting("tls-client-auth", auth, "it needs --tls-client-ca, the authorities of clients' certificates")
	}
	return nil
}

// open reads the files. It returns nil if there is no TLS.
func (s securing) open(logger *slog.Logger, metrics prometheus.Registerer) (*certs.Source, error) {
	if s.TLSCert == "" {
		return nil, nil
	}
	source, err := certs.Open(certs.Config{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSClientCA, Name: "server", Logger: logger, Metrics: metrics})
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--tls-cert, --tls-key and --tls-client-ca: %w", err)
	}
	return source, nil
}

// secured is how a role does TLS.
type secured struct {
	source *certs.Source // nil for no TLS
	auth   string
}

// scheme is that of the role's URLs.
func (s secured) scheme() string {
	if s.source == nil {
		return "http"
	}
	return "https"
}

// api is the TLS of the API and the page, nil for none.
func (s secured) api() func() *tls.Config {
	switch {
	case s.source == nil:
		return nil
	case s.auth == authRequire:
		return s.source.Server(tls.RequireAndVerifyClientCert)
	}
	return s.admin()
}

// admin is that of the admin address. Nobody needs a certificate for the handshake, because a kubelet has none. See
// needCertificate.
func (s secured) admin() func() *tls.Config {
	switch {
	case s.source == nil:
		return nil
	case s.auth == authNone:
		return s.source.Server(tls.NoClientCert)
	}
	return s.source.Server(tls.VerifyClientCertIfGiven)
}

// needCertificate refuses requests of clients that have shown no certificate, where that is required. Health is for all.
func (s secured) needCertificate(next http.Handler, gate *api.Gate) http.Handler {
	if s.source == nil || s.auth != authRequire {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if healthy := r.URL.Path == "/livez" || r.URL.Path == "/readyz"; !healthy && len(r.TLS.VerifiedChains) == 0 {
			writeProblem(w, *gate.Refuse(w.Header(), r, "it needs a client's certificate: only /livez and /readyz are answered without one"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

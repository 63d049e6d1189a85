// Package issuers asks issuers of tokens (OpenID Connect) for what they publish.
package issuers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// MaxBody is how many bytes of an issuer's answer are read.
const MaxBody = 1 << 20

// CheckURL says why a URL cannot be an issuer's, or that of something it publishes.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("the URL must be one such as https://accounts.example.org, without a password, a query and a fragment")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return errors.New("the URL must begin with https: over http anybody on the way could answer in its place")
	}
	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Discover reads an issuer's discovery document, and what it says into a struct with tags for JSON.
func Discover(ctx context.Context, client *http.Client, issuer string, said any) error {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), issuer)
	if err != nil {
		return err
	}
	return provider.Claims(said)
}

// Client returns what asks an issuer that the certificates in a file vouch for ("": the system's), with the token of
// another file ("": with none). It reads the files, which change, so make a new one for each question.
func Client(ca, tokenFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM", ca)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	asking := &asking{transport: transport}
	if tokenFile != "" {
		text, err := os.ReadFile(tokenFile)
		if err != nil {
			return nil, err
		}
		asking.token = strings.TrimSpace(string(text))
	}
	// The token must not go where the issuer did not say, nor anything to where it is not expected.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: asking, CheckRedirect: stay}, nil
}

// asking asks an issuer, with a token if it wants one, and bounds its answers.
type asking struct {
	transport *http.Transport
	token     string
}

func (a *asking) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	answer, err := a.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = bounded{io.LimitReader(answer.Body, MaxBody), answer.Body}
	return answer, nil
}

// CloseIdleConnections is for http.Client.
func (a *asking) CloseIdleConnections() { a.transport.CloseIdleConnections() }

type bounded struct {
	io.Reader
	io.Closer
}

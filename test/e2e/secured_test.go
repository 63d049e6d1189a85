package e2e

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/test/servers"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

// secured is what a deployment has in files so that nobody may do anything in it but by TLS, with a certificate, and one
// principal with what verify has to be allowed. Certificate and token can be replaced while everything runs.
type secured struct {
	t      testing.TB
	ca     *servers.Authority
	dir    string
	tokens int            // that were made
	seen   map[string]int // how many rotations of each kind some program has shown to have noticed
}

// grants are what docs/kubernetes.md says that verify has to be allowed.
const grants = `"append:drainmark-verify", "append:drainmark-verify-*", "read:drainmark-verify", "read:drainmark-verify-*", ` +
	`"clear:drainmark-verify", "clear:drainmark-verify-*", "erase:drainmark-verify-*", "letters:drainmark-verify", "letters:drainmark-verify-*", "barrier:*", "status"`

func newSecured(t testing.TB) *secured {
	t.Helper()
	s := &secured{t: t, ca: servers.NewAuthority(t), dir: t.TempDir(), seen: map[string]int{}}
	s.newCertificate()
	s.tokens = 1
	s.allow(1, 1)
	s.write("token", token(1))
	return s
}

func (s *secured) file(name string) string { return filepath.Join(s.dir, name) }

// write writes a file in one step.
func (s *secured) write(name, text string) {
	err := os.WriteFile(s.file(name+".new"), []byte(text), 0o600)
	if err == nil {
		err = os.Rename(s.file(name+".new"), s.file(name))
	}
	if err != nil {
		s.t.Errorf("writing %s: %v", name, err)
	}
}

func (s *secured) read(name string) string {
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		s.t.Errorf("reading %s: %v", name, err)
	}
	return string(text)
}

// newCertificate replaces the certificate that all programs and clients have.
func (s *secured) newCertificate() {
	certificate, key := s.ca.Issue("drainmark")
	for name, from := range map[string]string{"tls.crt": certificate, "tls.key": key} {
		text, err := os.ReadFile(from)
		if err != nil {
			s.t.Errorf("reading a certificate: %v", err)
		}
		s.write(name, string(text))
	}
}

func token(n int) string { return fmt.Sprintf("dmk_e2e_token_%d", n) }

// allow writes the file of principals, in which the tokens from one to another are good.
func (s *secured) allow(from, to int) {
	var hashes []string
	for n := from; n <= to; n++ {
		hashes = append(hashes, fmt.Sprintf("{sha256: %x}", sha256.Sum256([]byte(token(n)))))
	}
	s.write("access.yaml", fmt.Sprintf("principals:\n  - {name: verify, tokens: [%s], grants: [%s]}\n", strings.Join(hashes, ", "), grants))
}

// flags are what all roles serve with, and further ones for frontends.
func (s *secured) flags(role string) (flags []string) {
	flags = []string{"--access", s.file("access.yaml"), "--tls-cert", s.file("tls.crt"), "--tls-key", s.file("tls.key"), "--tls-client-ca", s.ca.Path}
	if role == "frontend" {
		flags = append(flags, "--backend-ca", s.ca.Path, "--backend-cert", s.file("tls.crt"), "--backend-key", s.file("tls.key"))
	}
	return flags
}

// tls is what clients have. They show the certificate that is there when a connection begins.
func (s *secured) tls() *tls.Config {
	authority, err := os.ReadFile(s.ca.Path)
	if err != nil {
		s.t.Errorf("reading the authority: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificate, err := tls.LoadX509KeyPair(s.file("tls.crt"), s.file("tls.key"))
		return &certificate, err
	}}
}

// RoundTrip is that of a client who shows certificate and token.
func (s *secured) RoundTrip(r *http.Request) (*http.Response, error) {
	transport := &http.Transport{TLSClientConfig: s.tls(), ForceAttemptHTTP2: true, DisableKeepAlives: true}
	if r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+s.read("token"))
	}
	return transport.RoundTrip(r)
}

// faults rotate certificate and token, each once in a while.
func (s *secured) faults(every time.Duration) []fault.Fault {
	return []fault.Fault{
		{Name: "rotate-certificate", Every: every, Run: inTopology("./rotate certificate")},
		{Name: "rotate-token", Every: every, For: every / 4, Run: inTopology("./rotate token"), Heal: inTopology("./rotate drop")},
	}
}

// rotate does what one of these faults asks for, and returns the answer of the topology's command.
func (s *secured) rotate(what string, urls []string) string {
	var err error
	switch what {
	case "certificate":
		s.newCertificate()
		err = noticed(urls, s.servesCertificate)
	case "token": // clients show it when all programs know it, which look at the file once a second
		s.tokens++
		s.allow(s.tokens-1, s.tokens)
		err = noticed(urls, func(url string) error { return s.knows(url, s.tokens) })
		s.write("token", token(s.tokens))
	case "drop": // the token of before
		s.allow(s.tokens, s.tokens)
		err = noticed(urls, func(url string) error { return s.refuses(url, s.tokens-1) })
	default:
		err = errors.New("it cannot be rotated")
	}
	switch {
	case err == nil:
		s.seen[what]++
	case !errors.Is(err, errSilent):
		return fmt.Sprintf("rotate %s: %v", what, err)
	}
	return "ok"
}

// rotated fails the test unless some program has noticed a rotation of each kind.
func (s *secured) rotated() {
	s.t.Helper()
	for _, what := range []string{"certificate", "token", "drop"} {
		if s.seen[what] == 0 {
			s.t.Errorf("no program was there to notice one rotation: %s", what)
		}
	}
}

// errSilent is that of a program which is dead or paused, or has no backend behind it.
var errSilent = errors.New("no answer")

// noticedWithin is less than verify gives a fault's command. When all programs are silent for silentFor, they are dead or stand
// still, and do so until this has ended: verify breaks and mends one thing after the other. They read the files when they begin.
const (
	noticedWithin = 50 * time.Second
	silentFor     = 5 * time.Second
)

// noticed waits until the programs show that they have read the files again: all that answer. It is errSilent if none does.
func noticed(urls []string, shows func(url string) error) (err error) {
	began := time.Now()
	for spoke := began; time.Since(began) < noticedWithin; time.Sleep(200 * time.Millisecond) {
		silent := 0
		err = nil
		for _, url := range urls {
			if one := shows(url); errors.Is(one, errSilent) {
				silent++
			} else {
				err = errors.Join(err, one)
			}
		}
		switch {
		case silent < len(urls) && err == nil:
			return nil
		case silent < len(urls):
			spoke = time.Now()
		case time.Since(spoke) > silentFor:
			return errSilent
		}
	}
	return fmt.Errorf("after %v not all programs have noticed: %w", noticedWithin, cmp.Or(err, errSilent))
}

// servesCertificate says why a program does not serve with the newest certificate.
func (s *secured) servesCertificate(url string) error {
	response, err := s.ask(url, s.tokens)
	if err != nil {
		return err
	}
	newest, err := tls.LoadX509KeyPair(s.file("tls.crt"), s.file("tls.key"))
	if err != nil {
		return err
	}
	if shown := response.TLS.PeerCertificates[0]; !shown.Equal(newest.Leaf) {
		return fmt.Errorf("%s shows the certificate %v, not %v", url, shown.SerialNumber, newest.Leaf.SerialNumber)
	}
	return nil
}

// knows says why a program does not know a token.
func (s *secured) knows(url string, n int) error {
	response, err := s.ask(url, n)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d to token %d", url, response.StatusCode, n)
	}
	return err
}

// refuses says why a program does not refuse a token: with 401, or with 429 when there were too many such requests.
func (s *secured) refuses(url string, n int) error {
	response, err := s.ask(url, n)
	if err == nil && response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusTooManyRequests {
		err = fmt.Errorf("%s answers %d to token %d", url, response.StatusCode, n)
	}
	return err
}

func (s *secured) ask(url string, n int) (*http.Response, error) {
	r, err := http.NewRequest("GET", url+"/v1/logs", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token(n))
	client := http.Client{Transport: s, Timeout: time.Second}
	response, err := client.Do(r)
	if err == nil {
		_ = response.Body.Close()
	}
	if err != nil || response.StatusCode >= 500 {
		return nil, fmt.Errorf("%w: %s: %v", errSilent, url, err)
	}
	return response, nil
}

// configure has verify show certificate and token.
func (s *secured) configure(c *verify.Config) {
	c.TLS, c.Token = s.tls, client.TokenFile(s.file("token"))
}

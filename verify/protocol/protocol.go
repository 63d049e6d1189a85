// Package protocol plays the statements of docs/protocol.md against a running server, one small case for each that can be
// tested from outside within seconds. It knows nothing of this project's server or client: it speaks net/http, and bytes
// where they matter, so that it can judge any server that says that it speaks the protocol.
//
// cases_*.go are the statements that have a case of their own, rules.go those that are about every answer, and
// elsewhere.go the rest, with who tests them or why nobody can.
package protocol

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark/verify/check"
)

// ErrConfig is in the chain of the error of a run that cannot be as it was set, and ErrUnreachable when the server never
// answered.
var (
	ErrConfig      = errors.New("the run cannot be done so")
	ErrUnreachable = errors.New("the server does not answer")
)

// Config says what is tested. Only URL must be set.
type Config struct {
	URL string // of a frontend or a backend, http://host:port or https
	// Token returns the token that requests show. It is given the one that was refused, "" for none yet. nil for no token.
	Token   func(refused string) (string, error)
	TLS     *tls.Config   // for https. nil for the system's authorities
	Contact time.Duration // how long to try for the first answer, 10 s if 0
	Only    []string      // numbers of the statements to look at, none for all
}

// State says how a statement stands.
type State string

// The states of a statement.
const (
	Held     State = "held"
	Broken   State = "broken"
	Untested State = "untested"
)

// Finding is what was found of one statement.
type Finding struct {
	Number string `json:"number"` // as in docs/protocol.md, such as R-3
	Title  string `json:"title"`
	State  State  `json:"state"`
	Seen   string `json:"seen,omitempty"` // what broke it, or why it was not tested

	trouble bool // it has a case, which could not be played to its end
}

// Result is what a run found. As JSON it is one document, whose names do not change.
type Result struct {
	Verdict   check.Verdict `json:"verdict"`
	Reason    string        `json:"reason,omitempty"` // why it is inconclusive
	URL       string        `json:"url"`              // without a password
	Logs      string        `json:"logs"`             // what the names of its logs begin with
	StartedAt time.Time     `json:"started_at"`
	Seconds   float64       `json:"seconds"`
	Findings  []Finding     `json:"findings"`
}

// Run plays all cases, one after the other, on logs of its own. It deletes these logs in the end, and discards the dead
// letters that it has made. When ctx ends, the rest of the cases is not played. The error is ErrConfig or ErrUnreachable.
func Run(ctx context.Context, config Config) (Result, error) {
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return Result{}, fmt.Errorf("%w: the URL must be of the form http://host:port or https://host:port", ErrConfig)
	}
	if err := config.checkOnly(); err != nil {
		return Result{}, err
	}
	s := newSession(base, config)
	defer s.http.CloseIdleConnections()
	result := Result{URL: base.Redacted(), Logs: s.prefix, StartedAt: time.Now()}
	if err := s.contact(ctx, config.Contact); err != nil {
		return result, err
	}
	defer s.cleanUp(context.WithoutCancel(ctx))
	for _, c := range Cases {
		if config.looksAt(c.Number) {
			result.Findings = append(result.Findings, s.play(ctx, c))
		}
	}
	for _, f := range append(s.ruled(), elsewhere()...) {
		if config.looksAt(f.Number) {
			result.Findings = append(result.Findings, f)
		}
	}
	sortByNumber(result.Findings)
	result.Seconds = time.Since(result.StartedAt).Seconds()
	result.judge()
	return result, nil
}

// looksAt says whether a statement is among those to look at.
func (c *Config) looksAt(number string) bool {
	return len(c.Only) == 0 || slices.Contains(c.Only, number)
}

// checkOnly refuses numbers that there are not.
func (c *Config) checkOnly() error {
	for _, number := range c.Only {
		known := slices.ContainsFunc(Cases, func(c Case) bool { return c.Number == number }) ||
			slices.ContainsFunc(Rules, func(r Rule) bool { return r.Number == number }) ||
			slices.ContainsFunc(Elsewhere, func(e Untestable) bool { return e.Number == number })
		if !known {
			return fmt.Errorf("%w: there is no statement %q", ErrConfig, number)
		}
	}
	return nil
}

// judge makes the verdict: broken if anything is, and inconclusive if a case could not be played to its end.
func (r *Result) judge() {
	r.Verdict = check.Held
	var unplayed []string
	for _, f := range r.Findings {
		if f.State == Broken {
			r.Verdict = check.Broken
		}
		if f.trouble {
			unplayed = append(unplayed, f.Number)
		}
	}
	if r.Verdict == check.Held && len(unplayed) > 0 {
		r.Verdict, r.Reason = check.Inconclusive, "not played to the end: "+strings.Join(unplayed, " ")
	}
}

// session is what the cases of a run share.
type session struct {
	base   *url.URL
	http   *http.Client
	tls    *tls.Config
	token  func(refused string) (string, error)
	shown  string            // the token
	prefix string            // of the names of all logs
	logs   []string          // that were written to
	rules  map[string]string // by number, for rules that some answer was about: the first that broke it, "" for none
}

func newSession(base *url.URL, config Config) *session {
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails: crypto/rand stops the program instead
	s := &session{
		base: base, tls: config.TLS, token: config.Token, rules: map[string]string{},
		prefix: "drainmark-verify-protocol-" + hex.EncodeToString(random),
	}
	s.http = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config.TLS, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// contact asks until there is an answer.
func (s *session) contact(ctx context.Context, limit time.Duration) error {
	if limit == 0 {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		_, err := s.do(ctx, "GET", "/v1/status", "")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w within %v: %w", ErrUnreachable, limit, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// play plays one case.
func (s *session) play(ctx context.Context, c Case) Finding {
	p := &play{session: s, ctx: ctx, name: strings.ToLower(c.Number)}
	c.play(p)
	found := Finding{Number: c.Number, Title: c.Title, State: Held}
	switch {
	case p.broken != "":
		found.State, found.Seen = Broken, p.broken
	case p.trouble != "":
		found.State, found.Seen, found.trouble = Untested, p.trouble, true
	case p.absent != "":
		found.State, found.Seen = Untested, p.absent
	}
	return found
}

// cleanUp leaves no logs and no dead letters, as far as the server lets it. What is left is of the run alone.
func (s *session) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, log := range s.logs {
		_, _ = s.do(ctx, "DELETE", "/v1/dead-letters?log="+log, "")
		_, _ = s.do(ctx, "DELETE", "/v1/logs/"+log, "")
	}
}

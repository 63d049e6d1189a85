package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultTimeout   = 30 * time.Second // the API answers within 10 s, besides the wait that it was asked for
	defaultIdleConns = 64
	defaultSilence   = 45 * time.Second // the API's event streams are never silent for more than 15 s
	maxAnswer        = 64 << 20         // in bytes: JSON makes 8 MiB of bodies six times that at most
	maxRefusal       = 64 << 10         // in bytes, of what only says no (a problem has a few hundred)
)

// Config is what New needs. Only URL must be set.
type Config struct {
	// URL is where the API is, without its /v1: "http://localhost:8080", or with a prefix,
	// "https://example.org/drainmark". A user and password in it are sent as basic authentication.
	URL string
	// Token returns the token that each request shows (Authorization: Bearer). It is called before each request with "",
	// and again with the token that was refused, if one was: who keeps that one should look for another. A request is
	// made again with what it returns then, unless that is the same. It is called by many goroutines at the same time.
	// nil for none. TokenFile makes one of a file.
	Token func(refused string) (string, error)
	// Trace, if it is set, adds the headers to each request that say in which trace it is, which the call's context may say.
	// With OpenTelemetry it is
	//
	//	func(ctx context.Context, h http.Header) { otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(h)) }
	//
	// It may be called by many goroutines at the same time.
	Trace func(ctx context.Context, header http.Header)
	// HTTP makes the requests, nil for a client of the Client's own. Redirects are never followed: one that leads
	// somewhere else would be another request.
	HTTP *http.Client
	// IdleConns is how many connections are kept open for the next call, 64 if 0. It should be as many as there are
	// calls at the same time. It says nothing if HTTP is set.
	IdleConns int
	// TLS is for URLs with https: whose certificates are trusted, and which certificate is shown, nil for the system's
	// authorities and none. For files that change, set its GetClientCertificate. It says nothing if HTTP is set.
	TLS *tls.Config
	// Timeout is how long one request may take, besides the wait that it asks for, 30 s if 0. Event streams may take as
	// long as they like.
	Timeout time.Duration
	// Codec, if it is set, encodes the bodies of what is appended and decodes those of what is read: for bodies that only
	// clients can read. The package aesgcm has one.
	Codec Codec
	// Retry says how calls that failed are made again. The zero Retry is not at all.
	Retry Retry
	// Observe, if it is set, is called after each request that was made, before the call goes on. It may be called by
	// many goroutines at the same time.
	Observe func(Attempt)
}

// Attempt is one request that was made, or two if the first one's token was refused. The Client does not let net/http repeat one behind its back, unless nothing was
// written or it is a GET.
type Attempt struct {
	Method string
	Path   string // escaped, without the prefix and the query
	Start  time.Time
	End    time.Time // of an event stream, when it ended
	Status int       // 0 if there was no answer
	Err    error     // an *Error, or nil, or why an event stream ended
}

// Client talks to one deployment. It may be used by many goroutines at the same time, and has none of its own.
type Client struct {
	http    *http.Client
	own     *http.Transport // nil if http is somebody else's
	base    string          // without a slash at its end
	timeout time.Duration
	silence time.Duration // after which an event stream is given up
	limit   int           // bytes of an answer, and of an event
	retry   Retry
	token   func(refused string) (string, error)
	observe func(Attempt)
	trace   func(context.Context, http.Header)
	codec   Codec // nil for none
}

// New makes a Client. It connects to nothing yet. It fails on a configuration that cannot be.
func New(config Config) (*Client, error) {
	base, err := parseURL(config.URL)
	if err != nil {
		return nil, err
	}
	if config.Timeout < 0 || config.IdleConns < 0 {
		return nil, fmt.Errorf("client: Timeout is %v and IdleConns %d: neither can be negative", config.Timeout, config.IdleConns)
	}
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	retry, err := config.Retry.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		base: base, timeout: config.Timeout, silence: defaultSilence, limit: maxAnswer, retry: retry, token: config.Token, observe: config.Observe,
		codec: config.Codec, trace: config.Trace,
	}
	c.setHTTP(config)
	return c, nil
}

// parseURL returns the URL without a slash at its end. Its error never shows the URL, which may have a password.
func parseURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("client: the URL must be like http://host:port or https://host/prefix")
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errors.New("client: the URL must have no query and no fragment")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// setHTTP takes the HTTP client of the configuration, or makes one.
func (c *Client) setHTTP(config Config) {
	own := http.Client{}
	if config.HTTP != nil {
		own = *config.HTTP
	} else {
		idle := config.IdleConns
		if idle == 0 {
			idle = defaultIdleConns
		}
		dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
		c.own = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
			TLSClientConfig: config.TLS.Clone(), MaxIdleConnsPerHost: idle, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
			DisableCompression: true, // it would hold events back
		}
		own.Transport = c.own
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
}

// Close closes the idle connections, if they are the Client's own. Calls that are under way go on.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

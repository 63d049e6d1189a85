package app

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/frontend"
	"github.com/drainmark/drainmark/internal/httpserve"
)

// frontendCommand serves the web page, and forwards the API.
type frontendCommand struct {
	Backend       []string      `help:"URL of a backend's API: http://HOST:PORT, or dns+http://HOST:PORT for all addresses of a name; or https:// or dns+https://. Repeated, or several with commas between them." required:"" placeholder:"URL,…"`
	Listen        string        `help:"Address of the web page and the API." default:"127.0.0.1:8000"`
	PathPrefix    string        `help:"Path under which clients see the page, if it is not /." placeholder:"/PATH"`
	AnswerTimeout time.Duration `help:"How long a backend may take to answer: more than its --max-wait and --request-timeout together." default:"2m" group:"Limits"`
	connecting    `embed:""`
	Delay         time.Duration `name:"shutdown-delay" help:"${shutdown_delay}" default:"5s"`
	browsing      `embed:""`
	entering      `embed:""`
	admin         `embed:""`
	BackendTLS    command.TLS `embed:"" prefix:"backend-"`
	logging       `embed:""`

	backends []*url.URL
}

// Run is called by kong.
func (c *frontendCommand) Run(a *invocation) error {
	if err := c.check(); err != nil {
		return err
	}
	r, err := newRole(a, "frontend", c.logging, c.admin)
	if err != nil {
		return err
	}
	return r.end(c.start(r))
}

// check checks the settings, and reads the URLs of the backends.
func (c *frontendCommand) check() error {
	const backend = "--backend (DRAINMARK_BACKEND)"
	c.backends = nil
	for _, text := range c.Backend {
		u, err := url.Parse(text)
		if err != nil { // the error has the whole text, and there may be a password in it
			return drainmark.Errorf(drainmark.KindMisconfigured, "%s: one is not a URL; it must be http://HOST:PORT", backend)
		}
		c.backends = append(c.backends, u)
	}
	if err := frontend.CheckBackends(c.backends); err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "%s: %w", backend, err)
	}
	if err := frontend.CheckPathPrefix(c.PathPrefix); err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--path-prefix (DRAINMARK_PATH_PREFIX): %w", err)
	}
	if c.AnswerTimeout <= 0 {
		return badSetting("answer-timeout", c.AnswerTimeout, "it must be above 0")
	}
	return errors.Join(c.connecting.check(), c.browsing.check(), c.entering.check(), checkDelay(c.Delay), checkAddress("listen", c.Listen), c.logging.check(), c.admin.check())
}

func (c *frontendCommand) start(r *role) error {
	leaving, leave := context.WithCancel(context.WithoutCancel(r.ctx))
	defer leave()
	secure, err := c.BackendTLS.Open("backend-", "backend", r.logger, r.registry)
	if err != nil {
		return err
	}
	f, err := frontend.New(frontend.Config{
		Backends: c.backends, PathPrefix: c.PathPrefix, Login: c.login(), Logger: r.logger.With("part", "frontend"), Metrics: r.registry, Tracer: r.telemetry.tracer("", ""),
		Limits: frontend.Limits{Answer: c.AnswerTimeout}, Stopping: leaving, TLS: secure,
	})
	if err != nil {
		return err
	}
	defer f.Close()
	listener, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	r.health.set(f.Ready)
	r.logger.Info("serving the API", "url", r.tls.scheme()+"://"+listener.Addr().String()+"/v1", "backends", len(c.backends))
	r.logger.Info("open the page in a browser", "url", r.pageURL(listener.Addr())+strings.TrimPrefix(c.PathPrefix, "/"))
	return r.serve(listener, c.browsing, httpserve.Config{
		Handler: f, Connections: c.connecting.limit(2, r.logger), BodyTime: c.AnswerTimeout, AddressConnections: c.AddressConnections,
		Stop: httpserve.Stop{Delay: c.Delay, Drain: c.AnswerTimeout, Leave: leave},
	})
}

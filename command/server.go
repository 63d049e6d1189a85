package command

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/internal/certs"
	"github.com/prometheus/client_golang/prometheus"
)

// TLS is how a client of the API does TLS.
type TLS struct {
	CA   string `name:"ca" help:"File with the authorities of the servers' certificates, for https://. The system's if not set." placeholder:"FILE" group:"TLS"`
	Cert string `name:"cert" help:"File with the certificate to show to servers." placeholder:"FILE" group:"TLS"`
	Key  string `name:"key" help:"File with the certificate's key." placeholder:"FILE" group:"TLS"`
}

// Open reads the files, which settings name that begin with a prefix, and returns what makes the configuration of each
// new connection. It returns nil if there are none. The logger and the metrics, which may be nil, are told when files
// that have changed cannot be used.
func (c TLS) Open(prefix, name string, logger *slog.Logger, metrics prometheus.Registerer) (func() *tls.Config, error) {
	if (c.Cert == "") != (c.Key == "") {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--%[1]scert and --%[1]skey go together: a certificate, and its key", prefix)
	}
	if c == (TLS{}) {
		return nil, nil
	}
	source, err := certs.Open(certs.Config{Cert: c.Cert, Key: c.Key, CA: c.CA, Name: name, Logger: logger, Metrics: metrics})
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--%[1]sca, --%[1]scert and --%[1]skey: %[2]w", prefix, err)
	}
	return source.Client(), nil
}

// TokenVariable is the environment variable with a token. There is no flag for one: others on the machine can read those.
const TokenVariable = "DRAINMARK_TOKEN"

// Login is how a client of the API shows who it is, and knows whom it talks to.
type Login struct {
	TokenFile string `help:"File with the token that calls show. It is read again and again. Without it, the variable DRAINMARK_TOKEN may have the token itself." placeholder:"FILE"`
	TLS       `embed:""`
}

// Token returns what gives the token, as in client.Config, nil if there is none.
func (l Login) Token() func(refused string) (string, error) {
	if l.TokenFile != "" {
		return client.TokenFile(l.TokenFile)
	}
	token := strings.TrimSpace(os.Getenv(TokenVariable))
	if token == "" {
		return nil
	}
	return func(string) (string, error) { return token, nil }
}

// Server is the deployment that a command talks to.
type Server struct {
	URL      []string      `name:"url" help:"The deployment: a frontend or a backend. One, where verify takes several." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Patience time.Duration `env:"-" help:"For how long a call that failed is made again, where that is safe; 0 for not at all." default:"10s"`
	Login    `embed:""`
}

// Client makes a client of the deployment. It connects to nothing yet. observe, if it is not nil, is told of each request.
func (s Server) Client(streams *Streams, observe func(client.Attempt)) (*client.Client, error) {
	for _, warning := range streams.Warnings {
		streams.note("%s", warning)
	}
	if s.Patience < 0 {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--patience: %s: it must be 0 or more", s.Patience)
	}
	if len(s.URL) != 1 {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--url (DRAINMARK_URL): there are %d, and it must be one", len(s.URL))
	}
	config := client.Config{URL: strings.TrimSpace(s.URL[0]), Token: s.Token(), Retry: client.Retry{Elapsed: s.Patience}, Observe: observe}
	secure, err := s.TLS.Open("", "client", slog.New(slog.NewTextHandler(streams.Err, nil)), nil)
	if err != nil {
		return nil, err
	}
	if secure != nil {
		config.TLS = secure()
	}
	c, err := client.New(config)
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--url (DRAINMARK_URL): %w", err)
	}
	return c, nil
}

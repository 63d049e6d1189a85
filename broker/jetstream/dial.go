package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/probe"
)

// firstConnect is how long the first connection is waited for, and how long each attempt to connect may take.
const firstConnect = 2 * time.Second

// dial returns the configuration with its defaults, and a connection that need not be up yet. Fails with
// broker.ErrMisconfigured if NATS answers in a way that no waiting changes.
func dial(ctx context.Context, c Config) (Config, *connection, error) {
	c, err := c.resolved()
	if err != nil {
		return c, nil, err
	}
	if c.Options, err = c.Options.withDefaults(); err != nil {
		return c, nil, err
	}
	conn, err := connect(c.Logger, c.servers, c.APIPrefix, append(c.natsOptions(), nats.Name(c.Prefix))...)
	if err != nil {
		return c, nil, misconfigured("connecting to NATS: %v", err)
	}
	if err := conn.check(ctx, c); errors.Is(err, broker.ErrMisconfigured) {
		conn.close()
		return c, nil, err
	} else if err != nil {
		c.Logger.Warn("NATS does not answer; trying on", "error", err)
	}
	return c, conn, nil
}

// check waits a while for the connection, and says why NATS is of no use yet.
func (c *connection) check(ctx context.Context, config Config) error {
	if !c.IsConnected() {
		if err := config.diagnose(ctx); err != nil {
			return err
		}
	}
	if err := c.wait(ctx, firstConnect); err != nil {
		return err
	}
	return c.hasJetStream(ctx, config)
}

// diagnose returns what somebody has to change before one of the servers can be connected to, or nil. It connects to
// each once more: the client library does not say how the attempts at several servers ended.
func (c Config) diagnose(ctx context.Context) error {
	var trying errgroup.Group
	for server := range strings.SplitSeq(c.servers, ",") {
		trying.Go(func() error { return c.try(ctx, server) })
	}
	return trying.Wait()
}

// try connects to one server. It returns only what somebody has to change.
func (c Config) try(ctx context.Context, server string) error {
	address := hostPort(server)
	err := explainConnect(c.connectOnce(server))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrMisconfigured):
	case !errors.Is(err, nats.ErrTLS):
		err = wrongPort(ctx, address)
	default:
		seen := explainConnect(c.connectOnce(server, beforeTLS13))
		if errors.Is(seen, broker.ErrMisconfigured) && !strings.Contains(seen.Error(), "protocol version") {
			err = seen
		}
	}
	if errors.Is(err, broker.ErrMisconfigured) {
		return fmt.Errorf("connecting to NATS at %s: %w", address, err)
	}
	return nil
}

// connectOnce connects to one server, and leaves it again.
func (c Config) connectOnce(server string, more ...nats.Option) error {
	options := append(c.natsOptions(), nats.NoReconnect(), nats.Timeout(firstConnect),
		nats.SetCustomDialer(boundedDialer{net.Dialer{Timeout: firstConnect}}))
	nc, err := nats.Connect(server, append(options, more...)...)
	if err == nil {
		nc.Close()
	}
	return err
}

// beforeTLS13 has the server judge our certificate before the handshake ends. With TLS 1.3 it hangs up after that, and its
// reason is lost if we have sent something meanwhile.
func beforeTLS13(o *nats.Options) error {
	if o.TLSConfig == nil {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.TLSConfig.MaxVersion = tls.VersionTLS12
	return nil
}

// hostPort is the address of a server's URL, which can be shown.
func hostPort(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "4222")
	}
	return u.Host
}

const usePort = "use the port of NATS's clients, which is 4222 unless it was changed"

// wrongPort says what answers in the place of a NATS that has not let us connect, or nil if that does not show.
func wrongPort(ctx context.Context, address string) error {
	first := probe.Text(ctx, address, "HEAD / HTTP/1.0\r\n\r\n") // servers of many kinds wait for a line
	if first == "" {
		first = probe.TLS(ctx, address)
	}
	switch {
	case first == "", strings.HasPrefix(first, "INFO "):
		return nil
	case probe.IsTLS(first):
		return misconfigured("this port speaks TLS from the first byte: add handshake_first=true if it is one of NATS; otherwise %s",
			usePort)
	case strings.HasPrefix(first, "HTTP"):
		return misconfigured("this port speaks HTTP, as NATS's monitoring does: %s", usePort)
	}
	return misconfigured("what answers on this port does not speak NATS's protocol: %s", usePort)
}

// explainConnect tells apart what somebody has to change before a connection can be made. The server's complaint about
// our certificate comes as a text, because the TLS library exports no more.
func explainConnect(err error) error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var file *fs.PathError
	is := func(those ...error) bool {
		for _, e := range those {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil || is(broker.ErrMisconfigured):
		return err
	case is(nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired):
		return misconfigured("NATS refuses the login (%v): correct the user and password, token or credentials file", err)
	case is(nats.ErrSecureConnWanted):
		return misconfigured("this NATS does not offer TLS: use nats:// without ca, cert and key, " +
			"or turn TLS on in the server")
	case errors.As(err, &record):
		return misconfigured("this port does not begin with TLS: leave handshake_first out, or use another port")
	case errors.As(err, &certificate):
		return misconfigured("%v: check ca, and the host's name in the URL", certificate)
	case is(nats.ErrNoInfoReceived):
		return misconfigured("what answers on this port does not speak NATS's protocol: %s", usePort)
	case errors.As(err, &file):
		return misconfigured("reading the certificates: %v", err)
	}
	text := strings.ToLower(err.Error())
	if _, alert, found := strings.Cut(text, "remote error: tls: "); found && !strings.HasPrefix(alert, "internal error") {
		return misconfigured("NATS refuses our TLS (%s): check cert and key", alert)
	}
	if _, port, found := strings.Cut(text, "attempted to connect to "); found { // such as "route port"
		return misconfigured("this is NATS's %s, and not that of its clients: %s", port, usePort)
	}
	return err
}

// hasJetStream asks for a stream on a new connection. A server that stops takes no new ones, so a single server from which
// nobody answers has no JetStream for us. Other members of a cluster may be away.
func (c *connection) hasJetStream(ctx context.Context, config Config) error {
	ctx, cancel := c.during(ctx, config.Timeout)
	defer cancel()
	_, err := c.stream(ctx, registryName(config.Prefix))
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, natsjs.ErrJetStreamNotEnabled):
	case answered(err, codeNotEnabledForAccount):
		return misconfigured("JetStream is not enabled for this NATS account: enable it there")
	case errors.Is(err, broker.ErrMisconfigured):
		return err
	case err != nil && !c.IsConnected():
		return c.down()
	default:
		return nil // a caller that needs the answer will ask again
	}
	enabled, _ := c.ConnectedServerJetStream()
	switch {
	case c.IsConnected() && config.APIPrefix != defaultAPI:
		return fmt.Errorf("JetStream does not answer on %s.>: check the domain, or api_prefix, and whether its servers are up: %w", config.APIPrefix, err)
	case !c.IsConnected() || c.ConnectedClusterName() != "":
		return fmt.Errorf("JetStream does not answer; is it enabled in this NATS? %w", err)
	case enabled:
		return misconfigured("JetStream is not enabled for this NATS account: enable it there")
	}
	return misconfigured("JetStream is not enabled in this NATS: enable it (jetstream {} in the server's settings), " +
		"or use a server that has it. A leaf node must be connected to the server that has it")
}

package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/certs"
)

// cluster makes clients of one Kafka, all of which end with it.
type cluster struct {
	config Config
	ctx    context.Context // ends with close, because of broker.ErrClosed
	end    context.CancelCauseFunc

	running sync.WaitGroup

	mu      sync.Mutex
	clients map[*kgo.Client]struct{} // nil when it is closed
}

// Why what waited for Kafka does not wait any longer. The outcome is unknown.
var errUnanswered = errors.New("no answer of Kafka in time")

const (
	dialTimeout = 2 * time.Second
	// idleTime is how long a connection may be idle. Kafka itself closes it after ten minutes.
	idleTime = 3 * time.Minute
	// fetchBytes is how much a receiver asks for at once, and so bounds its memory, but for a larger batch.
	fetchBytes = 4 << 20
	// fetchWait is how long a fetch waits for something to come. What comes ends one that was given up, too, which
	// otherwise stands before the next one on its connection.
	fetchWait = 2 * time.Second
	// readBytes is the longest answer that is read: of a fetch whose first batch is the largest that Kafka takes.
	readBytes = 64 << 20
)

func newCluster(c Config) *cluster {
	k := &cluster{config: c, clients: map[*kgo.Client]struct{}{}}
	k.ctx, k.end = context.WithCancelCause(context.Background())
	return k
}

// client makes a client, which connects when it is used.
func (k *cluster) client() (*kgo.Client, error) {
	c := k.config
	options := []kgo.Opt{
		kgo.SeedBrokers(c.hosts...), kgo.ClientID("drainmark"), kgo.Dialer(k.dial), kgo.DisableClientMetrics(),
		kgo.RequestTimeoutOverhead(max(c.Timeout, 100*time.Millisecond)), kgo.RetryTimeout(c.Timeout), kgo.ConnIdleTimeout(idleTime),
		kgo.RequestRetries(len(c.hosts) + 2), // so that all hosts are tried, and it is said soon that none is there
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(20*time.Millisecond<<min(tries, 5), 500*time.Millisecond) }),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.BrokerMaxReadBytes(readBytes),
	}
	if c.SASL != "" {
		options = append(options, kgo.SASL(c.mechanism()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, misconfigured("making a client of Kafka: %v", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.clients == nil {
		client.Close()
		return nil, broker.ErrClosed
	}
	k.clients[client] = struct{}{}
	return client, nil
}

// leave closes a client that is not needed any more.
func (k *cluster) leave(client *kgo.Client) {
	client.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.clients, client)
}

// close ends all clients.
func (k *cluster) close() {
	k.end(broker.ErrClosed)
	k.mu.Lock()
	open := k.clients
	k.clients = nil
	k.mu.Unlock()
	k.running.Wait()
	for client := range open {
		client.Close()
	}
}

// start runs f until close, which waits for it. After close it does nothing.
func (k *cluster) start(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.clients != nil {
		k.running.Go(f)
	}
}

// during returns a context for a question to Kafka: it ends with ctx, when the time has passed, and when the cluster is
// closed.
func (k *cluster) during(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, expire := context.WithTimeoutCause(ctx, timeout, errUnanswered)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(k.ctx, func() { cancel(context.Cause(k.ctx)) })
	return ctx, func() { stop(); cancel(nil); expire() }
}

// because returns err with the reason why the context is over, if that is what ended it.
func because(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil || cause == ctx.Err() || !errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %v", cause, err)
}

// explain wraps an error with what was being done. Once the cluster is closed, that is why.
func (k *cluster) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if k.ctx.Err() != nil {
		err = context.Cause(k.ctx)
	}
	return fmt.Errorf("%s: %w", what, refusal(err))
}

// dialError is that of a connection that was not made: nothing was sent over it.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// dial connects to one broker. The files of the certificates are read for each connection.
func (k *cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err == nil && k.config.tls {
		conn, err = k.config.encrypt(ctx, conn, address)
	}
	if err != nil {
		return nil, dialError{err}
	}
	return conn, nil
}

// encrypt begins TLS on a connection. It closes the connection if that fails.
func (c Config) encrypt(ctx context.Context, raw net.Conn, address string) (net.Conn, error) {
	settings, err := certs.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile}.ForAddress(address)
	if err != nil {
		_ = raw.Close()
		return nil, misconfigured("%v", err)
	}
	return certs.Handshake(ctx, raw, settings)
}

// mechanisms are the ways to log in.
var mechanisms = []string{"plain", "scram-sha-256", "scram-sha-512", "oauthbearer"}

// credentials says who logs in with the next connection.
func (c Config) credentials() (user, password string) {
	if c.Credentials != nil {
		return c.Credentials()
	}
	return c.user, c.password
}

// mechanism returns how to log in. It asks for user and password for each connection.
func (c Config) mechanism() sasl.Mechanism {
	login := func(context.Context) (scram.Auth, error) {
		user, password := c.credentials()
		return scram.Auth{User: user, Pass: password}, nil
	}
	switch c.SASL {
	case "scram-sha-256":
		return scram.Sha256(login)
	case "scram-sha-512":
		return scram.Sha512(login)
	case "oauthbearer":
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, _ := c.credentials()
			return oauth.Auth{Token: token}, nil
		})
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		user, password := c.credentials()
		return plain.Auth{User: user, Pass: password}, nil
	})
}

// refusal tells apart what somebody has to change before Kafka lets us in, or lets us do what we must.
func refusal(err error) error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var eof *kgo.ErrFirstReadEOF
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
	case err == nil || is(broker.ErrMisconfigured, broker.ErrClosed):
		return err
	case is(kerr.SaslAuthenticationFailed):
		return misconfigured("Kafka refuses the login (%v): correct user and password, or the token", err)
	case is(kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return misconfigured("%v: this port of Kafka wants another login: correct sasl, or the port", err)
	case is(kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed):
		return misconfigured("Kafka does not permit it (%v): give the user the right, see docs/deploying.md", err)
	case errors.As(err, &certificate):
		return misconfigured("%v: check ca, and the host's name in the URL and in advertised.listeners", certificate)
	case errors.As(err, &record):
		return misconfigured("this port of Kafka does not speak TLS: use kafka://, or another port")
	case strings.Contains(err.Error(), "remote error: tls: "): // the TLS library exports no more
		return misconfigured("Kafka refuses our TLS (%v): check cert and key", err)
	case errors.As(err, &eof):
		return fmt.Errorf("%w; Kafka hangs up where it wants TLS (kafka+tls://) or a login (sasl)", err)
	case errors.As(err, &file):
		return misconfigured("reading the certificates: %v", err)
	}
	return err
}

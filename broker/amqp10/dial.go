package amqp10

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/certs"
	"github.com/drainmark/drainmark/internal/hosts"
)

// server is where everything connects to, until it ends.
type server struct {
	config Config
	ctx    context.Context
	end    context.CancelCauseFunc
	rests  *rests

	troubles hosts.Troubles
	examined sync.Map // by the names of queues: true when it is known how they are set up, or that it cannot be known
}

func newServer(c Config) *server {
	s := &server{config: c, rests: &rests{lasts: c.settle, until: map[string]time.Time{}}}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	return s
}

// within returns a context that ends with ctx, and when the server is closed on this side.
func (s *server) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// during is within for no longer than a time.
func (s *server) during(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := s.within(ctx)
	ctx, expire := context.WithTimeout(ctx, timeout)
	return ctx, func() { expire(); cancel() }
}

// explain wraps an error with what was being done. Once the server is closed on this side, that is why.
func (s *server) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// session is a connection with one session, while it lasts. It is used by one goroutine at a time.
type session struct {
	*amqp.Session
	conn    *amqp.Conn
	raw     net.Conn
	address string
	product product
	server  *server
	managed *management // once it was used

	mu      sync.Mutex
	senders []*amqp.Sender
}

// connect tries the hosts in order, those last that were in trouble a moment ago, and makes a session with the first that
// lets us in.
func (s *server) connect(ctx context.Context, purpose string) (*session, error) {
	var first error
	for _, address := range hosts.Order(&s.troubles, s.config.hosts, func(address string) string { return address }) {
		opened, err := s.dial(ctx, address, purpose)
		if err == nil {
			return opened, nil
		}
		s.troubles.Note(address)
		if first == nil || errors.Is(err, broker.ErrMisconfigured) {
			first = fmt.Errorf("connecting to %s: %w", address, err)
		}
	}
	return nil, first
}

// dial connects to one host. Files of certificates, user and password are read for each connection.
func (s *server) dial(ctx context.Context, address, purpose string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	dialer := net.Dialer{KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the rest names the address once more
	}
	if err == nil && s.config.tls {
		raw, err = s.config.encrypt(ctx, raw, address)
	}
	if err != nil {
		return nil, explainDial(err)
	}
	conn, err := amqp.NewConn(ctx, raw, s.config.options(address, purpose))
	if err != nil && s.config.VHost != "" {
		err = fmt.Errorf("%w (RabbitMQ only cuts the connection if it has no such vhost: check vhost)", err)
	}
	if err != nil {
		_ = raw.Close()
		return nil, explainDial(err)
	}
	opened := &session{conn: conn, raw: raw, address: address, product: productOf(conn.Properties()), server: s}
	err = opened.guard(ctx, func() (err error) { opened.Session, err = conn.NewSession(ctx, nil); return err })
	if err != nil {
		opened.cut()
		return nil, explainDial(err)
	}
	return opened, nil
}

func (c Config) options(address, purpose string) *amqp.ConnOptions {
	host, _, _ := net.SplitHostPort(address)
	o := &amqp.ConnOptions{
		ContainerID: "drainmark." + drainmark.NewProducerID().String(), // IBM MQ takes no hyphen, as in those of the client library
		HostName:    host, IdleTimeout: idleTime, WriteTimeout: c.Timeout,
		Properties: map[string]any{"product": "Drainmark", "connection_name": "drainmark " + purpose},
	}
	if c.VHost != "" {
		o.HostName = "vhost:" + c.VHost
	}
	switch c.SASL {
	case "plain":
		user, password := c.credentials()
		o.SASLType = amqp.SASLTypePlain(user, password)
	case "external":
		o.SASLType = amqp.SASLTypeExternal("")
	default:
		o.SASLType = amqp.SASLTypeAnonymous()
	}
	return o
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

// explainDial tells apart what somebody has to change from what may pass. Of what goes wrong in the login the client
// library returns only texts.
func explainDial(err error) error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var file *fs.PathError
	has := func(text string) bool { return strings.Contains(err.Error(), text) }
	switch {
	case errors.Is(err, broker.ErrMisconfigured):
		return err
	case errors.As(err, &certificate):
		return misconfigured("%v: check ca, and the host's name in the URL", certificate)
	case errors.As(err, &record):
		return misconfigured("this port does not speak TLS: use amqp10://, or another port")
	case errors.As(err, &file):
		return misconfigured("reading the certificates: %v", err)
	case has("remote error: tls: ") && !has("internal error"):
		return misconfigured("the server refuses our TLS (%v): check cert and key", err)
	case has("SASL PLAIN auth failed"): // it says so with every mechanism
		return misconfigured("the server refuses the login: check user and password, or the certificate")
	case has("no supported auth mechanism"):
		return misconfigured("the server takes another login (%v): correct sasl", err)
	case has("unexpected protocol version 0.9"):
		return misconfigured("this port speaks only AMQP 0-9-1: use amqp://, or enable RabbitMQ's plugin rabbitmq_amqp1_0")
	case has("unexpected protocol"):
		return misconfigured("what answers on this port does not speak AMQP 1.0 as we do (%v): check the port, and whether it wants TLS or a login", err)
	case hasCondition(err, amqp.ErrCondUnauthorizedAccess, amqp.ErrCondNotAllowed):
		return misconfigured("the server refuses us: %v: check user, password and vhost", err)
	}
	return err
}

// guard runs f, which may take longer than ctx lasts. If ctx ends meanwhile, the connection is cut, which ends f.
func (s *session) guard(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.cut)
	err := f()
	if !stop() {
		return cmp.Or(ctx.Err(), err)
	}
	return err
}

func (s *session) ended() bool {
	select {
	case <-s.conn.Done():
		return true
	default:
		return false
	}
}

// NewSender is the library's. Its senders end with cut.
func (s *session) NewSender(ctx context.Context, target string, options *amqp.SenderOptions) (*amqp.Sender, error) {
	sender, err := s.Session.NewSender(ctx, target, options)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.senders = append(s.senders, sender)
	}
	return sender, err
}

// cut ends the connection without goodbye, and what waits for an answer over it. A sender whose message was not written in
// time tells its link so, and waits for ever if the link has ended with the connection by then, unless it is closed.
func (s *session) cut() {
	_ = s.raw.Close()
	over, end := context.WithCancel(context.Background())
	end() // closing waits for nothing
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sender := range s.senders {
		_ = sender.Close(over)
	}
}

// drop cuts the connection, and returns when the library has ended what it does for it.
func (s *session) drop() {
	s.blame()
	s.end()
}

// blame notes that the connection has ended before we ended it.
func (s *session) blame() {
	if s.ended() {
		s.server.troubles.Note(s.address)
	}
}

func (s *session) end() {
	s.cut()
	_ = s.conn.Close()
}

// close ends the session and its connection, within a second. The server takes back what is not settled.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	s.blame()
	_ = s.guard(ctx, func() error {
		_ = s.Session.Close(ctx)
		return s.conn.Close()
	})
	s.end()
}

// hasCondition says whether an error is one of the server's with one of the conditions.
func hasCondition(err error, conditions ...amqp.ErrCond) bool {
	var said *amqp.Error
	if !errors.As(err, &said) {
		return false
	}
	for _, c := range conditions {
		if said.Condition == c {
			return true
		}
	}
	return false
}

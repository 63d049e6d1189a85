package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/hosts"
	"github.com/drainmark/drainmark/internal/probe"
)

// connect tries the members of the cluster, in random order, and those last that were in trouble a moment ago.
func (b *Broker) connect(ctx context.Context, purpose string) (*session, error) {
	var first error
	tried := slices.Clone(b.endpoints)
	rand.Shuffle(len(tried), func(i, k int) { tried[i], tried[k] = tried[k], tried[i] })
	for _, to := range hosts.Order(&b.troubles, tried, func(e endpoint) string { return e.host }) {
		s, err := b.dial(ctx, to, purpose)
		if err == nil {
			return s, nil
		}
		b.troubles.Note(to.host)
		if first == nil || errors.Is(err, broker.ErrMisconfigured) {
			first = fmt.Errorf("connecting to RabbitMQ at %s: %w", to.host, err)
		}
	}
	return nil, first
}

func (b *Broker) dial(ctx context.Context, to endpoint, purpose string) (*session, error) {
	s := &session{host: to.host}
	var raw *conn
	stop := func() bool { return true }
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(fmt.Sprintf("drainmark %s (%s %d)", purpose, filepath.Base(os.Args[0]), os.Getpid()))
	properties["product"] = "Drainmark"
	config := amqp.Config{
		Properties: properties,
		Heartbeat:  heartbeat, // unless the URL says otherwise
		Dial: func(_, address string) (_ net.Conn, err error) {
			if raw, err = b.dialRaw(ctx, address); err != nil {
				return nil, err
			}
			s.raw = raw
			stop = context.AfterFunc(ctx, s.cut)
			return raw, nil
		},
	}
	var err error
	s.conn, err = amqp.DialConfig(to.dialURL(b.config.Credentials), config)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		if raw == nil {
			return nil, explainTLS(err)
		}
		_ = raw.Close()
		return nil, b.explainDial(ctx, err, raw, strings.HasPrefix(to.url, "amqps:"))
	}
	if err := checkVersion(s.conn.Properties); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// dialRaw makes a TCP connection on which the handshake must end in time.
func (b *Broker) dialRaw(ctx context.Context, address string) (*conn, error) {
	dialer := net.Dialer{Timeout: b.config.Timeout, KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the rest names the address once more
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: raw, address: address, timeout: b.config.Timeout}, raw.SetDeadline(time.Now().Add(b.config.Timeout))
}

// conn is what a connection consists of below AMQP and TLS. It bounds every write, so that a peer that does not read
// cannot block us for ever. (Reading is bounded by the heartbeats.) And it remembers how the peer behaved, which the
// client library's errors do not say.
type conn struct {
	net.Conn
	address string
	timeout time.Duration

	mu    sync.Mutex
	first []byte        // what came first, up to firstBytes
	wrote time.Time     // when something was written last
	end   error         // why reading ended, or nil
	after time.Duration // how long after a write the last thing came, or the end
}

// firstBytes is how much of what a peer sends first is remembered.
const firstBytes = 8

func (c *conn) Write(b []byte) (int, error) {
	now := time.Now()
	c.mu.Lock()
	c.wrote = now
	c.mu.Unlock()
	if err := c.SetWriteDeadline(now.Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if missing := firstBytes - len(c.first); missing > 0 {
		c.first = append(c.first, b[:min(n, missing)]...)
	}
	if c.end == nil {
		c.end, c.after = err, time.Since(c.wrote)
	}
	return n, err
}

// behaviour is how a peer behaved until now.
type behaviour struct {
	first string // what came first
	end   error
	after time.Duration
}

func (c *conn) behaviour() behaviour {
	c.mu.Lock()
	defer c.mu.Unlock()
	return behaviour{string(c.first), c.end, c.after}
}

// hungUp says whether the peer closed the connection. With TLS it says so first, and nothing is read behind that.
func (b behaviour) hungUp(secure bool) bool {
	return secure && b.end == nil || errors.Is(b.end, io.EOF) || errors.Is(b.end, syscall.ECONNRESET)
}

// silentClose is how long RabbitMQ waits before it closes a connection whose password is wrong, without a word
// (SILENT_CLOSE_DELAY in rabbit_reader.erl, 3 s). A connection that ends sooner during the login has another reason,
// such as a broker that is just being stopped, but the client library cannot tell.
const silentClose = 2 * time.Second

// explainDial tells apart what somebody has to change from what may pass. The client library calls every end of the
// connection during the login a wrong password, and every end after that a wrong vhost.
func (b *Broker) explainDial(ctx context.Context, err error, raw *conn, secure bool) error {
	if ctx.Err() != nil {
		return err
	}
	peer := raw.behaviour()
	if !secure { // with TLS, it is the handshake that fails
		if wrong := wrongPort(ctx, peer, raw.address); wrong != nil {
			return wrong
		}
	}
	var said *amqp.Error
	switch {
	case errors.As(err, &said) && said.Server && hasCode(err, amqp.AccessRefused, amqp.NotAllowed):
		return misconfigured("RabbitMQ refuses us: %s: check user, password, vhost and permissions", reason(err))
	case errors.Is(err, amqp.ErrSASL):
		return misconfigured("RabbitMQ takes no login of this kind: check auth_mechanism in the URL")
	case errors.Is(err, amqp.ErrCredentials) && peer.hungUp(secure) && peer.after >= silentClose:
		return misconfigured("RabbitMQ refuses us: check user and password")
	case errors.Is(peer.end, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %v", b.config.Timeout)
	case errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrVhost):
		return errors.New("the connection ended during the login")
	}
	return explainTLS(err)
}

// wrongPort says what answers in the place of a RabbitMQ without TLS, or nil if that does not show. A peer that has said
// nothing is asked anew, in another language: it may have a reason that passes, as a proxy whose server is away.
func wrongPort(ctx context.Context, peer behaviour, address string) error {
	first := peer.first
	switch {
	case first != "":
	case errors.Is(peer.end, os.ErrDeadlineExceeded):
		first = probe.Text(ctx, address, "HEAD / HTTP/1.0\r\n\r\n") // servers of many kinds wait for a line
	default:
		first = probe.TLS(ctx, address)
	}
	switch {
	case first == "", first[0] == amqpMethod, first == amqpHeader:
		return nil
	case probe.IsTLS(first):
		return misconfigured("this port speaks TLS: use amqps://")
	case strings.HasPrefix(first, "HTTP"):
		return misconfigured("this port speaks HTTP, as RabbitMQ's management does: %s", usePort)
	case strings.HasPrefix(first, "AMQP"):
		return misconfigured("this port speaks another version of AMQP than 0-9-1")
	}
	return misconfigured("what answers on this port does not speak AMQP: %s", usePort)
}

const (
	usePort    = "use the port of AMQP, which is 5672 unless it was changed"
	amqpMethod = 1                      // what the first frame of a server begins with
	amqpHeader = "AMQP\x00\x00\x09\x01" // what a server says to those who speak something else, and then hangs up
)

// explainTLS tells apart what somebody has to change about TLS. The server's complaint about our certificate comes as a
// text, because the client library keeps no more.
func explainTLS(err error) error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return misconfigured("this port does not speak TLS: use amqp:// or another port")
	case errors.As(err, &certificate):
		return misconfigured("%v: check cacertfile and server_name_indication", err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return misconfigured("reading the certificates: %v", err)
	}
	_, alert, found := strings.Cut(err.Error(), "remote error: tls: ")
	if found && !strings.HasPrefix(alert, "internal error") {
		return misconfigured("RabbitMQ refuses our TLS (%s): check certfile and keyfile", strings.TrimRight(alert, `"`))
	}
	return err
}

// reason is what RabbitMQ says, without what the client library puts around it.
func reason(err error) string {
	var said *amqp.Error
	if errors.As(err, &said) {
		return said.Reason
	}
	return err.Error()
}

// hasCode says whether an error is one of RabbitMQ's with one of the reply codes.
func hasCode(err error, codes ...int) bool {
	var from *amqp.Error
	if !errors.As(err, &from) {
		return false
	}
	for _, code := range codes {
		if from.Code == code {
			return true
		}
	}
	return false
}

// checkVersion refuses a RabbitMQ that is too old for what we need of quorum queues.
func checkVersion(properties amqp.Table) error {
	var major, minor int
	version, _ := properties["version"].(string)
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return nil // another product that speaks AMQP 0-9-1 says so in its answers to what follows
	}
	if major < 3 || major == 3 && minor < 10 {
		return misconfigured("this is RabbitMQ %s; it must be 3.10 or newer", version)
	}
	return nil
}

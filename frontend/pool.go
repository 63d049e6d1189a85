package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/tracing"
)

// A backend that has failed is passed over for firstRest, and then gets one request to prove itself with. Each time
// that this fails, the rest is twice as long, up to longestRest.
const (
	firstRest   = 250 * time.Millisecond
	longestRest = 5 * time.Second
)

// maxAnswerHeader is how many bytes the header of a backend's answer may have.
const maxAnswerHeader = 64 << 10

// stoppingHeader is on the answers of a backend that is about to stop.
const stoppingHeader = "Drainmark-Stopping"

var (
	errTouched   = errors.New("the request's body has been read in part, and cannot be sent again")
	errUpgrade   = errors.New("the backend has switched protocols, for which nobody has asked")
	errBadStatus = errors.New("the backend does not answer as an API")
	errBodies    = errors.New("there is no memory for more bodies")
	errStopping  = errors.New("the backend is stopping, and has not received the request")
	errGone      = errors.New("the address is no longer one of a backend")
)

// pool is a http.RoundTripper that has one of the backends answer, the one with the fewest requests under way. It alone
// decides what may be sent again:
//
//   - a request that no backend can have received, because there was no connection, or because it closed one and says
//     so, goes to the next one,
//   - GET and HEAD go to the next one after any failure,
//   - everything else may have been done, and that is the answer.
//
// When all have been tried, the names are looked up once more, for backends that have come meanwhile. It may be used
// concurrently.
type pool struct {
	limits    Limits
	logger    *slog.Logger
	metrics   *metrics
	tracer    *tracing.Tracer
	stopping  context.Context
	secure    func() *tls.Config // for a new connection with TLS
	turn      atomic.Uint32
	members   atomic.Pointer[[]*backend] // those that get requests
	directory *directory

	mu    sync.Mutex
	known map[string]*backend // guarded by mu: by name, the members and those that are gone and still answer something
}

// backend is one backend, and how it does.
type backend struct {
	place
	logger      *slog.Logger
	transport   *http.Transport
	leaves      func()       // is called when the backend says that it is stopping
	outstanding atomic.Int64 // requests whose answer has not ended
	gone        atomic.Bool  // it is no member: what is under way there ends, and nothing else begins
	made        time.Time    // what its times count from: by the monotonic clock, which nobody sets
	answeredAt  atomic.Int64 // when it last answered, in nanoseconds, never if negative
	trouble     *loglimit.Limiter
	losses      *loglimit.Limiter

	restUntil atomic.Int64 // in nanoseconds, 0 if it answers
	mu        sync.Mutex
	rest      time.Duration // guarded by mu: the last rest, 0 if it answers
	leaving   bool          // guarded by mu: it has said that it is stopping, and has not answered otherwise since

	answers, refusals, failures interface{ Inc() }
}

// newTransport makes the connections to a backend. They are given back sooner than it closes them, which it does after
// two minutes, so that requests seldom meet a connection that is being closed. A certificate must be one of the URL's
// host, also where an address of that name is dialed.
func newTransport(l Limits, to place, secure func() *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: l.Dial}
	dialTLS := func(ctx context.Context, network, address string) (net.Conn, error) {
		config := secure().Clone()
		config.ServerName = to.url.Hostname()
		return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, address)
	}
	return &http.Transport{
		DialContext: unconnected(to.at(dialer.DialContext)), DialTLSContext: unconnected(to.at(dialTLS)),
		MaxIdleConnsPerHost: l.Idle, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: l.Answer, ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: maxAnswerHeader,
		WriteBufferSize:    2 * smallBody,
		DisableCompression: true, // what the client and the backend agree on passes unchanged
	}
}

// unsentError says that no backend has received the request: there was no connection, or the backend has said so.
type unsentError struct{ error }

func (u unsentError) Unwrap() error { return u.error }

// closedIdle is the text of net/http's error for a connection that the server had closed before anything of the request
// was sent. The error itself is not exported.
const closedIdle = "http: server closed idle connection"

// refusesUs says whether a backend has refused our certificate. With TLS 1.3 it does so after our side of the handshake,
// and reads nothing of the request. The TLS library has no type for what the other side says.
func refusesUs(err error) bool {
	var said *net.OpError
	return errors.As(err, &said) && said.Op == "remote error" && strings.Contains(said.Err.Error(), "certificate")
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

func unconnected(to dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := to(ctx, network, address)
		if err != nil {
			return nil, unsentError{err}
		}
		return conn, nil
	}
}

// RoundTrip has a backend answer. An error is a *failure, or the request's context has ended.
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	var room [8]*backend
	tried := room[:0]
	var errs []error
	for lookedUp := false; ; {
		b := p.next(tried)
		if b == nil {
			if lookedUp || !p.directory.again(r.Context()) {
				break
			}
			lookedUp = true
			continue
		}
		tried = append(tried, b)
		answer, err := p.send(r, b, len(tried)-1)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, err)
		if body, ok := r.Body.(*requestBody); ok && body.failed.Load() {
			return nil, &failure{invalid, incompleteBody, err}
		}
		if r.Context().Err() != nil {
			return nil, err
		}
		if !repeatable(r, err) {
			if !isUnsent(err) && !isRead(r) {
				b.losses.Log("error", err)
			}
			return nil, lost(r, err)
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if errs = append(errs, p.directory.unknown()); len(tried) == 0 {
		errs = append(errs, errNone)
	}
	return nil, &failure{unavailable, "no backend answers; nothing was done", errors.Join(errs...)}
}

// repeatable says whether a request that has failed may be sent to another backend.
func repeatable(r *http.Request, err error) bool {
	if r.GetBody != nil {
		if _, err := r.GetBody(); err != nil {
			return false
		}
	}
	return isUnsent(err) || isRead(r)
}

func isUnsent(err error) bool {
	var unsent unsentError
	return errors.As(err, &unsent)
}

// isRead says whether a request changes nothing, however often it is made.
func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// lost is the failure of a request that cannot be sent again.
func lost(r *http.Request, err error) *failure {
	if isUnsent(err) {
		return &failure{unavailable, "the backend is stopping, and the request's body cannot be read again; nothing was done", err}
	}
	if isRead(r) {
		return &failure{unavailable, "the backend's answer was lost", err}
	}
	return &failure{outcomeUnknown, "the backend's answer was lost, and it may have done what was asked: " +
		"an append is safe to send again with the Idempotency-Key that it had", err}
}

// next chooses a backend that is not tried yet: of those that answer the one with the fewest requests under way, or if
// there is none, the one that has rested most. It returns nil if all are tried.
func (p *pool) next(tried []*backend) *backend {
	members := p.list()
	first := int(p.turn.Add(1)) // equals take turns
	var best *backend
	var bestRest, bestLoad int64
	for i := range members {
		b := members[(first+i)%len(members)]
		if slices.Contains(tried, b) {
			continue
		}
		rest, load := max(0, b.restUntil.Load()-b.now()), b.outstanding.Load()
		if best == nil || rest < bestRest || rest == bestRest && load < bestLoad {
			best, bestRest, bestLoad = b, rest, load
		}
	}
	if best != nil {
		best.try()
	}
	return best
}

// send has one backend answer. It is the n-th attempt at that, from 0.
func (p *pool) send(r *http.Request, b *backend, n int) (*http.Response, error) {
	out := r.WithContext(r.Context()) // a copy
	u := *r.URL
	u.Scheme, u.Host, u.User = b.url.Scheme, b.url.Host, nil
	out.URL = &u
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = body
	}
	b.outstanding.Add(1)
	if b.gone.Load() { // since it was chosen: see settle
		b.outstanding.Add(-1)
		return nil, unsentError{errGone}
	}
	out, span := p.tracer.Attempt(out, n)
	answer, err := b.exchange(out)
	if err != nil {
		span.Failed("exchange", err)
		span.End()
		b.failed(r, err)
		b.outstanding.Add(-1)
		return nil, err
	}
	span.Got(answer.StatusCode)
	b.answers.Inc()
	body := &answerBody{ReadCloser: answer.Body, backend: b}
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		body.unhook = context.AfterFunc(p.stopping, body.stop)
	}
	answer.Body = body
	return answer, nil
}

// exchange sends the request and returns the answer to it.
func (b *backend) exchange(r *http.Request) (*http.Response, error) {
	answer, err := b.transport.RoundTrip(r)
	switch {
	case err != nil && (err.Error() == closedIdle || refusesUs(err)):
		return nil, unsentError{err}
	case err != nil:
		return nil, err
	case answer.StatusCode == http.StatusSwitchingProtocols:
		_ = answer.Body.Close()
		return nil, errUpgrade
	case answer.Header.Get(stoppingHeader) == "":
		b.answeredAt.Store(b.now())
		b.answered()
		return answer, nil
	}
	b.leave()
	answer.Header.Del(stoppingHeader) // this server goes on
	if answer.StatusCode == http.StatusRequestTimeout {
		_ = answer.Body.Close()
		return nil, unsentError{errStopping}
	}
	return answer, nil
}

// probe asks a backend for the index of the API.
func (p *pool) probe(ctx context.Context, b *backend) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1", nil)
	if err != nil {
		return err
	}
	answer, err := p.send(r, b, 0)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	// Read to its end, so that the connection can be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswerHeader)); err != nil {
		return err
	}
	switch {
	case answer.StatusCode == http.StatusForbidden: // it would say so to every request
		return fmt.Errorf("%w: it says %s; a backend that listens on a loopback address is to name %s in its --allowed-host",
			errBadStatus, answer.Status, b.url.Hostname())
	case answer.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%w: it says %s", errBadStatus, answer.Status)
	}
	return nil
}

// suspected says whether the backend has not answered since it failed.
func (b *backend) suspected() bool { return b.restUntil.Load() != 0 }

// answered notes that the backend answers.
func (b *backend) answered() {
	if !b.suspected() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.leaving:
		b.logger.Info("the backend answers again")
	case b.rest != 0:
		b.trouble.End("the backend answers again")
	}
	b.rest, b.leaving = 0, false
	b.restUntil.Store(0)
}

// leave notes that the backend has answered, and has said that it is stopping. It gets no more requests as long as there
// are others, and none on a connection that it may be about to close.
func (b *backend) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.leaving {
		b.logger.Info("the backend is stopping")
	}
	b.leaving = true
	b.restLonger()
	b.transport.CloseIdleConnections()
	b.leaves()
}

// failed notes that a request has failed, unless that was the client's doing.
func (b *backend) failed(r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	if body, ok := r.Body.(*requestBody); ok && body.failed.Load() {
		return
	}
	if isUnsent(err) {
		b.refusals.Inc()
	} else {
		b.failures.Inc()
	}
	if isSilence(err) || b.now()-b.answeredAt.Load() > int64(justAnswered) {
		b.suspect(err)
	}
}

// justAnswered is for how long an answer shows that a backend works, though it gives one that cannot be read.
const justAnswered = 10 * time.Second

// never is when a backend last answered that has not yet.
const never = -int64(justAnswered) - 1

// now returns the nanoseconds since the backend was made.
func (b *backend) now() int64 { return int64(time.Since(b.made)) }

// isSilence says whether a failure is one of the network or of time. Anything else is an answer that cannot be read: the
// backend is there, and perhaps somebody has asked for that answer.
func isSilence(err error) bool {
	var network net.Error
	return isUnsent(err) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, errUpgrade)
}

// suspect lets the backend rest, unless it does already: many requests fail together.
func (b *backend) suspect(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == 0 && !b.leaving {
		b.trouble.Log("error", err)
	}
	b.restLonger()
}

// try lets one request through to a backend that has rested: until it is answered, others pass the backend over.
func (b *backend) try() {
	if !b.suspected() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest != 0 {
		b.restLonger()
	}
}

func (b *backend) restLonger() {
	now := b.now()
	if now < b.restUntil.Load() {
		return
	}
	b.rest = min(max(2*b.rest, firstRest), longestRest)
	b.restUntil.Store(now + int64(b.rest))
}

// answerBody is the body of a backend's answer. The request is under way until it is closed.
type answerBody struct {
	io.ReadCloser
	backend *backend
	unhook  func() bool // nil, or takes back what happens when the server stops
	stopped atomic.Bool
	closed  atomic.Bool
}

// Read ends an event stream in good order when the server stops: clients come back, elsewhere. An answer that ends too
// soon is not held against the backend: it cuts off who reads too slowly, and if it is gone the next request finds out.
func (a *answerBody) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	if a.stopped.Load() {
		return n, io.EOF
	}
	return n, err
}

// stop ends the answer from another goroutine than that which reads it.
func (a *answerBody) stop() {
	a.stopped.Store(true)
	_ = a.ReadCloser.Close() // there is nothing left to fail
}

func (a *answerBody) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	if a.unhook != nil {
		a.unhook()
	}
	err := a.ReadCloser.Close()
	a.backend.outstanding.Add(-1)
	return err
}

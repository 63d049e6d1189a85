// Package httpserve runs the HTTP servers of all roles: the API, the pages, and the admin address. It has what they
// share and what no handler can do for itself.
//
// listener.go bounds the connections, conn.go and handler.go the time and memory of requests whose header or body is
// incomplete, and bodies that no handler reads. secure.go does TLS, and stream.go and frames.go do the same for HTTP/2,
// which comes with it. errors.go has net/http's errors in the log, and stop.go the end.
package httpserve

import (
	"cmp"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark/internal/address"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// Limits of every server. An answer has limits of its own in the handlers.
const (
	headerTime      = 10 * time.Second // for a request's header to arrive
	idleTime        = 2 * time.Minute  // for a connection without a request
	crowdedIdleTime = 20 * time.Second // the same when more than half of all connections are in use
	maxHeader       = 64 << 10         // bytes of a request's header
	allHeaders      = 64 << 20         // bytes of all headers that are not complete
)

// Config is what Serve needs. All fields must be set, unless they say otherwise.
type Config struct {
	Name    string // of the server in logs and metrics: "api", "admin"
	Handler http.Handler
	Logger  *slog.Logger
	// Metrics is where the metrics go, which have the server's name as a label, nil for nowhere.
	Metrics prometheus.Registerer
	// TLS returns the configuration for a connection that was accepted, with the protocols "h2" and "http/1.1" for both.
	// nil for no TLS. Requests have what became of it in their TLS field.
	TLS func() *tls.Config
	// Connections is how many there may be at once. Further ones are refused. 0 for 10,000, or what the limit on file
	// descriptors leaves.
	Connections int
	// AddressConnections is how many one address may have at once, 0 for no limit. Those of Proxies do not count.
	AddressConnections int
	Proxies            address.Proxies
	// BodyTime is how long a request's body may take to arrive, however large it is, 0 for 10 s. Small ones have less:
	// 2 s, and a second for each KiB that has arrived.
	BodyTime time.Duration
	// HeaderBytes is how many bytes all headers may have that are not complete, 0 for 64 MiB.
	HeaderBytes int64
	// Reserve keeps some file descriptors back, so that this server has connections when others have used up all.
	Reserve bool
	// Counted, if set, is told of each connection that begins, by 1, and that has ended, by -1. Calls may overlap.
	Counted func(more int)
	// Stop is how the server ends: at once if not set.
	Stop Stop
}

// server is what the connections of a server share.
type server struct {
	name        string
	logger      *slog.Logger
	connections int64
	headerBytes int64
	metrics     *metrics
	errors      *errorWriter
	refusing    *loglimit.Limiter
	tls         func() *tls.Config // nil for none
	handshakes  *loglimit.Limiter  // that have failed
	counted     func(more int)
	addresses   *addresses   // nil if one address may have any number of connections
	open        atomic.Int64 // connections now, and requests over HTTP/2
	streams     atomic.Int64 // requests over HTTP/2 now
	streaming   atomic.Int64 // connections with HTTP/2 now
	shaking     atomic.Int64 // connections whose handshake is not over
	headers     atomic.Int64 // bytes of headers that are not complete
	cut         atomic.Bool  // nobody is waited for now

	http     *http.Server
	http2    *http.Server // both nil without TLS
	handed   *handed
	ending   Stop
	stopping atomic.Bool
	served   chan struct{} // closed when nothing more is accepted
	watch    watch
}

// Serve serves until ctx ends, and then ends as c.Stop says. It closes the listener, and returns nil if it ended because
// ctx did.
func Serve(ctx context.Context, listener net.Listener, c Config) error {
	s, err := newServer(c)
	if err != nil {
		_ = listener.Close()
		return err
	}
	l := &limitListener{Listener: watchedListener{s.secured(listener)}, server: s, places: make(chan struct{}, maxRefusals)}
	if c.Reserve {
		l.reserve = newReserve()
		defer l.reserve.close()
	}
	s.http = &http.Server{
		Handler:           s.stoppable(Handler(c.Handler, cmp.Or(c.BodyTime, 10*time.Second))),
		ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(s.errors, "", 0), ConnContext: withConn, ConnState: s.changed,
	}
	defer s.serveStreams(listener)()
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.stop(ctx, listener)
	})
	err = s.http.Serve(l)
	close(s.served)
	defer l.refusals.Wait()
	if unhook() {
		s.cut.Store(true)
		s.close()
		return err
	}
	<-stopped
	return nil
}

func newServer(c Config) (*server, error) {
	s := &server{
		name: c.Name, logger: c.Logger.With("server", c.Name),
		connections: int64(cmp.Or(c.Connections, FittingConnections(MostConnections, 1))), headerBytes: cmp.Or(c.HeaderBytes, allHeaders),
		tls: c.TLS, counted: c.Counted, ending: c.Stop, served: make(chan struct{}), watch: watch{all: map[*watched]struct{}{}},
	}
	if c.AddressConnections > 0 {
		s.addresses = &addresses{most: c.AddressConnections, proxies: c.Proxies, open: map[netip.Addr]int{}}
	}
	if s.counted == nil {
		s.counted = func(int) {}
	}
	s.errors = newErrorWriter(s.logger)
	s.refusing = loglimit.New(s.logger, slog.LevelWarn, "connections are refused")
	s.handshakes = loglimit.New(s.logger, slog.LevelWarn, "clients do not get through the TLS handshake")
	var err error
	s.metrics, err = newMetrics(c.Metrics, s)
	return s, err
}

// secured puts TLS on a listener, if the server has it.
func (s *server) secured(l net.Listener) net.Listener {
	if s.tls == nil {
		return l
	}
	return secureListener{l, s}
}

// serveStreams begins to serve connections with HTTP/2, if there is TLS, and returns what ends that.
func (s *server) serveStreams(listener net.Listener) (end func()) {
	if s.tls == nil {
		return func() {}
	}
	s.handed, s.http2 = newHanded(listener), s.newStreamServer(s.http)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.http2.Serve(s.handed) // it fails when it is closed
	}()
	return func() {
		_ = s.http2.Close()
		<-ended
	}
}

// close cuts all connections off.
func (s *server) close() {
	_ = s.http.Close()
	if s.http2 != nil {
		_ = s.http2.Close()
	}
}

// refused notes that a connection was refused because a limit was reached.
func (s *server) refused(limit string, more ...any) {
	s.metrics.refused[limit].Inc()
	s.refusing.Log(append([]any{"limit", limit, "open", s.open.Load(), "most", s.connections}, more...)...)
}

func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

func (s *server) changed(nc net.Conn, state http.ConnState) {
	if c, ok := nc.(*conn); ok {
		c.changed(state)
		s.watch.changed(c.Conn, state)
	}
}

// crowded says whether more than half of all connections are in use.
func (s *server) crowded() bool { return s.open.Load() > s.connections/2 }

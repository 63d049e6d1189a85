package frontend

import (
	"crypto/tls"
	"log/slog"
	"slices"
	"time"

	"github.com/drainmark/drainmark/internal/loglimit"
)

// newPool returns a pool without members: its directory brings them. The URLs have been checked.
func newPool(c Config, l Limits, logger *slog.Logger, m *metrics) *pool {
	p := &pool{limits: l, logger: logger, metrics: m, tracer: c.Tracer, stopping: c.Stopping, secure: c.TLS, known: map[string]*backend{}}
	if p.secure == nil {
		p.secure = func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }
	}
	resolver := c.Resolver
	if resolver == nil {
		resolver = newResolver(nil)
	}
	p.directory = newDirectory(p, c.Backends, resolver)
	return p
}

// list returns the backends that get requests. It must not be changed.
func (p *pool) list() []*backend {
	if members := p.members.Load(); members != nil {
		return *members
	}
	return nil
}

// settle makes the backends at some places, of which no two have one name, the members. What is under way at the others goes on to its end. Those where
// nothing is under way are forgotten.
//
// A request counts itself as under way, and then looks whether the backend is gone. Here it is the other way round, so
// that no request begins at a backend that is forgotten.
func (p *pool) settle(places []place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	members := make([]*backend, 0, len(places))
	for _, at := range places {
		b := p.known[at.name]
		if b == nil {
			b = p.newBackend(at)
			p.known[at.name] = b
		}
		b.gone.Store(false)
		members = append(members, b)
	}
	before := p.list()
	p.members.Store(&members)
	for _, b := range before {
		if !slices.Contains(members, b) {
			b.gone.Store(true)
			b.transport.CloseIdleConnections()
		}
	}
	for _, b := range p.known {
		if b.gone.Load() && b.outstanding.Load() == 0 {
			p.forget(b)
		}
	}
}

// newBackend returns the backend at a place, which has yet to show how it does.
func (p *pool) newBackend(at place) *backend {
	to := p.logger.With("backend", at.name)
	b := &backend{
		place: at, made: time.Now(), logger: to, transport: newTransport(p.limits, at, p.secure), leaves: p.directory.want,
		trouble: loglimit.New(to, slog.LevelWarn, "the backend does not answer"),
		losses:  loglimit.New(to, slog.LevelWarn, "an answer was lost: the request may have been done"),
	}
	b.answeredAt.Store(never)
	b.answers, b.refusals, b.failures = p.metrics.of(at.name)
	return b
}

// forget ends a backend that is gone. The caller holds mu.
func (p *pool) forget(b *backend) {
	b.transport.CloseIdleConnections()
	delete(p.known, b.name)
	p.metrics.forget(b.name)
}

// all returns all backends, also those that are gone and still answer something, by their names.
func (p *pool) all() []*backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*backend, 0, len(p.known))
	for _, b := range p.known {
		all = append(all, b)
	}
	return all
}

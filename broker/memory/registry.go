package memory

import (
	"context"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// Registry returns a connection to the server's record of its deployment.
func (s *Server) Registry() broker.Registry { return &registry{server: s} }

// registry implements broker.Registry.
type registry struct {
	server *Server
	closed bool // guarded by the server's lock
}

func (r *registry) Enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.closed:
		return broker.Enrollment{}, broker.ErrClosed
	case ctx.Err() != nil:
		return broker.Enrollment{}, ctx.Err()
	case e.Check() != nil:
		return broker.Enrollment{}, e.Check()
	case s.enrolled == nil:
		s.enrolled = &e
	case s.enrolled.Deployment == e.Deployment:
		s.enrolled.Stored = s.enrolled.Stored || e.Stored
	}
	return *s.enrolled, nil
}

func (r *registry) Recorded(ctx context.Context) (drainmark.Deployment, error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.closed:
		return drainmark.Deployment{}, broker.ErrClosed
	case ctx.Err() != nil:
		return drainmark.Deployment{}, ctx.Err()
	case s.enrolled == nil:
		return drainmark.Deployment{}, broker.ErrNotRecorded
	}
	return s.enrolled.Deployment, nil
}

func (r *registry) Close() error {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.closed = true
	return nil
}

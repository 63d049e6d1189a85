package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// registry implements broker.Registry in a stream of its own, "drainmark-deployment": its first message is the
// deployment, and a second one says that a store has been made for it. Each is published with the sequence that the
// stream must have before, so that NATS takes one of several. If the stream is deleted, the next process records
// another deployment.
type registry struct {
	options Options
	conn    *connection
	config  natsjs.StreamConfig
	close   func()
}

// registryBytes is the limit of the stream: it must have one where the account demands it.
const registryBytes = 64 << 10

// OpenRegistry opens the record of the deployment of an external NATS. NATS need not answer yet. Fails with
// broker.ErrMisconfigured if the configuration cannot work.
func OpenRegistry(ctx context.Context, c Config) (broker.Registry, error) {
	c.Logger = nil // a registry is opened again and again while NATS is away, and its errors say what this would
	c, conn, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	return newRegistry(c.Options, conn, c.Replicas), nil
}

// Registry opens the record of the deployment of the embedded server.
func (s *Server) Registry(ctx context.Context) (broker.Registry, error) {
	conn, err := s.process.dial(ctx)
	if err != nil {
		return nil, err
	}
	return newRegistry(s.process.config.Options, conn, 1), nil
}

func newRegistry(o Options, conn *connection, replicas int) *registry {
	return &registry{options: o, conn: conn, close: sync.OnceFunc(conn.close), config: natsjs.StreamConfig{
		Name:        registryName(o.Prefix),
		Description: "Drainmark: which deployment the streams " + o.Prefix + "-p* belong to",
		Subjects:    []string{o.Prefix + ".deployment"},
		Storage:     natsjs.FileStorage,
		Discard:     natsjs.DiscardNew,
		MaxBytes:    registryBytes,
		Replicas:    replicas,
	}}
}

// registryName is the name of the stream.
func registryName(prefix string) string { return prefix + "-deployment" }

// Close implements broker.Registry.
func (r *registry) Close() error {
	r.close()
	return nil
}

// Enroll implements broker.Registry.
func (r *registry) Enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	err := e.Check()
	if err == nil {
		e, err = r.during(ctx, func(ctx context.Context) (broker.Enrollment, error) { return r.enroll(ctx, e) })
	}
	if err != nil {
		return broker.Enrollment{}, fmt.Errorf("recording the deployment in the stream %s: %w", r.config.Name, err)
	}
	return e, nil
}

// Recorded implements broker.Registry.
func (r *registry) Recorded(ctx context.Context) (drainmark.Deployment, error) {
	recorded, err := r.during(ctx, func(ctx context.Context) (broker.Enrollment, error) {
		stream, err := r.conn.stream(ctx, r.config.Name)
		if err != nil {
			return broker.Enrollment{}, err
		}
		return r.read(ctx, stream)
	})
	if errors.Is(err, natsjs.ErrStreamNotFound) || errors.Is(err, natsjs.ErrMsgNotFound) {
		err = broker.ErrNotRecorded
	}
	if err != nil {
		return drainmark.Deployment{}, fmt.Errorf("reading the deployment in the stream %s: %w", r.config.Name, err)
	}
	return recorded.Deployment, nil
}

// during asks NATS while there is a connection, for as long as NATS is given to answer.
func (r *registry) during(ctx context.Context, ask func(context.Context) (broker.Enrollment, error)) (e broker.Enrollment, err error) {
	if r.conn.ctx.Err() != nil {
		return e, broker.ErrClosed
	}
	if err := r.conn.down(); err != nil {
		return e, err
	}
	ctx, cancel := r.conn.during(ctx, r.options.Timeout)
	defer cancel()
	e, err = ask(ctx)
	return e, hint(because(ctx, err), r.config, r.options)
}

func (r *registry) enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	stream, err := obtain(ctx, r.conn, r.config)
	if err != nil {
		return e, err
	}
	recorded, err := r.read(ctx, stream)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		if err = r.write(ctx, 0, e.Encode()); err == nil {
			recorded, err = r.read(ctx, stream)
		}
	}
	if err != nil || !e.Stored || recorded.Stored || recorded.Deployment != e.Deployment {
		return recorded, err
	}
	recorded.Stored = true
	return recorded, r.write(ctx, 1, []byte("a store has been made for it"))
}

// read returns what is recorded. natsjs.ErrMsgNotFound from an empty stream.
func (r *registry) read(ctx context.Context, stream natsjs.Stream) (e broker.Enrollment, err error) {
	first, err := r.conn.message(ctx, stream, 1)
	if err != nil {
		return e, err
	}
	if e, err = broker.DecodeEnrollment(first.Data); err != nil {
		return e, err
	}
	switch _, err = r.conn.message(ctx, stream, 2); {
	case err == nil:
		e.Stored = true
	case errors.Is(err, natsjs.ErrMsgNotFound):
		err = nil
	}
	return e, err
}

// write publishes behind so many messages. If somebody else was faster, that is as good.
func (r *registry) write(ctx context.Context, behind uint64, text []byte) error {
	subject := r.config.Subjects[0]
	_, err := ask(ctx, r.conn, func(ctx context.Context) (*natsjs.PubAck, error) {
		return r.conn.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: text}, natsjs.WithExpectLastSequence(behind),
			natsjs.WithExpectStream(r.config.Name))
	}, subject)
	if answered(err, codeWrongLastSequence) {
		return nil
	}
	return err
}

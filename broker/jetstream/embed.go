package jetstream

import (
	"context"

	"github.com/nats-io/nats.go"
)

// EmbedConfig is for a NATS server within this process. Nobody else can connect to it, and it confirms nothing before
// it is on the disk (fsync).
type EmbedConfig struct {
	Options
	Dir        string // where it stores everything, required. Only one process may use it at a time
	MaxPayload int    // the largest batch, in bytes (default and limit: 8 MiB less 1 KiB for headers)
	// MinFree is how many bytes must stay free on the disk: with less, Publish fails with broker.ErrDiskFull. An eighth
	// of that for urgent batches. The default is 64 MiB.
	MinFree int64
}

// Server is a NATS server within this process, for when the number of partitions is not known yet: ask its Registry.
type Server struct{ process *process }

// Start starts the server, which takes some milliseconds. While the disk is full it waits, until ctx ends. Fails with broker.ErrMisconfigured if the configuration
// cannot work, for example because another process uses the directory.
func Start(ctx context.Context, c EmbedConfig) (*Server, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Server{p}, nil
}

// Broker connects to the server as a broker of so many partitions, whatever Options.Partitions was.
func (s *Server) Broker(ctx context.Context, partitions int) (*Broker, error) {
	return s.process.connect(ctx, partitions)
}

// Broken gets an error when the server can neither be used nor be started again in this process, because it holds a lock
// for ever: end the process, and start another. Nothing that was confirmed is lost by that.
func (s *Server) Broken() <-chan error { return s.process.broken }

// Close stops the server. Its connections must be closed before.
func (s *Server) Close() error { return s.process.close() }

// Embed starts the server and connects to it, with Options.Partitions. The Broker's Close stops it. Fails like Start.
func Embed(ctx context.Context, c EmbedConfig) (*Broker, error) {
	s, err := Start(ctx, c)
	if err != nil {
		return nil, err
	}
	b, err := s.Broker(ctx, c.Partitions)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	b.owner = true
	return b, nil
}

func (c EmbedConfig) resolved() (EmbedConfig, error) {
	var err error
	if c.Options, err = c.Options.withDefaults(); err != nil {
		return c, err
	}
	if c.Dir == "" {
		return c, misconfigured("the embedded NATS server needs a directory")
	}
	c.MaxPayload = orDefault(c.MaxPayload, largestPayload)
	if c.MaxPayload > largestPayload {
		return c, misconfigured("MaxPayload is %d bytes: at most %d", c.MaxPayload, largestPayload)
	}
	c.MinFree = orDefault(c.MinFree, 64<<20)
	return c, nil
}

// connect makes a broker on a connection of its own to the embedded server.
func (p *process) connect(ctx context.Context, partitions int) (*Broker, error) {
	o := p.config.Options
	o.Partitions = partitions
	if err := o.checkPartitions(); err != nil {
		return nil, err
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	b := newBroker(o, conn, streamConfig(o, 1), o.maxPayload(int64(p.config.MaxPayload)+headerRoom), p)
	if err := b.prepare(ctx); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// dial connects to the embedded server.
func (p *process) dial(ctx context.Context) (*connection, error) {
	conn, err := connect(p.config.Logger, "", defaultAPI, nats.InProcessServer(p))
	if err != nil {
		return nil, err
	}
	if err := conn.wait(ctx, startTimeout); err != nil {
		conn.close()
		return nil, err
	}
	return conn, nil
}

package jetstream

import (
	"context"

	"github.com/nats-io/nats.go"
)

// EmbedConfig is for a NATS server within this process. Nobody else can connect to it, and it confirms nothing before
// it is on the disk (fsync).
type EmbedConfig struct {
	Options
	Dir        string // where it stores everything; required. Only one process may use it at a time
	MaxPayload int    // the largest batch, in bytes; 8 MiB less 1 KiB for headers, which is also the most
	// MinFree is how many bytes must stay free on the disk: with less, Publish fails with broker.ErrFull. 64 MiB.
	MinFree int64
}

// Embed starts the server, which takes some milliseconds, and connects to it. The Broker's Close stops it. Fails with
// broker.ErrMisconfigured if the configuration cannot work, for example because another process uses the directory.
func Embed(ctx context.Context, c EmbedConfig) (*Broker, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(c)
	if err != nil {
		return nil, err
	}
	b, err := p.connect(ctx)
	if err != nil {
		p.close()
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
	c.MaxPayload = c.Options.maxPayload(int64(c.MaxPayload) + headerRoom)
	c.MinFree = orDefault(c.MinFree, 64<<20)
	return c, nil
}

// connect makes a broker on a connection of its own to the embedded server.
func (p *process) connect(ctx context.Context) (*Broker, error) {
	conn, err := connect(p.config.Logger, "", nats.InProcessServer(p))
	if err != nil {
		return nil, err
	}
	if err := conn.wait(ctx, startTimeout); err != nil {
		conn.close()
		return nil, err
	}
	return newBroker(p.config.Options, conn, streamConfig(p.config.Options, 1), p.config.MaxPayload, p), nil
}

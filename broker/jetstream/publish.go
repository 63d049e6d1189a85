package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// errUnconfirmed is why Publish does not wait any longer: the outcome is unknown.
var errUnconfirmed = errors.New("NATS did not confirm it in time")

// Publish implements broker.Broker.
func (b *Broker) Publish(ctx context.Context, number int, batch broker.Batch) error {
	p, err := b.partition(number)
	if err == nil {
		err = p.publish(ctx, batch)
	}
	if err == nil {
		return nil
	}
	return b.explain("publishing "+batch.Run().String(), err)
}

func (p *partition) publish(ctx context.Context, batch broker.Batch) error {
	b := p.b
	if len(batch.Payload) > b.traits.MaxPayload {
		return drainmark.Errorf(drainmark.KindTooLarge, "payload of %d bytes: the limit (MaxPayload) is %d", len(batch.Payload), b.traits.MaxPayload)
	}
	if b.process != nil {
		if err := b.process.room(len(batch.Payload)); err != nil {
			return err
		}
	}
	whole := b.conn.now()
	if err := b.conn.down(); err != nil {
		return err
	}
	attempt, cancel := context.WithTimeoutCause(ctx, b.options.PublishTimeout, errUnconfirmed)
	defer cancel()
	if _, err := p.ready(attempt); err != nil {
		return notSent(err)
	}
	answer, err := b.conn.request(attempt, whole, &nats.Msg{
		Subject: p.subject + batch.Producer.String(),
		Header:  headers(batch.Header),
		Data:    batch.Payload,
	})
	switch {
	case err == nil:
		return p.confirmed(answer)
	case errors.Is(err, nats.ErrNoResponders): // there is no stream for this subject any more
		p.forget()
		return notSent(p.hint(err))
	case errors.Is(err, errUnconfirmed) && b.process != nil:
		b.process.suspect()
	}
	return err
}

// notSent marks an error as one after which the batch has certainly not been stored.
func notSent(err error) error {
	if errors.Is(err, broker.ErrNotSent) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrNotSent, err)
}

// request waits for the answer until the context, or the connection as it was, is over.
func (c *connection) request(ctx, whole context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(whole, func() { cancel(context.Cause(whole)) })()
	answer, err := c.RequestMsgWithContext(ctx, m)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrHeadersNotSupported):
		return nil, notSent(err) // these say that nothing was written
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, notSent(misconfigured("NATS takes at most %d bytes a message, less than when this process began; raise its max_payload, or start the process anew",
			c.MaxPayload()))
	}
	return nil, err
}

// confirmed reads NATS's answer to a message that it has got.
func (p *partition) confirmed(answer *nats.Msg) error {
	var ack struct {
		Error  *natsjs.APIError `json:"error"`
		Stream string           `json:"stream"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return fmt.Errorf("reading NATS's confirmation: %w", err)
	}
	if ack.Error == nil {
		if ack.Stream != p.config.Name {
			return misconfigured("another stream, %s, has the subjects %s*: give the deployment another prefix, or the stream other subjects", ack.Stream, p.subject)
		}
		return nil
	}
	err := error(ack.Error)
	switch code := ack.Error.ErrorCode; {
	case code == codeStoreFailed && strings.Contains(ack.Error.Description, "maximum"), // its bytes or messages
		code == codeNoStorageLeft, code == codeAccountFull, code == codeServerFull, code == codeOverloaded:
		return fmt.Errorf("%w: the stream %s, of at most %d bytes: %w", broker.ErrFull, p.config.Name, p.config.MaxBytes, err)
	case code == codeMessageTooLarge:
		p.forget() // check its settings again
		return notSent(misconfigured("the stream %s refuses a message of this size: raise its maximum message size", p.config.Name))
	}
	return fmt.Errorf("NATS answered: %w", err)
}

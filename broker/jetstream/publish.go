package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// lastSendWait bounds the last of the growing waits until NATS takes a message.
const lastSendWait = 500 * time.Millisecond

// Publish implements broker.Broker.
func (b *Broker) Publish(ctx context.Context, number int, batch broker.Batch) error {
	p, err := b.partition(number)
	if err == nil {
		err = p.publish(ctx, batch)
	}
	if err == nil {
		return nil
	}
	return b.explain("publishing "+batch.Span().String(), err)
}

func (p *partition) publish(ctx context.Context, batch broker.Batch) error {
	b := p.b
	if len(batch.Payload) > b.traits.MaxPayload {
		return drainmark.Errorf(drainmark.KindTooLarge, "payload of %d bytes: the limit (MaxPayload) is %d", len(batch.Payload), b.traits.MaxPayload)
	}
	if b.process != nil {
		if err := b.process.takes(); err != nil {
			return err
		}
		if err := b.process.room(len(batch.Payload), batch.Urgent); err != nil {
			p.refusedForRoom()
			return err
		}
	}
	if err := p.full(ctx); err != nil {
		return err
	}
	ctx, cancel := b.conn.during(ctx, b.options.Timeout)
	defer cancel()
	m := &nats.Msg{Subject: p.subject + batch.Producer.String(), Header: headers(batch.Header), Data: batch.Payload}
	p.latest.expect(m, batch.Header)
	sequence, err := p.send(ctx, m)
	if answered(err, codeWrongLastSequence) {
		sequence, err = p.settle(ctx, m, batch.Header)
	}
	switch {
	case err == nil:
		p.latest = published{producer: batch.Producer, sequence: sequence}
	case answered(err, codeSubjectInProcess): // do not let that block the producer for ever
		p.latest = published{producer: batch.Producer}
	}
	err = p.unanswered(err)
	if err != nil && b.process != nil && !errors.Is(err, broker.ErrFull) {
		b.process.suspect()
	}
	return err
}

// published is the newest message that Publish knows to be stored, which it names to NATS with the next one. NATS then
// takes that one only if no other message of the producer has come meanwhile. So a message whose outcome was unknown
// cannot come late, on a connection that broke, behind those that were published after it: it would hide them from
// Backlog, which goes by each producer's newest message.
type published struct {
	producer drainmark.ProducerID
	sequence uint64 // in the stream
}

// expect names the newest message, if it is known: of a producer that begins, there is none.
func (n published) expect(m *nats.Msg, h broker.Header) {
	switch {
	case n.producer == h.Producer && n.sequence == 0: // no longer known
	case n.producer == h.Producer:
		m.Header.Set(natsjs.ExpectedLastSubjSeqHeader, strconv.FormatUint(n.sequence, 10))
	case h.First == 1:
		m.Header.Set(natsjs.ExpectedLastSubjSeqHeader, "0")
	}
}

// settle is called when NATS has another newest message of the producer than was expected. If it is this batch, its
// first Publish has stored it. Otherwise somebody has purged or added something, and the batch goes without naming any.
func (p *partition) settle(ctx context.Context, m *nats.Msg, h broker.Header) (sequence uint64, err error) {
	stream, err := p.ready(ctx)
	if err != nil {
		return 0, notSent(because(ctx, err))
	}
	last, err := p.conn.lastMessage(ctx, stream, m.Subject)
	switch {
	case err == nil && p.latest.sequence < last.Sequence && p.header(last.Header) == h && bytes.Equal(last.Data, m.Data):
		return last.Sequence, nil
	case err != nil && !errors.Is(err, natsjs.ErrMsgNotFound):
		return 0, fmt.Errorf("looking whether it is stored already: %w", because(ctx, err))
	}
	m.Header.Del(natsjs.ExpectedLastSubjSeqHeader)
	return p.send(ctx, m)
}

// send publishes the message, and returns its sequence in the stream.
func (p *partition) send(ctx context.Context, m *nats.Msg) (sequence uint64, err error) {
	sequence, err = p.trySend(ctx, m)
	for wait := 10 * time.Millisecond; passing(err) && wait < lastSendWait; wait *= 2 {
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(wait):
			sequence, err = p.trySend(ctx, m)
		}
	}
	return sequence, err
}

// passing says whether NATS has not stored the message for a reason that normally passes: the stream has gone and is
// made again, it has no leader, the cluster does not know its subjects everywhere yet, or its leader is not quite done
// with the message before.
func passing(err error) bool {
	return errors.Is(err, natsjs.ErrNoStreamResponse) || answered(err, codeSubjectInProcess)
}

func (p *partition) trySend(ctx context.Context, m *nats.Msg) (sequence uint64, err error) {
	if _, err := p.ready(ctx); err != nil {
		return 0, notSent(because(ctx, err))
	}
	reached := p.reached()
	ack, err := p.conn.publish(ctx, m)
	if errors.Is(err, natsjs.ErrNoStreamResponse) { // no stream has this subject
		p.forget()
		if p.b.process != nil {
			p.b.process.suspect()
		}
		return 0, notSent(p.hint(err))
	}
	var answer *natsjs.APIError
	if errors.As(err, &answer) {
		err = p.refused(answer)
	}
	if err != nil {
		return 0, err
	}
	if ack.Stream != p.config.Name {
		return 0, misconfigured("another stream, %s, has the subjects %s*: give the deployment another prefix, or the stream other subjects", ack.Stream, p.subject)
	}
	return ack.Sequence, p.sound(ctx, reached, ack.Sequence)
}

// notSent marks an error as one after which the batch has certainly not been stored.
func notSent(err error) error {
	if errors.Is(err, broker.ErrNotSent) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrNotSent, err)
}

// publish sends a message once, and waits for NATS's confirmation.
func (c *connection) publish(ctx context.Context, m *nats.Msg) (*natsjs.PubAck, error) {
	send := func(ctx context.Context) (*natsjs.PubAck, error) {
		return c.js.PublishMsg(ctx, m, natsjs.WithRetryAttempts(0))
	}
	ack, err := ask(ctx, c, send, m.Subject)
	switch {
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrHeadersNotSupported):
		return nil, notSent(err) // these say that nothing was written, but nats.ErrConnectionClosed does not
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, notSent(misconfigured("NATS takes at most %d bytes a message, less than when this process began; raise its max_payload, or start the process anew",
			c.MaxPayload()))
	}
	return ack, err
}

// refused says what is certain after an error that NATS has answered with.
func (p *partition) refused(err *natsjs.APIError) error {
	switch err.ErrorCode {
	case codeStoreFailed: // its limit of bytes, or of messages (anything else need not be certain)
		if !strings.Contains(err.Description, "maximum") {
			break
		}
		p.refusedForRoom()
		return fmt.Errorf("%w: partition %d may have %d bytes (its share of backlog-bytes), and what is not persisted fills it",
			broker.ErrFull, p.number, p.config.MaxBytes)
	case codeNoStorageLeft, codeAccountFull, codeServerFull, codeOverloaded:
		return fmt.Errorf("%w: %w", broker.ErrFull, err)
	case codeMessageTooLarge:
		p.forget() // check its settings again
		return notSent(misconfigured("the stream %s refuses a message of this size: raise its maximum message size", p.config.Name))
	}
	return fmt.Errorf("NATS answered: %w", err)
}

package amqp10

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// lane is a link to a queue, with a connection of its own, which is made when it is needed.
type lane struct {
	server *server
	queue  queue

	turn    chan struct{} // holds one, and guards the rest
	session *session
	sender  *amqp.Sender // nil if there is none
}

func newLane(s *server, q queue) *lane {
	return &lane{server: s, queue: q, turn: make(chan struct{}, 1)}
}

// Publish implements broker.Broker.
func (b *Broker) Publish(ctx context.Context, partition int, batch broker.Batch) error {
	lane, err := b.lane(partition)
	if err != nil {
		return err
	}
	if len(batch.Payload) > maxPayload {
		return drainmark.Errorf(drainmark.KindTooLarge, "a batch has %d bytes; the limit is %d", len(batch.Payload), maxPayload)
	}
	return b.server.explain("publishing to queue "+lane.queue.name, lane.publish(ctx, encode(batch)))
}

// publish returns nil when the server has accepted the message.
func (l *lane) publish(ctx context.Context, message *amqp.Message) error {
	ctx, cancel := l.server.within(ctx)
	defer cancel()
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.release()
	if err := l.attach(ctx); err != nil {
		return err
	}
	if l.session.product.grouped {
		message.Properties.GroupID = &l.queue.name
	}
	err := l.session.guard(ctx, func() error { return l.send(ctx, message) })
	if err != nil && !errors.Is(err, errRefused) {
		l.drop()
	}
	return err
}

// take waits for the caller's turn.
func (l *lane) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for others: %w", broker.ErrNotSent, ctx.Err())
	}
}

func (l *lane) release() { <-l.turn }

// connect makes sure that there is a connection.
func (l *lane) connect(ctx context.Context) error {
	if l.session != nil && !l.session.ended() {
		return nil
	}
	l.drop()
	s, err := l.server.use(ctx, "publishing to "+l.queue.name, l.queue)
	if err != nil {
		return fmt.Errorf("%w: %w", broker.ErrNotSent, err)
	}
	l.session = s
	return nil
}

// attach makes sure that there is a link.
func (l *lane) attach(ctx context.Context) error {
	err := l.connect(ctx)
	if err != nil || l.sender != nil {
		return err
	}
	err = l.session.guard(ctx, func() (err error) { l.sender, err = l.session.sender(ctx, l.queue); return err })
	if err != nil {
		err = l.session.refusal(l.queue, err)
		l.drop()
		return fmt.Errorf("%w: attaching: %w", broker.ErrNotSent, err)
	}
	return nil
}

// drop cuts the connection, if there is one. The next publish makes another.
func (l *lane) drop() {
	if l.session != nil {
		l.session.drop()
	}
	l.session, l.sender = nil, nil
}

// close ends the connection for good, when nobody uses it.
func (l *lane) close() {
	l.turn <- struct{}{}
	defer l.release()
	if l.session != nil {
		l.session.close()
	}
	l.session, l.sender = nil, nil
}

// ping looks whether the queue is there, over the lane's connection.
func (l *lane) ping(ctx context.Context) error {
	ctx, cancel := l.server.during(ctx, l.server.config.Timeout)
	defer cancel()
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.release()
	if err := l.connect(ctx); err != nil {
		return err
	}
	err := l.session.guard(ctx, func() error { return l.session.look(ctx, l.queue) })
	if err != nil {
		err = l.session.refusal(l.queue, err)
		l.drop()
	}
	return err
}

// errRefused says that the server has refused a message, and that the link is still good.
var errRefused = errors.New("the server refuses it")

// send sends one message and waits for its outcome.
func (l *lane) send(ctx context.Context, message *amqp.Message) error {
	receipt, err := l.sender.SendWithReceipt(ctx, message, nil)
	var without *amqp.Error
	switch {
	case err == nil:
	case errors.As(err, &without) && without == err && without.Condition == amqp.ErrCondTransferLimitExceeded:
		// So the library says that ctx has ended before the last frame could be sent. The server has then nothing to store.
		return fmt.Errorf("%w: %s gives no credit for queue %s: that, or its memory or disk, is at a limit", broker.ErrFull, l.session.product.name, l.queue.name)
	default:
		return fmt.Errorf("sending: %w", err)
	}
	state, err := receipt.Wait(ctx)
	if err != nil {
		return fmt.Errorf("waiting for the outcome: %w", err)
	}
	return l.outcome(state)
}

// outcome says what became of a message. Only an accepted one is stored.
func (l *lane) outcome(state amqp.DeliveryState) error {
	switch state := state.(type) {
	case *amqp.StateAccepted:
		return nil
	case *amqp.StateRejected:
		return fmt.Errorf("%w: %w", errRefused, l.rejection(state.Error))
	case *amqp.StateReleased:
		return fmt.Errorf("%s does not take it (released). If it has no queue %s: %s", l.session.product.name, l.queue.name, l.session.product.howTo(l.queue))
	}
	return fmt.Errorf("%s answers with %T in place of accepted: it may be stored or not", l.session.product.name, state)
}

// rejection says why a message was rejected.
func (l *lane) rejection(why *amqp.Error) error {
	switch {
	case why == nil && l.session.product.name == "RabbitMQ": // it rejects without a reason, and only when the queue is full
		return fmt.Errorf("%w: queue %s is at its limit", broker.ErrFull, l.queue.name)
	case why == nil:
		return errors.New("rejected without a reason")
	case why.Condition == amqp.ErrCondResourceLimitExceeded, isFull(why.Description):
		return fmt.Errorf("%w: queue %s: %s", broker.ErrFull, l.queue.name, why.Description)
	case why.Condition == amqp.ErrCondUnauthorizedAccess, why.Condition == amqp.ErrCondNotAllowed:
		return misconfigured("%s does not let us publish to queue %s: %s", l.session.product.name, l.queue.name, why.Description)
	}
	return fmt.Errorf("rejected: %s: %s", why.Condition, why.Description)
}

// isFull knows ActiveMQ's texts, which it sends with the condition "failed".
func isFull(description string) bool {
	return strings.Contains(description, "Full") || strings.Contains(description, "Limit reached") || strings.Contains(description, "limit reached")
}

// encode makes a message of a batch. Names of application properties have no hyphens: IBM MQ and JMS take none.
func encode(b broker.Batch) *amqp.Message {
	text := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return durable(b.Producer.String()+"-"+text(b.First), b.Payload, map[string]any{
		property(broker.HeaderProducer):  b.Producer.String(),
		property(broker.HeaderPartition): strconv.Itoa(b.Partition),
		property(broker.HeaderFirst):     text(b.First),
		property(broker.HeaderLast):      text(b.Last),
		property(broker.HeaderRecords):   text(b.Last - b.First + 1),
	})
}

func property(name string) string { return strings.ReplaceAll(name, "-", "_") }

// usualPriority is AMQP's default, which the client library does not fill in. With another one, what somebody else publishes
// would overtake ours.
const usualPriority = 4

// durable makes a message that survives the server.
func durable(id string, body []byte, properties map[string]any) *amqp.Message {
	now, kind := time.Now(), "application/octet-stream"
	return &amqp.Message{
		Header:                &amqp.MessageHeader{Durable: true, Priority: usualPriority},
		Properties:            &amqp.MessageProperties{MessageID: id, ContentType: &kind, CreationTime: &now},
		ApplicationProperties: properties,
		Data:                  [][]byte{body},
	}
}

// header reads what encode wrote. Anything else gives the zero header.
func header(partition int, m *amqp.Message) broker.Header {
	return broker.ParseHeader(partition, func(name string) string { text, _ := m.ApplicationProperties[property(name)].(string); return text })
}

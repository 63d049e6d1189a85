package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// flag implements broker.Flag with a journal in a queue of its own, "drainmark.flag", which is made when the flag is
// raised first. A raise and a lowering are a message each. A reader publishes a message too, a look, and reads the
// queue from its beginning to that one: all that was confirmed before stands before it. Only one reads at a time,
// because the queue has a single active consumer. So nobody sees the queue without what another one holds.
//
// A reader acknowledges what means nothing any more: raises before a newer one, their lowerings, and looks. The newest
// raise stays, with its lowering if there is one. So an empty queue is one that somebody has emptied, or has just made.
// Everything else goes back, in order, when the reader closes its channel. It may have acknowledged another reader's
// look, which that one then publishes again.
type flag struct {
	b    *Broker
	lane *lane

	raising chan struct{} // holds one: the lane is for one at a time
	reading chan struct{} // holds one, and guards the session
	session *session      // to read over, nil or ended while there is none
}

const (
	// flagBytes is how much the journal may store: some hundred thousand raises, of days in which nobody could read.
	flagBytes = 16 << 20
	// lookAgain is after how long a reader that has not found its look publishes another.
	lookAgain = 500 * time.Millisecond

	typeRaise = "raise"
	typeLower = "lower"
	typeLook  = "look"
)

func newFlag(b *Broker) *flag {
	state := &queueState{name: b.config.Prefix + ".flag", maxBytes: flagBytes, settle: b.config.Settle, readAtOnce: true}
	return &flag{
		b: b, lane: &lane{queue: state.name, state: state}, raising: make(chan struct{}, 1), reading: make(chan struct{}, 1),
	}
}

// take waits until it is the caller's turn, which ends when it has received from the channel.
func take(ctx context.Context, turn chan struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for others: %w", broker.ErrNotSent, ctx.Err())
	}
}

// Raise implements broker.Flag.
func (f *flag) Raise(ctx context.Context, text string) error {
	return f.b.explain("raising the flag in queue "+f.lane.queue, f.publish(ctx, typeRaise, text))
}

// Lower implements broker.Flag. Readers decide whether there is still a raise to be lowered.
func (f *flag) Lower(ctx context.Context, text string) error {
	return f.b.explain("lowering the flag in queue "+f.lane.queue, f.publish(ctx, typeLower, text))
}

func (f *flag) publish(ctx context.Context, kind, text string) error {
	if f.b.ctx.Err() != nil {
		return broker.ErrClosed
	}
	if err := take(ctx, f.raising); err != nil {
		return err
	}
	defer func() { <-f.raising }()
	return f.b.publish(ctx, f.lane, entryOf(kind, text))
}

// entryOf is an entry of the journal.
func entryOf(kind, text string) amqp.Publishing {
	return amqp.Publishing{
		DeliveryMode: amqp.Persistent, ContentType: "text/plain", AppId: "drainmark", Type: kind,
		MessageId: drainmark.NewProducerID().String(), // 128 random bits
		Timestamp: time.Now(), Body: []byte(text),
	}
}

// Read implements broker.Flag.
func (f *flag) Read(ctx context.Context) (string, error) {
	text, err := f.read(ctx)
	switch {
	case hasCode(err, amqp.NotFound):
		err = broker.ErrNeverRaised
	case hasCode(err, amqp.AccessRefused):
		err = misconfigured("RabbitMQ refuses us: %s", reason(err))
	}
	return text, f.b.explain("reading the flag in queue "+f.lane.queue, err)
}

func (f *flag) read(ctx context.Context) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime*f.b.config.Timeout)
	defer cancel()
	defer context.AfterFunc(f.b.ctx, cancel)()
	if err := take(ctx, f.reading); err != nil {
		return "", err
	}
	defer func() { <-f.reading }()
	if f.session == nil || f.session.ended() {
		s, err := f.b.connect(ctx, "reading the flag", "")
		if err != nil {
			return "", err
		}
		f.session = s
		f.b.start(func() { _ = s.watch(f.b.ctx) })
	}
	err = f.session.guard(ctx, func() (err error) { text, err = f.readOver(f.session); return err })
	return text, err
}

// readOver opens a channel, reads the journal, and closes the channel, which gives back what is not acknowledged.
func (f *flag) readOver(s *session) (text string, err error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return "", err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	text, err = f.readFrom(ch)
	if errors.Is(err, errEnded) {
		select {
		case why := <-closed:
			if why != nil {
				err = why
			}
		default: // RabbitMQ has cancelled the consumer
		}
	}
	return text, errors.Join(err, ignoreClosed(ch.Close()))
}

var errEnded = errors.New("the delivery ended too early")

func (f *flag) readFrom(ch *amqp.Channel) (string, error) {
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return "", err
	}
	deliveries, err := ch.Consume(f.lane.queue, "", false, false, false, false, nil)
	if err != nil {
		return "", err
	}
	look := entryOf(typeLook, drainmark.NewProducerID().String())
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	var j journal
	for {
		if err := ch.Publish("", f.lane.queue, false, false, look); err != nil {
			return "", err
		}
		found, err := j.readUntil(look.MessageId, deliveries, again.C)
		if err != nil {
			return "", err
		}
		if found && j.raise == nil {
			return "", broker.ErrNeverRaised
		}
		if found {
			return j.text(), nil
		}
	}
}

// journal is what has been read of it.
type journal struct {
	raise *amqp.Delivery // the newest
	lower *amqp.Delivery // its lowering, nil if there is none
}

func (j *journal) text() string {
	if j.lower != nil {
		return ""
	}
	return string(j.raise.Body)
}

// readUntil reads on until a look, or until the time comes to publish it again.
func (j *journal) readUntil(look string, from <-chan amqp.Delivery, again <-chan time.Time) (found bool, err error) {
	for {
		select {
		case d, open := <-from: // guard ends it with the context
			if !open {
				return false, errEnded
			}
			if err := j.read(&d); err != nil {
				return false, err
			}
			if d.MessageId == look {
				return true, nil
			}
		case <-again:
			return false, nil
		}
	}
}

// read takes one entry, and acknowledges what means nothing any more.
func (j *journal) read(d *amqp.Delivery) error {
	void := []*amqp.Delivery{d}
	switch {
	case d.Type == typeRaise:
		void = []*amqp.Delivery{j.lower, j.raise}
		j.raise, j.lower = d, nil
	case d.Type == typeLower && j.raise != nil && j.lower == nil && string(d.Body) == string(j.raise.Body):
		j.lower = d
		return nil
	}
	for _, d := range void {
		if d == nil {
			continue
		}
		if err := d.Ack(false); err != nil {
			return fmt.Errorf("acknowledging: %w", err)
		}
	}
	return nil
}

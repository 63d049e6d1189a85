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
//
// RabbitMQ keeps the log of a quorum queue from the oldest message on, and each look is in it. So a raise that has been
// the newest for renewAfter is renewed by who reads it: a new raise takes its place, and so does a new lowering if it was
// down. Nothing goes by that raise. It may be lowered at once, unless there is another one between the two.
type flag struct {
	b    *Broker
	lane *lane

	raising    chan struct{} // holds one: the lane is for one at a time
	reading    chan struct{} // holds one, and guards the rest
	session    *session      // to read over, nil or ended while there is none
	newest     string        // the raise that was the newest when it was read last
	since      time.Time     // when that was read first
	renewAfter time.Duration
}

const (
	// flagBytes is how much the journal may store: some hundred thousand raises, of days in which nobody could read.
	flagBytes = 16 << 20
	// lookAgain is after how long a reader that has not found its look publishes another.
	lookAgain = 500 * time.Millisecond
	// renewAfter is how long a raise is the newest until it is renewed. An autoscaler that asks each 5 seconds has written a megabyte then.
	renewAfter = time.Hour

	typeRaise = "raise"
	typeLower = "lower"
	typeLook  = "look"
)

func newFlag(b *Broker) *flag {
	state := &queueState{name: b.config.Prefix + ".flag", maxBytes: flagBytes, settle: b.config.Settle, readAtOnce: true}
	return &flag{
		b: b, lane: &lane{queue: state.name, state: state}, raising: make(chan struct{}, 1), reading: make(chan struct{}, 1),
		renewAfter: renewAfter,
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
		s, err := f.b.connect(ctx, "reading the flag")
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
	var j journal
	if err := j.readAll(ch, f.lane.queue, deliveries); err != nil {
		return "", err
	}
	text := j.text()
	if f.isOld(string(j.raise.Body)) {
		publish := func(entry amqp.Publishing) error { return ch.Publish("", f.lane.queue, false, false, entry) }
		err = j.renew(publish, deliveries)
	}
	return text, err
}

// isOld notes the newest raise, and says whether it has been that for renewAfter, by this process's monotonic clock.
func (f *flag) isOld(newest string) bool {
	if f.newest != newest {
		f.newest, f.since = newest, time.Now()
	}
	return time.Since(f.since) >= f.renewAfter
}

// journal is what has been read of it.
type journal struct {
	raise  *amqp.Delivery // the newest
	lower  *amqp.Delivery // its lowering, nil if there is none
	raises int            // how many were read
}

func (j *journal) text() string {
	if j.lower != nil {
		return ""
	}
	return string(j.raise.Body)
}

// readAll reads all that was confirmed before.
func (j *journal) readAll(ch *amqp.Channel, queue string, from <-chan amqp.Delivery) error {
	look := entryOf(typeLook, drainmark.NewProducerID().String())
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		if err := ch.Publish("", queue, false, false, look); err != nil {
			return err
		}
		found, err := j.readUntil(look.MessageId, from, again.C)
		switch {
		case err != nil:
			return err
		case found && j.raise == nil:
			return broker.ErrNeverRaised
		case found:
			return nil
		}
	}
}

// renew puts a new raise in the place of the newest one, and lowers it if that one was down and nobody has raised the
// flag between the two. Each is published once: a second raise would stand behind the lowering.
func (j *journal) renew(publish func(amqp.Publishing) error, from <-chan amqp.Delivery) error {
	down, before := j.lower != nil, j.raises
	text := drainmark.NewProducerID().String()
	for _, kind := range []string{typeRaise, typeLower} {
		if kind == typeLower && (!down || j.raises != before+1) {
			return nil
		}
		entry := entryOf(kind, text)
		if err := publish(entry); err != nil {
			return err
		}
		if _, err := j.readUntil(entry.MessageId, from, nil); err != nil {
			return err
		}
	}
	return nil
}

// readUntil reads on until an entry, or until the time comes to publish it again.
func (j *journal) readUntil(entry string, from <-chan amqp.Delivery, again <-chan time.Time) (found bool, err error) {
	for {
		select {
		case d, open := <-from: // guard ends it with the context
			if !open {
				return false, errEnded
			}
			if err := j.read(&d); err != nil {
				return false, err
			}
			if d.MessageId == entry {
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
		j.raise, j.lower, j.raises = d, nil, j.raises+1
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

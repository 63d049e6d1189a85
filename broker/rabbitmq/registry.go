package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
)

// registry implements broker.Registry in a queue of its own, "drainmark.deployment", behind an exchange of the same
// name: so enrolling needs no right to publish to the other queues. The first message in it is the deployment, and a
// second one says that a store has been made for it. AMQP has no way to publish only into an empty queue. So who
// enrolls publishes its own deployment and then reads the queue from its beginning: everybody finds the same message
// first. It acknowledges its own messages unless they say something new, never another's, who may still look for them.
// The rest goes back in order. Only one reads at a time: the queue has a single active consumer.
type registry struct {
	b      *Broker // never opened: only for connecting
	queue  string
	state  *queueState
	closed atomic.Bool
}

// headerStored marks the message that says that a store has been made.
const headerStored = "Drainmark-Stored"

// OpenRegistry opens the record of the deployment. RabbitMQ need not answer yet. Fails with broker.ErrMisconfigured if
// the configuration cannot work. Config.Partitions is not needed.
func OpenRegistry(_ context.Context, c Config) (broker.Registry, error) {
	c.Partitions, c.MaxBytes = 1, 0 // any will do
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	endpoints, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	name := c.Prefix + ".deployment"
	return &registry{
		b:     &Broker{config: c, endpoints: endpoints, vhost: endpoints[0].vhost},
		queue: name, state: &queueState{name: name, maxBytes: c.MaxBytes, settle: c.Settle, readAtOnce: true},
	}, nil
}

// Close implements broker.Registry.
func (r *registry) Close() error {
	r.closed.Store(true)
	return nil
}

// Enroll implements broker.Registry. It makes a connection of its own.
func (r *registry) Enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	recorded, err := broker.Enrollment{}, e.Check()
	if r.closed.Load() {
		err = broker.ErrClosed
	}
	if err == nil {
		recorded, err = r.enroll(ctx, e)
	}
	if err != nil {
		return broker.Enrollment{}, fmt.Errorf("recording the deployment: %w", err)
	}
	return recorded, nil
}

func (r *registry) enroll(ctx context.Context, e broker.Enrollment) (recorded broker.Enrollment, err error) {
	err = r.during(ctx, "enrolling", func(s *session, doing *string) error {
		if err := r.b.declare(s, r.state); err != nil {
			return err
		}
		if err := r.state.rest(ctx, context.Background()); err != nil {
			return err
		}
		ch, err := s.conn.Channel()
		if err != nil {
			return err
		}
		*doing = "publishing to queue " + r.queue + ": "
		if err := r.bind(ch); err != nil {
			return err
		}
		own, err := r.publish(ctx, ch, e)
		if err == nil {
			*doing = "reading queue " + r.queue + ": "
			recorded, err = r.read(ctx, ch, own)
		}
		return errors.Join(err, ignoreClosed(ch.Close()))
	})
	return recorded, err
}

// bind puts the exchange before the queue. Both may be there already.
func (r *registry) bind(ch *amqp.Channel) error {
	if err := ch.ExchangeDeclare(r.queue, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	return ch.QueueBind(r.queue, "", r.queue, false, nil)
}

// Recorded implements broker.Registry. It makes a connection of its own, and waits for its turn to read the queue, and for
// a message if there is none: who has declared the queue is about to publish one.
func (r *registry) Recorded(ctx context.Context) (recorded drainmark.Deployment, err error) {
	if r.closed.Load() {
		err = broker.ErrClosed
	}
	if err == nil {
		err = r.during(ctx, "reading the record", func(s *session, doing *string) error {
			*doing = "reading queue " + r.queue + ": "
			ch, err := s.conn.Channel()
			if err != nil {
				return err
			}
			recorded, err = r.first(ctx, ch)
			return errors.Join(err, ignoreClosed(ch.Close()))
		})
	}
	if hasCode(err, amqp.NotFound) {
		err = broker.ErrNotRecorded
	}
	if err != nil {
		return drainmark.Deployment{}, fmt.Errorf("reading the record of the deployment: %w", err)
	}
	return recorded, nil
}

// first returns what the first message says, if there is a queue.
func (r *registry) first(ctx context.Context, ch *amqp.Channel) (drainmark.Deployment, error) {
	if err := ch.Qos(1, 0, false); err != nil {
		return drainmark.Deployment{}, err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, r.queue, "", false, false, false, false, nil)
	if err != nil {
		return drainmark.Deployment{}, err
	}
	d, open := <-deliveries // guard ends it with the context
	if !open {
		return drainmark.Deployment{}, errors.New("the delivery ended too early")
	}
	e, err := broker.DecodeEnrollment(d.Body)
	return e.Deployment, err
}

// during lets f use a connection of its own for as long as RabbitMQ is given to answer. f notes what it is doing.
func (r *registry) during(ctx context.Context, purpose string, f func(s *session, doing *string) error) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime*r.b.config.Timeout)
	defer cancel()
	s, err := r.b.connect(ctx, purpose)
	if err != nil {
		return err
	}
	defer s.close()
	doing := ""
	err = s.guard(ctx, func() error { return f(s, &doing) })
	switch {
	case err == nil:
		return nil
	case hasCode(err, amqp.AccessRefused):
		return misconfigured("%s%s: enrolling takes permission to configure, write and read queue and exchange %s",
			doing, reason(err), r.queue)
	case doing != "" && errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("RabbitMQ answers, and the queue does not. If it has no leader, it gets one by %s: %w",
			elect(r.b.vhost, r.queue), err)
	}
	return fmt.Errorf("%s%w", doing, err)
}

// publish puts the deployment behind what is in the queue, and that it has a store if it has, and returns the IDs of
// the messages when they are confirmed.
func (r *registry) publish(ctx context.Context, ch *amqp.Channel, e broker.Enrollment) (own []string, err error) {
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	for _, stored := range []bool{false, true} {
		if stored && !e.Stored {
			break
		}
		id := drainmark.NewProducerID().String() // 128 random bits
		own = append(own, id)
		if err := r.publishOne(ctx, ch, amqp.Publishing{
			DeliveryMode: amqp.Persistent, ContentType: "application/json", AppId: "drainmark", MessageId: id, Timestamp: time.Now(),
			Headers: amqp.Table{headerStored: stored}, Body: e.Encode(),
		}); err != nil {
			return nil, err
		}
	}
	return own, nil
}

// publishOne publishes until it is confirmed. A queue that is just being made, and has no leader yet, refuses (nack).
func (r *registry) publishOne(ctx context.Context, ch *amqp.Channel, m amqp.Publishing) error {
	retry := backoff.Backoff{First: 50 * time.Millisecond, Max: time.Second}
	for {
		confirmation, err := ch.PublishWithDeferredConfirm(r.queue, "", true, false, m)
		if err != nil {
			return err
		}
		confirmed, err := confirmation.WaitContext(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("waiting for the confirmation: %w", err)
		case confirmed:
			return nil
		case ch.IsClosed():
			return errors.New("the channel ended before the confirmation")
		case retry.Wait(ctx) != nil:
			return errors.New("RabbitMQ refuses it (nack)")
		}
	}
}

// read reads the queue from its beginning to the last of its own messages, and returns what is recorded. Unacknowledged
// messages go back when the channel is closed.
func (r *registry) read(ctx context.Context, ch *amqp.Channel, own []string) (recorded broker.Enrollment, err error) {
	deliveries, err := ch.ConsumeWithContext(ctx, r.queue, "", false, false, false, false, nil)
	if err != nil {
		return recorded, err
	}
	for number := 0; ; number++ {
		d, open := <-deliveries // guard ends it with the context
		if !open {
			return recorded, errors.New("the delivery ended too early")
		}
		e, err := broker.DecodeEnrollment(d.Body)
		if number == 0 {
			recorded = e
			if err != nil {
				return recorded, err
			}
		}
		stored, _ := d.Headers[headerStored].(bool)
		news := number == 0
		if stored && err == nil && !recorded.Stored && e.Deployment == recorded.Deployment {
			recorded.Stored, news = true, true
		}
		if !news && slices.Contains(own, d.MessageId) {
			if err := d.Ack(false); err != nil {
				return recorded, err
			}
		}
		if d.MessageId == own[len(own)-1] {
			return recorded, nil
		}
	}
}

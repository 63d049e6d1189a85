package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// lane is the channel that a partition's batches are published on. Publish is never called concurrently for one
// partition, so that it needs no lock.
type lane struct {
	queue    string
	state    *queueState
	session  *session
	declared time.Time // when the queue was declared last, over that session
	ch       *amqp.Channel
	returned chan amqp.Return
	closed   chan *amqp.Error // why RabbitMQ has closed the channel
}

// lateReturns is how many returned messages are kept until the next publish looks. Only publishes that nobody waits for
// leave some behind.
const lateReturns = 64

// Publish implements broker.Broker.
func (b *Broker) Publish(ctx context.Context, partition int, batch broker.Batch) error {
	if err := b.check(partition); err != nil {
		return err
	}
	if len(batch.Payload) > maxPayload {
		return drainmark.Errorf(drainmark.KindTooLarge, "a batch has %d bytes; the limit is %d", len(batch.Payload), maxPayload)
	}
	lane := b.lanes[partition]
	return b.explain("publishing to queue "+lane.queue, b.publish(ctx, lane, encode(batch)))
}

func (b *Broker) publish(ctx context.Context, lane *lane, message amqp.Publishing) error {
	s, err := b.publishing.get()
	if err == nil {
		err = s.full()
	}
	if err == nil {
		err = b.openLane(ctx, lane, s)
	}
	if err == nil {
		err = lane.state.rest(ctx, b.ctx)
	}
	if err != nil {
		return err
	}
	begun := time.Now()
	var confirmation *amqp.DeferredConfirmation
	err = s.guard(ctx, func() (err error) {
		confirmation, err = lane.ch.PublishWithDeferredConfirm("", lane.queue, true, false, message)
		return err
	})
	if err != nil {
		return err
	}
	acked, err := confirmation.WaitContext(ctx)
	if err != nil {
		// Closing the channel makes the broker forget what it could not store yet, so that retries do not pile up.
		lane.abandon(b)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			lane.state.isSilent(begun, b.config, b.vhost)
			if s.unconfirmed.Add(1) >= unconfirmedLimit {
				b.publishing.leave(s)
			}
		}
		return fmt.Errorf("waiting for the confirmation: %w", err)
	}
	return b.outcome(ctx, lane, acked, message.MessageId)
}

// unconfirmedLimit is after how many publishes that nobody confirmed, with none confirmed between them, a connection is
// given up. A queue that finds a new leader fails one at most. A node in the minority fails all.
const unconfirmedLimit = 2

// open makes sure that the lane has a channel of the session, and that its queue is there.
func (b *Broker) openLane(ctx context.Context, l *lane, s *session) error {
	stale := l.session != s || time.Since(l.declared) > b.config.Redeclare
	if !stale && l.ch != nil && !l.ch.IsClosed() {
		for len(l.returned) > 0 {
			<-l.returned
		}
		return nil
	}
	if l.session == s && l.ch != nil {
		l.abandon(b)
	}
	l.ch = nil // one that does not confirm must never be published on
	var ch *amqp.Channel
	err := s.guard(ctx, func() (err error) {
		if stale {
			if err := b.declare(s, l.state); err != nil {
				return err
			}
		}
		if ch, err = s.conn.Channel(); err != nil {
			return err
		}
		return ch.Confirm(false)
	})
	if err != nil {
		return fmt.Errorf("%w: opening a channel: %w", broker.ErrNotSent, err)
	}
	if stale {
		l.declared = time.Now()
	}
	l.session, l.ch, l.returned = s, ch, ch.NotifyReturn(make(chan amqp.Return, lateReturns))
	l.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
	return nil
}

// abandon closes the lane's channel in the background. The next publish opens another.
func (l *lane) abandon(b *Broker) {
	ch := l.ch
	l.ch = nil
	b.start(func() { _ = ch.Close() })
}

// outcome says how a publish ended that RabbitMQ has answered, or will never answer. An unroutable message is returned
// first and then confirmed all the same.
func (b *Broker) outcome(ctx context.Context, l *lane, acked bool, id string) error {
	for len(l.returned) > 0 {
		if r := <-l.returned; r.MessageId == id {
			l.abandon(b)
			l.session = nil // the next publish declares the queue again
			l.state.remade()
			return fmt.Errorf("RabbitMQ returned the batch: %s (%d): the queue was deleted, and with it what was in it", r.ReplyText, r.ReplyCode)
		}
	}
	switch {
	case acked:
		l.session.unconfirmed.Store(0)
		l.state.answers(b.config.Logger)
		return nil
	case l.ch.IsClosed():
		return l.ended()
	case b.mayBeFull(ctx, l.state):
		return fmt.Errorf("%w: RabbitMQ refused the batch (nack)", broker.ErrFull)
	}
	return errors.New("RabbitMQ refused the batch (nack), and does not say that the queue holds anything: " +
		"the queue may have lost the majority of its members")
}

// ended says why there will be no confirmation.
func (l *lane) ended() error {
	select {
	case why := <-l.closed:
		if why != nil && why.Code == amqp.AccessRefused {
			return misconfigured("RabbitMQ refuses us: %s", why.Reason)
		}
	default:
	}
	return errors.New("the connection ended before the confirmation")
}

// mayBeFull says whether a queue that refuses a batch can have reached its limit. RabbitMQ does not give its reason.
// But a queue that has nothing ready is not full unless all that it holds is in the hands of a consumer, which takes
// only so much. So it cannot reach its leader.
func (b *Broker) mayBeFull(ctx context.Context, queue *queueState) bool {
	ready, err := b.count(ctx, queue.name)
	return err == nil && ready > 0 || queue.maxBytes <= queue.inHand
}

func encode(b broker.Batch) amqp.Publishing {
	return amqp.Publishing{
		DeliveryMode: amqp.Persistent,
		ContentType:  "application/vnd.drainmark.batch",
		AppId:        "drainmark",
		MessageId:    b.Producer.String() + "-" + strconv.FormatUint(b.First, 10),
		Timestamp:    time.Now(),
		Headers: amqp.Table{
			broker.HeaderProducer:  b.Producer.String(),
			broker.HeaderPartition: int64(b.Partition),
			broker.HeaderFirst:     int64(b.First),
			broker.HeaderLast:      int64(b.Last),
			broker.HeaderRecords:   int64(b.Last - b.First + 1),
		},
		Body: b.Payload,
	}
}

// header reads what encode wrote. Anything else gives the zero header.
func header(partition int, from amqp.Table) broker.Header {
	return broker.ParseHeader(partition, func(name string) string {
		switch value := from[name].(type) {
		case string:
			return value
		case int64:
			return strconv.FormatInt(value, 10)
		}
		return ""
	})
}

// Backlog implements broker.Broker. RabbitMQ tells a client only how many messages of a queue are ready: neither what a
// consumer holds, nor how many records that is, nor whether they are persisted already. And it says 0 when the queue's
// leader does not answer in time (rabbit_quorum_queue:stat). So that number counts only ready messages, is never exact,
// and the number of pending ones is not known at all. While RabbitMQ blocks publishers it reads no question on their
// connection: then nothing is known.
func (b *Broker) Backlog(ctx context.Context, partition int, _ drainmark.Progress) (broker.Backlog, error) {
	if err := b.check(partition); err != nil {
		return broker.Backlog{}, err
	}
	ready, err := b.count(ctx, b.queue(partition))
	if errors.Is(err, broker.ErrFull) {
		return broker.Backlog{}, nil
	}
	if err != nil {
		return broker.Backlog{}, b.explain("counting queue "+b.queue(partition), err)
	}
	return broker.Backlog{Ready: &broker.Count{Records: uint64(ready)}}, nil
}

// count returns how many messages of a queue are ready. The question cannot be given up without cutting the connection,
// which everybody publishes on. So it goes on when ctx ends, which may be no more than an HTTP client that has gone, and
// only RabbitMQ's own silence cuts the connection. Those who ask at the same time share one question.
func (b *Broker) count(ctx context.Context, queue string) (int, error) {
	var ready int
	var err error
	answered := make(chan struct{})
	b.start(func() {
		defer close(answered)
		var shared any
		shared, err, _ = b.counting.Do(queue, func() (any, error) { return b.countNow(queue) })
		ready, _ = shared.(int)
	})
	select {
	case <-answered:
		return ready, err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-b.ctx.Done():
		return 0, broker.ErrClosed
	}
}

func (b *Broker) countNow(queue string) (ready int, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.config.Timeout)
	defer cancel()
	s, err := b.publishing.get()
	if err == nil {
		err = s.full() // waiting for an answer would end with cutting the connection
	}
	if err != nil {
		return 0, err
	}
	err = s.guard(ctx, func() (err error) { ready, err = countOn(s, queue); return err })
	return ready, err
}

func countOn(s *session, queue string) (int, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return 0, err
	}
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	return q.Messages, errors.Join(err, ignoreClosed(ch.Close()))
}

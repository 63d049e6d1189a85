package rabbitmq

import (
	"context"
	"errors"
	"regexp"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

// deliveryLimit is how often a message may be delivered: in practice, any number. RabbitMQ 4 drops a message after 20
// deliveries by default, and without a limit (-1) a message that is given back goes to the end of the queue.
const deliveryLimit = 1_000_000_000

// arguments of a queue. They are fixed when it is declared first.
func (b *Broker) arguments(maxBytes int64) amqp.Table {
	return amqp.Table{
		amqp.QueueTypeArg:            amqp.QueueTypeQuorum,
		amqp.SingleActiveConsumerArg: true,
		"x-delivery-limit":           int64(deliveryLimit),
		// When it is full it refuses publishes. Otherwise it would drop the oldest messages.
		amqp.QueueOverflowArg:    amqp.QueueOverflowRejectPublish,
		amqp.QueueMaxLenBytesArg: maxBytes,
	}
}

// declareAll declares every partition's queue, to see at the start what would not work. The lanes declare theirs again on
// each connection. It has a channel for each, because RabbitMQ closes the channel when it refuses something.
func (b *Broker) declareAll(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime*b.config.Timeout)
	defer cancel()
	return s.guard(ctx, func() error {
		for _, state := range b.states {
			if err := b.declare(s, state); err != nil {
				return err
			}
		}
		for _, state := range b.states {
			state.anew()
		}
		return nil
	})
}

func (b *Broker) declare(s *session, state *queueState) error {
	name, maxBytes := state.name, state.maxBytes
	declared, err := tryDeclare(s, name, b.arguments(maxBytes))
	if fixed, ok := otherLimit(err); ok && fixed != maxBytes {
		b.config.Logger.Warn("the queue's limit is another than backlog-bytes gives: it was fixed when the queue was made. A policy can lower it",
			"queue", name, "bytes", fixed, "wanted", maxBytes)
		declared, err = tryDeclare(s, name, b.arguments(fixed))
	}
	switch {
	case err == nil:
		state.seen(declared)
		return nil
	case !hasCode(err, amqp.PreconditionFailed, amqp.AccessRefused, amqp.ResourceLocked, amqp.NotImplemented):
		return err
	case hasCode(err, amqp.PreconditionFailed):
		return misconfigured("queue %q exists and is not what Drainmark needs, a quorum queue with a single active consumer: %s: "+
			"let what is in it be consumed by whoever made it, and delete it, or use another vhost", name, reason(err))
	}
	return misconfigured("declaring queue %q: %s", name, reason(err))
}

func tryDeclare(s *session, name string, arguments amqp.Table) (amqp.Queue, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return amqp.Queue{}, err
	}
	declared, err := ch.QueueDeclare(name, true, false, false, false, arguments)
	return declared, errors.Join(err, ignoreClosed(ch.Close()))
}

// ignoreClosed drops the error of closing what is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, amqp.ErrClosed) {
		return nil
	}
	return err
}

var otherLimitPattern = regexp.MustCompile(`inequivalent arg 'x-max-length-bytes' .*current is (?:the value )?'(\d+)'`)

// otherLimit finds the limit of an existing queue in RabbitMQ's refusal to declare it with another. There is no other
// way to learn it over AMQP.
func otherLimit(err error) (int64, bool) {
	if !hasCode(err, amqp.PreconditionFailed) {
		return 0, false
	}
	m := otherLimitPattern.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, false
	}
	limit, parseErr := strconv.ParseInt(m[1], 10, 64)
	return limit, parseErr == nil
}

package amqp10

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/Azure/go-amqp"
)

// queue is one that we need.
type queue struct {
	name     string
	maxBytes int64 // how much it may store
}

// flagBytes is how much the flag's and the registry's queues may store: some hundred thousand entries.
const flagBytes = 16 << 20

func (s *server) partition(p int) queue {
	return queue{fmt.Sprintf("%s.p%d", s.config.Prefix, p), s.config.MaxBytes / int64(max(s.config.Partitions, 1))}
}

func (s *server) side(name string) queue { return queue{s.config.Prefix + "." + name, flagBytes} }

// reach connects, and sees that the queue is there, or makes it. RabbitMQ 4 has two hitches, after which another connection
// does: it ends the session when it has an answer before the client library has said that one may come, which the library
// does by itself and somewhat late, and when others make the queue right now.
func (s *server) reach(ctx context.Context, purpose string, q queue) (*session, error) {
	const tries, pause = 20, 20 * time.Millisecond
	for try := 1; ; try++ {
		opened, err := s.connect(ctx, purpose)
		if err != nil {
			return nil, err
		}
		if err = opened.guard(ctx, func() error { return opened.declare(ctx, q) }); err == nil {
			return opened, nil
		}
		opened.drop()
		hitch := opened.product.manages && hasCondition(err, amqp.ErrCondPreconditionFailed, amqp.ErrCondInternalError)
		if !hitch || try == tries {
			return nil, opened.refusal(q, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// look connects to see that the queue is there and drops nothing, or to make it.
func (s *server) look(ctx context.Context, q queue) error {
	opened, err := s.reach(ctx, "looking", q)
	if err != nil {
		return err
	}
	defer opened.close()
	if opened.product.manages || opened.product.blind {
		return nil // it has been seen
	}
	return opened.refusal(q, opened.guard(ctx, func() error { return opened.look(ctx, q) }))
}

// use is reach, and returns when the queue may be used.
func (s *server) use(ctx context.Context, purpose string, q queue) (*session, error) {
	opened, err := s.reach(ctx, purpose, q)
	if err != nil {
		return nil, err
	}
	if err = s.rests.wait(ctx, q.name); err != nil {
		opened.drop()
		return nil, err
	}
	return opened, nil
}

// refusal tells apart what somebody has to change before the server lets us use a queue.
func (s *session) refusal(q queue, err error) error {
	switch {
	case hasCondition(err, amqp.ErrCondNotFound, amqp.ErrCondResourceDeleted):
		return misconfigured("%s has no queue %s (%v): %s", s.product.name, q.name, err, s.product.howTo(q))
	case notAllowed(err):
		return misconfigured("%s does not let us use queue %s (%v): give the user the right, or %s", s.product.name, q.name, err, s.product.howTo(q))
	}
	return err
}

// declare sees that the queue is there and as it must be, or makes it, where attaching a link to it does not.
func (s *session) declare(ctx context.Context, q queue) error {
	switch {
	case s.product.manages:
		return s.manage(ctx, q)
	case s.product.blind:
		return s.lookAside(ctx, q)
	case s.product.tells:
		return s.examine(ctx, q)
	}
	return nil
}

// look sees that the queue is there, and that we may do something with it: a backend may send, and a consumer receive.
func (s *session) look(ctx context.Context, q queue) error {
	if s.product.manages || s.product.blind {
		return s.declare(ctx, q)
	}
	sender, err := s.sender(ctx, q)
	if err == nil {
		return sender.Close(ctx)
	}
	if !notAllowed(err) {
		return err
	}
	receiver, err := s.receiver(ctx, q, 0)
	if err != nil {
		return err
	}
	return receiver.Close(ctx)
}

// lookAside sees that there is a queue where a sender is let attach without one. It takes no message: it gives no credit. It
// has a connection of its own because RabbitMQ's plugin does not say that a link that it has detached is closed, and the
// client library waits for that.
func (s *session) lookAside(ctx context.Context, q queue) error {
	other, err := s.server.connect(ctx, "looking for "+q.name)
	if err != nil {
		return err
	}
	defer other.close()
	if _, err = other.receiver(ctx, q, 0); err == nil {
		s.server.rests.seen(q.name, false, false)
	}
	return err
}

// notAllowed says whether the server refuses us for what we may not do. Artemis has another condition where it makes a queue.
func notAllowed(err error) bool {
	var said *amqp.Error
	return hasCondition(err, amqp.ErrCondUnauthorizedAccess, amqp.ErrCondNotAllowed) ||
		errors.As(err, &said) && strings.Contains(said.Description, "does not have permission")
}

package amqp10

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark"
)

// journal is a queue that is read from its beginning, and not emptied: the flag's and the registry's. Who reads it
// publishes an entry of its own and reads to that one, so that all that was confirmed before has been seen. Only one reads
// at a time, because a queue has one receiver at a time. So nobody sees it without what another one holds.
type journal struct {
	server *server
	queue  queue
}

// The application properties of an entry.
const (
	entryID   = "Drainmark_Entry"
	entryKind = "Drainmark_Kind"
)

// kindLook is an entry that says nothing.
const kindLook = "look"

// entry makes an entry. No two have the same id.
func entry(kind, text string) *amqp.Message {
	id := drainmark.NewProducerID().String() // 128 random bits
	return durable(id, []byte(text), map[string]any{entryID: id, entryKind: kind})
}

func textOf(m *amqp.Message, property string) string {
	text, _ := m.ApplicationProperties[property].(string)
	return text
}

// lookAgain is after how long a reader that has not found its entry publishes another: somebody else may have
// acknowledged it.
const lookAgain = 500 * time.Millisecond

// reading is a journal that is being read.
type reading struct {
	link *inbound
	lane *lane
}

// read lets f read the journal, over a connection of its own. What f does not acknowledge goes back.
func (j journal) read(ctx context.Context, lane *lane, f func(ctx context.Context, r *reading) error) error {
	ctx, cancel := j.server.during(ctx, PublishAttempt)
	defer cancel()
	s, err := j.server.use(ctx, "reading "+j.queue.name, j.queue)
	if err != nil {
		return err
	}
	defer s.close()
	return s.guard(ctx, func() error {
		link, err := s.receiver(ctx, j.queue, prefetch)
		if err != nil {
			return s.refusal(j.queue, err)
		}
		return f(ctx, &reading{link, lane})
	})
}

// through publishes an entry, gives each that comes to take, and returns behind its own. An entry that take wants no more
// is acknowledged by it.
func (r *reading) through(ctx context.Context, own *amqp.Message, take func(*amqp.Message) error) error {
	for {
		if err := r.lane.publish(ctx, own); err != nil {
			return err
		}
		found, err := r.until(ctx, textOf(own, entryID), take)
		if err != nil || found {
			return err
		}
	}
}

// until reads to an entry, or until it is time to publish it again.
func (r *reading) until(ctx context.Context, id string, take func(*amqp.Message) error) (found bool, err error) {
	again, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	for {
		m, err := r.link.next(again)
		switch {
		case ctx.Err() != nil:
			return false, fmt.Errorf("waiting for what others hold: %w", ctx.Err())
		case errors.Is(err, context.DeadlineExceeded):
			return false, nil
		case err != nil:
			return false, err
		}
		if err := take(m); err != nil {
			return false, fmt.Errorf("acknowledging: %w", err)
		}
		if textOf(m, entryID) == id {
			return true, nil
		}
	}
}

package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/broker"
)

// queueState is what this process knows of a queue. Its methods may be called concurrently.
//
// A queue that has just been made must rest. RabbitMQ confirms the declaration of a queue, and messages published to
// it, before it has durably written which member of the queue is this node's (ra_directory.erl: names.dets, up to a
// second later). If the node is killed meanwhile, it comes back with a new, empty member, and the confirmed messages
// are gone. So nothing is published to a queue, and nobody consumes it, before it has been known for Config.Settle. A
// queue in which there is a message, or which has a consumer, has rested: somebody else has waited before.
type queueState struct {
	name       string
	maxBytes   int64 // how much it may store
	inHand     int64 // how much of that a consumer may hold for long
	settle     time.Duration
	readAtOnce bool // somebody may consume it who has not waited

	mu      sync.Mutex
	settled bool
	since   time.Time // when it was seen first, with nothing and nobody in it
	silent  time.Time // since when it has answered nothing, zero if it answers
	told    bool      // that it is silent
}

// seen notes what RabbitMQ has said when the queue was declared.
func (q *queueState) seen(declared amqp.Queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settled = q.settled || declared.Messages > 0 || declared.Consumers > 0 && !q.readAtOnce
	if q.since.IsZero() {
		q.since = time.Now()
	}
}

// anew lets the rest begin anew, because other queues were made after this one: RabbitMQ writes them down together.
func (q *queueState) anew() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.since = time.Now()
}

// remade notes that somebody has deleted the queue. The next declaration makes it anew.
func (q *queueState) remade() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settled, q.since = false, time.Time{}
}

// left is how long the queue has still to rest.
func (q *queueState) left() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if left := q.settle - time.Since(q.since); !q.settled && left > 0 {
		return left
	}
	q.settled = true
	return 0
}

// rest waits until the queue has settled, or one of the contexts ends.
func (q *queueState) rest(ctx, closed context.Context) error {
	left := q.left()
	if left == 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return q.rest(ctx, closed)
	case <-ctx.Done():
		return fmt.Errorf("%w: the queue may have just been made, and rests: %w", broker.ErrNotSent, ctx.Err())
	case <-closed.Done():
		return broker.ErrClosed
	}
}

// answers notes that the queue has done something.
func (q *queueState) answers(logger *slog.Logger) {
	q.mu.Lock()
	told := q.told
	q.silent, q.told = time.Time{}, false
	q.mu.Unlock()
	if told {
		logger.Info("the queue answers again", "queue", q.name)
	}
}

// isSilent notes that the queue has not answered since a time, though RabbitMQ did. It is logged once it has been so for
// longer than the choice of a new leader takes.
func (q *queueState) isSilent(since time.Time, c Config, vhost string) {
	q.mu.Lock()
	if q.silent.IsZero() {
		q.silent = since
	}
	silent := time.Since(q.silent)
	tell := silent >= c.Silence && !q.told
	q.told = q.told || tell
	q.mu.Unlock()
	if tell {
		c.Logger.Error("a queue answers nothing, though RabbitMQ does: it has no leader. Nothing gets into its partition "+
			"or out of it until it has one: see that the nodes of its members run, and if they do, have them elect one",
			"queue", q.name, "for", silent.Round(time.Second), "elect", elect(vhost, q.name))
	}
}

// plain is a vhost that needs no quoting.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)

// elect is the command by which a queue gets a leader on a node that should have one. It does no harm elsewhere.
func elect(vhost, queue string) string {
	if !plain.MatchString(vhost) {
		vhost = "VHOST"
	}
	return fmt.Sprintf(`rabbitmqctl eval '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"%s">>, queue, <<"%s">>)), `+
		`{Name, _} = amqqueue:get_pid(Q), ra:trigger_election({Name, node()}).'`, vhost, queue)
}

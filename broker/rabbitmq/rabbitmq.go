// Package rabbitmq is the broker on RabbitMQ 3.10 or newer, over AMQP 0-9-1.
//
// Each partition is one durable quorum queue, "drainmark.p0" for partition 0, with a single active consumer. A batch is
// one persistent message, published through the default exchange, and its headers say what it holds. A publish counts
// when the broker has confirmed it, which a quorum queue does when a majority of its members has written it to disk and
// flushed it.
//
// Three things keep the order, so that Traits.Ordered holds:
//   - Only one consumer is active at a time. When it goes, the broker first takes back what it held, sorted, at the head
//     of the queue, and then activates the next.
//   - A receiver never gives single messages back (nack, reject) and never cancels its consumer while it holds some:
//     both put them behind others, or let the next consumer overtake them. It closes its channel.
//   - All receivers have the same prefetch. So all that one of them held fits into the hands of the next. With a
//     smaller prefetch, a second death would return the first part behind the rest.
package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/hosts"
)

// Config is where the broker is and how to use it. Zero values mean the defaults.
type Config struct {
	// URL is amqp:// or amqps://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/VHOST][?…]. Several hosts must be members
	// of one cluster, and one is used at a time. The query may have heartbeat (seconds), and for amqps cacertfile,
	// certfile and keyfile (paths of PEM files), server_name_indication and auth_mechanism
	// (https://www.rabbitmq.com/docs/uri-query-parameters). User, password and vhost are percent-encoded.
	URL string
	// Credentials is called for each connection, and says user and password in place of the URL's. It must not block.
	// Nil for the URL's.
	Credentials func() (user, password string)

	Partitions int           // how many the deployment has: 1 to drainmark.MaxPartitions, required
	Prefix     string        // what the queues' names begin with (default "drainmark")
	MaxBytes   int64         // how much all partitions together may store (default 10 GiB)
	Timeout    time.Duration // how long to wait for an answer of RabbitMQ, except a confirmation (default 5 s)
	Settle     time.Duration // how long a queue that may have just been made is left alone (default 2 s)
	Silence    time.Duration // how long a queue may answer nothing until that is logged as an error (default 45 s)
	Idle       time.Duration // how long a receiver may get nothing though something is ready (default 8 s)
	Redeclare  time.Duration // how often a queue that is published to is declared again (default 30 s)
	Logger     *slog.Logger  // nil discards
}

// PublishAttempt is how long one Publish should be given. RabbitMQ's own queue client needs up to nine seconds to find
// a queue's new leader, and then the batch is confirmed after all. A publisher that gives up sooner and publishes
// again, over a new channel, begins with the old leader, for as long as that one hangs.
const PublishAttempt = 15 * time.Second

const (
	defaultMaxBytes = 10 << 30
	defaultTimeout  = 5 * time.Second
	// defaultSettle is twice as long as RabbitMQ takes to write down which queues it has, if no others are made meanwhile.
	defaultSettle = 2 * time.Second
	// defaultSilence is far longer than a queue needs to find a new leader.
	defaultSilence = 45 * time.Second
	defaultIdle    = 8 * time.Second
	// defaultRedeclare: a queue of another type that somebody has put in a queue's place would confirm what it does not keep.
	defaultRedeclare = 30 * time.Second
	// maxPayload is far below RabbitMQ's own limit (128 MiB, and 16 MiB from 4.0): larger batches only cost memory.
	maxPayload = 1 << 20
	// prefetch is how many batches a receiver holds at most, and so bounds its memory, to 64 MiB a partition. It must be
	// the same in all consumers of a deployment: see the package's comment.
	prefetch = 64
	// heartbeat is how often the peers show that they live. Two that fail to come end the connection, so a peer that
	// hangs is noticed after about six seconds, a lease's time. RabbitMQ's default is a minute.
	heartbeat = 3 * time.Second
	// openTime bounds making a subscription. RabbitMQ's own queue client needs up to nine seconds to find a new leader,
	// and a new attempt begins with the old one.
	openTime = 15 * time.Second
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func (c Config) withDefaults() (Config, error) {
	if c.Partitions < 1 || c.Partitions > drainmark.MaxPartitions {
		return c, misconfigured("%d partitions: there must be 1 to %d", c.Partitions, drainmark.MaxPartitions)
	}
	if c.Prefix == "" {
		c.Prefix = "drainmark"
	}
	if !prefixPattern.MatchString(c.Prefix) {
		return c, misconfigured("prefix %q: it must have 1 to 64 letters, digits, -, _ or .", c.Prefix)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if least := 2 * int64(c.Partitions) * maxPayload; c.MaxBytes < least {
		return c, misconfigured("MaxBytes is %d: for %d partitions it must be at least %d", c.MaxBytes, c.Partitions, least)
	}
	for _, d := range []struct {
		setting *time.Duration
		usual   time.Duration
	}{
		{&c.Timeout, defaultTimeout}, {&c.Settle, defaultSettle}, {&c.Silence, defaultSilence},
		{&c.Idle, defaultIdle}, {&c.Redeclare, defaultRedeclare},
	} {
		*d.setting = cmp.Or(*d.setting, d.usual)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", broker.ErrMisconfigured, fmt.Sprintf(format, args...))
}

// Broker implements broker.Broker on one connection to publish and to ask, and one for each receiver. They are apart
// because RabbitMQ stops reading from a connection that publishes when it is short of memory or disk, and would not see
// the acknowledgements, which give it room. Also, a queue that does not answer must not disturb the others, and the
// client library cannot give a call up except by cutting the connection.
type Broker struct {
	config    Config
	endpoints []endpoint
	troubles  hosts.Troubles
	ctx       context.Context // ends with Close
	cancel    context.CancelCauseFunc
	running   sync.WaitGroup

	vhost      string
	publishing *link
	states     []*queueState // one a partition
	lanes      []*lane       // one a partition
	flag       *flag
	counting   singleflight.Group // by queue
	pinging    singleflight.Group

	mu        sync.Mutex
	receivers map[*receiver]struct{} // those that are open, nil when the broker is closed
}

var _ broker.Broker = (*Broker)(nil)

// Open returns the broker. It need not be up: it is then connected to in the background, for as long as it takes.
// ErrMisconfigured if it answers, and refuses us or has other queues than we need.
func Open(ctx context.Context, c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	endpoints, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	b := &Broker{config: c, endpoints: endpoints, vhost: endpoints[0].vhost, receivers: map[*receiver]struct{}{}}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	for p := range c.Partitions {
		state := &queueState{name: b.queue(p), maxBytes: c.MaxBytes / int64(c.Partitions), inHand: prefetch * maxPayload, settle: c.Settle}
		b.states = append(b.states, state)
		b.lanes = append(b.lanes, &lane{queue: state.name, state: state})
	}
	b.flag = newFlag(b)
	b.publishing = &link{b: b, changed: make(chan struct{})}
	b.start(b.publishing.keep)
	err = b.tryOut(ctx)
	if errors.Is(err, broker.ErrMisconfigured) {
		_ = b.Close()
		return nil, err
	}
	if err != nil {
		c.Logger.Warn("RabbitMQ could not be checked; it is tried further", "error", err)
	}
	return b, nil
}

// tryOut connects, and declares all queues.
func (b *Broker) tryOut(ctx context.Context) error {
	connecting, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	s, err := b.publishing.await(connecting)
	if err != nil {
		return err
	}
	return b.declareAll(ctx, s)
}

// queue returns the name of a partition's queue.
func (b *Broker) queue(partition int) string {
	return fmt.Sprintf("%s.p%d", b.config.Prefix, partition)
}

// Keeps implements broker.Broker: nothing that is acknowledged is delivered again.
func (b *Broker) Keeps(context.Context, int, []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	return nil, nil
}

// Flag implements broker.Broker.
func (b *Broker) Flag() broker.Flag { return b.flag }

// Traits implements broker.Broker.
func (b *Broker) Traits() broker.Traits {
	return broker.Traits{Ordered: true, MaxPayload: maxPayload}
}

// Ping implements broker.Broker: RabbitMQ must open a channel on the connection that is published on. It asks no queue,
// so that one that does not answer is not taken for all. RabbitMQ does not say whether a queue is full.
func (b *Broker) Ping(ctx context.Context) error {
	s, err := b.publishing.get()
	if err == nil {
		err = s.full() // then RabbitMQ reads nothing more from this connection, and would not answer
	}
	if err == nil {
		err = b.answers(ctx, s)
	}
	return b.explain("asking whether RabbitMQ is well", err)
}

// answers asks RabbitMQ for something small. The question cannot be given up, but it ends with the connection, which
// without an answer the heartbeats end. Those who ask at the same time share one.
func (b *Broker) answers(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	answer := make(chan error, 1)
	b.start(func() {
		_, err, _ := b.pinging.Do("", func() (any, error) {
			ch, err := s.conn.Channel()
			if err != nil {
				return nil, err
			}
			return nil, ignoreClosed(ch.Close())
		})
		answer <- err
	})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ctx.Done():
		return broker.ErrClosed
	}
}

// check returns an error if the broker is closed or has no such partition.
func (b *Broker) check(partition int) error {
	if b.ctx.Err() != nil {
		return broker.ErrClosed
	}
	if partition < 0 || partition >= b.config.Partitions {
		return drainmark.Errorf(drainmark.KindInvalid, "partition %d: this deployment has 0 to %d", partition, b.config.Partitions-1)
	}
	return nil
}

// explain wraps an error with what was being done. Once the broker is closed, that is why.
func (b *Broker) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if b.ctx.Err() != nil {
		err = broker.ErrClosed
	}
	return fmt.Errorf("%s: %w", what, err)
}

// start runs f until Close, which waits for it. After Close it does nothing.
func (b *Broker) start(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.receivers != nil {
		b.running.Go(f)
	}
}

// Close implements broker.Broker. It takes at most some seconds.
func (b *Broker) Close() error {
	b.mu.Lock()
	open := b.receivers
	b.receivers = nil
	b.mu.Unlock()
	b.cancel(broker.ErrClosed)
	var closing sync.WaitGroup
	for r := range open {
		closing.Go(func() { _ = r.Close() })
	}
	closing.Wait()
	b.running.Wait()
	return nil
}

// endpoint is one member of the cluster.
type endpoint struct {
	url   string // with the password: never to be shown
	host  string // to be shown
	vhost string
}

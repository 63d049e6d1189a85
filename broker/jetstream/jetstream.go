// Package jetstream is the broker on NATS JetStream: an external server or cluster (Open), or a server embedded in this
// process (Embed).
//
// Each partition is one file stream, which keeps its log: "drainmark-p0" for partition 0 of the deployment with the
// prefix "drainmark". A batch is one message on the subject "drainmark.p0.<producer>", and its headers say what it
// holds. Nothing is consumed: receivers read behind the store's cursor, without acknowledgements to NATS, and messages
// acknowledged here are purged when the replay window has passed or the stream is half full: now and then, and at once
// where the stream is nearly full. The newest message of each producer stays for longer, because it says how many
// records that producer has ever published: so the backlog is exact.
//
// A confirmed batch is on the disk (fsync) with the embedded server, and with an external one that is configured with
// "sync_interval: always". NATS's own default is to sync every two minutes.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// Options are what an external and an embedded broker have in common. Zero values mean the defaults.
type Options struct {
	Partitions        int           // how many the deployment has, up to MaxPartitions, required except for a registry
	Prefix            string        // of streams and subjects: letters, digits, - and _ (default "drainmark")
	MaxBytes          int64         // how much all partitions together may store (default 10 GiB)
	ReplayWindow      time.Duration // how long acknowledged batches are kept, if there is room (default 1 h)
	ProducerRetention time.Duration // of a producer's newest message, at least the replay window (default 7 days)
	Timeout           time.Duration // how long to wait for an answer of NATS, such as a confirmation (default 5 s)
	PurgeInterval     time.Duration // how often to look for what can be purged (default 2 s)
	Logger            *slog.Logger  // nil discards
}

const (
	defaultMaxBytes   = 10 << 30
	minPartitionBytes = 64 << 10
	// headerRoom is what headers may take of NATS's limit on a message. Ours take some 250 bytes.
	headerRoom = 1 << 10
	// defaultMaxPayload is an external server's limit unless it says otherwise (NATS's own default).
	defaultMaxPayload = 1<<20 - headerRoom
	// largestPayload is the most that Traits ever claim: larger batches only cost memory.
	largestPayload = 8<<20 - headerRoom
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// withDefaults returns the options with their zero values filled in.
func (o Options) withDefaults() (Options, error) {
	o.Prefix = orDefault(o.Prefix, "drainmark")
	if !prefixPattern.MatchString(o.Prefix) {
		return o, misconfigured("prefix %q: it must have 1 to 64 letters, digits, - or _", o.Prefix)
	}
	o.MaxBytes = orDefault(o.MaxBytes, defaultMaxBytes)
	o.ReplayWindow = orDefault(o.ReplayWindow, time.Hour)
	o.ProducerRetention = orDefault(o.ProducerRetention, 7*24*time.Hour)
	o.Timeout = orDefault(o.Timeout, 5*time.Second)
	o.PurgeInterval = orDefault(o.PurgeInterval, 2*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if min(o.ReplayWindow, o.ProducerRetention, o.Timeout, o.PurgeInterval) < 0 {
		return o, misconfigured("a duration is negative: ReplayWindow, ProducerRetention, Timeout or PurgeInterval")
	}
	o.ProducerRetention = max(o.ProducerRetention, o.ReplayWindow)
	return o, nil
}

// checkPartitions is for those that need them: a registry does not.
func (o Options) checkPartitions() error {
	if o.Partitions < 1 || o.Partitions > drainmark.MaxPartitions {
		return misconfigured("%d partitions: there must be 1 to %d", o.Partitions, drainmark.MaxPartitions)
	}
	if o.MaxBytes = orDefault(o.MaxBytes, defaultMaxBytes); o.partitionBytes() < minPartitionBytes {
		return misconfigured("MaxBytes is %d: it must be at least %d for each of the %d partitions", o.MaxBytes, minPartitionBytes, o.Partitions)
	}
	return nil
}

func orDefault[V comparable](v, otherwise V) V {
	var zero V
	if v == zero {
		return otherwise
	}
	return v
}

// partitionBytes is how much one partition may store.
func (o Options) partitionBytes() int64 { return o.MaxBytes / int64(o.Partitions) }

// maxPayload returns the trait for a server that takes messages of this size, headers included. A partition must
// always have room for two, or a full one could never be emptied.
func (o Options) maxPayload(message int64) int {
	return int(min(message-headerRoom, largestPayload, o.partitionBytes()/2-headerRoom))
}

func misconfigured(format string, args ...any) error {
	return fmt.Errorf("%w: %s", broker.ErrMisconfigured, fmt.Sprintf(format, args...))
}

// Broker implements broker.Broker on one NATS connection.
type Broker struct {
	options    Options
	traits     broker.Traits
	conn       *connection
	process    *process // the embedded server, or nil
	owner      bool     // Close stops the embedded server
	partitions []*partition
	purgeNow   chan struct{} // has something in it when a partition is to be purged as soon as possible

	running sync.WaitGroup
	closing sync.Once
	closed  error // what Close returned

	mu        sync.Mutex
	receivers map[*receiver]struct{} // those that are open, nil when the broker is closed
}

var _ broker.Broker = (*Broker)(nil)

// newBroker makes the broker on a connection that need not be up yet.
func newBroker(o Options, conn *connection, config natsjs.StreamConfig, maxPayload int, process *process) *Broker {
	b := &Broker{
		options:   o,
		traits:    broker.Traits{Replays: true, Ordered: true, ExactBacklog: true, MaxPayload: maxPayload},
		conn:      conn,
		process:   process,
		receivers: map[*receiver]struct{}{},
		purgeNow:  make(chan struct{}, 1),
	}
	for number := range o.Partitions {
		b.partitions = append(b.partitions, newPartition(b, number, config))
	}
	b.start(b.purgeRegularly)
	return b
}

// Traits implements broker.Broker.
func (b *Broker) Traits() broker.Traits { return b.traits }

// Flag implements broker.Broker: the backlog is exact, so there is none.
func (b *Broker) Flag() broker.Flag { return nil }

// Ping implements broker.Broker: it asks every partition's stream how it is, and whether it is as it must be.
func (b *Broker) Ping(ctx context.Context) error {
	ctx, cancel := b.conn.during(ctx, b.options.Timeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range b.partitions {
		group.Go(func() error {
			info, err := p.info(ctx)
			if err != nil {
				return because(ctx, err)
			}
			if err := p.check(info.Config); err != nil {
				return err
			}
			return p.full(ctx)
		})
	}
	err := group.Wait()
	if err == nil && b.process != nil {
		err = b.process.room(0, false)
	}
	return b.explain("asking whether NATS is well", err)
}

// partition returns one of the partitions while the broker is open.
func (b *Broker) partition(number int) (*partition, error) {
	if b.conn.ctx.Err() != nil {
		return nil, broker.ErrClosed
	}
	if number < 0 || number >= len(b.partitions) {
		return nil, drainmark.Errorf(drainmark.KindInvalid, "partition %d: this deployment has 0 to %d", number, len(b.partitions)-1)
	}
	return b.partitions[number], nil
}

// start runs f until Close, which waits for it. After Close it does nothing.
func (b *Broker) start(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.receivers != nil {
		b.running.Go(f)
	}
}

// explain wraps an error with what was being done. Once the broker is closed, that is why.
func (b *Broker) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if b.conn.ctx.Err() != nil {
		err = broker.ErrClosed
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Close implements broker.Broker. It takes at most some seconds.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		b.conn.end(broker.ErrClosed)
		b.mu.Lock()
		open := b.receivers
		b.receivers = nil
		b.mu.Unlock()
		for r := range open {
			r.end()
		}
		b.running.Wait()
		b.conn.close()
		if b.owner {
			b.closed = b.process.close()
		}
	})
	return b.closed
}

// answered says whether NATS itself has given this error as its answer, with this code.
func answered(err error, code natsjs.ErrorCode) bool {
	var answer *natsjs.APIError
	return errors.As(err, &answer) && answer.ErrorCode == code
}

// Open makes the broker for an external NATS server or cluster. It waits up to two seconds for the connection, and goes
// on trying in the background: the broker can be made while NATS is down. Fails with broker.ErrMisconfigured if the
// configuration cannot work.
func Open(ctx context.Context, c Config) (*Broker, error) {
	if err := c.checkPartitions(); err != nil {
		return nil, err
	}
	c, conn, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	message := int64(defaultMaxPayload + headerRoom)
	if conn.IsConnected() {
		message = conn.MaxPayload()
	}
	b := newBroker(c.Options, conn, streamConfig(c.Options, c.Replicas), c.maxPayload(message), nil)
	if err := b.prepare(ctx); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// prepare makes and checks the streams of all partitions. Errors in them are better reported now than by the first
// append to one. If NATS does not answer, errors are reported later.
func (b *Broker) prepare(ctx context.Context) error {
	if !b.conn.IsConnected() {
		return nil
	}
	ctx, cancel := b.conn.during(ctx, b.options.Timeout)
	defer cancel()
	for _, p := range b.partitions {
		_, err := p.ready(ctx)
		if errors.Is(err, broker.ErrMisconfigured) {
			return err
		}
		if err != nil {
			b.options.Logger.Warn("a partition's stream is not known to be there yet", "partition", p.number, "error", because(ctx, err))
			return nil
		}
	}
	return nil
}

package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark/broker"
)

// feed delivers a stream's messages strictly in order, or fails. It has a consumer of its own on the server, which
// forgets what it has delivered (no acknowledgements) and lives in memory, so that it ends with the server and never
// goes on at another place. The feed fetches messages in portions, one at a time, so that no more than one portion
// waits in memory. It is used by one goroutine.
type feed struct {
	conn     *connection
	quit     context.Context // ends when the feed is no longer wanted
	whole    context.Context // ends when the connection that the feed began on breaks, or does not let us ask for messages
	done     func()          // ends that, and frees it
	consumer natsjs.Consumer
	pending  uint64 // how many messages there were for it at its beginning

	portion  natsjs.MessageBatch
	messages <-chan natsjs.Msg // the portion's, nil if none is being fetched
	bytes    int               // how large a portion may be
	taken    bool              // the portion has delivered something
	asked    time.Time         // when it was asked for
	next     uint64            // the consumer's number of the next message
	began    time.Time
	again    <-chan time.Time // when to ask again, while the consumer is not known everywhere in the cluster
}

const (
	portionMessages = 1000
	portionBytes    = 8 << 20
	maxPortionBytes = 128 << 20
	// While a portion waits for messages, something comes this often. After twice that, NATS has fallen silent.
	heartbeat = 2500 * time.Millisecond
	// A portion that is larger than it may be ends at once, and one for which nothing comes after NATS's 30 seconds.
	atOnce = 15 * time.Second
	// A new consumer takes a moment to become known to the cluster's member that this process is connected to.
	becomesKnown = 5 * time.Second
	askAgain     = 10 * time.Millisecond
	// consumerLinger is how long the server keeps a consumer that nobody asks for anything.
	consumerLinger = 10 * time.Minute
	// messageOverhead bounds what NATS counts of a message beyond what its own limit counts: its subjects.
	messageOverhead = 1 << 10
)

// errSkipped ends a feed.
var errSkipped = errors.New("a message was skipped on its way")

// newFeed begins to deliver as the consumer configuration says, which sets the policy and the filter. Waiting calls get
// the cause of quit when it is over.
func newFeed(ctx, quit context.Context, conn *connection, stream string, config natsjs.ConsumerConfig) (*feed, error) {
	config.AckPolicy = natsjs.AckNonePolicy
	config.MemoryStorage = true
	config.Replicas = 1
	config.InactiveThreshold = consumerLinger
	whole := conn.now()
	create := func(ctx context.Context) (natsjs.Consumer, error) { return conn.js.CreateConsumer(ctx, stream, config) }
	consumer, err := ask(ctx, conn, create, conn.api+"CONSUMER.CREATE."+stream)
	if err != nil {
		return nil, err
	}
	f := &feed{
		conn:     conn,
		quit:     quit,
		consumer: consumer,
		pending:  consumer.CachedInfo().NumPending,
		bytes:    max(portionBytes, int(conn.MaxPayload())+messageOverhead),
		next:     1,
		began:    time.Now(),
	}
	f.whole, f.done = conn.asking(whole, f.subject("MSG.NEXT"))
	return f, nil
}

// subject is what NATS is asked on about the consumer.
func (f *feed) subject(what string) string {
	info := f.consumer.CachedInfo()
	return f.conn.api + "CONSUMER." + what + "." + info.Stream + "." + info.Name
}

// receive returns the next message. Without wait it returns nil if none is at hand.
func (f *feed) receive(ctx context.Context, wait bool) (natsjs.Msg, *natsjs.MsgMetadata, error) {
	for {
		if err := f.request(); err != nil {
			return nil, nil, err
		}
		var m natsjs.Msg
		open := true
		select {
		case m, open = <-f.messages:
		default:
			if !wait {
				return nil, nil, nil
			}
			select {
			case m, open = <-f.messages:
			case <-f.again:
				f.again = nil
				continue
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			case <-f.quit.Done():
				return nil, nil, context.Cause(f.quit)
			}
		}
		if open {
			return f.place(m)
		}
		if err := f.ended(); err != nil {
			return nil, nil, err
		}
	}
}

// request asks for a portion unless one is under way.
func (f *feed) request() (err error) {
	if f.messages != nil || f.again != nil {
		return nil
	}
	f.portion, err = f.consumer.Fetch(portionMessages, natsjs.FetchMaxBytes(f.bytes), natsjs.FetchHeartbeat(heartbeat),
		natsjs.FetchContext(f.whole))
	if err != nil {
		return fmt.Errorf("asking for messages: %w", err)
	}
	f.messages, f.asked, f.taken = f.portion.Messages(), time.Now(), false
	return nil
}

// place returns the message with its place in the stream, if it is the next one.
func (f *feed) place(m natsjs.Msg) (natsjs.Msg, *natsjs.MsgMetadata, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, nil, fmt.Errorf("reading a message's place: %w", err)
	}
	if meta.Sequence.Consumer != f.next {
		return nil, nil, fmt.Errorf("%w: number %d came instead of %d", errSkipped, meta.Sequence.Consumer, f.next)
	}
	f.next++
	f.taken = true
	return m, meta, nil
}

// ended takes the end of a portion. It returns why there cannot be another one, or nil.
func (f *feed) ended() error {
	err := f.portion.Error()
	f.messages = nil
	switch {
	case f.whole.Err() != nil:
		return context.Cause(f.whole)
	case errors.Is(err, nats.ErrNoResponders) && f.next == 1 && time.Since(f.began) < becomesKnown:
		f.again = time.After(askAgain)
	case err != nil:
		return fmt.Errorf("NATS ended the delivery: %w", err)
	case !f.taken && time.Since(f.asked) < atOnce: // the next message alone is larger than a portion
		if f.bytes *= 2; f.bytes > maxPortionBytes {
			return fmt.Errorf("a message is larger than %d bytes", maxPortionBytes)
		}
	}
	return nil
}

// alive says whether the consumer is still there, which means that its stream has not been restarted or replaced. Its error
// is what somebody has to change.
func (f *feed) alive(ctx context.Context) (bool, error) {
	if f.whole.Err() != nil {
		return false, nil
	}
	_, err := ask(ctx, f.conn, f.consumer.Info, f.subject("INFO"))
	if errors.Is(err, broker.ErrMisconfigured) {
		return false, err
	}
	return err == nil, nil
}

// close frees the consumer, if the server can be reached. Otherwise it goes by itself after a while.
func (f *feed) close() {
	f.done()
	if !f.conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	ctx, done := f.conn.asking(ctx, f.subject("DELETE"))
	defer done()
	info := f.consumer.CachedInfo()
	switch err := because(ctx, f.conn.js.DeleteConsumer(ctx, info.Stream, info.Name)); {
	case errors.Is(err, broker.ErrMisconfigured):
		f.conn.logger.Warn("deleting a consumer, which goes by itself after a while", "stream", info.Stream, "error", err)
	case err != nil && !errors.Is(err, natsjs.ErrConsumerNotFound):
		f.conn.logger.Debug("deleting a consumer", "stream", info.Stream, "error", err)
	}
}

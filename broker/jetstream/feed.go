package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// feed delivers a stream's messages strictly in order, or fails. It has a consumer of its own on the server, which
// forgets what it has delivered (no acknowledgements) and lives in memory, so that it ends with the server and never
// goes on at another place. The feed asks for messages in portions, one at a time, so that no more than one portion
// waits in memory. It is used by one goroutine.
type feed struct {
	conn     *connection
	quit     context.Context // ends when the feed is not wanted any more
	whole    context.Context // ends when the connection that the feed began on breaks, or does not let us ask for messages
	done     func()          // frees that
	stream   string
	consumer string
	pending  uint64 // how many messages there were for it at its beginning
	inbox    *nats.Subscription
	messages chan *nats.Msg

	bytes  int    // how large a portion may be
	left   int    // how many messages of the current portion may still come; 0 if there is none
	taken  bool   // the current portion has delivered something
	next   uint64 // the consumer's number of the next message
	silent *time.Timer
	began  time.Time
	again  <-chan time.Time // when to ask again, while the consumer is not known everywhere in the cluster
}

const (
	portionMessages = 1000
	portionBytes    = 8 << 20
	maxPortionBytes = 128 << 20
	portionExpires  = 30 * time.Second
	heartbeat       = 2 * time.Second // while a portion waits for messages, something comes this often
	silence         = 2*heartbeat + heartbeat/2
	// A new consumer takes a moment to become known to the cluster's member that this process is connected to.
	becomesKnown = 5 * time.Second
	askAgain     = 10 * time.Millisecond
	// consumerLinger is how long the server keeps a consumer that nobody asks for anything.
	consumerLinger = 10 * time.Minute
	// messageOverhead bounds what NATS counts of a message beyond what its own limit counts: its subjects.
	messageOverhead = 1 << 10
)

// Errors that end a feed.
var (
	errSilent  = errors.New("NATS has fallen silent")
	errSkipped = errors.New("a message was skipped on its way")
)

// newFeed begins to deliver as the consumer configuration says, which sets the policy and the filter. Whoever waits
// when quit is over is given its cause.
func newFeed(ctx, quit context.Context, conn *connection, stream string, config natsjs.ConsumerConfig) (*feed, error) {
	f := &feed{
		conn:     conn,
		quit:     quit,
		stream:   stream,
		messages: make(chan *nats.Msg, portionMessages+64), // 64: heartbeats, and the ends of portions
		bytes:    max(portionBytes, int(conn.MaxPayload())+messageOverhead),
		next:     1,
		began:    time.Now(),
	}
	config.AckPolicy = natsjs.AckNonePolicy
	config.MemoryStorage = true
	config.Replicas = 1
	config.InactiveThreshold = consumerLinger
	whole := conn.now()
	create := func(ctx context.Context) (natsjs.Consumer, error) { return conn.js.CreateConsumer(ctx, stream, config) }
	consumer, err := ask(ctx, conn, create, api+"CONSUMER.CREATE."+stream)
	if err != nil {
		return nil, err
	}
	f.consumer = consumer.CachedInfo().Name
	f.whole, f.done = conn.asking(whole, api+"CONSUMER.MSG.NEXT."+stream+"."+f.consumer)
	f.pending = consumer.CachedInfo().NumPending
	if f.inbox, err = conn.ChanSubscribe(conn.NewInbox(), f.messages); err != nil {
		f.close()
		return nil, err
	}
	f.silent = time.NewTimer(silence)
	return f, nil
}

// receive returns the next message. Without wait it returns nil if none is at hand.
func (f *feed) receive(ctx context.Context, wait bool) (*nats.Msg, *nats.MsgMetadata, error) {
	for {
		if err := f.request(); err != nil {
			return nil, nil, err
		}
		var m *nats.Msg
		select {
		case m = <-f.messages:
		default:
			if !wait {
				return nil, nil, nil
			}
			var err error
			if m, err = f.await(ctx); err != nil {
				return nil, nil, err
			}
			if m == nil {
				continue
			}
		}
		if m.Reply == "" { // every message of a stream has the address for its acknowledgement
			if err := f.status(m); err != nil {
				return nil, nil, err
			}
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, nil, fmt.Errorf("reading a message's place: %w", err)
		}
		if meta.Sequence.Consumer != f.next {
			return nil, nil, fmt.Errorf("%w: number %d came instead of %d", errSkipped, meta.Sequence.Consumer, f.next)
		}
		f.next++
		f.left--
		f.taken = true
		return m, meta, nil
	}
}

// await blocks for something from the server. It returns nil when it is time to ask again.
func (f *feed) await(ctx context.Context) (*nats.Msg, error) {
	f.silent.Reset(silence)
	select {
	case m := <-f.messages:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.quit.Done():
		return nil, context.Cause(f.quit)
	case <-f.whole.Done():
		return nil, context.Cause(f.whole)
	case <-f.again:
		f.again = nil
		return nil, nil
	case <-f.silent.C:
		return nil, errSilent
	}
}

// request asks for a portion unless one is under way.
func (f *feed) request() error {
	if f.left > 0 || f.again != nil {
		return nil
	}
	body := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}`, portionMessages, f.bytes, portionExpires, heartbeat)
	if err := f.conn.PublishRequest(api+"CONSUMER.MSG.NEXT."+f.stream+"."+f.consumer, f.inbox.Subject, body); err != nil {
		return fmt.Errorf("asking for messages: %w", err)
	}
	f.left = portionMessages
	f.taken = false
	return nil
}

// status takes what is not a message: the portion's end, a sign of life, or the end of the consumer.
func (f *feed) status(m *nats.Msg) error {
	status, text := m.Header.Get("Status"), m.Header.Get("Description")
	switch {
	case status == "100": // a sign of life
	case status == "404", status == "408", status == "409" && text == "Batch Completed":
		f.left = 0
	case status == "409" && text == "Message Size Exceeds MaxBytes":
		f.left = 0
		if !f.taken { // the next message alone is larger than a portion
			f.bytes *= 2
		}
		if f.bytes > maxPortionBytes {
			return fmt.Errorf("a message is larger than %d bytes", maxPortionBytes)
		}
	case status == "503" && f.next == 1 && time.Since(f.began) < becomesKnown:
		f.left = 0
		f.again = time.After(askAgain)
	default:
		return fmt.Errorf("NATS ended the delivery: %s %s", status, text)
	}
	return nil
}

// alive says whether the consumer is still there, which means that its stream has not been restarted or replaced. Its error
// is what somebody has to change.
func (f *feed) alive(ctx context.Context) (bool, error) {
	if f.whole.Err() != nil {
		return false, nil
	}
	find := func(ctx context.Context) (natsjs.Consumer, error) {
		return f.conn.js.Consumer(ctx, f.stream, f.consumer)
	}
	_, err := ask(ctx, f.conn, find, api+"CONSUMER.INFO."+f.stream+"."+f.consumer)
	if errors.Is(err, broker.ErrMisconfigured) {
		return false, err
	}
	return err == nil, nil
}

// close frees the consumer, if the server can be reached; it would go by itself after a while.
func (f *feed) close() {
	f.done()
	if f.inbox != nil {
		f.inbox.Unsubscribe()
	}
	if !f.conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	ctx, done := f.conn.asking(ctx, api+"CONSUMER.DELETE."+f.stream+"."+f.consumer)
	defer done()
	switch err := because(ctx, f.conn.js.DeleteConsumer(ctx, f.stream, f.consumer)); {
	case errors.Is(err, broker.ErrMisconfigured):
		f.conn.log.Warn("deleting a consumer, which goes by itself after a while", "stream", f.stream, "error", err)
	case err != nil && !errors.Is(err, natsjs.ErrConsumerNotFound):
		f.conn.log.Debug("deleting a consumer", "stream", f.stream, "error", err)
	}
}

// Package memory is the reference broker: it keeps its batches in memory, with the traits that its options ask for. It
// is for tests and simulations. It starts no goroutines, uses no randomness, and reads the clock only for StoredAt, so
// that it can be run under virtual time.
package memory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// defaultMaxPayload is the largest payload, in bytes, where the options name none.
const defaultMaxPayload = 8 << 20

// Options are a Server's traits and limits.
type Options struct {
	Partitions int  // how many there are, 0 means 1
	Replays    bool // keep every batch for ever, otherwise forget what is acknowledged
	// Ordered puts what a receiver gives back in front of everything else, otherwise behind everything that is ready. A
	// broker that replays is always ordered.
	Ordered    bool
	Uncounted  bool             // only how many batches there are is known of a backlog, and there is a flag instead
	MaxPayload int              // in bytes, 0 means 8 MiB
	MaxBatches int              // how many unacknowledged batches a partition holds, 0 means no limit
	Reserve    int              // how many urgent ones it holds besides
	DiskFull   bool             // a full partition is one whose disk is full
	Now        func() time.Time // the server's clock, for StoredAt, nil means time.Now
}

// Server stands for the broker's process: what all connections share. Its methods may be called concurrently.
type Server struct {
	options Options

	mu         sync.Mutex // guards everything reachable from here, and nobody waits while holding it
	partitions []*partition
	enrolled   *broker.Enrollment // what is recorded, or nil
	raised     string             // the newest raise of the flag, "" if there is none
	lowered    bool               // and whether it was lowered
	published  uint64             // batches, ever
}

// partition is its batches and the signal that something about it has changed.
type partition struct {
	keeper
	changed chan struct{} // closed and replaced at every change
}

// keeper is how a partition's batches are kept: a log or a queue.
type keeper interface {
	put(*entry)
	unacknowledged() int
	open(r *receiver, from drainmark.Cursor, again bool)
	take(r *receiver, max int) []broker.Delivery
	ack(r *receiver, through broker.Delivery)
	release(r *receiver) // the receiver has ended: its batches are given back
	backlog(drainmark.Progress) broker.Backlog
	uncounted(drainmark.Progress) broker.Backlog // what is known of it by who counts batches and not records
	keeps(drainmark.ProducerID) bool
	purge() // batches not delivered yet are lost
	trim()  // acknowledged batches are not delivered again
}

// entry is a stored batch.
type entry struct {
	broker.Batch
	index    uint64 // counts the partition's batches from 1, in the order of their arrival
	storedAt time.Time
	tag      uint64 // of its latest delivery
}

// NewServer returns a broker without any batches.
func NewServer(o Options) *Server {
	o.Partitions = max(o.Partitions, 1)
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultMaxPayload
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{options: o}
	for range o.Partitions {
		p := &partition{keeper: &queue{ordered: o.Ordered}, changed: make(chan struct{})}
		if o.Replays {
			p.keeper = newLog()
		}
		s.partitions = append(s.partitions, p)
	}
	return s
}

// Connect returns a new connection, as a process would have it.
func (s *Server) Connect() *Client {
	return &Client{server: s, receivers: map[*receiver]struct{}{}}
}

// Purge takes away what no receiver has been given yet, as an operator's purge or a damaged queue does: it is lost.
func (s *Server) Purge(partition int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.partition(partition)
	if err != nil {
		return err
	}
	p.purge()
	return nil
}

// Trim drops what is acknowledged, as a broker that keeps its log does sooner or later.
func (s *Server) Trim(partition int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.partition(partition)
	if err != nil {
		return err
	}
	p.trim()
	return nil
}

// Published returns how many batches have ever been published.
func (s *Server) Published() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published
}

func (s *Server) partition(number int) (*partition, error) {
	if number < 0 || number >= len(s.partitions) {
		return nil, drainmark.Errorf(drainmark.KindInvalid, "partition %d: this broker has 0 to %d", number, len(s.partitions)-1)
	}
	return s.partitions[number], nil
}

func (p *partition) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Client is one connection to a Server. It implements broker.Broker.
type Client struct {
	server    *Server
	ended     error // why nothing works now, or nil
	receivers map[*receiver]struct{}
}

var (
	_ broker.Broker = (*Client)(nil)

	errDropped = fmt.Errorf("the connection was dropped: %w", broker.ErrNotSent)
	errTaken   = errors.New("another receiver has taken the partition over")
)

// Publish implements broker.Broker.
func (c *Client) Publish(ctx context.Context, number int, batch broker.Batch) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	p, err := c.use(ctx, number)
	if err != nil {
		return fmt.Errorf("publishing %v: %w", batch.Span(), err)
	}
	o := c.server.options
	if len(batch.Payload) > o.MaxPayload {
		return drainmark.Errorf(drainmark.KindTooLarge, "publishing %v: payload of %d bytes; the limit (MaxPayload) is %d",
			batch.Span(), len(batch.Payload), o.MaxPayload)
	}
	if most := o.most(batch.Urgent); most > 0 && p.unacknowledged() >= most {
		return fmt.Errorf("publishing %v: %w (MaxBatches is %d)", batch.Span(), o.full(), o.MaxBatches)
	}
	batch.Payload = append([]byte{}, batch.Payload...)
	c.server.published++
	p.put(&entry{Batch: batch, storedAt: c.server.options.Now()})
	p.signal()
	return nil
}

// most returns how many batches a partition holds before it refuses one. 0 is no limit.
func (o Options) most(urgent bool) int {
	if o.MaxBatches > 0 && urgent {
		return o.MaxBatches + o.Reserve
	}
	return o.MaxBatches
}

func (o Options) full() error {
	if o.DiskFull {
		return broker.ErrDiskFull
	}
	return broker.ErrFull
}

// use returns the partition if the connection and the context still are.
func (c *Client) use(ctx context.Context, number int) (*partition, error) {
	if c.ended != nil {
		return nil, c.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.server.partition(number)
}

// Open implements broker.Broker. If the server does not replay, the newest receiver has the partition: an older one's
// batches are given back at once, and its Receive and Ack fail.
func (c *Client) Open(ctx context.Context, number int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	p, err := c.use(ctx, number)
	if err != nil {
		return nil, fmt.Errorf("opening partition %d: %w", number, err)
	}
	r := &receiver{client: c, number: number, partition: p}
	c.receivers[r] = struct{}{}
	p.open(r, from, again)
	p.signal()
	return r, nil
}

// Backlog implements broker.Broker. It is exact unless the server's options say otherwise.
func (c *Client) Backlog(ctx context.Context, number int, progress drainmark.Progress) (broker.Backlog, error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	p, err := c.use(ctx, number)
	if err != nil {
		return broker.Backlog{}, fmt.Errorf("counting partition %d's backlog: %w", number, err)
	}
	if c.server.options.Uncounted {
		return p.uncounted(progress), nil
	}
	backlog := p.backlog(progress)
	if !backlog.OldestAt.IsZero() {
		backlog.AsOf = c.server.options.Now()
	}
	return backlog, nil
}

// Keeps implements broker.Broker.
func (c *Client) Keeps(ctx context.Context, number int, producers []drainmark.ProducerID) (kept []drainmark.ProducerID, err error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	p, err := c.use(ctx, number)
	if err != nil {
		return nil, fmt.Errorf("asking what partition %d keeps: %w", number, err)
	}
	for _, producer := range producers {
		if p.keeps(producer) {
			kept = append(kept, producer)
		}
	}
	return kept, nil
}

// Ping implements broker.Broker. It returns ErrFull when every partition is full.
func (c *Client) Ping(ctx context.Context) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if _, err := c.use(ctx, 0); err != nil {
		return err
	}
	limit := c.server.options.MaxBatches
	for _, p := range c.server.partitions {
		if limit == 0 || p.unacknowledged() < limit {
			return nil
		}
	}
	return c.server.options.full()
}

// Traits implements broker.Broker.
func (c *Client) Traits() broker.Traits {
	o := c.server.options
	return broker.Traits{Replays: o.Replays, Ordered: o.Ordered || o.Replays, ExactBacklog: !o.Uncounted, MaxPayload: o.MaxPayload}
}

// Close implements broker.Broker.
func (c *Client) Close() error {
	c.end(broker.ErrClosed)
	return nil
}

// Drop ends the connection as if its process had died or the network had been cut: the server takes back what its
// receivers held, and every call on them and on the Client fails.
func (c *Client) Drop() { c.end(errDropped) }

func (c *Client) end(why error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.ended == nil || why == broker.ErrClosed {
		c.ended = why
	}
	for r := range c.receivers {
		r.end(why)
	}
}

// receiver implements broker.Receiver.
type receiver struct {
	client    *Client
	number    int
	partition *partition
	ended     error    // why nothing works now, or nil
	next      uint64   // of a log: the index of the entry to deliver next
	read      uint64   // of a log: the index up to which everything had been read when it was opened
	held      []*entry // of a queue: delivered and not acknowledged, in the order of delivery
}

// Receive implements broker.Receiver.
func (r *receiver) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	for {
		deliveries, changed, err := r.take(ctx, max)
		if err != nil {
			return nil, fmt.Errorf("receiving from partition %d: %w", r.number, err)
		}
		if len(deliveries) > 0 {
			return deliveries, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// take returns what is at hand, and the channel that is closed when that has changed.
func (r *receiver) take(ctx context.Context, max int) ([]broker.Delivery, <-chan struct{}, error) {
	mu := &r.client.server.mu
	mu.Lock()
	defer mu.Unlock()
	if err := r.usable(ctx); err != nil {
		return nil, nil, err
	}
	return r.partition.take(r, max), r.partition.changed, nil
}

func (r *receiver) usable(ctx context.Context) error {
	if r.ended != nil {
		return r.ended
	}
	return ctx.Err()
}

// Ack implements broker.Receiver.
func (r *receiver) Ack(ctx context.Context, through broker.Delivery) error {
	mu := &r.client.server.mu
	mu.Lock()
	defer mu.Unlock()
	if err := r.usable(ctx); err != nil {
		return fmt.Errorf("acknowledging %v: %w", through.Span(), err)
	}
	r.partition.ack(r, through)
	return nil
}

// Close implements broker.Receiver.
func (r *receiver) Close() error {
	mu := &r.client.server.mu
	mu.Lock()
	defer mu.Unlock()
	r.end(broker.ErrClosed)
	return nil
}

// end is called under the server's lock. Only the first reason counts, except that a caller that closes gets ErrClosed.
func (r *receiver) end(why error) {
	if r.ended == nil {
		r.partition.release(r)
		delete(r.client.receivers, r)
	}
	if r.ended == nil || why == broker.ErrClosed {
		r.ended = why
	}
	r.partition.signal()
}

// delivery copies the entry, because its payload belongs to the receiver, and the entry may be delivered again.
func (e *entry) delivery() broker.Delivery {
	return broker.Delivery{
		Header:   e.Header,
		Payload:  append([]byte{}, e.Payload...),
		StoredAt: e.storedAt,
		Tag:      e.tag,
	}
}

// cursorAt is the cursor that resumes behind an index.
func cursorAt(index uint64) drainmark.Cursor {
	return drainmark.Cursor(strconv.FormatUint(index, 10))
}

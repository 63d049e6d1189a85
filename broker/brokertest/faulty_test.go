package brokertest

import (
	"context"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

// adapter is the memory broker with some of its behaviour replaced. A nil hook leaves it as it is. The adapter without
// hooks is right, and reconnects after a kill.
type adapter struct {
	memory.Options
	publish       func(c *conn, ctx context.Context, partition int, b broker.Batch) error
	open          func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error)
	receive       func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error)
	ack           func(r *receiver, ctx context.Context, through broker.Delivery) error
	closeReceiver func(r *receiver) error
	backlog       func(c *conn, ctx context.Context, p drainmark.Progress) (broker.Backlog, error)
	keeps         func(c *conn, partition int, producers []drainmark.ProducerID) []drainmark.ProducerID
	ping          func(c *conn, ctx context.Context) error
	flag          func(c *conn) broker.Flag
	traits        func(broker.Traits) broker.Traits
	close         func(c *conn) error
	drop          func(c *conn)
	kill          func(s *server)
	foreign       func(s *server)

	over chan struct{} // closed when the server's test is over
}

// server is an adapter's server process.
type server struct {
	*adapter
	mu     sync.Mutex
	memory *memory.Server
	conns  []*conn
	dead   bool
	killed int // how often
}

// harness runs the adapter that it is given, a new one for each server.
func harness(adapter func() *adapter) Harness {
	start := func(limit int) func(T) *Server {
		return func(t T) *Server {
			a := adapter()
			a.over = make(chan struct{})
			t.Cleanup(func() { close(a.over) })
			a.Partitions = 2
			a.MaxBatches = limit
			a.Reserve = 2
			s := &server{adapter: a, memory: memory.NewServer(a.Options)}
			return s.describe()
		}
	}
	return Harness{Start: start(0), StartSmall: start(10), Patience: 500 * time.Millisecond, Quiet: 20 * time.Millisecond}
}

func (s *server) describe() *Server {
	return &Server{
		Connect: func(T) broker.Broker { return s.connect() },
		Drop: func(_ T, b broker.Broker) {
			c := b.(*conn)
			if s.drop != nil {
				s.drop(c)
			}
			c.client().Drop()
			s.mu.Lock()
			c.dropped = true
			s.mu.Unlock()
		},
		Kill:       func(T) { s.setDead(true) },
		Revive:     func(T) { s.setDead(false) },
		Reconnects: true,
		Purge:      func(_ T, partition int) { s.memory.Purge(partition) },
		Foreign: func(t T, partition int, payload []byte) {
			if s.foreign != nil {
				s.foreign(s)
				return
			}
			if err := s.memory.Connect().Publish(t.Context(), partition, broker.Batch{Payload: payload}); err != nil {
				t.Fatalf("publishing a message without a header: %v", err)
			}
		},
	}
}

func (s *server) connect() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &conn{server: s, now: s.memory.Connect()}
	s.conns = append(s.conns, c)
	return c
}

func (s *server) setDead(dead bool) {
	s.mu.Lock()
	if s.dead = dead; dead {
		s.killed++
		for _, c := range s.conns {
			c.now.Drop()
		}
	}
	s.mu.Unlock()
	if dead && s.kill != nil {
		s.kill(s)
	}
}

// conn is a connection that is made again after the server was dead.
type conn struct {
	*server
	now     *memory.Client // guarded by server.mu
	age     int            // the server's kills when now was made
	dropped bool
	closed  bool
}

func (c *conn) client() *memory.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead && !c.dropped && !c.closed && c.age != c.killed {
		c.now, c.age = c.memory.Connect(), c.killed
	}
	return c.now
}

func (c *conn) Publish(ctx context.Context, partition int, b broker.Batch) error {
	if c.publish != nil {
		return c.publish(c, ctx, partition, b)
	}
	return c.client().Publish(ctx, partition, b)
}

func (c *conn) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	open := c.openMemory
	if c.open != nil {
		open = func(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			return c.open(c, ctx, partition, from, again)
		}
	}
	r, err := open(ctx, partition, from, again)
	if err != nil {
		return nil, err
	}
	return &receiver{Receiver: r, conn: c, partition: partition}, nil
}

func (c *conn) openMemory(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	return c.client().Open(ctx, partition, from, again)
}

func (c *conn) Backlog(ctx context.Context, partition int, p drainmark.Progress) (broker.Backlog, error) {
	if c.backlog != nil {
		p.Partition = partition
		return c.backlog(c, ctx, p)
	}
	return c.client().Backlog(ctx, partition, p)
}

func (c *conn) Keeps(ctx context.Context, partition int, producers []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	if c.keeps != nil {
		return c.keeps(c, partition, producers), ctx.Err()
	}
	return c.client().Keeps(ctx, partition, producers)
}

func (c *conn) Ping(ctx context.Context) error {
	if c.ping != nil {
		return c.ping(c, ctx)
	}
	return c.client().Ping(ctx)
}

func (c *conn) Flag() broker.Flag {
	if c.flag != nil {
		return c.flag(c)
	}
	return c.rightFlag()
}

// rightFlag is the memory broker's, on the connection that there is at each call.
func (c *conn) rightFlag() broker.Flag {
	if !c.Uncounted {
		return nil
	}
	return wrongFlag{c: c}
}

func (c *conn) Traits() broker.Traits {
	traits := c.client().Traits()
	if c.traits != nil {
		return c.traits(traits)
	}
	return traits
}

func (c *conn) Close() error {
	if c.server.close != nil {
		return c.server.close(c)
	}
	return c.closeMemory()
}

func (c *conn) closeMemory() error {
	now := c.client()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return now.Close()
}

// receiver is the memory broker's with the adapter's hooks.
type receiver struct {
	broker.Receiver
	conn      *conn
	partition int
	delivered []broker.Delivery // for hooks
	closed    bool              // for hooks
}

func (r *receiver) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	receive := r.Receiver.Receive
	if r.conn.receive != nil {
		receive = func(ctx context.Context, max int) ([]broker.Delivery, error) { return r.conn.receive(r, ctx, max) }
	}
	got, err := receive(ctx, max)
	r.delivered = append(r.delivered, got...)
	return got, err
}

func (r *receiver) Ack(ctx context.Context, through broker.Delivery) error {
	if r.conn.ack != nil {
		return r.conn.ack(r, ctx, through)
	}
	return r.Receiver.Ack(ctx, through)
}

func (r *receiver) Close() error {
	if r.conn.closeReceiver != nil {
		return r.conn.closeReceiver(r)
	}
	return r.Receiver.Close()
}

package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// gate is a consumer's connection to the broker, which can be cut off: from everything, or from one partition.
type gate struct {
	broker.Broker
	mu     sync.Mutex
	silent bool // calls that are cut off are not refused but never answered
	cut    bool
	shut   map[int]bool
	slow   time.Duration // of each attempt to open
	opens  int           // attempts to open
}

var errCut = errors.New("cut off")

func (g *gate) pass(ctx context.Context, partition int) error {
	g.mu.Lock()
	closed, silent := g.cut || g.shut[partition], g.silent
	if partition >= 0 {
		g.opens++
	}
	g.mu.Unlock()
	switch {
	case closed && silent:
		<-ctx.Done()
		return ctx.Err()
	case closed:
		return errCut
	}
	return nil
}

func (g *gate) set(change func(*gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opens
}

func (g *gate) Ping(ctx context.Context) error {
	if err := g.pass(ctx, -1); err != nil {
		return err
	}
	return g.Broker.Ping(ctx)
}

func (g *gate) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	if err := g.pass(ctx, partition); err != nil {
		return nil, err
	}
	select {
	case <-time.After(g.slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return g.Broker.Open(ctx, partition, from, again)
}

// crowd is some consumers of four partitions, in a bubble of virtual time.
type crowd struct {
	t       *testing.T
	reader  store.Reader
	backend *brokermemory.Client
	gates   []*gate
	members []*Consumer
	sent    map[int]uint64
	from    drainmark.ProducerID
	logged  journal // by the members
}

const crowdPartitions = 4

// crowded runs a test with so many consumers, whose gates are prepared before they begin.
func crowded(t *testing.T, size int, prepare func([]*gate), test func(*crowd)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, db := brokermemory.NewServer(brokermemory.Options{Partitions: crowdPartitions, Ordered: true}), storememory.NewDB()
		c := &crowd{t: t, reader: db.Reader(), backend: server.Connect(), sent: map[int]uint64{}, from: drainmark.NewProducerID()}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		defer func() {
			cancel()
			running.Wait()
			_ = c.reader.Close()
			_ = c.backend.Close()
		}()
		for range size {
			c.gates = append(c.gates, &gate{Broker: server.Connect(), shut: map[int]bool{}})
		}
		prepare(c.gates)
		for i, g := range c.gates {
			member := New(Config{
				Broker: g, Store: db.Store(), Owner: fmt.Sprint("consumer-", i), Partitions: crowdPartitions, Logger: c.logged.logger(),
			})
			c.members = append(c.members, member)
			running.Go(func() { member.Run(ctx) })
		}
		test(c)
	})
}

// publish appends one message to each partition.
func (c *crowd) publish() {
	c.t.Helper()
	for p := range crowdPartitions {
		c.sent[p]++
		b := drainmark.Batch{Partition: p, Producer: c.from, First: c.sent[p], Records: []drainmark.Record{message("m")}}
		h := broker.Header{Partition: p, Producer: c.from, First: b.First, Last: b.First}
		if err := c.backend.Publish(context.Background(), p, broker.Batch{Header: h, Payload: drainmark.EncodeBatch(nil, &b)}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// drained waits until what was published is persisted, but for some partitions, and fails after a while.
func (c *crowd) drained(within time.Duration, but ...int) {
	c.t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		var left []int
		for p, n := range c.sent {
			progress, err := c.reader.Progress(context.Background(), p)
			if err != nil {
				c.t.Fatal(err)
			}
			if progress.Next(c.from) <= n && !slices.Contains(but, p) {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Since(begun) > within {
			c.t.Fatalf("after %v partitions %v are not drained; claims: %v", within, left, c.claims())
		}
	}
}

// claims says who holds what.
func (c *crowd) claims() map[string][]int {
	c.t.Helper()
	claims, err := c.reader.Claims(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	held := map[string][]int{}
	for _, claim := range claims {
		held[claim.Owner] = append(held[claim.Owner], claim.Partition)
	}
	return held
}

// disconnect ends a consumer's subscriptions.
func (c *crowd) disconnect(member int) {
	m := c.members[member]
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.draining {
		d.interrupt()
	}
}

func (c *crowd) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAConsumerThatTheBrokerNeverAnswersTakesNothing(t *testing.T) {
	crowded(t, 2, func(g []*gate) { g[1].cut = true }, func(c *crowd) {
		c.publish()
		c.drained(time.Second)
		c.wait(10 * time.Minute)
		c.publish()
		c.drained(15 * time.Second) // it may just be trying again
		if err := c.members[1].Ready(); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("ready: %v", err)
		}
		if err := c.members[0].Ready(); err != nil {
			t.Errorf("the other is not ready: %v", err)
		}
		c.gates[1].set(func(g *gate) { g.cut = false })
		c.wait(5 * time.Second)
		if held := c.claims(); len(held["consumer-1"]) != 2 {
			t.Errorf("five seconds after it has reached the broker the partitions are held by %v", held)
		}
		c.wait(time.Minute)
		if err := c.members[1].Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

func TestAConsumerThatLosesTheBrokerLeavesItsPartitionsToOthers(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silently: ", silent), func(t *testing.T) {
			crowded(t, 2, func(g []*gate) { g[1].silent = silent }, func(c *crowd) {
				c.wait(5 * time.Second)
				if held := c.claims(); len(held["consumer-1"]) != 2 {
					t.Fatalf("the partitions are held by %v", held)
				}
				c.gates[1].set(func(g *gate) { g.cut = true })
				c.disconnect(1)
				c.publish()
				c.drained(10 * time.Second) // a lease is five
				if held := c.claims(); len(held["consumer-0"]) != crowdPartitions {
					t.Errorf("the partitions are held by %v", held)
				}
				if err := c.members[1].Ready(); err == nil {
					t.Error("a consumer without a broker is ready")
				}
				c.gates[1].set(func(g *gate) { g.cut = false })
				c.wait(15 * time.Second)
				if held := c.claims(); len(held["consumer-1"]) != 2 {
					t.Errorf("after it has reached the broker again the partitions are held by %v", held)
				}
			})
		})
	}
}

func TestAPartitionThatOneConsumerCannotOpenGoesToAnother(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silently: ", silent), func(t *testing.T) {
			shut := func(g []*gate) {
				g[0].silent, g[0].shut = silent, map[int]bool{0: true, 1: true}
			}
			crowded(t, 2, shut, func(c *crowd) {
				c.publish()
				c.drained(time.Minute)
				c.wait(time.Minute)
				late := 0
				for range 30 { // it is tried again now and then, and given up again
					c.wait(20 * time.Second)
					c.publish()
					if c.wait(time.Second); len(c.claims()["consumer-0"]) != 2 {
						late++
					}
					c.drained(time.Minute)
				}
				if late > 8 {
					t.Errorf("in %d of 30 looks the partitions were not shared evenly", late)
				}
			})
		})
	}
}

func TestAPartitionThatNobodyCanOpenStandsAlone(t *testing.T) {
	shut := func(g []*gate) {
		for i := range g {
			g[i].shut = map[int]bool{2: true}
		}
	}
	crowded(t, 3, shut, func(c *crowd) {
		for range 20 {
			c.publish()
			c.drained(15*time.Second, 2) // others change hands now and then
			c.wait(5 * time.Second)
		}
		unready := 0
		for _, m := range c.members {
			if m.Ready() != nil {
				unready++
			}
		}
		if unready == 0 {
			t.Error("all are ready, though a partition is drained by nobody")
		}
		for _, g := range c.gates {
			g.set(func(g *gate) { g.shut = map[int]bool{} })
		}
		c.drained(time.Minute)
	})
}

func TestConsumersThatLoseTheBrokerTogether(t *testing.T) {
	crowded(t, 3, func([]*gate) {}, func(c *crowd) {
		c.wait(5 * time.Second)
		for i, g := range c.gates {
			g.set(func(g *gate) { g.cut = true })
			c.disconnect(i)
		}
		c.publish()
		c.wait(10 * time.Minute)
		for i, g := range c.gates {
			if n := g.count(); n > 4*600 { // each of four drains once in two seconds, were it alone all the time
				t.Errorf("consumer %d has tried to open %d times in ten minutes", i, n)
			}
		}
		c.gates[1].set(func(g *gate) { g.cut = false })
		c.drained(15 * time.Second)
		for _, g := range c.gates {
			g.set(func(g *gate) { g.cut = false })
		}
		c.wait(30 * time.Second)
		if held := c.claims(); len(held) != 3 {
			t.Errorf("after all have reached the broker again the partitions are held by %v", held)
		}
	})
}

func TestAConsumerThatTheStoreRefusesIsNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, db := brokermemory.NewServer(brokermemory.Options{}), storememory.NewDB()
		master := &refusing{Store: db.Store()}
		c := New(Config{Broker: server.Connect(), Store: master, Owner: "one", Partitions: 1, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); c.Run(ctx) }()
		time.Sleep(time.Minute)
		if err := c.Ready(); err != nil {
			t.Fatalf("not ready: %v", err)
		}
		master.set(true)
		time.Sleep(10 * time.Second)
		if err := c.Ready(); err != nil {
			t.Errorf("not ready after two leases: %v", err)
		}
		time.Sleep(20 * time.Second)
		if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("after five leases in which the store refused everything: %v", err)
		}
		master.set(false)
		time.Sleep(10 * time.Second)
		if err := c.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		cancel()
		<-ended
	})
}

// A store can take heartbeats and no commits: its disk is full, or it is read-only.
func TestAConsumerWhoseCommitsTheStoreRefusesIsNotReady(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		var master *refusing
		r.wrapStore = func(s store.Store) store.Store {
			master = &refusing{Store: s}
			return master
		}
		r.begin()
		r.publish(1, message("1"))
		r.Wait(time.Minute)
		r.expect("1")
		master.setCommits(true)
		r.publish(2, message("2"))
		r.Wait(2*5*time.Second + time.Second)
		if err := r.consumer.Ready(); err != nil {
			t.Errorf("not ready after two leases: %v", err)
		}
		r.Wait(5 * time.Second)
		if err := r.consumer.Ready(); err == nil || !strings.Contains(err.Error(), "partition 0 is not drained") ||
			!strings.Contains(err.Error(), "READONLY") {
			t.Errorf("after three leases in which the store took no commit: %v", err)
		}
		master.setCommits(false)
		r.Wait(5 * time.Second)
		r.expect("1", "2")
		if err := r.consumer.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

// A misconfigured broker does not come back by itself: nobody has to wait to be told. Any other trouble may pass.
func TestAConsumerOfAMisconfiguredBrokerIsNotReadyAtOnce(t *testing.T) {
	t.Parallel()
	misconfigured := fmt.Errorf("the queue is not durable: %w", broker.ErrMisconfigured)
	for _, trouble := range []error{misconfigured, errCut} {
		t.Run(trouble.Error(), func(t *testing.T) {
			t.Parallel()
			bubble(t, brokermemory.Options{}, func(r *rig) {
				r.wrap = func(b broker.Broker) broker.Broker { return shut{b, trouble} }
				r.begin()
				r.Wait(time.Second)
				for range 30 { // within a lease, between attempts and during them
					err := r.consumer.Ready()
					if errors.Is(trouble, broker.ErrMisconfigured) != errors.Is(err, broker.ErrMisconfigured) {
						t.Fatalf("ready: %v", err)
					}
					r.Wait(100 * time.Millisecond)
				}
			})
		})
	}
}

// shut is a broker that cannot be subscribed to, though it answers.
type shut struct {
	broker.Broker
	why error
}

func (s shut) Open(context.Context, int, drainmark.Cursor, bool) (broker.Receiver, error) {
	return nil, s.why
}

// refusing is a store that can refuse everybody.
type refusing struct {
	store.Store
	mu             sync.Mutex
	refuses        bool
	refusesCommits bool // and nothing else
}

func (r *refusing) setCommits(refuses bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusesCommits = refuses
}

func (r *refusing) Write(ctx context.Context, w store.Write) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusesCommits {
		return errors.New("READONLY you can't write against a read only replica")
	}
	return r.Store.Write(ctx, w)
}

func (r *refusing) set(refuses bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = refuses
}

func (r *refusing) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuses {
		return store.Group{}, errors.New("NOPERM this user has no permissions")
	}
	return r.Store.Heartbeat(ctx, owner, ttl)
}

// A subscription that has taken a while to make, as to a queue that rests, has nothing to deliver while nothing is written.
func TestAQuietSubscriptionIsKept(t *testing.T) {
	for size := range 2 {
		for _, slow := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			t.Run(fmt.Sprintf("of %d consumers, made in %v", size+1, slow), func(t *testing.T) {
				prepare := func(g []*gate) {
					for i := range g {
						g[i].slow = slow
					}
				}
				crowded(t, size+1, prepare, func(c *crowd) { c.keepsQuiet() })
			})
		}
	}
}

// keepsQuiet looks for a minute in which nothing is published, with all subscriptions ended in its middle.
func (c *crowd) keepsQuiet() {
	for second := range 60 {
		if second == 30 {
			for i := range c.members {
				c.disconnect(i)
			}
		}
		c.wait(time.Second)
		for i, m := range c.members {
			if err := m.Ready(); err != nil {
				c.t.Fatalf("after %d s consumer %d is not ready: %v", second, i, err)
			}
		}
	}
	if said := c.logged.take(); strings.Contains(said, "giving") {
		c.t.Errorf("partitions were given up: %s", said)
	}
}

// A queue that elects a leader takes longer than a lease to answer. A subscriber that waits is left alone, because
// beginning anew means waiting anew.
func TestAnAttemptThatTakesLongIsLeftAlone(t *testing.T) {
	slow := func(g []*gate) {
		for i := range g {
			g[i].slow = 12 * time.Second
		}
	}
	crowded(t, 2, slow, func(c *crowd) {
		c.publish()
		c.drained(15 * time.Second)
		for i, g := range c.gates {
			if n := g.count(); n > 4 { // the first was alone for a moment
				t.Errorf("consumer %d has tried to open %d times", i, n)
			}
		}
	})
}

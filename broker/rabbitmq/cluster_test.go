//go:build cluster

package rabbitmq

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// patiently publishes one batch as the backend does, again and again until it is confirmed, and returns how long that
// took and how many attempts.
func patiently(t *testing.T, b *Broker, sequence uint64) (took time.Duration, attempts int) {
	t.Helper()
	begun := time.Now()
	for {
		attempts++
		ctx, cancel := context.WithTimeout(t.Context(), PublishAttempt)
		err := b.Publish(ctx, 0, batchOf(self, 0, sequence, sequence))
		cancel()
		switch {
		case err == nil:
			return time.Since(begun), attempts
		case time.Since(begun) > 5*time.Minute:
			t.Fatalf("after five minutes: %v", err)
		}
		t.Logf("after %v: %v", time.Since(begun).Round(100*time.Millisecond), err)
		time.Sleep(100 * time.Millisecond)
	}
}

// leaderOf returns the member that leads a broker's queue, and the others.
func leaderOf(t *testing.T, b *Broker, members servers.RabbitMQCluster) (leader *servers.RabbitMQ, others servers.RabbitMQCluster) {
	t.Helper()
	var replicas []int
	eventually(t, "a leader", func() (err error) { replicas, err = members.Replicas(t.Context(), b.config.Prefix, 0); return err })
	return members[replicas[0]], slices.Delete(slices.Clone(members), replicas[0], replicas[0]+1)
}

// clusterCase needs three brokers that are its own.
type clusterCase struct {
	name     string
	settings []string
	run      func(*testing.T, servers.RabbitMQCluster)
}

var clusterCases = []clusterCase{
	{"a batch that waits for a leader that hangs is confirmed by the next one", nil, leaderHangs},
	{"a process that is connected to a minority goes to another host", nil, minority},
}

var cluster4Cases = []clusterCase{
	{"a node is killed, hangs, and is wiped and joins again, and nothing is lost, or overtaken", []string{
		"cluster_partition_handling = pause_minority",
	}, nodesFail},
	{"a queue gets a member on a node that joins later, if RabbitMQ is told to see to it", []string{
		"quorum_queue.continuous_membership_reconciliation.enabled = true",
		"quorum_queue.continuous_membership_reconciliation.target_group_size = 3",
		"quorum_queue.continuous_membership_reconciliation.trigger_interval = 1000",
	}, fewerMembers},
}

// TestCluster is on the machine's RabbitMQ, and TestCluster4 on the one that is fetched.
func TestCluster(t *testing.T)  { onClusters(t, 0, clusterCases) }
func TestCluster4(t *testing.T) { onClusters(t, 4, slices.Concat(clusterCases, cluster4Cases)) }

func onClusters(t *testing.T, version int, cases []clusterCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := servers.RabbitMQOptions{Version: version, Settings: c.settings}
			c.run(t, servers.StartRabbitMQCluster(t, o, o, o))
		})
	}
}

// leaderHangs: a batch that waits is confirmed when the queue has found a new leader, which takes
// RabbitMQ less time than one attempt lasts. A publisher that gave up sooner would begin with the old leader, again and
// again.
func leaderHangs(t *testing.T, members servers.RabbitMQCluster) {
	first := settings{URL: members.URL()}.open(t, members[0])
	publish(t, first, 1, 1)
	leader, others := leaderOf(t, first, members)
	b := settings{URL: others.URL(), Prefix: first.config.Prefix}.open(t, members[0])
	publish(t, b, 2, 2)
	leader.Pause()
	took, attempts := patiently(t, b, 3)
	leader.Continue()
	t.Logf("confirmed after %v, in %d attempts", took, attempts)
	if attempts > 3 {
		t.Errorf("it took %d attempts", attempts)
	}
}

// connectedTo opens a broker that knows all members and is connected to one of them.
func connectedTo(t *testing.T, one *servers.RabbitMQ, members servers.RabbitMQCluster) *Broker {
	t.Helper()
	for {
		b := settings{URL: members.URL()}.open(t, one)
		if s, err := b.publishing.get(); err == nil && strings.HasSuffix(s.host, fmt.Sprint(one.Port)) {
			return b
		}
		_ = b.Close()
	}
}

// minority: when nothing is confirmed, though the node answers otherwise, and before the node comes back.
func minority(t *testing.T, members servers.RabbitMQCluster) {
	lonely, others := members[0], members[1:]
	b := connectedTo(t, lonely, members)
	publish(t, b, 1, 1)
	for _, other := range others {
		lonely.Control("eval", fmt.Sprintf("erlang:set_cookie('%s', elsewhere), erlang:disconnect_node('%s').", other.Node, other.Node))
	}
	took, attempts := patiently(t, b, 2)
	s, err := b.publishing.get()
	if err != nil || strings.HasSuffix(s.host, fmt.Sprint(lonely.Port)) {
		t.Errorf("it is still connected to the minority (%v)", err)
	}
	t.Logf("confirmed after %v, in %d attempts", took, attempts)
}

// flow is one producer and one receiver, which work as backend and consumer do while nodes fail.
type flow struct {
	t         *testing.T
	b         *Broker
	published atomic.Uint64
	received  atomic.Uint64
	repeats   atomic.Uint64 // batches that came again
	ended     sync.WaitGroup
}

// startFlow publishes 1, 2, 3, …, and receives, until stop is called, which waits until all that is confirmed has arrived.
func startFlow(t *testing.T, b *Broker) (f *flow, stop func()) {
	t.Helper()
	f = &flow{t: t, b: b}
	publishing, cancelPublishing := context.WithCancel(t.Context())
	receiving, cancelReceiving := context.WithCancel(t.Context())
	f.ended.Go(func() { f.publish(publishing) })
	f.ended.Go(func() { f.receive(receiving) })
	return f, func() {
		t.Helper()
		defer f.ended.Wait()
		defer cancelReceiving()
		cancelPublishing()
		f.reach(f.published.Load())
	}
}

// publish goes on to the next batch when one is confirmed, and publishes it again until it is.
func (f *flow) publish(ctx context.Context) {
	for next := uint64(1); ctx.Err() == nil; {
		attempt, cancel := context.WithTimeout(ctx, PublishAttempt)
		err := f.b.Publish(attempt, 0, batchOf(self, 0, next, next))
		cancel()
		if err == nil {
			f.published.Store(next)
			next++
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// receive acknowledges what it gets, and subscribes again when a subscription ends. The next batch must be the one behind
// the last, or one that has come already.
func (f *flow) receive(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := f.b.Open(ctx, 0, "", false)
		for err == nil {
			var got []broker.Delivery
			if got, err = r.Receive(ctx, prefetch); err != nil {
				break
			}
			for _, d := range got {
				f.came(d.First)
			}
			err = r.Ack(ctx, got[len(got)-1])
		}
		if r != nil {
			_ = r.Close()
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func (f *flow) came(sequence uint64) {
	switch last := f.received.Load(); {
	case sequence == last+1:
		f.received.Store(sequence)
	case sequence <= last:
		f.repeats.Add(1)
	default:
		f.t.Errorf("%d came behind %d", sequence, last)
		f.received.Store(sequence)
	}
}

// reach waits until so many batches have arrived.
func (f *flow) reach(sequence uint64) {
	f.t.Helper()
	begun := time.Now()
	for f.received.Load() < sequence {
		if time.Since(begun) > 4*time.Minute {
			f.t.Fatalf("after %v %d batches are confirmed and %d have arrived, not %d", time.Since(begun), f.published.Load(), f.received.Load(), sequence)
		}
		pause(f.t.Context(), 20*time.Millisecond)
	}
}

// goesOn waits until a hundred batches have been confirmed from now on, and have arrived.
func (f *flow) goesOn(when string) {
	f.t.Helper()
	begun := time.Now()
	f.reach(f.published.Load() + 100)
	f.t.Logf("%s: 100 batches after %v", when, time.Since(begun).Round(100*time.Millisecond))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func nodesFail(t *testing.T, members servers.RabbitMQCluster) {
	b := settings{URL: members.URL(), Settle: defaultSettle}.open(t, members[0])
	queue := b.queue(0)
	awaitMembers(t, members[0], queue, 3)
	f, stop := startFlow(t, b)
	f.goesOn("with three nodes")
	leader, _ := leaderOf(t, b, members)
	leader.Kill()
	f.goesOn("the leader is killed")
	leader.Start()
	f.goesOn("it is back")
	publishing, err := b.publishing.await(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if strings.HasSuffix(publishing.host, fmt.Sprint(m.Port)) {
			m.Pause()
			f.goesOn("the node that is published to hangs")
			m.Continue()
		}
	}
	f.goesOn("it goes on")
	leader, others := leaderOf(t, b, members)
	leader.Kill()
	leader.Wipe()
	f.goesOn("the leader is killed")
	others[0].Control("forget_cluster_node", leader.Node)
	awaitMembers(t, others[0], queue, 2)
	leader.Start()
	others[0].Queues("grow", leader.Node, "all", "--queue-pattern", regexp.QuoteMeta(b.config.Prefix)+`\..*`)
	awaitMembers(t, others[0], queue, 3)
	f.goesOn("its disk was lost, and it has joined again")
	others[0].Kill()
	f.goesOn("another one is killed, so that it counts")
	others[0].Start()
	stop()
	t.Logf("%d batches, %d of them came again", f.received.Load(), f.repeats.Load())
}

// awaitMembers waits until a queue has so many members, all of which run.
func awaitMembers(t *testing.T, of *servers.RabbitMQ, queue string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("queue %s to have %d members", queue, n), func() error {
		said := of.Eval(fmt.Sprintf(`{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
			[{members, M}, {online, O}] = rabbit_quorum_queue:infos(amqqueue:get_name(Q), [members, online]), {length(M), length(O)}`, queue))
		if said != fmt.Sprintf(`"{%d,%d}"`, n, n) {
			return fmt.Errorf("members, and those that run: %s", said)
		}
		return nil
	})
}

func fewerMembers(t *testing.T, members servers.RabbitMQCluster) {
	away := members[2]
	away.Kill()
	absent := settings{URL: members.URL(), Settle: defaultSettle}.open(t, members[0])
	away.Start()
	awaitMembers(t, members[0], absent.queue(0), 3) // it was one of them from the beginning
	away.Kill()
	away.Wipe()
	members[0].Control("forget_cluster_node", away.Node)
	b := settings{URL: members.URL(), Settle: defaultSettle}.open(t, members[0])
	publish(t, b, 1, 10)
	awaitMembers(t, members[0], b.queue(0), 2)
	away.Start()
	awaitMembers(t, members[0], b.queue(0), 3)
	members[0].Kill()
	expect(t, subscribe(t, b), 1, 10)
}

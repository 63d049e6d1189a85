//go:build cluster

package kafka

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// TestCluster has everything that needs three nodes. They take more than two cores can do at once, so it is not a part of
// make test.
func TestCluster(t *testing.T) {
	nodes := servers.StartKafkaCluster(t, servers.KafkaOptions{}, servers.KafkaOptions{}, servers.KafkaOptions{})
	for _, c := range []struct {
		name string
		run  func(*testing.T, []*servers.Kafka)
	}{
		{"conformance", clusterConforms},
		{"a leader that is killed is replaced, and nothing confirmed is missing", leaderKilled},
		{"a leader that hangs is replaced, and nothing confirmed is missing", leaderHangs},
		{"with one replica in sync nothing is accepted, and it says that nothing was sent", aloneInSync},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, nodes) })
	}
}

// clusterOf returns the configuration of topics that nobody else has.
func clusterOf(nodes []*servers.Kafka) Config {
	c := configOf(nodes[0], Config{})
	c.Replicas, c.URL = 3, "kafka://"+nodes[0].Address()+","+nodes[1].Address()+","+nodes[2].Address()
	return c
}

func clusterConforms(t *testing.T, nodes []*servers.Kafka) {
	brokertest.Run(t, brokertest.Harness{
		Shared: true, Kills: 1, Patience: time.Minute, Quiet: 150 * time.Millisecond,
		Start: func(brokertest.T) *brokertest.Server {
			s := serverOf(nodes[0], clusterOf(nodes))
			s.Kill = func(brokertest.T) { onAll(nodes, (*servers.Kafka).Kill) }
			s.Revive = func(brokertest.T) { onAll(nodes, (*servers.Kafka).Launch); onAll(nodes, (*servers.Kafka).Await) }
			return s
		},
	})
}

func onAll(nodes []*servers.Kafka, do func(*servers.Kafka)) {
	var doing sync.WaitGroup
	for _, n := range nodes {
		doing.Go(func() { do(n) })
	}
	doing.Wait()
}

// leaderOf returns the node that leads partition 0.
func leaderOf(t *testing.T, b *Broker, nodes []*servers.Kafka) *servers.Kafka {
	t.Helper()
	var at place
	eventually(t, "finding the leader", func() (err error) { at, err = b.partitions[0].asked.now(t.Context()); return err })
	return nodes[at.leader]
}

func leaderKilled(t *testing.T, nodes []*servers.Kafka) {
	goesOnWithout(t, nodes, (*servers.Kafka).Kill, (*servers.Kafka).Start)
}

func leaderHangs(t *testing.T, nodes []*servers.Kafka) {
	goesOnWithout(t, nodes, func(k *servers.Kafka) { k.Pause() }, func(k *servers.Kafka) { k.Continue() })
}

// goesOnWithout publishes and receives while the leader goes and comes back. A batch may be there twice.
func goesOnWithout(t *testing.T, nodes []*servers.Kafka, goes, comes func(*servers.Kafka)) {
	b := reopened(t, clusterOf(nodes))
	publish(t, b, 1, 10)
	leader := leaderOf(t, b, nodes)
	goes(leader)
	began := time.Now()
	for i := uint64(11); i <= 20; i++ {
		eventually(t, "publishing", func() error { return b.Publish(t.Context(), 0, batchOf(i, 10)) })
		if i == 11 {
			t.Logf("confirmed after %v", time.Since(began))
		}
	}
	inOrder(t, b, 20)
	comes(leader)
	publish(t, b, 21, 30)
	inOrder(t, b, 30)
}

// inOrder reads everything from the beginning.
func inOrder(t *testing.T, b *Broker, last uint64) {
	t.Helper()
	var r broker.Receiver
	eventually(t, "subscribing", func() (err error) { r, err = b.Open(t.Context(), 0, drainmark.Cursor(""), false); return err })
	defer r.Close()
	for seen := uint64(0); seen < last; {
		d := receive(t, r, 1)[0]
		if d.Lost != "" || d.First > seen+1 {
			t.Fatalf("behind %d comes %v (%q)", seen, d.Span(), d.Lost)
		}
		seen = max(seen, d.First)
		if backlog, err := b.Backlog(t.Context(), 0, drainmark.Progress{Cursor: d.Cursor}); seen == last && (err != nil || backlog.Pending.Exact) {
			t.Errorf("behind everything the backlog is %+v (%v): a leader may not know that it is none", backlog, err)
		}
	}
}

func aloneInSync(t *testing.T, nodes []*servers.Kafka) {
	b := reopened(t, clusterOf(nodes))
	publish(t, b, 1, 1)
	set(t, b, "min.insync.replicas", "3")
	away := nodes[0]
	if leaderOf(t, b, nodes) == away {
		away = nodes[1]
	}
	away.Kill()
	eventually(t, "being refused", func() error {
		if err := b.Publish(t.Context(), 0, batchOf(2, 10)); !errors.Is(err, broker.ErrNotSent) {
			return errors.Join(errors.New("it does not say that it was not sent"), err)
		}
		return nil
	})
	away.Start()
	eventually(t, "publishing", func() error { return b.Publish(t.Context(), 0, batchOf(2, 10)) })
	inOrder(t, b, 2)
}

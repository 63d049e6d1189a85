//go:build cluster

package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// cluster is three members, each in a process of its own.
type cluster struct {
	members []*external
	next    atomic.Int64 // for prefixes
}

func startCluster(t brokertest.T) *cluster {
	c := &cluster{}
	ports := []int{servers.Port(t), servers.Port(t), servers.Port(t)}
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		settings := natsSettings{Name: fmt.Sprint("member-", i), Routes: routes, ClusterPort: port}
		c.members = append(c.members, startNATS(t, settings, Options{}))
	}
	return c
}

// url names all members.
func (c *cluster) url() string {
	var hosts []string
	for _, m := range c.members {
		hosts = append(hosts, strings.TrimPrefix(m.url, "nats://"))
	}
	return "nats://" + strings.Join(hosts, ",")
}

func (c *cluster) open(t brokertest.T, o Options) *Broker {
	o.Partitions = 2
	b, err := Open(context.Background(), Config{Options: o, URL: c.url(), Replicas: 3})
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestClusterConformance gives each case a deployment of its own on one cluster.
func TestClusterConformance(t *testing.T) {
	c := startCluster(t)
	first := c.open(t, Options{Prefix: "first"})
	start := func(o Options) func(brokertest.T) *brokertest.Server {
		return func(t brokertest.T) *brokertest.Server {
			o := o
			o.Prefix = fmt.Sprint("case-", c.next.Add(1))
			ready(t, c.open(t, o))
			return &brokertest.Server{
				Connect: func(t brokertest.T) broker.Broker { return c.open(t, o) },
				Drop:    drop,
				Foreign: func(t brokertest.T, partition int, payload []byte) {
					m := &nats.Msg{Subject: fmt.Sprintf("%s.p%d.somebody", o.Prefix, partition), Data: payload}
					if _, err := first.conn.RequestMsg(m, patience); err != nil {
						t.Fatalf("publishing a message without headers: %v", err)
					}
				},
			}
		}
	}
	brokertest.Run(t, brokertest.Harness{
		Start:      start(Options{MaxBytes: 128 << 20}),
		StartSmall: start(small),
		Patience:   patience,
	})
}

// ready waits until every partition's stream has been made, and has a leader, which can take its time.
func ready(t brokertest.T, b *Broker) {
	for deadline := time.Now().Add(2 * patience); ; {
		var errs []error
		for number := range b.partitions {
			_, err := b.Backlog(t.Context(), number, persisted("", nil))
			errs = append(errs, err)
		}
		err := errors.Join(errs...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cluster is not ready: %v", err)
		}
	}
}

// election is how long a cluster may need after the death of a member: it answers nothing about consumers while it has
// no leader, and it may elect more than once.
const election = 90 * time.Second

func TestAClusterSurvivesTheDeathOfAnyOneMember(t *testing.T) {
	t.Parallel()
	log, logged := testLog()
	c := startCluster(t)
	b := c.open(t, Options{Timeout: time.Second, Logger: log})
	ready(t, b)
	r := open(t, b, "")
	next := uint64(1)
	var last broker.Delivery
	for _, m := range c.members {
		m.kill(t)
		for range 20 {
			within(t, election, func() string {
				if err := b.Publish(bounded(t), 0, single(1, next, 100)); err != nil {
					return err.Error()
				}
				return ""
			})
			next++
		}
		within(t, election, func() string {
			got, err := b.Backlog(bounded(t), 0, persisted("", nil))
			if err != nil || got.Pending != (broker.Count{Records: next - 1, Exact: true}) {
				return fmt.Sprint(got.Pending, err)
			}
			return ""
		})
		for last.First < next-1 {
			got, err := r.Receive(bounded(t), 100)
			if err != nil { // its consumer was on the member that died
				if errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				r.Close()
				within(t, election, func() string {
					again, err := b.Open(bounded(t), 0, last.Cursor, false)
					if err != nil {
						return err.Error()
					}
					r = again.(*receiver)
					return ""
				})
				continue
			}
			for _, d := range got {
				if d.First > last.First+1 {
					t.Fatalf("received %d after %d", d.First, last.First)
				}
				last = d
			}
		}
		m.start(t)
		within(t, election, func() string { // and lets it catch up
			info, err := b.partitions[0].info(bounded(t))
			if err != nil {
				return err.Error()
			}
			for _, replica := range info.Cluster.Replicas {
				if !replica.Current {
					return replica.Name + " has not caught up"
				}
			}
			return ""
		})
	}
	if strings.Contains(logged(), "from the beginning") {
		t.Errorf("a cursor was not good any more:\n%s", logged())
	}
}

//go:build cluster

package rabbitmq

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// hosts is a URL with several members. The first member is named first.
func hosts(members ...*servers.RabbitMQ) string {
	u, _ := url.Parse(members[0].URL())
	var names []string
	for _, m := range members {
		names = append(names, fmt.Sprintf("%s:%d", servers.Host, m.Port))
	}
	return strings.Replace(members[0].URL(), u.Host, strings.Join(names, ","), 1)
}

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

// leaderOf returns the member that leads a queue.
func leaderOf(t *testing.T, queue string, members []*servers.RabbitMQ) (leader *servers.RabbitMQ, others []*servers.RabbitMQ) {
	t.Helper()
	said := members[0].Control("list_queues", "--silent", "name", "leader")
	for line := range strings.SplitSeq(said, "\n") {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == queue {
			for _, m := range members {
				if m.Node == fields[1] {
					leader = m
				} else {
					others = append(others, m)
				}
			}
		}
	}
	if leader == nil {
		t.Fatalf("queue %s has no leader among %s", queue, said)
	}
	return leader, others
}

// TestClusterWhoseLeaderHangs: a batch that waits is confirmed when the queue has found a new leader, which takes
// RabbitMQ less time than one attempt lasts. A publisher that gave up sooner would begin with the old leader, again and
// again.
func TestClusterWhoseLeaderHangs(t *testing.T) {
	members := servers.StartRabbitMQCluster(t, 3, servers.RabbitMQOptions{})
	first := settings{URL: hosts(members...)}.open(t, members[0])
	publish(t, first, 1, 1)
	leader, others := leaderOf(t, first.queue(0), members)
	b := settings{URL: hosts(others...), Prefix: first.config.Prefix}.open(t, members[0])
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
func connectedTo(t *testing.T, one *servers.RabbitMQ, members []*servers.RabbitMQ) *Broker {
	t.Helper()
	for {
		b := settings{URL: hosts(members...)}.open(t, one)
		if s, err := b.publishing.get(); err == nil && strings.HasSuffix(s.host, fmt.Sprint(one.Port)) {
			return b
		}
		_ = b.Close()
	}
}

// TestClusterWithAMinority: a process that is connected to a node in the minority goes to another host when nothing is
// confirmed, though the node answers otherwise, and does so before the node comes back.
func TestClusterWithAMinority(t *testing.T) {
	members := servers.StartRabbitMQCluster(t, 3, servers.RabbitMQOptions{})
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

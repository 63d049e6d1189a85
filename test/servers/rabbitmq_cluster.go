package servers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// RabbitMQCluster is the members of one cluster.
type RabbitMQCluster []*RabbitMQ

// rabbitCluster is what the members of a cluster have in common.
type rabbitCluster struct {
	mapper int      // the port of the Erlang port mapper
	cookie string   // who knows it may join
	nodes  []string // the members' names
}

// quickDetector has a node that hangs noticed in some 2 seconds. By default RabbitMQ looks every 5 seconds, and a new leader
// is there after 5 to 11. From 3.11 it is raft.adaptive_failure_detector.poll_interval in rabbitmq.conf.
const quickDetector = "[{aten, [{poll_interval, 1000}]}]."

// StartRabbitMQCluster starts a broker for each of the options, in one cluster that ends with the test. RabbitMQ 4 waits for
// the others before it starts a cluster of its own. Before that, members that start at the same time may start two.
func StartRabbitMQCluster(t T, options ...RabbitMQOptions) RabbitMQCluster {
	t.Helper()
	c := &rabbitCluster{mapper: startPortMapper(t, programsOf(t, options[0].Version)), cookie: fmt.Sprintf("drainmark%d", Port(t))}
	var ports []int
	discovery := []string{"cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config"}
	for i := range options {
		ports = append(ports, Port(t))
		c.nodes = append(c.nodes, nodeName(ports[i]))
		discovery = append(discovery, fmt.Sprintf("cluster_formation.classic_config.nodes.%d = %s", i+1, c.nodes[i]))
	}
	var members RabbitMQCluster
	for i, o := range options {
		o.cluster, o.Settings, o.Advanced = c, append(slices.Clone(o.Settings), discovery...), quickDetector
		m := newRabbitMQ(t, o, ports[i])
		members = append(members, m)
		m.Launch()
		if m.programs.isOld() {
			m.Await()
		}
	}
	for _, m := range members {
		m.Await()
	}
	return members
}

func nodeName(port int) string { return fmt.Sprintf("drainmark%d@localhost", port) }

// URL names all members, the first one first.
func (c RabbitMQCluster) URL() string {
	var ports []int
	for _, m := range c {
		ports = append(ports, m.Port)
	}
	return c[0].URLOf(ports...)
}

// Restart starts a member that does not run, and waits until all answer if all run. Without Khepri a member waits for the one
// that was the last to run before it.
func (c RabbitMQCluster) Restart(member int) {
	c[member].t.Helper()
	c[member].Launch()
	if len(c.running()) < len(c) {
		return
	}
	for _, m := range c {
		m.Await()
	}
}

func (c RabbitMQCluster) running() RabbitMQCluster {
	return slices.DeleteFunc(slices.Clone(c), func(m *RabbitMQ) bool { return !m.Running() })
}

var nodeNames = regexp.MustCompile(`drainmark[0-9]+@localhost`)

// Replicas returns which members have the n-th partition of those whose queues have a prefix, modulo their number. Its
// leader comes first.
func (c RabbitMQCluster) Replicas(ctx context.Context, prefix string, n int) ([]int, error) {
	said, err := c.ask(ctx, fmt.Sprintf(`Qs = [Q || Q <- lists:sort(rabbit_amqqueue:list(<<"/">>)),
		{resource, _, _, <<"%s.p", _/binary>>} <- [amqqueue:get_name(Q)]],
		Q = lists:nth(%d rem length(Qs) + 1, Qs), rabbit_quorum_queue:info(Q, [leader, members])`, prefix, n))
	if err != nil {
		return nil, err
	}
	var replicas []int
	for _, node := range nodeNames.FindAllString(said, -1) {
		member := slices.IndexFunc(c, func(m *RabbitMQ) bool { return m.Node == node })
		if member >= 0 && !slices.Contains(replicas, member) {
			replicas = append(replicas, member)
		}
	}
	if len(replicas) == 0 {
		return nil, fmt.Errorf("the queue has no members: %s", said)
	}
	return replicas, nil
}

// Controller returns which member leads what the cluster knows of itself (Khepri), or any that runs where all know it alike.
func (c RabbitMQCluster) Controller(ctx context.Context) (int, error) {
	said, err := c.ask(ctx, `case ra_leaderboard:lookup_leader(rabbitmq_metadata) of {_, Node} -> Node; _ -> node() end`)
	member := slices.IndexFunc(c, func(m *RabbitMQ) bool { return strings.Contains(said, m.Node) })
	if err == nil && member < 0 {
		err = fmt.Errorf("no member is %s", said)
	}
	return member, err
}

// ask evaluates in one member after the other until one answers.
func (c RabbitMQCluster) ask(ctx context.Context, expressions string) (said string, err error) {
	err = errors.New("no member runs")
	for _, m := range c.running() {
		within, cancel := context.WithTimeout(ctx, askedFor)
		said, err = m.eval(within, expressions)
		cancel()
		if err == nil {
			return said, nil
		}
	}
	return "", err
}

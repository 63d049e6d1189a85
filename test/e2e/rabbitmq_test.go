package e2e

import (
	"fmt"

	"github.com/drainmark/drainmark/test/servers"
)

// startRabbitMQ starts one RabbitMQ of a version, and returns its URL.
func (o *topology) startRabbitMQ(disk func(server string) (dir string), version int) (url string) {
	o.t.Helper()
	server := servers.StartRabbitMQ(o.t, servers.RabbitMQOptions{Dir: disk("broker"), Version: version})
	o.addServer("broker", server.Process)
	return server.URL()
}

// startRabbitMQCluster starts a node of each name, in one cluster, with a wire for each program that leads to all of them. It
// returns the URL of the nodes themselves.
func (o *topology) startRabbitMQCluster(disk func(server string) (dir string), names ...string) (url string) {
	o.t.Helper()
	var options []servers.RabbitMQOptions
	for _, name := range names {
		options = append(options, servers.RabbitMQOptions{
			Dir: disk(name), Version: 4, Settings: []string{"cluster_partition_handling = pause_minority"}, // as docs/deploying.md says
		})
	}
	nodes := servers.StartRabbitMQCluster(o.t, options...)
	o.nodes = nodes
	for i, n := range nodes {
		o.parts[names[i]] = part{
			pid:    n.PID,
			start:  func() { n.Kill(); nodes.Restart(i) },
			launch: func() { n.Kill(); n.Launch() },
		}
	}
	for i := range 3 {
		for _, role := range []string{"backend", "consumer"} {
			program := fmt.Sprintf("%s-%d", role, i)
			through := o.wireBefore("broker-of-"+program, "amqp")
			var ways []int
			for _, n := range nodes {
				ways = append(ways, through(fmt.Sprintf("%s:%d", servers.Host, n.Port)))
			}
			o.doors[program] = nodes[0].URLOf(ways...)
		}
	}
	return nodes.URL()
}

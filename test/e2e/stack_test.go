package e2e

import (
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// stack is the servers of a usual deployment: RabbitMQ, a Redis master, and its replicas, with the users of deploy/permissions.
type stack struct {
	broker   *servers.RabbitMQ
	master   *servers.Redis
	replicas []*servers.Redis
}

func startStack(t testing.TB, replicas int) *stack {
	t.Helper()
	s := &stack{broker: servers.StartRabbitMQ(t, servers.RabbitMQOptions{}), master: servers.StartRedis(t, servers.RedisOptions{Roles: true})}
	onRoot := strings.NewReplacer(`"vhost": "drainmark"`, `"vhost": "/"`, `"name": "drainmark"`, `"name": "/"`)
	s.broker.Import(onRoot.Replace(servers.Permissions(t, "rabbitmq.json")))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of what RabbitMQ said:\n%s", s.broker.Output())
		}
	})
	for range replicas {
		s.replicas = append(s.replicas, servers.StartRedis(t, servers.RedisOptions{ReplicaOf: s.master}))
	}
	return s
}

// setup is a deployment on the stack, in which each role has its own user. Every backend reads from any of the replicas.
func (s *stack) setup(backends, consumers int) setup {
	o := setup{broker: s.broker.URL(), store: s.master.URL(), backends: backends, consumers: consumers, roles: true}
	var urls []string
	for _, r := range s.replicas {
		urls = append(urls, r.URL())
	}
	o.replicas = [][]string{urls}
	return o
}

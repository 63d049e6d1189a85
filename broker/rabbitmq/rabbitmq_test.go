package rabbitmq

import (
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// serverCase is a case that leaves the server as it was. Its name is the sentence that holds.
type serverCase struct {
	name string
	run  func(*testing.T, *servers.RabbitMQ)
}

// deprecations are settings by which a version refuses what a later one will no longer have.
var deprecations = map[int][]string{4: {
	"deprecated_features.permit.global_qos = false", "deprecated_features.permit.transient_nonexcl_queues = false",
	"deprecated_features.permit.ram_node_type = false", "deprecated_features.permit.amqp_address_v1 = false",
}}

// TestRabbitMQ is on the machine's RabbitMQ, and TestRabbitMQ4 on the one that is fetched.
func TestRabbitMQ(t *testing.T)  { onServers(t, 0) }
func TestRabbitMQ4(t *testing.T) { onServers(t, 4) }

// onServers has everything that needs a server of a version. Starting one takes seconds of both cores, so there are two:
// one for what leaves it as it was, each case with queues of its own, and one that is killed, paused and starved.
func onServers(t *testing.T, version int) {
	ca := servers.NewAuthority(t)
	certificate, key := ca.Issue("server")
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{
		Version: version, CA: ca.Path, Certificate: certificate, Key: key, Settings: deprecations[version],
	})
	permit(t, server)
	t.Run("conformance", func(t *testing.T) { conform(t, server) }) // first: one of its cases needs quiet
	t.Run("what a server suffers", func(t *testing.T) { t.Parallel(); maltreat(t, version) })
	t.Run("registry", func(t *testing.T) { t.Parallel(); registers(t, server) })
	t.Run("amqps", func(t *testing.T) { t.Parallel(); secured{server, ca}.amqps(t) })
	t.Run("external", func(t *testing.T) { t.Parallel(); secured{server, ca}.external(t) })
	for name, cases := range map[string][]serverCase{"facts": factCases, "adapter": adapterCases, "trouble": troubleCases, "flag": flagCases} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { t.Parallel(); c.run(t, server) })
			}
		})
	}
}

// maltreat does to a server of its own what the others could not bear, one after the other.
func maltreat(t *testing.T, version int) {
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{
		Version:  version,
		Advanced: "[{rabbit, [{channel_tick_interval, 500}]}].", // how often consumer_timeout is looked at
	})
	permit(t, server)
	for _, c := range []serverCase{
		{"conformance", conformWhenKilled},
		{"registry", registersWhenKilled},
		{"a receiver that outlasts consumer_timeout ends, and the next one gets the same again", outlastsConsumerTimeout},
		{"while it is paused, no call lasts longer than its context", pausedServer},
		{"while it is short of memory it takes no batches, but acknowledgements", alarm},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, server) })
	}
}

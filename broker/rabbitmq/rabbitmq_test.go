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

// TestRabbitMQ has everything that needs a server. Starting one takes seconds of both cores, so there are two: one for
// what leaves it as it was, each case with queues of its own, and one that is killed, paused and starved.
func TestRabbitMQ(t *testing.T) {
	ca := servers.NewAuthority(t)
	certificate, key := ca.Issue("server")
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{CA: ca.Path, Certificate: certificate, Key: key})
	permit(t, server)
	t.Run("conformance", func(t *testing.T) { conform(t, server) }) // first: one of its cases needs quiet
	t.Run("what a server suffers", func(t *testing.T) { t.Parallel(); maltreat(t) })
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
func maltreat(t *testing.T) {
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{
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

package kafka

import (
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// serverCase is a case that needs a server. Its name is the sentence that holds.
type serverCase struct {
	name string
	run  func(*testing.T, *servers.Kafka)
}

// TestKafka has everything that needs a server. Starting one takes seconds of both cores, so all share one: first what it
// suffers, while it has few topics, for it recovers each when it was killed. Then the suite, then what leaves the server as
// it was, each case with topics of its own, and at last its death.
func TestKafka(t *testing.T) {
	ca := servers.NewAuthority(t)
	certificate, key := ca.Issue("server")
	server := servers.StartKafka(t, servers.KafkaOptions{CA: ca.Path, Certificate: certificate, Key: key})
	for _, c := range []serverCase{
		{"registry when it is killed", registersWhenKilled},
		{"what a partition has lost at its end is told, and nothing is read past it", truncated},
		{"while it is paused, no call lasts longer than its context", pausedServer},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, server) })
	}
	t.Run("conformance", func(t *testing.T) { conform(t, server) })
	t.Run("at work", func(t *testing.T) {
		t.Run("registry", func(t *testing.T) { t.Parallel(); registers(t, server) })
		t.Run("rights are needed", func(t *testing.T) { t.Parallel(); rightsAreNeeded(t, server) })
		t.Run("roles are apart", func(t *testing.T) { t.Parallel(); rolesAreApart(t, server) })
		t.Run("logins", func(t *testing.T) { t.Parallel(); secured{server, ca}.logins(t) })
		for _, cases := range [][]serverCase{topicCases, publishCases, purgeCases, remadeCases} {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { t.Parallel(); c.run(t, server) })
			}
		}
	})
	t.Run("a server that is dead says that nothing was sent", func(t *testing.T) { deadServer(t, server) })
}

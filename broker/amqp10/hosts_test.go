package amqp10

import (
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// otherHost: a host to which a connection has ended is tried last, because it may hang. Both names are of one server.
func otherHost(t *testing.T, p peer) {
	c, err := p.as(servers.BackendUser, p.config(t, 0)).resolved()
	if err != nil {
		t.Fatal(err)
	}
	c.hosts = append(c.hosts, strings.Replace(c.hosts[0], servers.Host, "localhost", 1))
	s := newServer(c)
	var used []string
	for range 3 {
		opened, err := s.connect(t.Context(), "a test")
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, opened.address)
		if len(used) > 1 {
			opened.close()
			continue
		}
		opened.cut()
		<-opened.conn.Done()
		opened.drop()
	}
	if !slices.Equal(used, []string{c.hosts[0], c.hosts[1], c.hosts[1]}) {
		t.Errorf("after the end of the first connection the hosts were %v", used)
	}
}

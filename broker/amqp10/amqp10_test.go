package amqp10

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

func TestArtemis(t *testing.T) {
	security, rights := xmlRights(t, "artemis.xml", "case.*.", "small.*.")
	server := servers.StartArtemis(t, servers.ArtemisOptions{Security: security, Addresses: `<address-setting match="small.#">` +
		`<max-size-bytes>1000000</max-size-bytes><address-full-policy>FAIL</address-full-policy></address-setting>`})
	p := peer{url: server.URL(), kill: server.Kill, start: server.Start, small: &peer{url: server.URL(), first: "small."}, roles: true}
	conform(t, p)
	p.checkRights(t, rights)
}

func (p peer) checkRights(t *testing.T, r rights) {
	if r.config == nil {
		r.config = func(_ *testing.T, lacking int, user string) Config {
			prefix := "all."
			if lacking >= 0 {
				prefix = fmt.Sprintf("lack.%d.", lacking)
			}
			return p.as(user, Config{URL: p.url, Prefix: prefix, Partitions: 1, Timeout: answerTime})
		}
		t.Run("the roles are apart", func(t *testing.T) { rolesAreApart(t, p) })
	}
	t.Run("each right is needed", func(t *testing.T) { rightsAreNeeded(t, r) })
}

func TestRabbitMQ4(t *testing.T) {
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{Version: 4})
	definitions := servers.Permissions(t, "rabbitmq-amqp10.json")
	server.Import(strings.NewReplacer(`drainmark\\.`, `case\\.[0-9]+\\.`, `"vhost": "drainmark"`, `"vhost": "/"`, `"name": "drainmark"`, `"name": "/"`).Replace(definitions))
	url := "amqp10" + server.URL()[len("amqp"):]
	p := peer{url: url, kill: server.Kill, start: server.Start, small: &peer{url: url}, roles: true}
	if allServers {
		conform(t, p)
	}
	rights := rabbitRights(t, server, url)
	p.checkRights(t, rights)
	t.Run("the first makes the queues", func(t *testing.T) { makingIsForTheFirst(t, rights) })
}

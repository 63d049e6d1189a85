package app

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// permitted are a broker and a store whose users have the rights of deploy/permissions, and no more.
type permitted struct {
	brokerAs, storeAs func(user string) (url string)
	refusals          func() string // what the servers have refused, as far as they tell
}

func permittedRabbitMQAndRedis(t *testing.T) permitted {
	rabbit, redis := servers.StartRabbitMQ(t, servers.RabbitMQOptions{}), servers.StartRedis(t, servers.RedisOptions{Roles: true})
	for _, user := range []string{servers.BackendUser, servers.ConsumerUser} {
		rabbit.Control("add_user", user, servers.RolePassword)
	}
	rabbit.Control("import_definitions", filepath.Join("..", "deploy", "permissions", "rabbitmq.json"))
	return permitted{
		func(user string) string { return servers.As(user, rabbit.URL()) + "drainmark" },
		func(user string) string { return servers.As(user, redis.URL()) },
		func() string { return fmt.Sprint(redis.Do("ACL", "LOG")) },
	}
}

func permittedNATSAndPostgres(t *testing.T) permitted {
	nats := servers.StartNATS(t, servers.NATSOptions{Settings: []string{servers.Permissions(t, "nats.conf")}})
	postgres := servers.StartPostgres(t, servers.PostgresOptions{})
	postgres.Do("CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE postgres TO owner")
	if code, _, stderr := migrates(t, "--store", postgres.URL("owner")); code != exitOK {
		t.Fatalf("migrate: exit code %d: %s", code, stderr)
	}
	postgres.Script(servers.Permissions(t, "postgres.sql"))
	postgres.Do(fmt.Sprintf(`CREATE ROLE "%s" LOGIN IN ROLE drainmark_backend; CREATE ROLE "%s" LOGIN IN ROLE drainmark_consumer`,
		servers.BackendUser, servers.ConsumerUser))
	return permitted{
		func(user string) string { return servers.As(user, nats.URL()) },
		postgres.URL,
		func() string { return "[]" },
	}
}

// A whole deployment works with the files in deploy/permissions as they are: init and the consumer as the consumers' user, the
// backend as the backends', who reads the store and cannot write it. Nothing is refused on the way.
func TestADeploymentWithTheLeastRights(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) permitted{
		"RabbitMQ and Redis": permittedRabbitMQAndRedis, "NATS and PostgreSQL": permittedNATSAndPostgres,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			broker, store := p.brokerAs(servers.ConsumerUser), p.storeAs(servers.ConsumerUser)
			if code, _, stderr := initialize(t, "--broker", broker, "--store", store); code != exitOK {
				t.Fatalf("init: exit code %d: %s", code, stderr)
			}
			c := launchWith(t, setting("DRAINMARK_BROKER="+broker, "DRAINMARK_STORE="+store), "consumer", "--admin-listen", "127.0.0.1:0")
			c.find("(consumer is running)")
			given := setting("DRAINMARK_BROKER="+p.brokerAs(servers.BackendUser), "DRAINMARK_STORE="+p.storeAs(servers.BackendUser))
			b := startWith(t, given, append([]string{"backend"}, free...)...)
			b.want(202, "POST", "/v1/logs/log/messages", "hello")
			b.barrier()
			b.want(202, "DELETE", "/v1/logs/log/messages", "")
			b.want(202, "POST", "/v1/logs/log/messages", "again")
			b.barrier()
			if got := bodies(b.readAll("log")); got != "again" {
				t.Errorf("the log has %q", got)
			}
			b.want(200, "GET", "/v1/backlog", "")
			b.want(200, "GET", "/v1/consumers", "")
			if refused := p.refusals(); refused != "[]" {
				t.Errorf("the servers refused %s", refused)
			}
			for _, denial := range []string{"may not", "ACCESS_REFUSED", "permission denied", "not set up"} {
				if strings.Contains(c.said()+b.said(), denial) {
					t.Errorf("something is refused: %s: %s", denial, c.said()+b.said())
				}
			}
		})
	}
}

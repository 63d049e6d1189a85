package app

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// guarded is a server with a user "app".
type guarded struct {
	url    string                // with PASSWORD in it
	rotate func(password string) // gives the user another password, and cuts all connections
	says   string                // what a consumer says when the password is refused: a pattern
}

// with returns the URL with a password.
func (g guarded) with(password string) string {
	return strings.ReplaceAll(g.url, "PASSWORD", password)
}

func guardedRabbitMQ(t *testing.T) guarded {
	t.Helper()
	s := servers.StartRabbitMQ(t, servers.RabbitMQOptions{})
	s.AddUser("app")
	s.Permit("app", ".*", ".*", ".*")
	return guarded{fmt.Sprintf("amqp://app:PASSWORD@%s:%d/", servers.Host, s.Port), func(password string) {
		s.Eval(fmt.Sprintf(`ok = rabbit_auth_backend_internal:change_password(<<"app">>, <<%q>>, <<"test">>),
			[rabbit_networking:close_connection(C, "rotated") || C <- rabbit_networking:connections()]`, password))
	}, `(RabbitMQ refuses us: check user and password)`}
}

func guardedNATS(t *testing.T) guarded {
	t.Helper()
	user := func(password string) string {
		return fmt.Sprintf("authorization { users: [{ user: app, password: %q }] }", password)
	}
	s := servers.StartNATS(t, servers.NATSOptions{Settings: []string{user("one")}})
	return guarded{fmt.Sprintf("nats://app:PASSWORD@%s:%d", servers.Host, s.Port), func(password string) {
		s.Reload(user(password)) // which cuts who has another one
	}, `(Authorization Violation)`}
}

func guardedRedis(t *testing.T) guarded {
	t.Helper()
	s := servers.StartRedis(t, servers.RedisOptions{})
	return guarded{"redis://app:PASSWORD@" + s.Address(), func(password string) {
		s.Do("ACL", "SETUSER", "app", "on", "resetpass", ">"+password, "~*", "&*", "+@all")
		s.Do("CLIENT", "KILL", "USER", "app")
	}, `(WRONGPASS)`}
}

func guardedPostgres(t *testing.T) guarded {
	t.Helper()
	s := servers.StartPostgres(t, servers.PostgresOptions{Access: []string{"host all app all scram-sha-256"}})
	s.Do("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE postgres TO app")
	return guarded{fmt.Sprintf("postgres://app:PASSWORD@%s/postgres?sslmode=disable", s.Address()), func(password string) {
		s.Do(fmt.Sprintf("ALTER ROLE app PASSWORD '%s'", password))
		s.Do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
	}, `(SQLSTATE 28P01)`}
}

// rotation is a deployment whose URLs are in files.
type rotation struct {
	broker, store     guarded
	toBroker, toStore func(text string) // write the files
	consumer, backend *program
}

func startRotation(t *testing.T, broker, store guarded) *rotation {
	t.Helper()
	r := &rotation{broker: broker, store: store}
	broker.rotate("one")
	store.rotate("one")
	brokerFile, toBroker := urlFile(t, broker.with("one")+"\n")
	storeFile, toStore := urlFile(t, store.with("one")+"\n")
	r.toBroker, r.toStore = toBroker, toStore
	r.consumer = launch(t, "consumer", "--admin-listen", "127.0.0.1:0", "--partitions", "1", "--broker-file", brokerFile, "--store-file", storeFile)
	r.consumer.find("(consumer is running)")
	r.backend = start(t, "backend", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--broker-file", brokerFile, "--replica-file", storeFile)
	return r
}

// patience is how long it may take until both processes log in again, which wait longer after each refusal, on a busy machine.
const patience = 2 * time.Minute

// works waits until a message is accepted, persisted and read.
func (r *rotation) works(message string) {
	r.backend.t.Helper()
	r.backend.awaitFor(patience, "persists "+message, func() bool {
		a, err := r.backend.call("POST", "/v1/logs/rotated/messages", message, "Content-Type", "text/plain", "Prefer", "wait=5")
		return err == nil && a.status == http.StatusCreated
	})
	r.backend.awaitFor(patience, "shows "+message, func() bool {
		a, err := r.backend.call("GET", "/v1/logs/rotated/messages", "")
		return err == nil && strings.Contains(string(a.body), fmt.Sprintf("%q", message))
	})
	select {
	case <-r.consumer.exited:
		r.consumer.t.Fatalf("the consumer has ended: %s", r.consumer.said())
	default:
	}
}

// Passwords of broker and store change while the processes run, whichever of server and file is first.
func TestPasswordsAreRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (broker, store guarded){
		"RabbitMQ and PostgreSQL": func(t *testing.T) (broker, store guarded) { return guardedRabbitMQ(t), guardedPostgres(t) },
		"NATS and Redis":          func(t *testing.T) (broker, store guarded) { return guardedNATS(t), guardedRedis(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, store := start(t)
			r := startRotation(t, broker, store)
			r.works("at the start")
			r.toBroker(broker.with("two"))
			broker.rotate("two")
			r.works("with another password of the broker")
			r.toStore(store.with("two"))
			store.rotate("two")
			r.works("with another password of the store")
			broker.rotate("three")
			r.consumer.find(broker.says)
			r.toBroker(broker.with("three"))
			r.works("as soon as the broker's file says it")
			store.rotate("three")
			r.consumer.find(store.says)
			r.toStore(store.with("three"))
			r.works("as soon as the store's file says it")
			for _, p := range []*program{r.consumer, r.backend} {
				if strings.Contains(p.said(), "PASSWORD") || strings.Contains(p.said(), "takes a restart") {
					t.Errorf("it says %s", p.said())
				}
			}
		})
	}
}

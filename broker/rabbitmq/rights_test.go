package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// right lets somebody configure, write or read what a pattern matches.
type right struct{ verb, pattern string }

// permission is what a user may do, as definitions have it.
type permission struct{ User, Vhost, Configure, Write, Read string }

// rights returns the rights of a user one by one: each pattern is a list of alternatives.
func (p permission) rights() (all []right) {
	for verb, pattern := range map[string]string{"configure": p.Configure, "write": p.Write, "read": p.Read} {
		list := strings.TrimSuffix(strings.TrimPrefix(pattern, "^("), ")$")
		for one := range strings.SplitSeq(list, "|") {
			all = append(all, right{verb, one})
		}
	}
	return all
}

// pattern joins what a user may do of a kind.
func pattern(all []right, verb, prefix string) string {
	var of []string
	for _, r := range all {
		if r.verb == verb {
			of = append(of, strings.ReplaceAll(r.pattern, "drainmark", prefix))
		}
	}
	return "^(" + strings.Join(of, "|") + ")$"
}

// permitted returns what deploy/permissions lets backends and consumers do.
func permitted(t *testing.T) (backend, consumer []right) {
	t.Helper()
	var file struct{ Permissions []permission }
	if err := json.Unmarshal([]byte(servers.Permissions(t, "rabbitmq.json")), &file); err != nil {
		t.Fatal(err)
	}
	all := file.Permissions
	if len(all) != 2 || all[0].User != servers.BackendUser || all[1].User != servers.ConsumerUser {
		t.Fatalf("the file has %+v", all)
	}
	return all[0].rights(), all[1].rights()
}

// With exactly the rights in deploy/permissions both roles do all that they do. With one right less, the error says so.
func rightsAreNeeded(t *testing.T, server *servers.RabbitMQ) {
	backend, consumer := permitted(t)
	for i, r := range backend {
		lacking := rightsCase{server, slices.Delete(slices.Clone(backend), i, i+1), consumer, false}
		t.Run(fmt.Sprintf("a backend that may not %s %s", r.verb, r.pattern), func(t *testing.T) {
			t.Parallel()
			lacking.fails(t)
		})
	}
	for i, r := range consumer {
		lacking := rightsCase{server, backend, slices.Delete(slices.Clone(consumer), i, i+1), true}
		t.Run(fmt.Sprintf("a consumer that may not %s %s", r.verb, r.pattern), func(t *testing.T) {
			t.Parallel()
			lacking.fails(t)
		})
	}
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		for _, consumerFirst := range []bool{false, true} {
			if err := (rightsCase{server, backend, consumer, consumerFirst}).pass(t); err != nil {
				t.Error(err)
			}
		}
	})
}

// A backend's user can take nothing from the queues, and a consumer's can put nothing into them.
func rolesAreApart(t *testing.T, server *servers.RabbitMQ) {
	s := describePermitted(t, server, Config{})
	b := s.Connect(t).(brokertest.Roles)
	defer b.Close()
	prefix := b.Backend.(*Broker).config.Prefix
	for what, try := range map[string]func(ch *amqp.Channel) error{
		servers.BackendUser + " gets": func(ch *amqp.Channel) error { _, _, err := ch.Get(prefix+".p0", false); return err },
		servers.BackendUser + " consumes": func(ch *amqp.Channel) error {
			_, err := ch.Consume(prefix+".p0", "", false, false, false, false, nil)
			return err
		},
		servers.BackendUser + " purges":     func(ch *amqp.Channel) error { _, err := ch.QueuePurge(prefix+".p0", false); return err },
		servers.ConsumerUser + " publishes": func(ch *amqp.Channel) error { return publishAndWait(t, ch, prefix+".p0") },
	} {
		user, _, _ := strings.Cut(what, " ")
		conn, err := amqp.Dial(servers.As(user, server.URL()))
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err == nil {
			err = try(ch)
		}
		if !hasCode(err, amqp.AccessRefused) {
			t.Errorf("%s: %v", what, err)
		}
		_ = conn.Close()
	}
}

// publishAndWait returns why a message was not taken.
func publishAndWait(t *testing.T, ch *amqp.Channel, queue string) error {
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	err := ch.Confirm(false)
	if err != nil {
		return err
	}
	confirmation, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{Body: []byte("x")})
	if err != nil {
		return err
	}
	select {
	case err := <-closed:
		return err
	case <-confirmation.Done():
		return nil
	case <-t.Context().Done():
		return t.Context().Err()
	}
}

// rightsCase are the rights of two users.
type rightsCase struct {
	server            *servers.RabbitMQ
	backend, consumer []right
	consumerFirst     bool
}

func (c rightsCase) fails(t *testing.T) {
	if err := c.pass(t); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "ACCESS_REFUSED") {
		t.Errorf("it ends with %v", err)
	}
}

// pass has queues of its own, which the one who comes first makes, and plays what the two do.
func (c rightsCase) pass(t *testing.T) error {
	prefix := fmt.Sprintf("rights%d", prefixes.Add(1))
	config := func(role string, rights []right) Config {
		user := prefix + role
		c.server.AddUser(user)
		of := func(verb string) string { return pattern(rights, verb, prefix) }
		c.server.Permit(user, of("configure"), of("write"), of("read"))
		url := fmt.Sprintf("amqp://%s:secret@%s:%d/", user, servers.Host, c.server.Port)
		return Config{URL: url, Prefix: prefix, Partitions: 1, Settle: time.Millisecond, Timeout: 20 * time.Second}
	}
	backend, consumer := config("backend", c.backend), config("consumer", c.consumer)
	order := []Config{backend, consumer}
	if c.consumerFirst {
		slices.Reverse(order)
	}
	for _, config := range order {
		if err := enrollAs(t, config); err != nil {
			return err
		}
	}
	return playRoles(t, backend, consumer)
}

func enrollAs(t *testing.T, c Config) error {
	r, err := OpenRegistry(t.Context(), c)
	if err != nil {
		return err
	}
	defer r.Close()
	return brokertest.Enroll(t.Context(), r, c.Partitions)
}

// playRoles does what both roles do.
func playRoles(t *testing.T, as, whom Config) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	consumer, err := Open(ctx, whom)
	if err != nil {
		return err
	}
	defer consumer.Close()
	backend, err := Open(ctx, as)
	if err != nil {
		return err
	}
	defer backend.Close()
	nothing := func() error { return nil }
	return brokertest.Roles{Backend: backend, Consumer: consumer}.Act(ctx, batchOf(self, 0, 1, 1), nothing)
}

// Definitions that give rights to users who are not there are refused: nobody gets an account without a password by them.
func usersComeFirst(t *testing.T, server *servers.RabbitMQ) {
	file := strings.ReplaceAll(servers.Permissions(t, "rabbitmq.json"), "drainmark", fmt.Sprintf("nobody%d", prefixes.Add(1)))
	said := server.Eval(fmt.Sprintf(`rabbit_definitions:import_raw(<<%q>>)`, file))
	if !strings.Contains(said, "error") || !strings.Contains(said, "nobody") {
		t.Errorf("importing gives %s", said)
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// rightsOf are rights on topics whose names begin with another prefix.
func rightsOf(rights []servers.KafkaRight, prefix string) []servers.KafkaRight {
	of := slices.Clone(rights)
	for i := range of {
		of[i].Name = strings.Replace(of[i].Name, "drainmark", prefix, 1)
	}
	return of
}

// as returns the configuration with the login of a user of deploy/permissions.
func as(server *servers.Kafka, user string, c Config) Config {
	c.URL = servers.As(user, fmt.Sprintf("kafka://%s:%d?sasl=plain", servers.Host, server.SASLPort))
	return c
}

// With exactly the rights in deploy/permissions both roles do all that they do. With one right less, the error says so.
func rightsAreNeeded(t *testing.T, server *servers.Kafka) {
	all := servers.KafkaRights(servers.Permissions(t, "kafka.sh"))
	if len(all) < 10 {
		t.Fatalf("the file has %+v", all)
	}
	for i, r := range all {
		lacking := slices.Delete(slices.Clone(all), i, i+1)
		t.Run(fmt.Sprintf("%s without %s of the %s %s", r.User, r.Operation, r.Kind, r.Name), func(t *testing.T) {
			t.Parallel()
			// Whoever comes first makes the topics, so a right to make some is only missed by that one.
			err := playRoles(t, server, lacking, r.User == servers.ConsumerUser)
			if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "does not permit") && !strings.Contains(err.Error(), "AUTHORIZATION_FAILED") {
				t.Errorf("it ends with %v", err)
			}
		})
	}
	for _, consumerFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("all, the consumer first: %v", consumerFirst), func(t *testing.T) {
			t.Parallel()
			if err := playRoles(t, server, all, consumerFirst); err != nil {
				t.Error(err)
			}
		})
	}
}

// playRoles has topics of its own, and does there what the two roles do, with these rights.
func playRoles(t *testing.T, server *servers.Kafka, rights []servers.KafkaRight, consumerFirst bool) error {
	c := configOf(server, Config{ReplayWindow: time.Nanosecond, PurgeInterval: time.Hour})
	server.Permit(rightsOf(rights, c.Prefix))
	users := []string{servers.BackendUser, servers.ConsumerUser}
	if consumerFirst {
		slices.Reverse(users)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opened := map[string]*Broker{}
	for _, user := range users {
		c := as(server, user, c)
		if err := enrollAs(ctx, c); err != nil {
			return err
		}
		b, err := Open(ctx, c)
		if err != nil {
			return err
		}
		defer b.Close()
		opened[user] = b
	}
	consumer := opened[servers.ConsumerUser]
	return brokertest.Roles{Backend: opened[servers.BackendUser], Consumer: consumer}.Act(ctx, batchOf(1, 10), func() error {
		return errors.Join(refusal(consumer.look(ctx)), refusal(consumer.tell(ctx)))
	})
}

func enrollAs(ctx context.Context, c Config) error {
	r, err := OpenRegistry(ctx, c)
	if err != nil {
		return err
	}
	defer r.Close()
	return brokertest.Enroll(ctx, r, c.Partitions)
}

// A backend's user reads no records and purges nothing, and a consumer's publishes none.
func rolesAreApart(t *testing.T, server *servers.Kafka) {
	c := configOf(server, Config{})
	server.Permit(rightsOf(servers.KafkaRights(servers.Permissions(t, "kafka.sh")), c.Prefix))
	backend, consumer := reopened(t, as(server, servers.BackendUser, c)), reopened(t, as(server, servers.ConsumerUser, c))
	publish(t, backend, 1, 1)
	r, err := backend.Open(t.Context(), 0, "", false)
	if err == nil {
		_, err = r.Receive(t.Context(), 1)
	}
	for what, err := range map[string]error{
		"a backend receives":   err,
		"a backend purges":     refusal(backend.partitions[0].asked.deleteBefore(t.Context(), -1)),
		"a consumer publishes": consumer.Publish(t.Context(), 0, batchOf(2, 10)),
	} {
		if !errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

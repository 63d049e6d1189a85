package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
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
	c := configOf(server, Config{ReplayWindow: time.Nanosecond, PurgeInterval: time.Hour, Timeout: 10 * time.Second})
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
	if err := actAsBackend(ctx, opened[servers.BackendUser]); err != nil {
		return err
	}
	return actAsConsumer(ctx, opened[servers.ConsumerUser])
}

func enrollAs(ctx context.Context, c Config) error {
	r, err := OpenRegistry(ctx, c)
	if err != nil {
		return err
	}
	defer r.Close()
	d := drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: c.Partitions}
	for _, stored := range []bool{false, true} {
		if _, err := r.Enroll(ctx, broker.Enrollment{Deployment: d, Stored: stored}); err != nil {
			return err
		}
	}
	_, err = r.Recorded(ctx)
	return err
}

// actAsBackend publishes, asks, and raises and lowers the flag.
func actAsBackend(ctx context.Context, b *Broker) error {
	if err := b.Publish(ctx, 0, batchOf(1, 10)); err != nil {
		return err
	}
	flag := b.Flag()
	if err := flag.Raise(ctx, "a"); err != nil {
		return err
	}
	text, err := flag.Read(ctx)
	if err = errors.Join(err, flag.Lower(ctx, text)); err != nil {
		return err
	}
	_, err = b.Backlog(ctx, 0, drainmark.Progress{})
	return errors.Join(err, b.Ping(ctx))
}

// actAsConsumer receives, acknowledges, asks, purges, and tells people's tools how far it is.
func actAsConsumer(ctx context.Context, b *Broker) error {
	r, err := b.Open(ctx, 0, "", false)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := r.Receive(ctx, 1)
	if err == nil {
		err = r.Ack(ctx, got[0])
	}
	if err != nil {
		return err
	}
	_, asked := b.Backlog(ctx, 0, drainmark.Progress{})
	_, kept := b.Keeps(ctx, 0, []drainmark.ProducerID{{7}})
	return errors.Join(asked, kept, b.Ping(ctx), refusal(b.look(ctx)), refusal(b.tell(ctx)))
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

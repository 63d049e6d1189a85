package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// permitted returns what a file of deploy/permissions lets the backends' and the consumers' user do.
func permitted(t *testing.T) (backend, consumer rights) {
	t.Helper()
	var o server.Options
	if err := o.ProcessConfigString(servers.Permissions(t, "nats.conf")); err != nil {
		t.Fatal(err)
	}
	of := map[string]rights{}
	for _, u := range o.Users {
		of[u.Username] = rights{u.Permissions.Publish.Allow, u.Permissions.Subscribe.Allow}
	}
	if len(of) != 2 || len(of[servers.BackendUser].publish) < 5 || len(of[servers.ConsumerUser].publish) < 5 {
		t.Fatalf("the file has too little: %v", of)
	}
	return of[servers.BackendUser], of[servers.ConsumerUser]
}

// rights are what a NATS user may do.
type rights struct{ publish, subscribe []string }

// without returns the rights without one of those to publish.
func (r rights) without(i int) rights {
	r.publish = slices.Delete(slices.Clone(r.publish), i, i+1)
	return r
}

// user is the user's entry in the server's settings.
func (r rights) user(name string) string {
	list := func(subjects []string) string {
		return `["` + strings.Join(subjects, `", "`) + `"]`
	}
	return fmt.Sprintf("{ user: %s, password: secret, permissions: { publish: %s, subscribe: %s } }",
		name, list(r.publish), list(r.subscribe))
}

// rightsCase is an account of a NATS server, with a user of each kind.
type rightsCase struct {
	name              string
	backend, consumer rights
	lacks             string // the right that one of them lacks, or ""
	whose             string
}

func rightsCases(t *testing.T) []rightsCase {
	backend, consumer := permitted(t)
	cases := []rightsCase{{name: "all", backend: backend, consumer: consumer}}
	for i, subject := range backend.publish {
		cases = append(cases, rightsCase{fmt.Sprint("backend", i), backend.without(i), consumer, subject, "backend"})
	}
	for i, subject := range consumer.publish {
		cases = append(cases, rightsCase{fmt.Sprint("consumer", i), backend, consumer.without(i), subject, "consumer"})
	}
	for whose, deaf := range map[string]rights{"backend": backend, "consumer": consumer} {
		deaf.subscribe = []string{"nothing"}
		c := rightsCase{whose + "deaf", backend, consumer, "_INBOX.", whose}
		if whose == "backend" {
			c.backend = deaf
		} else {
			c.consumer = deaf
		}
		cases = append(cases, c)
	}
	return cases
}

// With exactly the rights in deploy/permissions, a deployment does everything that backends and consumers do, and NATS refuses
// nothing. With one right less it names that.
func TestThePermissionsSufficeAndAreNeeded(t *testing.T) {
	t.Parallel()
	cases := rightsCases(t)
	var accounts strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&accounts, "%s { jetstream: enabled, users: [%s, %s] }\n",
			c.name, c.backend.user(c.name+"b"), c.consumer.user(c.name+"c"))
	}
	e := startNATS(t, natsSettings{More: "accounts {\n" + accounts.String() + "}"}, Options{Partitions: 1, MaxBytes: 1 << 20})
	for _, c := range cases {
		t.Run(strings.TrimSpace(c.whose+" "+c.lacks), func(t *testing.T) {
			t.Parallel()
			said, err := c.pass(t, e)
			switch {
			case c.lacks == "" && (err != nil || strings.Contains(said, "may not") || strings.Contains(said, "iolation")):
				t.Errorf("with all rights: %v; %s", err, said)
			case c.lacks != "" && !names(c.lacks, fmt.Sprint(err)) && !names(c.lacks, said):
				t.Errorf("without the right to %s: %v; %s", c.lacks, err, said)
			case err != nil && !errors.Is(err, broker.ErrMisconfigured):
				t.Errorf("without the right to %s: %v, which is not called misconfigured", c.lacks, err)
			}
		})
	}
}

// names says whether a text says that a right is missing.
func names(right, text string) bool {
	for _, to := range []string{"publish", "subscribe"} {
		_, after, found := strings.Cut(text, "the NATS user may not "+to+" to ")
		if stem, _, _ := strings.Cut(right, "*"); found && strings.HasPrefix(after, stem) {
			return true
		}
	}
	return false
}

// pass plays everything that a backend and a consumer do with the broker, each role on an empty account first, and returns
// what they logged.
func (c rightsCase) pass(t *testing.T, e *external) (said string, err error) {
	logger, logged := testLog()
	options := e.options
	options.Logger, options.Timeout, options.PurgeInterval = logger, answerTime, 20*time.Millisecond
	options.ReplayWindow = time.Nanosecond
	options.ProducerRetention = time.Nanosecond
	as := func(role string) Config {
		return Config{Options: options, URL: strings.Replace(e.url, "nats://", "nats://"+c.name+role[:1]+":secret@", 1)}
	}
	roles := []string{"backend", "consumer"}
	if c.whose == "consumer" {
		slices.Reverse(roles)
	}
	defer func() { said = logged() }()
	brokers := map[string]*Broker{}
	for _, role := range roles {
		b, err := begin(t, as(role))
		if err != nil {
			return "", fmt.Errorf("beginning as the %s: %w", role, err)
		}
		defer b.Close()
		brokers[role] = b
	}
	if err := play(t, brokers["backend"], brokers["consumer"], logged); err != nil {
		return "", err
	}
	return "", errors.Join(brokers["backend"].Close(), brokers["consumer"].Close())
}

// begin records the deployment and opens the broker.
func begin(t *testing.T, c Config) (*Broker, error) {
	registry, err := OpenRegistry(bounded(t), c)
	if err != nil {
		return nil, err
	}
	defer registry.Close()
	if err := brokertest.Enroll(bounded(t), registry, 1); err != nil {
		return nil, err
	}
	return Open(bounded(t), c)
}

// play publishes, also a batch whose outcome is unknown, receives, commits, purges, and asks for all there is.
func play(t *testing.T, backend, consumer *Broker, logged func() string) error {
	ctx := bounded(t)
	for i := uint64(1); i <= 3; i++ {
		if err := backend.Publish(ctx, 0, single(1, i, 1000)); err != nil {
			return err
		}
	}
	backend.partitions[0].latest.sequence = 1 // as if the answer to the last one had been lost
	if err := backend.Publish(ctx, 0, single(1, 3, 1000)); err != nil {
		return err
	}
	cursor, err := consume(ctx, consumer)
	if err != nil {
		return err
	}
	if err := asked(ctx, backend, consumer, cursor); err != nil {
		return err
	}
	return purged(ctx, consumer, logged)
}

// consume receives and acknowledges all three batches, and begins again behind the second.
func consume(ctx context.Context, b *Broker) (behind drainmark.Cursor, err error) {
	for from, n := drainmark.Cursor(""), 3; n > 0; n -= 2 {
		r, err := b.Open(ctx, 0, from, false)
		if err != nil {
			return "", err
		}
		var last broker.Delivery
		for got := 0; got < n; {
			all, err := r.Receive(ctx, 1)
			if err != nil {
				return "", err
			}
			if got += len(all); got == 2 {
				from, behind = all[len(all)-1].Cursor, all[len(all)-1].Cursor
			}
			last = all[len(all)-1]
		}
		if n == 1 {
			return behind, r.Ack(ctx, last) // it stays open, so that what is persisted is purged
		}
		if err := errors.Join(r.Ack(ctx, last), r.Close()); err != nil {
			return "", err
		}
	}
	return behind, nil
}

// asked asks what each role asks. Init asks for the backlog as a consumer.
func asked(ctx context.Context, backend, consumer *Broker, cursor drainmark.Cursor) error {
	progress := persisted(cursor, map[byte]uint64{1: 2})
	for _, b := range []*Broker{backend, consumer} {
		_, err := b.Backlog(ctx, 0, progress)
		if err = errors.Join(err, b.Ping(ctx)); err != nil {
			return err
		}
	}
	_, err := consumer.Keeps(ctx, 0, []drainmark.ProducerID{producer(1)})
	return err
}

// purged waits until all but the newest message is purged, or until it is logged why not.
func purged(ctx context.Context, b *Broker, logged func() string) error {
	for ctx.Err() == nil {
		info, err := b.partitions[0].info(ctx)
		if err != nil || info.State.Msgs == 1 || strings.Contains(logged(), "may not") {
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
	return fmt.Errorf("nothing is purged: %w", ctx.Err())
}

package jetstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

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

// documented returns the rights in the table for those who deploy.
func documented(t *testing.T) (backend, consumer rights) {
	t.Helper()
	text, err := os.ReadFile("../../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- nats rights -->")
	table, _, found := strings.Cut(table, "<!-- /nats rights -->")
	if !found {
		t.Fatal("the table is not there")
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) < 4 {
			continue
		}
		for column, of := range map[int]*rights{1: &backend, 2: &consumer} {
			subject := strings.Trim(cells[column], "` ")
			switch {
			case subject == "–":
			case strings.Contains(cells[0], "publish"):
				of.publish = append(of.publish, subject)
			case strings.Contains(cells[0], "subscribe"):
				of.subscribe = append(of.subscribe, subject)
			}
		}
	}
	if len(backend.publish) < 5 || len(consumer.publish) < 5 {
		t.Fatalf("the table has too little: %v, %v", backend, consumer)
	}
	return backend, consumer
}

// rightsCase is an account of a NATS server, with a user of each kind.
type rightsCase struct {
	name              string
	backend, consumer rights
	lacks             string // the right that one of them lacks, or ""
	whose             string
}

func rightsCases(t *testing.T) []rightsCase {
	backend, consumer := documented(t)
	cases := []rightsCase{{name: "all", backend: backend, consumer: consumer}}
	for i, subject := range backend.publish {
		cases = append(cases, rightsCase{fmt.Sprint("backend", i), backend.without(i), consumer, subject, "backend"})
	}
	for i, subject := range consumer.publish {
		cases = append(cases, rightsCase{fmt.Sprint("consumer", i), backend, consumer.without(i), subject, "consumer"})
	}
	deaf := rights{publish: backend.publish, subscribe: []string{"nothing"}}
	return append(cases, rightsCase{"deaf", deaf, consumer, "_INBOX.", "backend"})
}

// With exactly the documented rights, a deployment does everything that backends and consumers do, and NATS refuses
// nothing. With one right less it names that.
func TestTheDocumentedRightsSufficeAndAreNeeded(t *testing.T) {
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
	options.Logger, options.Timeout, options.PurgeInterval = logger, 3*time.Second, 20*time.Millisecond
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
	d := drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 1}
	if _, err := registry.Enroll(bounded(t), broker.Enrollment{Deployment: d}); err != nil {
		return nil, err
	}
	if _, err := registry.Enroll(bounded(t), broker.Enrollment{Deployment: d, Stored: true}); err != nil {
		return nil, err
	}
	if _, err := registry.Recorded(bounded(t)); err != nil {
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
	for _, b := range []*Broker{backend, consumer} {
		if err := askAll(ctx, b, cursor); err != nil {
			return err
		}
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

// askAll asks what both roles ask.
func askAll(ctx context.Context, b *Broker, cursor drainmark.Cursor) error {
	progress := persisted(cursor, map[byte]uint64{1: 2})
	_, err := b.Backlog(ctx, 0, progress)
	if err == nil {
		_, err = b.Keeps(ctx, 0, []drainmark.ProducerID{producer(1)})
	}
	if err == nil {
		err = b.Ping(ctx)
	}
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

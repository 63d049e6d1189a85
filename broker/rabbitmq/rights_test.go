package rabbitmq

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
	"github.com/drainmark/drainmark/test/servers"
)

// right lets somebody configure, write or read what a pattern matches.
type right struct{ verb, pattern string }

// documented returns the rights in the table for those who deploy.
func documented(t *testing.T) (backend, consumer []right) {
	t.Helper()
	text, err := os.ReadFile("../../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- rabbitmq rights -->")
	table, _, found := strings.Cut(table, "<!-- /rabbitmq rights -->")
	if !found {
		t.Fatal("the table is not there")
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimPrefix(line, "| "), " | ")
		for column, of := range map[int]*[]right{1: &backend, 2: &consumer} {
			if len(cells) == 4 && strings.HasPrefix(cells[column], "`") {
				*of = append(*of, right{cells[0], strings.Trim(cells[column], "`")})
			}
		}
	}
	if len(backend) < 3 || len(consumer) < 3 {
		t.Fatalf("the table has too little: %v, %v", backend, consumer)
	}
	return backend, consumer
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

// With exactly the documented rights both roles do all that they do. With one right less, the error says so.
func documentedRights(t *testing.T, server *servers.RabbitMQ) {
	backend, consumer := documented(t)
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		if err := (rightsCase{server, backend, consumer, false}).pass(t); err != nil {
			t.Error(err)
		}
	})
	for i, r := range backend {
		lacking := rightsCase{server, slices.Delete(slices.Clone(backend), i, i+1), consumer, false}
		t.Run(fmt.Sprintf("a backend that may not %s %s", r.verb, r.pattern), func(t *testing.T) {
			t.Parallel()
			lacking.fails(t)
		})
	}
	t.Run("a consumer that may read the record alone", func(t *testing.T) {
		t.Parallel()
		reading := slices.IndexFunc(consumer, func(r right) bool { return r.verb == "read" })
		least := slices.Replace(slices.Clone(consumer), reading, reading+1, right{"read", `drainmark\.deployment`})
		rightsCase{server, backend, least, false}.fails(t)
	})
	for i, r := range consumer {
		lacking := rightsCase{server, backend, slices.Delete(slices.Clone(consumer), i, i+1), true}
		t.Run(fmt.Sprintf("a consumer that may not %s %s", r.verb, r.pattern), func(t *testing.T) {
			t.Parallel()
			lacking.fails(t)
		})
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
	d := drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 1}
	for _, stored := range []bool{false, true} {
		if _, err := r.Enroll(t.Context(), broker.Enrollment{Deployment: d, Stored: stored}); err != nil {
			return err
		}
	}
	_, err = r.Recorded(t.Context())
	return err
}

// playRoles publishes, raises and lowers the flag, asks, receives and acknowledges.
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
	if err := backend.Publish(ctx, 0, batchOf(self, 0, 1, 1)); err != nil {
		return err
	}
	flag := backend.Flag()
	if err := flag.Raise(ctx, "a"); err != nil {
		return err
	}
	text, err := flag.Read(ctx)
	if err = errors.Join(err, flag.Lower(ctx, text)); err != nil {
		return err
	}
	for _, b := range []*Broker{backend, consumer} {
		_, err := b.Backlog(ctx, 0, drainmark.Progress{})
		if err = errors.Join(err, b.Ping(ctx)); err != nil {
			return err
		}
	}
	r, err := consumer.Open(ctx, 0, "", false)
	if err != nil {
		return err
	}
	got, err := r.Receive(ctx, 1)
	if err != nil {
		return err
	}
	return errors.Join(r.Ack(ctx, got[0]), r.Close())
}

package app

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/amqp10"
	"github.com/drainmark/drainmark/broker/jetstream"
	"github.com/drainmark/drainmark/broker/kafka"
	"github.com/drainmark/drainmark/broker/rabbitmq"
)

// TestTraitsInTheDocumentation compares the table of traits with what the adapters declare.
func TestTraitsInTheDocumentation(t *testing.T) {
	t.Parallel()
	nats, err := jetstream.Embed(t.Context(), jetstream.EmbedConfig{Options: jetstream.Options{Partitions: 1}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer nats.Close()
	rabbit, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URL: "amqp://127.0.0.1:1", Partitions: 1, Timeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer rabbit.Close()
	apache, err := kafka.Open(t.Context(), kafka.Config{URL: "kafka://127.0.0.1:1", Partitions: 1, Timeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer apache.Close()
	amqp, err := amqp10.Open(t.Context(), amqp10.Config{URL: "amqp10://127.0.0.1:1", Partitions: 1, Timeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer amqp.Close()
	columns := []broker.Traits{nats.Traits(), rabbit.Traits(), apache.Traits(), amqp.Traits()}

	text, err := os.ReadFile("../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- traits -->")
	table, _, found := strings.Cut(table, "<!-- /traits -->")
	if !found {
		t.Fatal("the table is not there")
	}
	words := map[bool]string{true: "yes", false: "no"}
	for name, trait := range map[string]func(broker.Traits) bool{
		"Replays":      func(t broker.Traits) bool { return t.Replays },
		"Ordered":      func(t broker.Traits) bool { return t.Ordered },
		"ExactBacklog": func(t broker.Traits) bool { return t.ExactBacklog },
	} {
		row := regexp.MustCompile("\\| `" + name + "`[^|]*((?:\\| [a-z]+ )+)\\|").FindStringSubmatch(table)
		if row == nil {
			t.Errorf("there is no row %s", name)
			continue
		}
		said := strings.Fields(strings.ReplaceAll(row[1], "|", " "))
		for i, traits := range columns {
			if len(said) != len(columns) || said[i] != words[trait(traits)] {
				t.Errorf("column %d of %s says %v; the adapter says %v", i+1, name, said, trait(traits))
			}
		}
	}
}

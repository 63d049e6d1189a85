package kafka

import (
	"errors"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

var topicCases = []serverCase{
	{"a topic that is made is as it must be, and stays so", madeAsItMustBe},
	{"a topic that can lose what was accepted is refused, with what mends it", weakTopics},
	{"a topic of another deployment's size is refused", otherPartitions},
	{"more replicas than brokers are refused, with what to do", tooManyReplicas},
	{"the largest payload is what the topic takes", payloadFollowsTopic},
}

func madeAsItMustBe(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	if err := b.Ping(t.Context()); err != nil {
		t.Fatalf("Ping: %v", err)
	}
	own, err := b.topic.settings(t.Context())
	if err != nil || own["retention.ms"] != "-1" || own["retention.bytes"] != "-1" || own["cleanup.policy"] != "delete" ||
		own["flush.messages"] != "1" || own["unclean.leader.election.enable"] != "false" {
		t.Errorf("its settings are %v (%v)", own, err)
	}
	reopened(t, b.config)
}

// weakTopics spoils and removes one setting after the other. Each is noticed by who opens the topic, and by who has it
// open, and the error says how to mend it. What it says mends it.
func weakTopics(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	for _, s := range []struct{ name, good, bad string }{
		{"retention.ms", "-1", "604800000"},
		{"retention.bytes", "-1", "1073741824"},
		{"cleanup.policy", "delete", "compact,delete"},
		{"unclean.leader.election.enable", "false", "true"},
		{"flush.messages", "1", "2"},
		{"message.timestamp.type", "LogAppendTime", "CreateTime"},
	} {
		for _, value := range []string{s.bad, ""} {
			set(t, b, s.name, value)
			mend := "--entity-name " + b.config.Prefix + " --add-config " + s.name + "=" + s.good
			if other, err := Open(t.Context(), b.config); !errors.Is(err, broker.ErrMisconfigured) || !strings.HasSuffix(err.Error(), mend) {
				if err == nil {
					_ = other.Close()
				}
				t.Errorf("%s is %q: opening says %v, want how to mend it: %s", s.name, value, err, mend)
			}
			if err := b.Ping(t.Context()); !errors.Is(err, broker.ErrMisconfigured) {
				t.Errorf("%s is %q: Ping says %v", s.name, value, err)
			}
		}
		set(t, b, s.name, s.good)
		if err := b.Ping(t.Context()); err != nil {
			t.Errorf("%s is right again: Ping says %v", s.name, err)
		}
	}
}

func otherPartitions(t *testing.T, server *servers.Kafka) {
	c := opened(t, server, Config{}).config
	for _, partitions := range []int{1, 3} {
		c.Partitions = partitions
		if _, err := Open(t.Context(), c); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "has 2 partitions") {
			t.Errorf("opening it for %d partitions: %v", partitions, err)
		}
	}
}

func tooManyReplicas(t *testing.T, server *servers.Kafka) {
	c := configOf(server, Config{})
	c.Replicas = 3
	if _, err := Open(t.Context(), c); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "replicas=1") {
		t.Errorf("opening: %v", err)
	}
}

func payloadFollowsTopic(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	set(t, b, "max.message.bytes", "200000")
	if got := reopened(t, b.config).Traits().MaxPayload; got != 200_000-overhead {
		t.Errorf("MaxPayload is %d", got)
	}
	set(t, b, "max.message.bytes", "10000")
	if _, err := Open(t.Context(), b.config); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "max.message.bytes") {
		t.Errorf("opening a topic that takes 10,000 bytes: %v", err)
	}
	err := b.Publish(t.Context(), 0, batchOf(1, 100_000))
	if !errors.Is(err, broker.ErrMisconfigured) || !errors.Is(err, broker.ErrNotSent) || !strings.Contains(err.Error(), "max.message.bytes") {
		t.Errorf("publishing what has become too large: %v", err)
	}
}

// TestJudge is about topics with several replicas.
func TestJudge(t *testing.T) {
	t.Parallel()
	good := func(more ...setting) map[string]string {
		own := map[string]string{"unclean.leader.election.enable": "false"}
		for _, s := range append(Config{Prefix: "x", Partitions: 1}.topicSpec().settings, more...) {
			own[s.name] = s.value
		}
		return own
	}
	insync := func(n string) setting { return setting{"min.insync.replicas", n} }
	flush := setting{"flush.messages", "1"}
	for _, test := range []struct {
		name     string
		replicas int
		own      map[string]string
		want     string // in the error, "" for none
	}{
		{"three replicas, two of which must have it", 3, good(insync("2")), ""},
		{"five replicas, three of which must have it", 5, good(insync("3")), ""},
		{"three replicas, one of which must have it", 3, good(insync("1")), "min.insync.replicas=2"},
		{"three replicas, and the brokers' own setting", 3, good(), "min.insync.replicas=2"},
		{"three replicas, one of which must have it on its disk", 3, good(insync("1"), flush), "min.insync.replicas=2"},
		{"two replicas", 2, good(insync("2")), "2 replicas"},
		{"one replica that syncs each record", 1, good(flush), ""},
		{"one replica that does not", 1, good(insync("1")), "flush.messages=1"},
	} {
		topic := &topic{cluster: newCluster(Config{hosts: []string{"host:9092"}}), spec: Config{Prefix: "x", Partitions: 1}.topicSpec()}
		err := topic.judge(test.replicas, test.own)
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/drainmark/drainmark/internal/backoff"
)

// spec is what a topic is made with.
type spec struct {
	name       string
	partitions int
	replicas   int
	settings   []setting // besides those of every topic
}

// setting is one of a topic's.
type setting struct{ name, value string }

const (
	// largestPayload is the most that Traits ever claim: larger batches only cost memory.
	largestPayload = 1 << 20
	// overhead is what a record batch may have besides the payload: ours have some 350 bytes.
	overhead = 1 << 10
	// defaultMaxPayload is for a Kafka that does not say its limits: 1 MiB by Kafka's own default.
	defaultMaxPayload = 1<<20 - overhead
	// leastPayload is what must go through, or hardly anything does.
	leastPayload = 64 << 10
	// largestSegment is how much a file of a partition's holds at most. Kafka frees room by whole files.
	largestSegment = 64 << 20
	// leastSegment is the least that Kafka takes, from 4.0.
	leastSegment = 1 << 20
)

func (c Config) topicSpec() spec {
	segment := min(max(c.partitionBytes()/16, leastSegment), largestSegment)
	return spec{name: c.Prefix, partitions: c.Partitions, replicas: c.Replicas, settings: []setting{
		{"cleanup.policy", "delete"}, {"retention.ms", "-1"}, {"retention.bytes", "-1"},
		{"message.timestamp.type", "LogAppendTime"}, {"segment.bytes", strconv.FormatInt(segment, 10)},
	}}
}

// topic is one topic, as far as it is known. Its methods may be called concurrently.
type topic struct {
	cluster *cluster
	client  *kgo.Client
	spec    spec
	known   atomic.Bool // it is there, and as it must be
}

func newTopic(k *cluster, client *kgo.Client, s spec) *topic {
	return &topic{cluster: k, client: client, spec: s}
}

// forget has the topic looked at again.
func (t *topic) forget() { t.known.Store(false) }

// ready makes the topic if there is none, and checks it, unless that has been done. It tries on, for as long as the
// context lasts, while the brokers do not know the new topic yet, or are about to choose a leader.
func (t *topic) ready(ctx context.Context) error {
	if t.known.Load() {
		return nil
	}
	retry := backoff.Backoff{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		err := t.check(ctx)
		if errors.Is(err, errNoTopic) {
			err = cmp.Or(t.create(ctx), err)
		}
		if err == nil {
			t.known.Store(true)
			return nil
		}
		if !passing(err) && !errors.Is(err, errNoTopic) || retry.Wait(ctx) != nil {
			return fmt.Errorf("preparing the topic %s: %w", t.spec.name, err)
		}
	}
}

// passing says whether an error passes by itself, and soon, if Kafka is well.
func passing(err error) bool {
	var dial dialError
	return !errors.As(err, &dial) && (kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err))
}

// create makes the topic. It is nil if somebody else was faster.
func (t *topic) create(ctx context.Context) error {
	settings := append(slices.Clone(t.spec.settings), setting{"unclean.leader.election.enable", "false"})
	if t.spec.replicas == 1 {
		settings = append(settings, setting{"min.insync.replicas", "1"}, setting{"flush.messages", "1"})
	} else {
		settings = append(settings, setting{"min.insync.replicas", "2"})
	}
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = t.spec.name, int32(t.spec.partitions), int16(t.spec.replicas)
	for _, s := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = s.name, kmsg.StringPtr(s.value)
		topic.Configs = append(topic.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = remaining(ctx), append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, t.client)
	if err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return errOther
	}
	err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return nil
	case errors.Is(err, kerr.InvalidReplicationFactor) && strings.Contains(detail(resp.Topics[0].ErrorMessage), "fenced"):
		return fmt.Errorf("making it: %w: no broker is let in yet", kerr.BrokerNotAvailable) // they have just been started
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return misconfigured("the topic is to have %d replicas, and Kafka says: %s. Have so many brokers, or say replicas=1 in the URL: "+
			"a single node then syncs each record to its disk", t.spec.replicas, detail(resp.Topics[0].ErrorMessage))
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidConfig), errors.Is(err, kerr.TopicAuthorizationFailed):
		return misconfigured("Kafka does not let us make the topic (%v: %s). Make it yourself: kafka-topics.sh --create --topic %s --partitions %d "+
			"--replication-factor %d%s", err, detail(resp.Topics[0].ErrorMessage), t.spec.name, t.spec.partitions, t.spec.replicas, flags(settings))
	}
	return err
}

func detail(text *string) string {
	if text == nil {
		return "nothing more"
	}
	return *text
}

func flags(settings []setting) string {
	var b strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&b, " --config %s=%s", s.name, s.value)
	}
	return b.String()
}

// check says what is wrong with the topic. errNoTopic if there is none.
func (t *topic) check(ctx context.Context) error {
	now, err := metadata(ctx, t.client, t.spec.name)
	if err != nil {
		return err
	}
	if len(now.Partitions) != t.spec.partitions {
		return misconfigured("the topic %s has %d partitions, and the deployment %d: name another prefix in the URL, or delete the topic if nothing "+
			"in it is needed", t.spec.name, len(now.Partitions), t.spec.partitions)
	}
	replicas := len(now.Partitions[0].Replicas)
	for _, p := range now.Partitions {
		replicas = min(replicas, len(p.Replicas))
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.ReplicaNotAvailable) {
			return fmt.Errorf("its partition %d: %w", p.Partition, err)
		}
	}
	settings, err := t.settings(ctx)
	if err != nil {
		return err
	}
	return t.judge(replicas, settings)
}

// settings returns those that are set on the topic itself. What the brokers have as their own for all topics does not
// count: each of them may have another value, and for some settings the controller's counts.
func (t *topic) settings(ctx context.Context) (map[string]string, error) {
	all, err := describe(ctx, t.client, kmsg.ConfigResourceTypeTopic, t.spec.name)
	if err != nil {
		return nil, fmt.Errorf("reading the settings of the topic %s: %w", t.spec.name, err)
	}
	own := map[string]string{}
	for _, c := range all {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig && c.Value != nil {
			own[c.Name] = *c.Value
		}
	}
	return own, nil
}

// describe returns the settings of a topic or broker.
func describe(ctx context.Context, client *kgo.Client, of kmsg.ConfigResourceType, name string) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = of, name
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(ctx, client)
	switch {
	case err != nil:
		return nil, err
	case len(resp.Resources) != 1:
		return nil, errOther
	}
	return resp.Resources[0].Configs, kerr.ErrorForCode(resp.Resources[0].ErrorCode)
}

// judge says why a topic with so many replicas and these settings of its own could lose what was accepted.
func (t *topic) judge(replicas int, own map[string]string) error {
	var mend, why []string
	demand := func(ok bool, s setting, reason string) {
		if !ok {
			mend, why = append(mend, s.name+"="+s.value), append(why, s.name+" "+reason)
		}
	}
	for _, s := range t.spec.settings {
		if s.name != "segment.bytes" { // any will do
			demand(own[s.name] == s.value, s, "must be "+s.value)
		}
	}
	demand(own["unclean.leader.election.enable"] == "false", setting{"unclean.leader.election.enable", "false"},
		"must be false, or a replica that lacks something becomes the leader")
	synced, _ := strconv.Atoi(own["min.insync.replicas"])
	if replicas == 1 {
		demand(own["flush.messages"] == "1", setting{"flush.messages", "1"}, "must be 1, because there is one replica: Kafka otherwise confirms what is in memory only")
	} else {
		demand(synced >= 2, setting{"min.insync.replicas", "2"}, "must be 2 at least, or one machine alone may have what was confirmed")
	}
	if mend != nil {
		return misconfigured("the topic %s can lose what was accepted, because these settings are not its own: %s. Set them: kafka-configs.sh --bootstrap-server %s "+
			"--alter --entity-type topics --entity-name %s --add-config %s", t.spec.name, strings.Join(why, "; "), t.cluster.config.hosts[0],
			t.spec.name, strings.Join(mend, ","))
	}
	if replicas == 2 {
		return misconfigured("the topic %s has 2 replicas: give it 3 (kafka-reassign-partitions.sh), or 1 with flush.messages=1", t.spec.name)
	}
	return nil
}

// limits are the settings of brokers and topics that a record batch must not exceed, or had better not.
var limits = []string{
	"max.message.bytes", "message.max.bytes", "replica.fetch.max.bytes", "replica.fetch.response.max.bytes", "socket.request.max.bytes", "fetch.max.bytes",
}

// maxPayload returns the largest payload that the topic and all brokers take. What we may not ask for is left out: a broker
// that takes less refuses what is too large for it.
func (t *topic) maxPayload(ctx context.Context) (int, error) {
	all, err := describe(ctx, t.client, kmsg.ConfigResourceTypeTopic, t.spec.name)
	if err != nil {
		return 0, fmt.Errorf("reading the settings of the topic %s: %w", t.spec.name, err)
	}
	brokers, err := t.brokers(ctx)
	if err != nil {
		return 0, err
	}
	all = append(all, brokers...)
	least, by := int64(largestPayload+overhead), ""
	for _, c := range all {
		if !slices.Contains(limits, c.Name) || c.Value == nil {
			continue
		}
		if n, err := strconv.ParseInt(*c.Value, 10, 64); err == nil && n < least {
			least, by = n, c.Name
		}
	}
	if least-overhead < leastPayload {
		return 0, misconfigured("Kafka takes only %d bytes a message (%s): it must be %d at least", least, by, leastPayload+overhead)
	}
	return int(least - overhead), nil
}

// brokers returns the settings of all brokers, and none if we may not know them.
func (t *topic) brokers(ctx context.Context) (all []kmsg.DescribeConfigsResponseResourceConfig, err error) {
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, t.client)
	if err != nil {
		return nil, fmt.Errorf("asking for the brokers: %w", err)
	}
	for _, b := range resp.Brokers {
		settings, err := describe(ctx, t.client, kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(b.NodeID)))
		switch {
		case errors.Is(err, kerr.ClusterAuthorizationFailed):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("reading the settings of broker %d: %w", b.NodeID, err)
		}
		all = append(all, settings...)
	}
	return all, nil
}

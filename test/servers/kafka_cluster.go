package servers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// KafkaCluster is the nodes of one cluster, by their ids.
type KafkaCluster []*Kafka

// askedFor is how long a node that may be paused is waited for.
const askedFor = 2 * time.Second

// Replicas returns which nodes have a partition of a topic, or the n-th modulo their number if there are fewer. Its leader
// comes first.
func (c KafkaCluster) Replicas(ctx context.Context, topic string, n int) ([]int, error) {
	partitions, err := c.partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	p := partitions[n%len(partitions)]
	if p.Leader < 0 {
		return nil, fmt.Errorf("partition %d of %s has no leader", p.Partition, topic)
	}
	replicas := []int{int(p.Leader)}
	for _, r := range p.Replicas {
		if r != p.Leader {
			replicas = append(replicas, int(r))
		}
	}
	return replicas, nil
}

// Controller returns which node is the active controller.
func (c KafkaCluster) Controller(ctx context.Context) (int, error) {
	topic, partition := kmsg.NewDescribeQuorumRequestTopic(), kmsg.NewDescribeQuorumRequestTopicPartition()
	topic.Topic, topic.Partitions = "__cluster_metadata", append(topic.Partitions, partition)
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Topics = append(req.Topics, topic)
	response, err := c.ask(ctx, req)
	if err != nil {
		return 0, err
	}
	quorum := response.(*kmsg.DescribeQuorumResponse)
	if err := kerr.ErrorForCode(quorum.ErrorCode); err != nil {
		return 0, err
	}
	p := quorum.Topics[0].Partitions[0]
	return int(p.LeaderID), kerr.ErrorForCode(p.ErrorCode)
}

// ask asks one node after the other until one answers.
func (c KafkaCluster) ask(ctx context.Context, req kmsg.Request) (response kmsg.Response, err error) {
	err = errors.New("no node runs")
	for _, n := range c {
		if !n.Running() {
			continue
		}
		if response, err = n.ask(ctx, req); err == nil {
			return response, nil
		}
	}
	return nil, err
}

func (n *Kafka) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Address()), kgo.RequestRetries(0))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	return client.SeedBrokers()[0].Request(ctx, req)
}

// Restart starts a node that does not run. If it was the last one, it waits until all answer, and all replicas are in sync:
// who stops another one before that leaves too few to confirm.
func (c KafkaCluster) Restart(node int) {
	c[node].Launch()
	if slices.ContainsFunc(c, func(n *Kafka) bool { return !n.Running() }) {
		return
	}
	for _, n := range c {
		n.Await()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); !c.InSync(ctx); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			c[node].t.Errorf("%v after kafka %d was started, not all replicas are in sync", patience, node)
			return
		}
	}
}

// partitions returns what the nodes say of a topic's partitions, by their numbers.
func (c KafkaCluster) partitions(ctx context.Context, topic string) ([]kmsg.MetadataResponseTopicPartition, error) {
	of := kmsg.NewMetadataRequestTopic()
	of.Topic = &topic
	topics, err := c.topics(ctx, []kmsg.MetadataRequestTopic{of})
	if err != nil {
		return nil, err
	}
	partitions := topics[0].Partitions
	if len(partitions) == 0 {
		return nil, fmt.Errorf("there is no topic %s", topic)
	}
	slices.SortFunc(partitions, func(a, b kmsg.MetadataResponseTopicPartition) int { return int(a.Partition - b.Partition) })
	return partitions, nil
}

// topics returns what the nodes say of some topics, or of all for nil.
func (c KafkaCluster) topics(ctx context.Context, of []kmsg.MetadataRequestTopic) ([]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = of
	response, err := c.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	return response.(*kmsg.MetadataResponse).Topics, nil
}

// InSync says whether all replicas of all partitions are in sync.
func (c KafkaCluster) InSync(ctx context.Context) bool {
	topics, err := c.topics(ctx, nil)
	for _, t := range topics {
		for _, p := range t.Partitions {
			if len(p.ISR) < len(p.Replicas) {
				return false
			}
		}
	}
	return err == nil
}

// Synced makes a topic of one partition, which syncs each record, unless there is one, and returns its name.
func (n *Kafka) Synced(topic string) string {
	n.t.Helper()
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, 1, 1
	setting := kmsg.NewCreateTopicsRequestTopicConfig()
	setting.Name, setting.Value = "flush.messages", kmsg.StringPtr("1")
	wanted.Configs = append(wanted.Configs, setting)
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = 10_000, append(req.Topics, wanted)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		response, err := n.ask(ctx, req)
		if err == nil {
			err = kerr.ErrorForCode(response.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
		}
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			return topic
		}
		if ctx.Err() != nil {
			n.t.Fatalf("making the topic %s: %v", topic, err)
			return topic
		}
	}
}

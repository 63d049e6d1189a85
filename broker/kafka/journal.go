package kafka

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// journal is a topic with one partition that lies beside the deployment's, and is read from its beginning.
type journal struct {
	topic *topic
	route *route
}

func newJournal(k *cluster, client *kgo.Client, s spec) *journal {
	return &journal{topic: newTopic(k, client, s), route: &route{cluster: k, client: client, topic: s.name}}
}

// flagSpec is of the flag's journal. Kafka compacts it: of each kind of entry the newest stays.
func (c Config) flagSpec() spec {
	return spec{name: c.Prefix + "-flag", partitions: 1, replicas: c.Replicas, settings: []setting{
		{"cleanup.policy", "compact"}, {"segment.bytes", strconv.Itoa(leastSegment)},
	}}
}

// registrySpec is of the journal of the deployment's record.
func (c Config) registrySpec() spec {
	return spec{name: c.Prefix + "-deployment", partitions: 1, replicas: c.Replicas, settings: []setting{
		{"cleanup.policy", "delete"}, {"retention.ms", "-1"}, {"retention.bytes", "-1"}, {"segment.bytes", strconv.Itoa(leastSegment)},
	}}
}

// append writes an entry, and returns its offset when it is durable. Its errors are those of Publish.
func (j *journal) append(ctx context.Context, key, value string, headers ...header) (int64, error) {
	return j.route.publish(ctx, j.topic, encode([]byte(key), []byte(value), headers))
}

// read reads from an offset, or from where the journal begins, up to and including through, in order.
func (j *journal) read(ctx context.Context, from, through int64, entry func(*kgo.Record)) error {
	start, err := j.route.offset(ctx, atStart)
	if err != nil {
		return err
	}
	for next := max(from, start); next <= through; {
		got, err := j.route.fetch(ctx, next, -1)
		if err != nil {
			return err
		}
		for _, record := range got.records {
			if record.Offset <= through {
				entry(record)
			}
		}
		next = got.next
	}
	return nil
}

// end returns the offset of the last entry, -1 if there has been none. errNoTopic if there is no journal.
func (j *journal) end(ctx context.Context) (int64, error) {
	end, err := j.route.offset(ctx, atEnd)
	return end - 1, err
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/drainmark/drainmark/broker"
)

// topicID names one topic for ever: one that is deleted and made again has another.
type topicID [16]byte

// place is where a partition is.
type place struct {
	topic    topicID
	leader   int32 // the broker that leads it
	epoch    int32 // of its leader, which rises with each choice of one
	replicas int
}

// route leads to one partition of one topic, by one client. Its methods may be called concurrently.
//
// Every request goes to the leader, once, and with the topic's id or the leader's epoch where Kafka takes them. So a broker
// that is not the leader any more, and knows it, does not answer, and neither does another topic of the same name.
type route struct {
	cluster   *cluster
	client    *kgo.Client
	topic     string
	partition int32

	mu    sync.Mutex
	known *place // nil if it is not known
}

// errNoTopic says that there is no topic of that name.
var errNoTopic = errors.New("there is no such topic in Kafka")

// find returns where the partition is. Its errors are from before anything else was sent.
func (r *route) find(ctx context.Context) (place, error) {
	r.mu.Lock()
	known := r.known
	r.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	found, err := r.look(ctx)
	if err != nil {
		return place{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = &found
	return found, nil
}

// look asks Kafka where the partition is.
func (r *route) look(ctx context.Context) (place, error) {
	topic, err := metadata(ctx, r.client, r.topic)
	if err != nil {
		return place{}, err
	}
	if topic.TopicID == (topicID{}) {
		return place{}, misconfigured("this Kafka does not tell a topic from another of the same name that is made later: use Kafka 4.0 or newer")
	}
	for _, p := range topic.Partitions {
		if p.Partition != r.partition {
			continue
		}
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.ReplicaNotAvailable) {
			return place{}, fmt.Errorf("looking for the leader of %s-%d: %w", r.topic, r.partition, err)
		}
		return place{topic: topic.TopicID, leader: p.Leader, epoch: p.LeaderEpoch, replicas: len(p.Replicas)}, nil
	}
	return place{}, misconfigured("the topic %s has no partition %d: it has %d", r.topic, r.partition, len(topic.Partitions))
}

// metadata returns what Kafka says of a topic. errNoTopic if there is none.
func metadata(ctx context.Context, client *kgo.Client, name string) (*kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, client)
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking for the topic %s: %w", name, err)
	case len(resp.Topics) != 1:
		return nil, fmt.Errorf("asking for the topic %s: the answer is for %d topics", name, len(resp.Topics))
	}
	err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, errNoTopic
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the topic %s: %w", name, err)
	}
	return &resp.Topics[0], nil
}

// now finds the partition anew: a topic that somebody has deleted and made again is another one.
func (r *route) now(ctx context.Context) (place, error) {
	r.forget()
	return r.find(ctx)
}

// forget has the leader looked for again.
func (r *route) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = nil
}

// ask sends the request that of returns to the partition's leader, once, and calls read with the response, which returns the
// error that it has for the partition. After any error the leader is looked for again.
func ask[Q kmsg.Request, A kmsg.Response](ctx context.Context, r *route, of func(place) Q, read func(A) (code int16, err error)) error {
	at, err := r.find(ctx)
	if err != nil {
		return err
	}
	response, err := r.client.Broker(int(at.leader)).Request(ctx, of(at))
	if err == nil {
		answer, ok := response.(A)
		if !ok {
			err = fmt.Errorf("the answer of Kafka is a %T", response)
		} else if code, wrong := read(answer); wrong != nil {
			err = wrong
		} else {
			err = kerr.ErrorForCode(code)
		}
	}
	if err != nil {
		r.forget()
	}
	return err
}

// errOther says that an answer is for something that was not asked for.
var errOther = errors.New("the answer of Kafka is for another partition")

// The timestamps that stand for the ends of a partition.
const (
	atEnd   = -1
	atStart = -2
)

// offset returns the offset of the partition's end, as far as it is confirmed, or of its start.
func (r *route) offset(ctx context.Context, of int64) (offset int64, err error) {
	err = ask(ctx, r, func(at place) *kmsg.ListOffsetsRequest {
		req := kmsg.NewPtrListOffsetsRequest()
		topic, partition := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.CurrentLeaderEpoch, partition.Timestamp = r.partition, at.epoch, of
		topic.Topic, topic.Partitions = r.topic, append(topic.Partitions, partition)
		req.ReplicaID, req.Topics = -1, append(req.Topics, topic)
		return req
	}, func(resp *kmsg.ListOffsetsResponse) (int16, error) {
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errOther
		}
		offset = resp.Topics[0].Partitions[0].Offset
		return resp.Topics[0].Partitions[0].ErrorCode, nil
	})
	if err != nil {
		return 0, fmt.Errorf("asking how far %s-%d goes: %w", r.topic, r.partition, err)
	}
	return offset, nil
}

// endOf returns the offset at which the records of a leader's epoch end, whether they are confirmed or not.
func (r *route) endOf(ctx context.Context, epoch int32) (offset int64, err error) {
	err = ask(ctx, r, func(at place) *kmsg.OffsetForLeaderEpochRequest {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		topic, partition := kmsg.NewOffsetForLeaderEpochRequestTopic(), kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		partition.Partition, partition.CurrentLeaderEpoch, partition.LeaderEpoch = r.partition, at.epoch, epoch
		topic.Topic, topic.Partitions = r.topic, append(topic.Partitions, partition)
		req.ReplicaID, req.Topics = -1, append(req.Topics, topic)
		return req
	}, func(resp *kmsg.OffsetForLeaderEpochResponse) (int16, error) {
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errOther
		}
		p := resp.Topics[0].Partitions[0]
		if offset = p.EndOffset; p.ErrorCode == 0 && offset < 0 {
			return 0, fmt.Errorf("its leader does not know of the epoch %d", epoch)
		}
		return p.ErrorCode, nil
	})
	if err != nil {
		return 0, fmt.Errorf("asking where an epoch of %s-%d ends: %w", r.topic, r.partition, err)
	}
	return offset, nil
}

// deleteBefore deletes what stands before the offset.
func (r *route) deleteBefore(ctx context.Context, offset int64) error {
	err := ask(ctx, r, func(place) *kmsg.DeleteRecordsRequest {
		req := kmsg.NewPtrDeleteRecordsRequest()
		topic, partition := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
		partition.Partition, partition.Offset = r.partition, offset
		topic.Topic, topic.Partitions = r.topic, append(topic.Partitions, partition)
		req.TimeoutMillis, req.Topics = int32(r.cluster.config.Timeout.Milliseconds()), append(req.Topics, topic)
		return req
	}, func(resp *kmsg.DeleteRecordsResponse) (int16, error) {
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errOther
		}
		return resp.Topics[0].Partitions[0].ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("deleting what stands before %d in %s-%d: %w", offset, r.topic, r.partition, err)
	}
	return nil
}

// fetched is what a fetch has brought.
type fetched struct {
	records []*kgo.Record
	next    int64 // where to go on
	start   int64 // of the partition
}

// errCut says that a partition does not have any more what was read from it.
var errCut = errors.New("the partition has lost its end while it was read")

// fetch returns what stands at an offset and behind it, as far as it is confirmed. If there is nothing, it may wait
// for fetchWait. epoch is that of the record before, or -1: Kafka then says if its log is not the one that was read.
func (r *route) fetch(ctx context.Context, offset int64, epoch int32) (got fetched, err error) {
	err = ask(ctx, r, func(at place) *kmsg.FetchRequest {
		req := kmsg.NewPtrFetchRequest()
		topic, partition := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
		partition.Partition, partition.CurrentLeaderEpoch, partition.LastFetchedEpoch = r.partition, at.epoch, epoch
		partition.FetchOffset, partition.PartitionMaxBytes = offset, fetchBytes
		topic.Topic, topic.TopicID, topic.Partitions = r.topic, at.topic, append(topic.Partitions, partition)
		req.MaxBytes, req.MinBytes, req.SessionEpoch, req.Topics = fetchBytes, 1, -1, append(req.Topics, topic)
		req.MaxWaitMillis = int32(fetchWait.Milliseconds())
		return req
	}, func(resp *kmsg.FetchResponse) (int16, error) {
		if resp.ErrorCode != 0 {
			return resp.ErrorCode, nil
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errOther
		}
		got, err = r.unpack(offset, &resp.Topics[0].Partitions[0])
		return 0, err
	})
	if err != nil {
		return fetched{}, fmt.Errorf("reading %s-%d from %d: %w", r.topic, r.partition, offset, err)
	}
	return got, nil
}

func (r *route) unpack(offset int64, p *kmsg.FetchResponseTopicPartition) (fetched, error) {
	if p.DivergingEpoch.EndOffset >= 0 {
		return fetched{}, errCut
	}
	processed, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: offset, Topic: r.topic, Partition: r.partition,
	}, p, kgo.DefaultDecompressor(), nil)
	if processed.Err != nil && len(processed.Records) == 0 {
		return fetched{}, processed.Err
	}
	return fetched{records: processed.Records, next: max(next, offset), start: p.LogStartOffset}, nil
}

// produce publishes an encoded record batch, and returns the offset of its first record. certain says, after an error,
// that it was certainly not stored. The time that the context leaves is how long Kafka waits for the replicas.
func (r *route) produce(ctx context.Context, batch []byte) (offset int64, certain bool, err error) {
	at, err := r.find(ctx)
	if err != nil {
		return 0, true, err
	}
	waiting, done := r.whileLeads(ctx, at)
	defer done()
	err = ask(waiting, r, func(at place) *kmsg.ProduceRequest {
		req := kmsg.NewPtrProduceRequest()
		topic, partition := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
		partition.Partition, partition.Records = r.partition, batch
		topic.Topic, topic.TopicID, topic.Partitions = r.topic, at.topic, append(topic.Partitions, partition)
		req.Acks, req.TimeoutMillis, req.Topics = -1, remaining(ctx), append(req.Topics, topic)
		return req
	}, func(resp *kmsg.ProduceResponse) (int16, error) {
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return 0, errOther
		}
		offset = resp.Topics[0].Partitions[0].BaseOffset
		return resp.Topics[0].Partitions[0].ErrorCode, nil
	})
	return offset, notAppended(err), because(waiting, err)
}

// errMoved ends the wait for a leader that has been replaced.
var errMoved = fmt.Errorf("%w: its leader has been replaced while it was waited for", kerr.NotLeaderForPartition)

// watchAfter is how long a leader is waited for until others are asked whether it still is one, and then again and again:
// one that hangs answers nothing.
const watchAfter = time.Second

// whileLeads returns a context that ends with ctx, and when the partition has another leader.
func (r *route) whileLeads(ctx context.Context, at place) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(watchAfter, func() { r.cluster.start(func() { r.watch(ctx, at, cancel) }) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}

func (r *route) watch(ctx context.Context, at place, cancel context.CancelCauseFunc) {
	for ctx.Err() == nil {
		look, end := context.WithTimeout(ctx, watchAfter)
		now, err := r.look(look)
		if err == nil && (now.leader != at.leader || now.topic != at.topic) {
			cancel(errMoved)
		}
		<-look.Done() // not more often
		end()
	}
}

// notAppended says whether Kafka gives an error only before it appends anything. NOT_LEADER_OR_FOLLOWER is none of
// those: a leader that is replaced while it waits for replicas says it, too.
func notAppended(err error) bool {
	var dial dialError
	if errors.As(err, &dial) {
		return true
	}
	for _, refused := range []error{
		kerr.NotEnoughReplicas, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

// notSent marks an error as one after which nothing has certainly been stored.
func notSent(err error) error {
	if errors.Is(err, broker.ErrNotSent) || errors.Is(err, broker.ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrNotSent, err)
}

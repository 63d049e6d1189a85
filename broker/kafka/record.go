package kafka

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/drainmark/drainmark/broker"
)

// header is one of a record's.
type header struct{ name, value string }

// headers returns what a batch holds, for people and for receivers.
func headers(h broker.Header) []header {
	return []header{
		{broker.HeaderProducer, h.Producer.String()},
		{broker.HeaderPartition, strconv.Itoa(h.Partition)},
		{broker.HeaderFirst, strconv.FormatUint(h.First, 10)},
		{broker.HeaderLast, strconv.FormatUint(h.Last, 10)},
		{broker.HeaderRecords, strconv.FormatUint(h.Last-h.First+1, 10)},
	}
}

// headerOf reads what headers wrote. Anything else gives the zero header.
func headerOf(partition int, r *kgo.Record) broker.Header {
	return broker.ParseHeader(partition, func(name string) string { return valueOf(r, name) })
}

// valueOf returns a record's header of that name, or "".
func valueOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// In a record batch, its length is of what stands behind the length, and its checksum of what stands behind that.
const (
	behindLength = 12
	fromCRC      = 17
	behindCRC    = 21
)

// encode returns a record batch of one record, which it copies, in Kafka's message format 2
// (https://kafka.apache.org/documentation/#recordbatch). It is not compressed, so that its size is known before, and is of
// no idempotent producer (docs/adr/0053-kafka.md). A nil key is none.
func encode(key, value []byte, headers []header) []byte {
	record := kmsg.Record{Key: key, Value: value}
	for _, h := range headers {
		record.Headers = append(record.Headers, kmsg.Header{Key: h.name, Value: []byte(h.value)})
	}
	const lengths = 2 // bytes that those of the record and of its value have while there is no value
	bare := record
	bare.Value = nil
	record.Length = int32(len(bare.AppendTo(nil)) - lengths + len(binary.AppendVarint(nil, int64(len(value)))) + len(value))
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
	}
	b := record.AppendTo(batch.AppendTo(make([]byte, 0, len(key)+len(value)+overhead)))
	binary.BigEndian.PutUint32(b[behindLength-4:], uint32(len(b)-behindLength))
	binary.BigEndian.PutUint32(b[fromCRC:], crc32.Checksum(b[behindCRC:], castagnoli))
	return b
}

// remaining returns how many milliseconds a context leaves, at least one.
func remaining(ctx context.Context) int32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return int32(PublishAttempt.Milliseconds())
	}
	return int32(max(1, min(time.Until(deadline), PublishAttempt).Milliseconds()))
}

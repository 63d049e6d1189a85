package kafka

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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

const (
	// batchHeader is how many bytes stand before the records of a record batch.
	batchHeader = 61
	// fromCRC is where in it the checksum begins, which is of all that follows it.
	fromCRC = 17
)

// encode returns a record batch of one record, which it copies, in Kafka's message format 2
// (https://kafka.apache.org/documentation/#recordbatch). It is not compressed, so that its size is known before, and is of
// no idempotent producer (docs/adr/0053-kafka.md). A nil key is none.
func encode(key, value []byte, headers []header) []byte {
	before := append(make([]byte, 0, 64), 0, 0, 0) // attributes, and the differences to the batch's time and offset
	before = appendBytes(before, key)
	before = binary.AppendVarint(before, int64(len(value)))
	after := binary.AppendVarint(make([]byte, 0, 256), int64(len(headers)))
	for _, h := range headers {
		after = appendBytes(after, []byte(h.name))
		after = appendBytes(after, []byte(h.value))
	}
	length := len(before) + len(value) + len(after)
	b := make([]byte, batchHeader, batchHeader+binary.MaxVarintLen64+length)
	b = binary.AppendVarint(b, int64(length))
	b = append(append(append(b, before...), value...), after...)

	now := uint64(time.Now().UnixMilli())
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12)) // what follows
	binary.BigEndian.PutUint32(b[12:], 0xffffffff)       // the leader's epoch, which the leader fills in
	b[16] = 2                                            // the format
	binary.BigEndian.PutUint64(b[27:], now)
	binary.BigEndian.PutUint64(b[35:], now)
	for i := 43; i < 57; i++ {
		b[i] = 0xff // producer id, its epoch and its sequence: none
	}
	binary.BigEndian.PutUint32(b[57:], 1) // how many records
	binary.BigEndian.PutUint32(b[fromCRC:], crc32.Checksum(b[fromCRC+4:], castagnoli))
	return b
}

// appendBytes appends bytes with their length before them, which is -1 for nil.
func appendBytes(to, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(to, -1)
	}
	return append(binary.AppendVarint(to, int64(len(b))), b...)
}

// remaining returns how many milliseconds a context leaves, at least one.
func remaining(ctx context.Context) int32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return int32(PublishAttempt.Milliseconds())
	}
	return int32(max(1, min(time.Until(deadline), PublishAttempt).Milliseconds()))
}

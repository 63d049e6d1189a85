package broker

import (
	"strconv"

	"github.com/drainmark/drainmark"
)

// Header tells what a batch holds without decoding it. Adapters also write it as the broker's own headers, for people
// who look with the broker's tools.
type Header struct {
	Partition   int
	Producer    drainmark.ProducerID
	First, Last uint64
}

// Span returns the batch's marks.
func (h Header) Span() drainmark.Span {
	return drainmark.Span{Partition: h.Partition, Producer: h.Producer, First: h.First, Last: h.Last}
}

// The names of a header's fields at every broker.
const (
	HeaderProducer  = "Drainmark-Producer"
	HeaderPartition = "Drainmark-Partition"
	HeaderFirst     = "Drainmark-First"
	HeaderLast      = "Drainmark-Last"
	HeaderRecords   = "Drainmark-Records" // how many there are, for people: nothing reads it
)

// ParseHeader reads the header of a batch of the partition from the texts of its fields: numbers are decimal. A header
// that is incomplete, malformed, of another partition, or of more records than a batch can have gives the zero Header.
func ParseHeader(partition int, value func(name string) string) Header {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(value(name), 10, 63)
		return n
	}
	producer, err := drainmark.ParseProducerID(value(HeaderProducer))
	h := Header{Partition: partition, Producer: producer, First: number(HeaderFirst), Last: number(HeaderLast)}
	if err != nil || value(HeaderPartition) != strconv.Itoa(partition) || h.First == 0 || h.Last < h.First ||
		h.Last-h.First >= drainmark.MaxBatchRecords {
		return Header{}
	}
	return h
}

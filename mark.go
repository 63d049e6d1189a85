package drainmark

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// ProducerID names one run of one backend process: 128 random bits.
type ProducerID [16]byte

// NewProducerID returns a fresh random id.
func NewProducerID() ProducerID {
	var p ProducerID
	rand.Read(p[:]) // never fails: crypto/rand stops the program instead
	return p
}

// ParseProducerID reads what String wrote.
func ParseProducerID(s string) (ProducerID, error) {
	var p ProducerID
	if len(s) != 2*len(p) {
		return p, Errorf(KindInvalid, "producer id of %d characters: it must have %d", len(s), 2*len(p))
	}
	if _, err := hex.Decode(p[:], []byte(s)); err != nil {
		return p, Errorf(KindInvalid, "producer id %q: %w", s, err)
	}
	return p, nil
}

func (p ProducerID) String() string { return hex.EncodeToString(p[:]) }

// MarshalText has logs show the text, in every format.
func (p ProducerID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Mark is one record's place: the Sequence-th record (from 1) of a producer in a partition.
type Mark struct {
	Partition int
	Producer  ProducerID
	Sequence  uint64
}

// String is the mark as text, "<partition>-<producer>-<sequence>". It is also the id of the record's message, and of
// its dead letter if it comes to that.
func (m Mark) String() string {
	return fmt.Sprintf("%d-%s-%d", m.Partition, m.Producer, m.Sequence)
}

// ParseMark reads what String wrote.
func ParseMark(s string) (Mark, error) {
	bad := func() (Mark, error) {
		return Mark{}, Errorf(KindInvalid, "%q is not an id of the form <partition>-<producer>-<sequence>", s)
	}
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return bad()
	}
	partition, err := strconv.ParseUint(parts[0], 10, 31)
	if err != nil {
		return bad()
	}
	producer, err := ParseProducerID(parts[1])
	if err != nil {
		return bad()
	}
	sequence, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || sequence == 0 {
		return bad()
	}
	m := Mark{Partition: int(partition), Producer: producer, Sequence: sequence}
	if m.String() != s {
		return bad() // a mark has one text: ids are compared as texts
	}
	return m, nil
}

// Span is the marks First to Last (both included) of one producer in one partition.
type Span struct {
	Partition   int
	Producer    ProducerID
	First, Last uint64
}

// SpanOf returns the span that holds just m.
func SpanOf(m Mark) Span {
	return Span{Partition: m.Partition, Producer: m.Producer, First: m.Sequence, Last: m.Sequence}
}

func (r Span) String() string {
	return fmt.Sprintf("%d-%s-%d..%d", r.Partition, r.Producer, r.First, r.Last)
}

// MarshalText has logs show the text, in every format.
func (r Span) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// SpanTexts returns the spans as texts.
func SpanTexts(spans []Span) []string {
	texts := make([]string, len(spans))
	for i, span := range spans {
		texts[i] = span.String()
	}
	return texts
}

// ParseSpan reads what Span.String wrote.
func ParseSpan(s string) (Span, error) {
	first, last, ok := strings.Cut(s, "..")
	m, err := ParseMark(first)
	if !ok || err != nil {
		return Span{}, Errorf(KindInvalid, "%q is not an id of the form <partition>-<producer>-<first>..<last>", s)
	}
	n, err := strconv.ParseUint(last, 10, 64)
	if err != nil || n < m.Sequence {
		return Span{}, Errorf(KindInvalid, "%q is not an id of the form <partition>-<producer>-<first>..<last>", s)
	}
	span := SpanOf(m)
	span.Last = n
	if span.String() != s {
		return Span{}, Errorf(KindInvalid, "%q is not an id of the form <partition>-<producer>-<first>..<last>", s)
	}
	return span, nil
}

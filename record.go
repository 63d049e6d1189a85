package drainmark

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// RecordKind is what a record asks of the consumer.
type RecordKind uint8

// The kinds of record. Their numbers are on the wire and never change.
const (
	Append  RecordKind = 1 // append a message to Log
	Clear   RecordKind = 2 // remove every message that stands in Log
	Marker  RecordKind = 3 // do nothing but be persisted
	Retry   RecordKind = 4 // try the dead letter Target again
	Discard RecordKind = 5 // give the dead letter Target up
	Trim    RecordKind = 6 // remove the messages of Log up to the position Target
	Erase   RecordKind = 7 // replace the message of Log at the position Target by nothing
	Delete  RecordKind = 8 // remove every message that stands in Log, and Log until something is written to it again

	lastKind = Delete
)

func (k RecordKind) String() string {
	switch k {
	case Append:
		return "append"
	case Clear:
		return "clear"
	case Marker:
		return "marker"
	case Retry:
		return "retry"
	case Discard:
		return "discard"
	case Trim:
		return "trim"
	case Erase:
		return "erase"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("record kind %d", uint8(k))
}

// OfLog says whether a record of the kind is about a log, which it names.
func (k RecordKind) OfLog() bool { return k == Append || k.Removes() }

// Removes says whether a record of the kind takes messages of its log away.
func (k RecordKind) Removes() bool { return k == Clear || k == Trim || k == Erase || k == Delete }

// Record is what travels through the broker. Its sequence is its place in the batch.
type Record struct {
	Kind        RecordKind
	Log         string  // append, clear, trim, erase, delete
	ContentType string  // append
	Body        []byte  // append
	Key         string  // append: its idempotency key, or ""
	Target      string  // retry, discard: the dead letter's ID; trim, erase: the position, as AtPosition writes it
	Headers     Headers // append: the message's, with its trace context; other kinds: the trace context alone
	Principal   string  // who sent it, or "" if nobody is known: as CheckPrincipal has it
	AcceptedAt  time.Time
}

// AtPosition is the Target of a Trim or an Erase of a position.
func AtPosition(position uint64) string { return strconv.FormatUint(position, 10) }

// Position returns the position that a Trim or an Erase names. KindInvalid.
func (r *Record) Position() (uint64, error) {
	position, err := strconv.ParseUint(r.Target, 10, 63)
	if err != nil || position == 0 || AtPosition(position) != r.Target {
		return 0, Errorf(KindInvalid, "the record to %s does not name a position: %.40q", r.Kind, r.Target)
	}
	return position, nil
}

// CheckTarget says why a record cannot be applied to its log: by the log's name, or the position. It returns nil for a
// record that is of no log. KindInvalid.
func (r *Record) CheckTarget() error {
	if !r.Kind.OfLog() {
		return nil
	}
	if err := CheckLogName(r.Log); err != nil {
		return err
	}
	if r.Kind == Trim || r.Kind == Erase {
		_, err := r.Position()
		return err
	}
	return nil
}

// recordOverhead bounds what a record's encoding adds to the lengths of its fields: a byte for the kind, a varint for
// the time, the seven fields' lengths, and a byte for the field that only old batches have.
const recordOverhead = 1 + binary.MaxVarintLen64 + 7*binary.MaxVarintLen32 + 1

// EncodedBound returns at most how many bytes the record adds to a batch.
func (r *Record) EncodedBound() int {
	return recordOverhead + len(r.Log) + len(r.ContentType) + len(r.Body) + len(r.Key) + len(r.Target) +
		r.Headers.Size() + len(r.Principal)
}

// MaxPrincipalBytes is how long a principal's name is at most.
const MaxPrincipalBytes = 255

// CheckPrincipal returns nil if a principal can have that name, or "" because nobody is known. It is text without control
// characters, and never longer than MaxPrincipalBytes.
func CheckPrincipal(name string) error {
	switch {
	case len(name) > MaxPrincipalBytes:
		return Errorf(KindTooLarge, "a principal's name of %d bytes; the limit is %d", len(name), MaxPrincipalBytes)
	case !utf8.ValidString(name):
		return Errorf(KindInvalid, "a principal's name that is not valid UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return Errorf(KindInvalid, "a principal's name with a control character")
	}
	return nil
}

// MostRecords returns how many records a batch of so many bytes can have at most, decoded or not.
func MostRecords(bytes int) uint64 {
	return uint64(max(0, min((bytes-minBatchLength)/minRecordLength, MaxBatchRecords)))
}

// Batch is the unit that travels: consecutive records of one producer in one partition. The i-th has the sequence
// First+i.
type Batch struct {
	Partition int
	Producer  ProducerID
	First     uint64
	Records   []Record
}

// Last returns the sequence of the last record.
func (b *Batch) Last() uint64 { return b.First + uint64(len(b.Records)) - 1 }

// Span returns the batch's marks.
func (b *Batch) Span() Span {
	return Span{Partition: b.Partition, Producer: b.Producer, First: b.First, Last: b.Last()}
}

// Mark returns the mark of record i.
func (b *Batch) Mark(i int) Mark {
	return Mark{Partition: b.Partition, Producer: b.Producer, Sequence: b.First + uint64(i)}
}

// The encoding of a batch, version 1. Integers are varints of encoding/binary unless a size is given.
//
//	"DMB" 0x01                          4 bytes: what it is, and the version
//	partition, producer (16 bytes), first, number of records
//	per record:
//	  kind (1 byte), with 0x80 for a target, 0x40 for headers and 0x20 for a principal
//	  accepted at: microseconds since the Unix epoch for the first record, then the difference to the one before
//	  log, content type:                0 for the same as in the record before, else length+1 and the bytes
//	  body, key:                        length and the bytes
//	  with 0x80: target, traceparent:   length and the bytes
//	  with 0x40: headers:               as log, of the text that ParseHeaders reads
//	  with 0x20: principal:             as log
//	CRC-32C of all before               4 bytes, little endian
//
// A traceparent there is of a batch from before there were headers. It is one of them now.
const (
	batchMagic      = "DMB\x01"
	batchOverhead   = len(batchMagic) + 2*binary.MaxVarintLen64 + binary.MaxVarintLen32 + 16 + crc32.Size
	minBatchLength  = len(batchMagic) + 3 + 16 + crc32.Size // of one without records, which there is not
	minRecordLength = 6                                     // kind, time, log, content type, body, key
	targetFlag      = 0x80
	headersFlag     = 0x40
	principalFlag   = 0x20
)

// BatchOverhead bounds what a batch's encoding adds to its records' EncodedBound.
const BatchOverhead = batchOverhead

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeBatch appends the batch's encoding to dst, which may be nil.
func EncodeBatch(dst []byte, b *Batch) []byte {
	start := len(dst)
	dst = append(dst, batchMagic...)
	dst = binary.AppendUvarint(dst, uint64(b.Partition))
	dst = append(dst, b.Producer[:]...)
	dst = binary.AppendUvarint(dst, b.First)
	dst = binary.AppendUvarint(dst, uint64(len(b.Records)))
	before := &Record{}
	at := int64(0)
	for i := range b.Records {
		r := &b.Records[i]
		kind := byte(r.Kind)
		if r.Target != "" {
			kind |= targetFlag
		}
		if !r.Headers.IsZero() {
			kind |= headersFlag
		}
		if r.Principal != "" {
			kind |= principalFlag
		}
		dst = append(dst, kind)
		now := r.AcceptedAt.UnixMicro()
		dst = binary.AppendVarint(dst, now-at)
		at = now
		dst = appendUnlessSame(dst, r.Log, before.Log)
		dst = appendUnlessSame(dst, r.ContentType, before.ContentType)
		dst = binary.AppendUvarint(dst, uint64(len(r.Body)))
		dst = append(dst, r.Body...)
		dst = appendString(dst, r.Key)
		if kind&targetFlag != 0 {
			dst = append(appendString(dst, r.Target), 0)
		}
		if kind&headersFlag != 0 {
			dst = appendUnlessSame(dst, r.Headers.block, before.Headers.block)
		}
		if kind&principalFlag != 0 {
			dst = appendUnlessSame(dst, r.Principal, before.Principal)
		}
		before = r
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendUnlessSame(dst []byte, s, before string) []byte {
	if s == before {
		return append(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(s))+1), s...)
}

// MaxBatchBytes is how long a batch's encoding is at most, and MaxBatchRecords how many records it has at most.
// Anything larger in a broker is not decoded.
const (
	MaxBatchBytes   = 8 << 20
	MaxBatchRecords = 100_000
)

// DecodeBatch reads what EncodeBatch wrote. The records' bodies share data's memory. Any other input, and input over
// the limits of a batch, gives an error of KindInvalid and never more memory than a small multiple of its own length.
func DecodeBatch(data []byte) (*Batch, error) {
	if len(data) > MaxBatchBytes {
		return nil, Errorf(KindInvalid, "decoding a batch of %d bytes: the limit is %d", len(data), MaxBatchBytes)
	}
	if strings.HasPrefix(string(data[:min(3, len(data))]), "DMS") {
		return nil, Errorf(KindInvalid, "decoding a batch of %d bytes: it is signed, and this consumer has no batch keys", len(data))
	}
	if len(data) < minBatchLength || string(data[:3]) != batchMagic[:3] {
		return nil, Errorf(KindInvalid, "decoding a batch of %d bytes: it does not begin as a batch does", len(data))
	}
	if data[3] != batchMagic[3] {
		return nil, Errorf(KindInvalid, "decoding a batch: version %d; this program knows version %d", data[3], batchMagic[3])
	}
	body, sum := data[:len(data)-crc32.Size], binary.LittleEndian.Uint32(data[len(data)-crc32.Size:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, Errorf(KindInvalid, "decoding a batch of %d bytes: its checksum does not match", len(data))
	}
	d := decoder{rest: body[len(batchMagic):]}
	b := &Batch{Partition: int(d.uvarint(math.MaxInt32))}
	copy(b.Producer[:], d.take(uint64(len(b.Producer))))
	b.First = d.uvarint(math.MaxInt64)
	count := d.uvarint(uint64(len(d.rest) / minRecordLength))
	if count > MaxBatchRecords {
		return nil, Errorf(KindInvalid, "decoding a batch of %d records: the limit is %d", count, MaxBatchRecords)
	}
	if d.bad || count == 0 || b.First == 0 || b.First-1 > math.MaxInt64-count {
		return nil, Errorf(KindInvalid, "decoding a batch of %d bytes: its head is malformed", len(data))
	}
	b.Records = make([]Record, count)
	at := int64(0)
	before := &Record{}
	for i := range b.Records {
		r := &b.Records[i]
		d.record(r, before, &at)
		before = r
		if d.bad {
			return nil, Errorf(KindInvalid, "decoding a batch: record %d of %d is malformed", i+1, count)
		}
	}
	if len(d.rest) != 0 {
		return nil, Errorf(KindInvalid, "decoding a batch: %d bytes follow its last record", len(d.rest))
	}
	return b, nil
}

// decoder reads from the front of rest. After the first fault it is bad and yields zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) record(r, before *Record, at *int64) {
	kind := d.take(1)
	if d.bad {
		return
	}
	r.Kind = RecordKind(kind[0] &^ (targetFlag | headersFlag | principalFlag))
	if r.Kind < Append || r.Kind > lastKind {
		d.bad = true
		return
	}
	*at += d.varint()
	r.AcceptedAt = time.UnixMicro(*at).UTC()
	r.Log = d.unlessSame(before.Log)
	r.ContentType = d.unlessSame(before.ContentType)
	r.Body = d.take(d.uvarint(uint64(len(d.rest))))
	r.Key = string(d.take(d.uvarint(uint64(len(d.rest)))))
	if kind[0]&targetFlag != 0 {
		r.Target = string(d.take(d.uvarint(uint64(len(d.rest)))))
		r.Headers = d.traceParent()
	}
	if kind[0]&headersFlag != 0 {
		d.bad = d.bad || !r.Headers.IsZero() // a batch is from before there were headers, or it is not
		r.Headers = d.headers(before.Headers)
	}
	if kind[0]&principalFlag != 0 {
		r.Principal = d.principal(before.Principal)
	}
}

// traceParent reads the one header that records had before there were others.
func (d *decoder) traceParent() Headers {
	headers, err := TraceHeaders(string(d.take(d.uvarint(MaxTraceBytes))))
	d.bad = d.bad || err != nil
	return headers
}

// headers reads headers, which many records share with the one before.
func (d *decoder) headers(before Headers) Headers {
	n := d.uvarint(maxHeaderBlock + 1)
	if n == 0 {
		return before
	}
	headers, err := ParseHeaders(string(d.take(n - 1)))
	d.bad = d.bad || err != nil
	return headers
}

// principal reads a principal's name, which most records share with the one before.
func (d *decoder) principal(before string) string {
	n := d.uvarint(MaxPrincipalBytes + 1)
	if n == 0 {
		return before
	}
	name := string(d.take(n - 1))
	d.bad = d.bad || CheckPrincipal(name) != nil
	return name
}

func (d *decoder) unlessSame(before string) string {
	n := d.uvarint(uint64(len(d.rest)) + 1)
	if n == 0 {
		return before
	}
	return string(d.take(n - 1))
}

func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	taken := d.rest[:n:n]
	d.rest = d.rest[n:]
	return taken
}

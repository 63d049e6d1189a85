package drainmark

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"time"
)

// MaxReceiptSpans is how many runs a receipt holds at most. MaxReceiptText is how long its text is at most, in bytes.
const (
	MaxReceiptSpans = 64
	MaxReceiptText  = 6200
)

// DeploymentID names a deployment: 64 random bits, made when its store is created. It is in every receipt.
type DeploymentID [8]byte

// NewDeploymentID returns a fresh random id.
func NewDeploymentID() DeploymentID {
	var d DeploymentID
	rand.Read(d[:]) // never fails: crypto/rand stops the program instead
	return d
}

// Receipt says which marks a request was given. It is stateless: its text is all there is, and any backend of the
// deployment can read it.
type Receipt struct {
	Deployment DeploymentID
	IssuedAt   time.Time // in whole seconds
	Spans      []Span    // sorted, disjoint, at least one
	// Tokens is set on a barrier's receipt: per partition, the lease token that was in force before the marker was published.
	// See the barrier in the backend. Every partition named here has a span.
	Tokens map[int]uint64
	// Clocks has what Progress.Clock was, in whole seconds, when the receipt was issued, per partition, if that was
	// known. It tells how old the receipt is without any process' wall clock. Every partition named here has a span.
	Clocks map[int]time.Duration
}

// NewReceipt returns the receipt of the spans, which may come in any order. Neighbouring spans become one.
func NewReceipt(d DeploymentID, issuedAt time.Time, spans ...Span) Receipt {
	return Receipt{Deployment: d, IssuedAt: issuedAt.Truncate(time.Second), Spans: joinRuns(spans)}
}

// Merge returns one receipt for the writes of both. Above MaxReceiptSpans it joins the spans of each producer over what
// lies between them, which only makes it stricter. It fails when even that is too many (KindTooLarge), or when the
// receipts are of two deployments (KindInvalidReceipt).
func (r Receipt) Merge(other Receipt) (Receipt, error) {
	if r.Deployment != other.Deployment {
		return Receipt{}, Errorf(KindInvalidReceipt, "the receipts are from two deployments")
	}
	merged := Receipt{Deployment: r.Deployment, IssuedAt: r.IssuedAt, Spans: joinRuns(slices.Concat(r.Spans, other.Spans))}
	if other.IssuedAt.Before(r.IssuedAt) {
		merged.IssuedAt = other.IssuedAt
	}
	if len(merged.Spans) > MaxReceiptSpans {
		merged.Spans = joinSpans(merged.Spans)
	}
	if len(merged.Spans) > MaxReceiptSpans {
		return Receipt{}, Errorf(KindTooLarge, "the receipts together have %d runs of marks; a receipt has at most %d", len(merged.Spans), MaxReceiptSpans)
	}
	for _, tokens := range []map[int]uint64{r.Tokens, other.Tokens} {
		for partition, token := range tokens {
			if merged.Tokens == nil {
				merged.Tokens = map[int]uint64{}
			}
			if before, ok := merged.Tokens[partition]; ok && before != token {
				token = 0 // no lease token is 0: the next backend asked has to send a new marker
			}
			merged.Tokens[partition] = token
		}
	}
	merged.Clocks = mergeClocks(r, other)
	return merged, nil
}

// mergeClocks keeps the later of two clocks of a partition, and none where one of the receipts does not know it: a receipt
// is as young as its youngest part.
func mergeClocks(a, b Receipt) map[int]time.Duration {
	var merged map[int]time.Duration
	for _, r := range []Receipt{a, b} {
		for partition, clock := range r.Clocks {
			if !a.dates(partition) || !b.dates(partition) {
				continue
			}
			if merged == nil {
				merged = map[int]time.Duration{}
			}
			merged[partition] = max(merged[partition], clock)
		}
	}
	return merged
}

// dates says whether the receipt knows how old its marks of a partition are, if it has any.
func (r Receipt) dates(partition int) bool {
	_, known := r.Clocks[partition]
	return known || !r.names(partition)
}

func (r Receipt) names(partition int) bool {
	return slices.ContainsFunc(r.Spans, func(span Span) bool { return span.Partition == partition })
}

// compareRuns orders by partition, producer and first sequence.
func compareRuns(a, b Span) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), slices.Compare(a.Producer[:], b.Producer[:]), cmp.Compare(a.First, b.First))
}

// joinRuns sorts the spans and joins those that touch or overlap.
func joinRuns(spans []Span) []Span {
	return foldRuns(spans, func(last, next Span) bool { return next.First <= last.Last+1 })
}

// joinSpans joins all spans of each producer in a partition.
func joinSpans(spans []Span) []Span {
	return foldRuns(spans, func(Span, Span) bool { return true })
}

func foldRuns(spans []Span, join func(last, next Span) bool) []Span {
	sorted := slices.SortedFunc(slices.Values(spans), compareRuns)
	var out []Span
	for _, r := range sorted {
		if n := len(out) - 1; n >= 0 && out[n].Partition == r.Partition && out[n].Producer == r.Producer && join(out[n], r) {
			out[n].Last = max(out[n].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// The text of a receipt is the unpadded URL-safe base64 of
//
//	version (1 byte), deployment (8 bytes), issued at (Unix seconds, uvarint), number of spans (uvarint)
//	per span: partition (uvarint), flags (1 byte), producer (16 bytes, unless sameProducer), first (uvarint), last-first (uvarint)
//	number of lease tokens (uvarint), per lease token: partition (uvarint), lease token (8 bytes)
//	number of clocks (uvarint), per clock: partition (uvarint), seconds (uvarint)
//	CRC-32C of all before (4 bytes)
const (
	receiptVersion = 2
	maxSeconds     = 1 << 40 // since 1970, or of a partition's clock
	sameProducer   = 1       // flag: the producer is that of the span before
)

func (r Receipt) String() string {
	b := []byte{receiptVersion}
	b = append(b, r.Deployment[:]...)
	b = binary.AppendUvarint(b, uint64(max(0, r.IssuedAt.Unix())))
	b = binary.AppendUvarint(b, uint64(len(r.Spans)))
	for i, span := range r.Spans {
		b = binary.AppendUvarint(b, uint64(span.Partition))
		if i > 0 && r.Spans[i-1].Producer == span.Producer {
			b = append(b, sameProducer)
		} else {
			b = append(append(b, 0), span.Producer[:]...)
		}
		b = binary.AppendUvarint(b, span.First)
		b = binary.AppendUvarint(b, span.Last-span.First)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Tokens)))
	for _, partition := range sortedKeys(r.Tokens) {
		b = binary.AppendUvarint(b, uint64(partition))
		b = binary.LittleEndian.AppendUint64(b, r.Tokens[partition])
	}
	b = binary.AppendUvarint(b, uint64(len(r.Clocks)))
	for _, partition := range sortedKeys(r.Clocks) {
		b = binary.AppendUvarint(b, uint64(partition))
		b = binary.AppendUvarint(b, uint64(r.Clocks[partition]/time.Second))
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

func sortedKeys[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// ParseReceipt reads a receipt's text. A text that String would not write exactly so gives an error of
// KindInvalidReceipt. It does not check that the receipt is this deployment's: see Check.
func ParseReceipt(s string) (Receipt, error) {
	malformed := Errorf(KindInvalidReceipt, "malformed receipt of %d characters", len(s))
	if len(s) > MaxReceiptText {
		return Receipt{}, Errorf(KindInvalidReceipt, "receipt of %d characters: it has at most %d", len(s), MaxReceiptText)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(data) < 1+8+crc32.Size {
		return Receipt{}, malformed
	}
	body, sum := data[:len(data)-crc32.Size], binary.LittleEndian.Uint32(data[len(data)-crc32.Size:])
	if crc32.Checksum(body, castagnoli) != sum || body[0] != receiptVersion {
		return Receipt{}, malformed
	}
	r := Receipt{Deployment: DeploymentID(body[1:9])}
	d := decoder{rest: body[9:]}
	r.IssuedAt = time.Unix(int64(d.uvarint(maxSeconds)), 0).UTC()
	r.Spans = make([]Span, d.uvarint(MaxReceiptSpans))
	for i := range r.Spans {
		d.run(r.Spans, i)
	}
	d.tokens(&r)
	d.clocks(&r)
	if d.bad || len(d.rest) != 0 || len(r.Spans) == 0 || !slices.Equal(r.Spans, joinRuns(r.Spans)) {
		return Receipt{}, malformed
	}
	// One receipt has one text: no longer integers than needed, no other order, no line breaks.
	if r.String() != s {
		return Receipt{}, malformed
	}
	return r, nil
}

func (d *decoder) tokens(r *Receipt) {
	for n := d.uvarint(MaxReceiptSpans); n > 0 && !d.bad; n-- {
		partition := int(d.uvarint(math.MaxInt32))
		token := d.take(8)
		// Check then covers the lease tokens' partitions too, and Merge cannot gather more of them than runs.
		d.bad = d.bad || !r.names(partition)
		if d.bad {
			return
		}
		if r.Tokens == nil {
			r.Tokens = map[int]uint64{}
		}
		r.Tokens[partition] = binary.LittleEndian.Uint64(token)
	}
}

func (d *decoder) clocks(r *Receipt) {
	for n := d.uvarint(MaxReceiptSpans); n > 0 && !d.bad; n-- {
		partition, seconds := int(d.uvarint(math.MaxInt32)), d.uvarint(maxSeconds)
		if d.bad = d.bad || seconds > math.MaxInt64/uint64(time.Second) || !r.names(partition); d.bad {
			return
		}
		if r.Clocks == nil {
			r.Clocks = map[int]time.Duration{}
		}
		r.Clocks[partition] = time.Duration(seconds) * time.Second
	}
}

func (d *decoder) run(spans []Span, i int) {
	span := Span{Partition: int(d.uvarint(math.MaxInt32))}
	flags := d.take(1)
	switch {
	case d.bad:
		return
	case flags[0] == 0:
		copy(span.Producer[:], d.take(uint64(len(span.Producer))))
	case flags[0] == sameProducer && i > 0:
		span.Producer = spans[i-1].Producer
	default:
		d.bad = true
	}
	span.First = d.uvarint(math.MaxInt64)
	span.Last = span.First + d.uvarint(math.MaxInt64-span.First)
	d.bad = d.bad || span.First == 0
	spans[i] = span
}

// Check says whether the receipt belongs to a deployment with so many partitions.
func (r Receipt) Check(d DeploymentID, partitions int) error {
	if r.Deployment != d {
		return Errorf(KindInvalidReceipt, "the receipt is from another deployment")
	}
	for _, span := range r.Spans {
		if span.Partition >= partitions {
			return Errorf(KindInvalidReceipt, "the receipt names partition %d; this deployment has 0 to %d", span.Partition, partitions-1)
		}
	}
	return nil
}

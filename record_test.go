package drainmark_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
)

var producerA = drainmark.ProducerID{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// goldenBatch has one record of each kind, with every field that it can have.
func goldenBatch() *drainmark.Batch {
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)
	return &drainmark.Batch{Partition: 3, Producer: producerA, First: 300, Records: []drainmark.Record{
		{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte("hello"), Key: "k1", AcceptedAt: at},
		{
			Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte{0, 0xff},
			Headers: headersOf("traceparent", "00-ab-cd-01"), AcceptedAt: at.Add(time.Millisecond),
		},
		{Kind: drainmark.Clear, Log: "other", Body: []byte{}, AcceptedAt: at.Add(-time.Second)},
		{Kind: drainmark.Marker, Body: []byte{}, AcceptedAt: at},
		{Kind: drainmark.Retry, Target: "3-aa-7", Body: []byte{}, AcceptedAt: at},
		{Kind: drainmark.Discard, Target: "3-aa-8", Body: []byte{}, Headers: headersOf("traceparent", "t"), AcceptedAt: at},
	}}
}

// headersOf makes headers of names and values.
func headersOf(pairs ...string) drainmark.Headers {
	var list []drainmark.Header
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, drainmark.Header{Name: pairs[i], Value: pairs[i+1]})
	}
	headers, err := drainmark.NewHeaders(list...)
	if err != nil {
		panic(err)
	}
	return headers
}

// oldBatchHex is what EncodeBatch made of goldenBatch when version 1 was fixed, and no header but traceparent was known.
// A batch may lie in a broker for long: it must be read for ever.
const oldBatchHex = "444d420103a00102030405060708090a0b0c0d0e0fac02060180faf3f8a4bda8060a6775657374626f6f6b0b746578742f70" +
	"6c61696e0568656c6c6f026b3181d00f00000200ff00000b30302d61622d63642d303102cf987a066f746865720100000380" +
	"897a0100000084000000000006332d61612d370085000000000006332d61612d380174aa1a0213"

// headedBatch has headers of each kind: a message's own, the trace context, the same as in the record before, and none.
func headedBatch() *drainmark.Batch {
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)
	own := headersOf("tenant", "Zoë", "empty", "", "traceparent", "00-ab-cd-01", "tracestate", "a=b")
	return &drainmark.Batch{Partition: 3, Producer: producerA, First: 300, Records: []drainmark.Record{
		{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte("hello"), Headers: own, AcceptedAt: at},
		{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte("again"), Headers: own, AcceptedAt: at},
		{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte("none"), Key: "k1", AcceptedAt: at},
		{Kind: drainmark.Retry, Target: "3-aa-7", Body: []byte{}, Headers: headersOf("traceparent", "t"), AcceptedAt: at},
	}}
}

// headedBatchHex is what EncodeBatch makes of headedBatch. If this changes, so must the version.
const headedBatchHex = "444d420103a00102030405060708090a0b0c0d0e0fac02044180faf3f8a4bda8060a6775657374626f6f6b0b746578742f70" +
	"6c61696e0568656c6c6f003b656d7074793a0a74656e616e743a5a6fc3ab0a7472616365706172656e743a30302d61622d63" +
	"642d30310a747261636573746174653a613d620a4100000005616761696e000001000000046e6f6e65026b31c40001010000" +
	"06332d61612d37000f7472616365706172656e743a740a5cf080ca"

// sentBatch has records of a principal, of the same as in the record before, of another, and of nobody.
func sentBatch() *drainmark.Batch {
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)
	return &drainmark.Batch{Partition: 3, Producer: producerA, First: 300, Records: []drainmark.Record{
		{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte("hello"), Principal: "Zoë", AcceptedAt: at},
		{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: []byte("again"), Headers: headersOf("a", "b"), Principal: "Zoë", AcceptedAt: at},
		{Kind: drainmark.Clear, Log: "guestbook", ContentType: "text/plain", Body: []byte{}, Principal: "spiffe://example/shop", AcceptedAt: at},
		{Kind: drainmark.Marker, Body: []byte{}, AcceptedAt: at},
		{Kind: drainmark.Retry, Target: "3-aa-7", Body: []byte{}, Principal: "o", AcceptedAt: at},
	}}
}

// sentBatchHex is what EncodeBatch makes of sentBatch. If this changes, so must the version.
const sentBatchHex = "444d420103a00102030405060708090a0b0c0d0e0fac02052180faf3f8a4bda8060a6775657374626f6f6b0b746578742f70" +
	"6c61696e0568656c6c6f00055a6fc3ab6100000005616761696e0005613a620a00220000000000167370696666653a2f2f65" +
	"78616d706c652f73686f70030001010000a4000000000006332d61612d3700026f321ca9d1"

// removingBatch has a record of each kind that takes messages away by the position, and one that takes all.
func removingBatch() *drainmark.Batch {
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)
	return &drainmark.Batch{Partition: 3, Producer: producerA, First: 300, Records: []drainmark.Record{
		{Kind: drainmark.Trim, Log: "guestbook", Target: drainmark.AtPosition(17), Body: []byte{}, Principal: "retention", AcceptedAt: at},
		{Kind: drainmark.Erase, Log: "guestbook", Target: drainmark.AtPosition(18), Body: []byte{}, AcceptedAt: at},
		{Kind: drainmark.Delete, Log: "other", Body: []byte{}, AcceptedAt: at},
	}}
}

// removingBatchHex is what EncodeBatch makes of removingBatch. If this changes, so must the version.
const removingBatchHex = "444d420103a00102030405060708090a0b0c0d0e0fac0203a680faf3f8a4bda8060a6775657374626f6f6b000000023137" +
	"000a726574656e74696f6e870000000000023138000800066f746865720000009221168c"

func TestARecordNamesItsPosition(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]uint64{"1": 1, "9223372036854775807": math.MaxInt64} {
		r := drainmark.Record{Kind: drainmark.Trim, Log: "log", Target: target}
		if position, err := r.Position(); position != want || err != nil || r.CheckTarget() != nil {
			t.Errorf("the target %q is position %d (%v)", target, position, err)
		}
	}
	for _, target := range []string{"", "0", "-1", "+1", "01", "1 ", "1.0", "9223372036854775808", "x"} {
		for _, kind := range []drainmark.RecordKind{drainmark.Trim, drainmark.Erase} {
			r := drainmark.Record{Kind: kind, Log: "log", Target: target}
			if err := r.CheckTarget(); drainmark.KindOf(err) != drainmark.KindInvalid {
				t.Errorf("a record to %s at %q is taken: %v", kind, target, err)
			}
		}
	}
	for _, r := range []drainmark.Record{{Kind: drainmark.Delete, Log: "log"}, {Kind: drainmark.Marker}, {Kind: drainmark.Retry, Target: "x"}} {
		if err := r.CheckTarget(); err != nil {
			t.Errorf("%+v is refused: %v", r, err)
		}
	}
	if err := (&drainmark.Record{Kind: drainmark.Delete, Log: "?"}).CheckTarget(); err == nil {
		t.Error("a deletion of what cannot be a log is taken")
	}
}

func TestBatchEncodingNeverChanges(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]*drainmark.Batch{headedBatchHex: headedBatch(), sentBatchHex: sentBatch(), removingBatchHex: removingBatch()} {
		if got := hex.EncodeToString(drainmark.EncodeBatch(nil, b)); got != want {
			t.Errorf("the encoding of version 1 has changed:\n got %s\nwant %s", got, want)
		}
	}
	for fixed, want := range map[string]*drainmark.Batch{
		oldBatchHex: goldenBatch(), headedBatchHex: headedBatch(), sentBatchHex: sentBatch(), removingBatchHex: removingBatch(),
	} {
		data, err := hex.DecodeString(fixed)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := drainmark.DecodeBatch(data)
		if err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(decoded, want) {
			t.Errorf("decoded %+v\nwant %+v", decoded, want)
		}
	}
}

func TestHeadersThatFollowTheSameCostOneByte(t *testing.T) {
	t.Parallel()
	b := headedBatch()
	twice := len(drainmark.EncodeBatch(nil, b))
	b.Records[1].Headers = drainmark.Headers{}
	if once := len(drainmark.EncodeBatch(nil, b)); twice != once+1 {
		t.Errorf("%d bytes with the same headers in two records, %d with them in one", twice, once)
	}
}

func TestAPrincipalThatFollowsTheSameCostsOneByte(t *testing.T) {
	t.Parallel()
	b := sentBatch()
	twice := len(drainmark.EncodeBatch(nil, b))
	b.Records[1].Principal = ""
	once := len(drainmark.EncodeBatch(nil, b))
	b.Records[0].Principal = ""
	if never := len(drainmark.EncodeBatch(nil, b)); twice != once+1 || once != never+1+len("Zoë") {
		t.Errorf("%d bytes with the same principal in two records, %d with it in one, %d with it in none", twice, once, never)
	}
}

func TestNamesOfPrincipals(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]drainmark.Kind{
		"": "", "a b": "", "Zoë": "", strings.Repeat("x", 255): "",
		strings.Repeat("x", 256): drainmark.KindTooLarge, "a\nb": drainmark.KindInvalid, "\x00": drainmark.KindInvalid,
		"\x7f": drainmark.KindInvalid, "\u0085": drainmark.KindInvalid, "\xff": drainmark.KindInvalid,
	} {
		err := drainmark.CheckPrincipal(name)
		if (err != nil) != (want != "") || err != nil && drainmark.KindOf(err) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestEncodeBatchAppends(t *testing.T) {
	t.Parallel()
	alone := drainmark.EncodeBatch(nil, goldenBatch())
	behind := drainmark.EncodeBatch([]byte("before"), goldenBatch())
	if string(behind) != "before"+string(alone) {
		t.Error("an encoding behind other bytes differs from one alone")
	}
}

// genText draws short texts, mostly from a few, so that neighbours are often the same.
func genText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"", "a", "guestbook", "text/plain"}), rapid.String())
}

// genHeaders draws any headers, mostly from a few, so that neighbours are often the same.
func genHeaders() *rapid.Generator[drainmark.Headers] {
	value := rapid.StringOf(rapid.RuneFrom(nil, unicode.L, unicode.N, unicode.P, unicode.S))
	return rapid.OneOf(
		rapid.SampledFrom([]drainmark.Headers{{}, headersOf("a", "b"), headersOf("traceparent", "t")}),
		rapid.Map(rapid.MapOfN(rapid.StringMatching("[!#-'*+.0-9a-z^_`|~-]{1,12}"), value, 0, 8), func(m map[string]string) drainmark.Headers {
			var pairs []string
			for name, value := range m {
				pairs = append(pairs, name, value)
			}
			return headersOf(pairs...)
		}),
	)
}

// genPrincipal draws any principal's name, mostly from a few, so that neighbours are often the same.
func genPrincipal() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"", "shop", "Zoë"}),
		rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.N, unicode.P, unicode.S), -1, -1, drainmark.MaxPrincipalBytes))
}

func genBatch() *rapid.Generator[*drainmark.Batch] {
	record := rapid.Custom(func(t *rapid.T) drainmark.Record {
		return drainmark.Record{
			Kind:        drainmark.RecordKind(rapid.IntRange(1, 8).Draw(t, "kind")),
			Log:         genText().Draw(t, "log"),
			ContentType: genText().Draw(t, "type"),
			Body:        append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "body")...),
			Key:         genText().Draw(t, "key"),
			Target:      genText().Draw(t, "target"),
			Headers:     genHeaders().Draw(t, "headers"),
			Principal:   genPrincipal().Draw(t, "principal"),
			AcceptedAt:  time.UnixMicro(rapid.Int64().Draw(t, "at")).UTC(),
		}
	})
	return rapid.Custom(func(t *rapid.T) *drainmark.Batch {
		b := &drainmark.Batch{
			Partition: rapid.IntRange(0, math.MaxInt32).Draw(t, "partition"),
			Records:   rapid.SliceOfN(record, 1, 8).Draw(t, "records"),
			First:     rapid.Uint64Range(1, math.MaxInt64-8).Draw(t, "first"),
		}
		copy(b.Producer[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "producer"))
		return b
	})
}

func TestBatchRoundTripWithinItsBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := genBatch().Draw(t, "batch")
		encoded := drainmark.EncodeBatch(nil, b)
		decoded, err := drainmark.DecodeBatch(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(decoded, b) {
			t.Fatalf("decoded %+v\nwant %+v", decoded, b)
		}
		bound := drainmark.BatchOverhead
		for i := range b.Records {
			bound += b.Records[i].EncodedBound()
		}
		if len(encoded) > bound {
			t.Fatalf("%d bytes; EncodedBound and BatchOverhead promise %d", len(encoded), bound)
		}
	})
}

func TestBoundHoldsForTheLargestHeadAndTheLongestTimes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<21) // a length of four bytes
	b := &drainmark.Batch{Partition: math.MaxInt32, Producer: producerA, First: math.MaxInt64 - 3, Records: []drainmark.Record{
		{Kind: drainmark.Append, AcceptedAt: time.UnixMicro(math.MinInt64)},
		{Kind: drainmark.Append, AcceptedAt: time.UnixMicro(math.MaxInt64 / 2)},
		{Kind: drainmark.Append, Log: long, ContentType: long, Body: []byte(long), Key: long, Target: long, Headers: largestHeaders(), Principal: strings.Repeat("p", drainmark.MaxPrincipalBytes), AcceptedAt: time.UnixMicro(math.MinInt64)},
	}}
	bound := drainmark.BatchOverhead
	for i := range b.Records {
		bound += b.Records[i].EncodedBound()
	}
	if encoded := drainmark.EncodeBatch(nil, b); len(encoded) > bound {
		t.Errorf("%d bytes; EncodedBound and BatchOverhead promise %d", len(encoded), bound)
	}
}

// largestHeaders are at each limit.
func largestHeaders() drainmark.Headers {
	pairs := []string{
		"traceparent", "t", "tracestate", strings.Repeat("t", drainmark.MaxTraceBytes-len("traceparent")-len("tracestate")-1),
	}
	for i := range drainmark.MaxHeaders {
		pairs = append(pairs, fmt.Sprintf("x%02d", i), strings.Repeat("v", drainmark.MaxHeaderBytes/drainmark.MaxHeaders-3))
	}
	return headersOf(pairs...)
}

func TestBatchMarks(t *testing.T) {
	t.Parallel()
	b := goldenBatch()
	if b.Last() != 305 {
		t.Errorf("Last is %d, want 305", b.Last())
	}
	if want := (drainmark.Span{Partition: 3, Producer: producerA, First: 300, Last: 305}); b.Span() != want {
		t.Errorf("Run is %v, want %v", b.Span(), want)
	}
	if want := (drainmark.Mark{Partition: 3, Producer: producerA, Sequence: 302}); b.Mark(2) != want {
		t.Errorf("Mark(2) is %v, want %v", b.Mark(2), want)
	}
}

func TestDamagedBatchesAreRefused(t *testing.T) {
	t.Parallel()
	whole := drainmark.EncodeBatch(nil, goldenBatch())
	refused := func(data []byte, what string, at int) {
		if _, err := drainmark.DecodeBatch(data); drainmark.KindOf(err) != drainmark.KindInvalid {
			t.Errorf("%s at %d: error %v, want one of KindInvalid", what, at, err)
		}
	}
	for bit := range 8 * len(whole) {
		flipped := append([]byte{}, whole...)
		flipped[bit/8] ^= 1 << (bit % 8)
		refused(flipped, "a flipped bit", bit)
	}
	for n := range whole {
		refused(whole[:n], "cut off", n)
		refused(whole[n+1:], "begun late", n)
	}
	refused(append(append([]byte{}, whole...), 0), "one byte more", len(whole))
}

// withSum appends the checksum that a batch or receipt ends with.
func withSum(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(append([]byte{}, body...), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func TestMalformedBatchesWithARightChecksumAreRefused(t *testing.T) {
	t.Parallel()
	head := func(first uint64, count uint64) []byte {
		b := append([]byte("DMB\x01\x00"), producerA[:]...)
		return binary.AppendUvarint(binary.AppendUvarint(b, first), count)
	}
	marker := []byte{3, 0, 0, 0, 0, 0}
	with := func(head []byte, rest ...byte) []byte { return append(head, rest...) }
	cases := map[string][]byte{
		"no records":                                 head(1, 0),
		"a sequence of 0":                            with(head(0, 1), marker...),
		"a first sequence above the highest":         with(head(math.MaxInt64+1, 1), marker...),
		"sequences that go over the highest":         with(head(math.MaxInt64, 2), append(marker, marker...)...),
		"more records than there are bytes for":      with(head(1, 1<<60), marker...),
		"a record that is missing":                   with(head(1, 2), marker...),
		"bytes behind the last record":               with(head(1, 1), append(marker, 0)...),
		"record kind 0":                              with(head(1, 1), 0, 0, 0, 0, 0, 0),
		"record kind 9":                              with(head(1, 1), 9, 0, 0, 0, 0, 0),
		"a body longer than the rest":                with(head(1, 1), 3, 0, 0, 0, 99, 0),
		"a log longer than the rest":                 with(head(1, 1), 3, 0, 99, 0, 0, 0),
		"a key longer than the rest":                 with(head(1, 1), 3, 0, 0, 0, 0, 99),
		"a partition above 2^31-1":                   append(append([]byte("DMB\x01\xff\xff\xff\xff\xff\x01"), producerA[:]...), 1, 1, 3, 0, 0, 0, 0, 0),
		"a producer that is cut off":                 append([]byte("DMB\x01\x00"), producerA[:9]...),
		"an integer that does not end":               append([]byte("DMB\x01"), 0xff, 0xff),
		"version 2":                                  append([]byte("DMB\x02\x00"), producerA[:]...),
		"another magic":                              append([]byte("XMB\x01\x00"), producerA[:]...),
		"a target that is announced and missing":     with(head(1, 1), 0x83, 0, 0, 0, 0, 0),
		"headers that are announced and missing":     with(head(1, 1), 0x43, 0, 0, 0, 0, 0),
		"a target of a kind that there is not":       with(head(1, 1), 0xff, 0, 0, 0, 0, 0, 0, 0),
		"a principal that is announced and missing":  with(head(1, 1), 0x23, 0, 0, 0, 0, 0),
		"a principal that is cut off":                with(head(1, 1), 0x23, 0, 0, 0, 0, 0, 3, 'a'),
		"a principal with a line in it":              with(head(1, 1), 0x23, 0, 0, 0, 0, 0, 2, '\n'),
		"a principal that is not UTF-8":              with(head(1, 1), 0x23, 0, 0, 0, 0, 0, 2, 0xff),
		"a principal that is longer than any":        with(head(1, 1), append([]byte{0x23, 0, 0, 0, 0, 0, 0x81, 0x02}, bytes.Repeat([]byte{'a'}, 256)...)...),
		"an old traceparent beside headers":          with(head(1, 1), 0xc3, 0, 0, 0, 0, 0, 0, 1, 't', 5, 'a', ':', 'b', '\n'),
		"an old traceparent with a line in it":       with(head(1, 1), 0x83, 0, 0, 0, 0, 0, 0, 1, '\n'),
		"an old traceparent that is longer than any": with(head(1, 1), append([]byte{0x83, 0, 0, 0, 0, 0, 0, 0xff, 0x0f}, make([]byte, 2047)...)...),
	}
	for _, block := range malformedHeaders {
		cases["headers "+strconv.Quote(block)] = with(head(1, 1), append(binary.AppendUvarint([]byte{0x43, 0, 0, 0, 0, 0}, uint64(len(block))+1), block...)...)
	}
	for name, body := range cases {
		if b, err := drainmark.DecodeBatch(withSum(body)); drainmark.KindOf(err) != drainmark.KindInvalid {
			t.Errorf("%s: %+v, error %v, want one of KindInvalid", name, b, err)
		}
	}
	// Their twin: nothing about these bytes but the faults above was wrong.
	if _, err := drainmark.DecodeBatch(withSum(with(head(math.MaxInt64, 1), marker...))); err != nil {
		t.Errorf("the smallest batch, with the highest sequence: %v", err)
	}
}

// allocated returns how many bytes the process has ever allocated, as far as the runtime has counted: small objects
// are counted when their span is full, and other goroutines (the fuzzing engine's) count as well.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// allocates returns how many bytes f allocates. A result beyond limit is measured again, up to ten times, and the least
// is returned. f allocates the same every time, but what the runtime counts late or others allocate does not come each
// time.
func allocates(limit uint64, f func()) uint64 {
	least := uint64(math.MaxUint64)
	for try := 0; try < 10 && least > limit; try++ {
		before := allocated()
		f()
		least = min(least, allocated()-before)
	}
	return least
}

// Decoding takes at most allocFactor times the input's length, and allocSlack for errors and the like.
const (
	allocFactor = 40
	allocSlack  = 256 << 10
)

// FuzzDecodeBatch decodes any bytes, as they are and with the right checksum behind them.
func TestBatchesOverTheLimitsAreNotDecoded(t *testing.T) {
	t.Parallel()
	one := drainmark.Batch{Producer: producerA, First: 1, Records: []drainmark.Record{{Kind: drainmark.Append, Log: "a", Body: make([]byte, drainmark.MaxBatchBytes)}}}
	if _, err := drainmark.DecodeBatch(drainmark.EncodeBatch(nil, &one)); drainmark.KindOf(err) != drainmark.KindInvalid {
		t.Errorf("over %d bytes: %v", drainmark.MaxBatchBytes, err)
	}
	many := drainmark.Batch{Producer: producerA, First: 1, Records: make([]drainmark.Record, drainmark.MaxBatchRecords+1)}
	for i := range many.Records {
		many.Records[i].Kind = drainmark.Marker
	}
	data := drainmark.EncodeBatch(nil, &many)
	if _, err := drainmark.DecodeBatch(data); drainmark.KindOf(err) != drainmark.KindInvalid || len(data) > drainmark.MaxBatchBytes {
		t.Errorf("over %d records, in %d bytes: %v", drainmark.MaxBatchRecords, len(data), err)
	}
	many.Records = many.Records[:drainmark.MaxBatchRecords]
	if b, err := drainmark.DecodeBatch(drainmark.EncodeBatch(nil, &many)); err != nil || len(b.Records) != drainmark.MaxBatchRecords {
		t.Errorf("at the limit: %v", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	golden := drainmark.EncodeBatch(nil, goldenBatch())
	f.Add(golden)
	f.Add(golden[:len(golden)-4])
	f.Add(drainmark.EncodeBatch(nil, headedBatch()))
	f.Add(drainmark.EncodeBatch(nil, sentBatch()))
	f.Add(append(append([]byte("DMB\x01\x00"), producerA[:]...), 1, 1, 0x43, 0, 0, 0, 0, 0, 0xff, 0xff, 0x03, 'a', ':', 'b', '\n')) // 64 KiB, it says
	f.Add(append(append([]byte("DMB\x01\x00"), producerA[:]...), 1, 2, 0x43, 0, 0, 0, 0, 0, 5, 'a', ':', 'b', '\n', 0x43, 0, 0, 0, 0, 0, 0))
	f.Add(append(append([]byte("DMB\x01\x00"), producerA[:]...), 1, 1, 3, 0, 0, 0, 0, 0))
	f.Add([]byte("DMB\x01"))
	f.Add(append(append([]byte("DMB\x01\x00"), producerA[:]...), 1, 0x80, 0x80, 0x40, 3, 0, 0, 0, 0, 0)) // 2^20 records, it says
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, input := range [][]byte{data, withSum(data)} {
			var b *drainmark.Batch
			var err error
			limit := uint64(allocFactor*len(input) + allocSlack)
			if used := allocates(limit, func() { b, err = drainmark.DecodeBatch(input) }); used > limit {
				t.Errorf("decoding %d bytes took %d bytes of memory, want at most %d", len(input), used, limit)
			}
			if err != nil {
				if drainmark.KindOf(err) != drainmark.KindInvalid {
					t.Errorf("error of kind %s: %v", drainmark.KindOf(err), err)
				}
				continue
			}
			again, err := drainmark.DecodeBatch(drainmark.EncodeBatch(nil, b))
			if err != nil || !reflect.DeepEqual(again, b) {
				t.Errorf("decoded, encoded and decoded again: %+v, error %v\nwant %+v", again, err, b)
			}
		}
	})
}

func TestRecordKindsHaveNames(t *testing.T) {
	t.Parallel()
	want := map[drainmark.RecordKind]string{1: "append", 2: "clear", 3: "marker", 4: "retry", 5: "discard", 6: "trim", 7: "erase", 8: "delete", 9: "record kind 9"}
	for kind, name := range want {
		if kind.String() != name {
			t.Errorf("kind %d is %q, want %q", uint8(kind), kind, name)
		}
	}
}

// thousandRecords is a batch of 1,000 records of 200 bytes, as a busy backend makes them.
func thousandRecords() *drainmark.Batch {
	b := &drainmark.Batch{Partition: 1, Producer: producerA, First: 1, Records: make([]drainmark.Record, 1000)}
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for i := range b.Records {
		b.Records[i] = drainmark.Record{
			Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain; charset=utf-8",
			Body: make([]byte, 200), AcceptedAt: at.Add(time.Duration(i) * time.Microsecond),
		}
	}
	return b
}

func BenchmarkEncodeBatch(b *testing.B) {
	batch := thousandRecords()
	dst := drainmark.EncodeBatch(nil, batch)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for b.Loop() {
		dst = drainmark.EncodeBatch(dst[:0], batch)
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	data := drainmark.EncodeBatch(nil, thousandRecords())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := drainmark.DecodeBatch(data); err != nil {
			b.Fatal(err)
		}
	}
}

// headedRecords are a thousand, each with headers of its own: a trace, and two others.
func headedRecords() *drainmark.Batch {
	b := thousandRecords()
	for i := range b.Records {
		b.Records[i].Headers = headersOf("tenant", strconv.Itoa(i), "schema", "note/2",
			"traceparent", fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e4736-%016x-01", i+1))
	}
	return b
}

func BenchmarkEncodeHeaders(b *testing.B) {
	batch := headedRecords()
	dst := drainmark.EncodeBatch(nil, batch)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for b.Loop() {
		dst = drainmark.EncodeBatch(dst[:0], batch)
	}
}

func BenchmarkDecodeHeaders(b *testing.B) {
	data := drainmark.EncodeBatch(nil, headedRecords())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := drainmark.DecodeBatch(data); err != nil {
			b.Fatal(err)
		}
	}
}

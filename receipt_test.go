package drainmark_test

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
)

var (
	producerB  = drainmark.ProducerID{0xb0}
	deployment = drainmark.DeploymentID{1, 2, 3, 4, 5, 6, 7, 8}
	issued     = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
)

func span(partition int, producer drainmark.ProducerID, first, last uint64) drainmark.Span {
	return drainmark.Span{Partition: partition, Producer: producer, First: first, Last: last}
}

func receiptOf(spans ...drainmark.Span) drainmark.Receipt {
	return drainmark.NewReceipt(deployment, issued, spans...)
}

func goldenReceipt() drainmark.Receipt {
	r := receiptOf(span(3, producerA, 300, 305), span(0, producerA, 1, 1), span(3, producerB, 7, 7), span(3, producerA, 310, 400))
	r.Tokens = map[int]uint64{3: 0x0102030405060708, 0: 42}
	r.Clocks = map[int]time.Duration{3: 1000 * time.Hour, 0: time.Second}
	return r
}

const goldenReceiptText = "AgECAwQFBgcIqZjgzwYEAACgAQIDBAUGBwgJCgsMDQ4PAQADAawCBQMBtgJaAwCwAAAAAAAAAAAAAAAAAAAABwACACoAAAAAAAAAAwgHBgUEAwIBAgABA4Dd2wEhTXTi"

func TestReceiptTextNeverChanges(t *testing.T) {
	t.Parallel()
	if got := goldenReceipt().String(); got != goldenReceiptText {
		t.Errorf("the text of version 2 has changed:\n got %s\nwant %s", got, goldenReceiptText)
	}
	parsed, err := drainmark.ParseReceipt(goldenReceiptText)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(parsed, goldenReceipt()) {
		t.Errorf("parsed %+v\nwant %+v", parsed, goldenReceipt())
	}
}

func TestNewReceiptSortsAndJoins(t *testing.T) {
	t.Parallel()
	r := receiptOf(span(1, producerB, 5, 6), span(1, producerA, 4, 4), span(0, producerB, 9, 9), span(1, producerA, 1, 3), span(1, producerB, 6, 9),
		span(1, producerA, 6, 6))
	want := []drainmark.Span{span(0, producerB, 9, 9), span(1, producerA, 1, 4), span(1, producerA, 6, 6), span(1, producerB, 5, 9)}
	if !reflect.DeepEqual(r.Spans, want) {
		t.Errorf("runs are %v, want %v", r.Spans, want)
	}
	if at := drainmark.NewReceipt(deployment, issued.Add(999*time.Millisecond)).IssuedAt; !at.Equal(issued) {
		t.Errorf("issued at %v, want whole seconds: %v", at, issued)
	}
}

func genReceipt() *rapid.Generator[drainmark.Receipt] {
	genRun := rapid.Custom(func(t *rapid.T) drainmark.Span {
		first := rapid.Uint64Range(1, math.MaxInt64-100).Draw(t, "first")
		if rapid.Bool().Draw(t, "small") {
			first = first%50 + 1
		}
		return span(rapid.IntRange(0, 8).Draw(t, "partition"), rapid.SampledFrom([]drainmark.ProducerID{producerA, producerB, {}}).Draw(t, "producer"),
			first, first+rapid.Uint64Range(0, 100).Draw(t, "more"))
	})
	return rapid.Custom(func(t *rapid.T) drainmark.Receipt {
		at := issued.Add(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "seconds")) * time.Second)
		r := drainmark.NewReceipt(deployment, at, rapid.SliceOfN(genRun, 1, drainmark.MaxReceiptSpans).Draw(t, "runs")...)
		for _, span := range r.Spans {
			if rapid.Bool().Draw(t, "fence") {
				if r.Tokens == nil {
					r.Tokens = map[int]uint64{}
				}
				r.Tokens[span.Partition] = rapid.Uint64().Draw(t, "epoch")
			}
			if rapid.Bool().Draw(t, "dated") {
				if r.Clocks == nil {
					r.Clocks = map[int]time.Duration{}
				}
				r.Clocks[span.Partition] = time.Duration(rapid.IntRange(0, 1e9).Draw(t, "clock")) * time.Second
			}
		}
		return r
	})
}

func TestReceiptRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := genReceipt().Draw(t, "receipt")
		parsed, err := drainmark.ParseReceipt(r.String())
		if err != nil || !reflect.DeepEqual(parsed, r) {
			t.Fatalf("parsed %+v, error %v\nwant %+v", parsed, err, r)
		}
	})
}

// covers says whether a receipt asks for all marks of a span.
func covers(r drainmark.Receipt, wanted drainmark.Span) bool {
	for _, have := range r.Spans {
		if have.Partition == wanted.Partition && have.Producer == wanted.Producer && have.First <= wanted.First && wanted.Last <= have.Last {
			return true
		}
	}
	return false
}

func TestMergedReceiptsAskForBothAndParse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genReceipt().Draw(t, "a"), genReceipt().Draw(t, "b")
		beforeA, beforeB := a.String(), b.String()
		merged, err := a.Merge(b)
		if err != nil {
			t.Fatal(err) // 9 partitions and 3 producers: it always fits
		}
		for _, wanted := range append(append([]drainmark.Span{}, a.Spans...), b.Spans...) {
			if !covers(merged, wanted) {
				t.Fatalf("%v does not ask for %v", merged.Spans, wanted)
			}
		}
		if parsed, err := drainmark.ParseReceipt(merged.String()); err != nil || !reflect.DeepEqual(parsed, merged) {
			t.Fatalf("parsed %+v, error %v\nwant %+v", parsed, err, merged)
		}
		other, err := b.Merge(a)
		if err != nil || other.String() != merged.String() {
			t.Fatalf("merged the other way round: %+v, error %v\nwant %+v", other, err, merged)
		}
		if a.String() != beforeA || b.String() != beforeB {
			t.Fatal("Merge changed what it merged")
		}
	})
}

func TestMerge(t *testing.T) {
	t.Parallel()
	scattered := func(n int, from uint64) []drainmark.Span {
		var spans []drainmark.Span
		for i := range n {
			spans = append(spans, span(0, producerA, from+uint64(2*i), from+uint64(2*i)))
		}
		return spans
	}
	t.Run("the earlier time counts", func(t *testing.T) {
		t.Parallel()
		later := drainmark.NewReceipt(deployment, issued.Add(time.Hour), span(0, producerA, 1, 1))
		for _, pair := range [][2]drainmark.Receipt{{later, receiptOf(span(1, producerA, 1, 1))}, {receiptOf(span(1, producerA, 1, 1)), later}} {
			if merged, err := pair[0].Merge(pair[1]); err != nil || !merged.IssuedAt.Equal(issued) {
				t.Errorf("issued at %v, error %v, want %v", merged.IssuedAt, err, issued)
			}
		}
	})
	t.Run("receipts of two deployments do not merge", func(t *testing.T) {
		t.Parallel()
		other := drainmark.NewReceipt(drainmark.DeploymentID{9}, issued, span(0, producerA, 1, 1))
		if _, err := receiptOf(span(0, producerA, 1, 1)).Merge(other); drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
			t.Errorf("error %v, want one of KindInvalidReceipt", err)
		}
	})
	t.Run("64 runs stay as they are", func(t *testing.T) {
		t.Parallel()
		merged, err := receiptOf(scattered(32, 1)...).Merge(receiptOf(scattered(32, 1001)...))
		if err != nil || len(merged.Spans) != 64 {
			t.Errorf("%d runs, error %v, want 64", len(merged.Spans), err)
		}
	})
	t.Run("65 runs of one producer become one over what lies between", func(t *testing.T) {
		t.Parallel()
		merged, err := receiptOf(scattered(64, 1)...).Merge(receiptOf(span(0, producerA, 1001, 1002)))
		if want := []drainmark.Span{span(0, producerA, 1, 1002)}; err != nil || !reflect.DeepEqual(merged.Spans, want) {
			t.Errorf("runs %v, error %v, want %v", merged.Spans, err, want)
		}
	})
	t.Run("runs of 65 producers are too many", func(t *testing.T) {
		t.Parallel()
		var spans []drainmark.Span
		for i := range 64 {
			spans = append(spans, span(0, drainmark.ProducerID{byte(i)}, 1, 1))
		}
		if _, err := receiptOf(spans...).Merge(receiptOf(span(0, producerA, 1, 1))); drainmark.KindOf(err) != drainmark.KindTooLarge {
			t.Errorf("error %v, want one of KindTooLarge", err)
		}
	})
	t.Run("an epoch stays if both say it or only one does, and two different ones become 0", func(t *testing.T) {
		t.Parallel()
		a, b := receiptOf(span(0, producerA, 1, 1), span(1, producerA, 1, 1), span(2, producerA, 1, 1)), receiptOf(span(1, producerA, 2, 2), span(2, producerA, 1, 1))
		a.Tokens, b.Tokens = map[int]uint64{0: 5, 1: 6, 2: 7}, map[int]uint64{1: 66, 2: 7}
		merged, err := a.Merge(b)
		if want := map[int]uint64{0: 5, 1: 0, 2: 7}; err != nil || !reflect.DeepEqual(merged.Tokens, want) {
			t.Errorf("epochs %v, error %v, want %v", merged.Tokens, err, want)
		}
		again, err := merged.Merge(a)
		if want := map[int]uint64{0: 5, 1: 0, 2: 7}; err != nil || !reflect.DeepEqual(again.Tokens, want) {
			t.Errorf("merged once more: epochs %v, error %v, want %v", again.Tokens, err, want)
		}
	})
}

func TestMergedClocks(t *testing.T) {
	t.Parallel()
	dated := func(r drainmark.Receipt, clocks map[int]time.Duration) drainmark.Receipt {
		r.Clocks = clocks
		return r
	}
	both := receiptOf(span(0, producerA, 1, 1), span(1, producerA, 1, 1))
	other := receiptOf(span(0, producerB, 1, 1))
	for name, c := range map[string]struct{ a, b, want map[int]time.Duration }{
		"the later one of both counts":                       {map[int]time.Duration{0: time.Hour, 1: time.Minute}, map[int]time.Duration{0: 2 * time.Hour}, map[int]time.Duration{0: 2 * time.Hour, 1: time.Minute}},
		"one of a partition that the other knows not counts": {map[int]time.Duration{1: time.Minute}, map[int]time.Duration{0: time.Hour}, map[int]time.Duration{1: time.Minute}},
		"none is known": {nil, nil, nil},
	} {
		for _, pair := range [][2]drainmark.Receipt{{dated(both, c.a), dated(other, c.b)}, {dated(other, c.b), dated(both, c.a)}} {
			merged, err := pair[0].Merge(pair[1])
			if err != nil || !reflect.DeepEqual(merged.Clocks, c.want) {
				t.Errorf("%s: %v, error %v, want %v", name, merged.Clocks, err, c.want)
			}
		}
	}
}

func TestMaxReceiptTextBoundsTheLargestReceipt(t *testing.T) {
	t.Parallel()
	largest := drainmark.Receipt{Deployment: deployment, IssuedAt: time.Unix(1<<40, 0).UTC(), Tokens: map[int]uint64{}, Clocks: map[int]time.Duration{}}
	for i := range drainmark.MaxReceiptSpans {
		partition := math.MaxInt32 - drainmark.MaxReceiptSpans + 1 + i
		largest.Spans = append(largest.Spans, span(partition, drainmark.ProducerID{byte(i)}, 1<<62, math.MaxInt64))
		largest.Tokens[partition] = math.MaxUint64
		largest.Clocks[partition] = (math.MaxInt64 / time.Second) * time.Second
	}
	text := largest.String()
	if len(text) > drainmark.MaxReceiptText {
		t.Errorf("the largest receipt has %d characters, MaxReceiptText is %d", len(text), drainmark.MaxReceiptText)
	}
	if parsed, err := drainmark.ParseReceipt(text); err != nil || !reflect.DeepEqual(parsed, largest) {
		t.Errorf("the largest receipt does not come back: error %v", err)
	}
	if _, err := drainmark.ParseReceipt(strings.Repeat("A", drainmark.MaxReceiptText+1)); drainmark.KindOf(err) != drainmark.KindInvalidReceipt ||
		!strings.Contains(err.Error(), "at most 6200") {
		t.Errorf("a longer text: error %v, want one of KindInvalidReceipt that names the limit", err)
	}
}

func TestReceiptCheck(t *testing.T) {
	t.Parallel()
	r := receiptOf(span(0, producerA, 1, 1), span(3, producerA, 1, 1))
	if err := r.Check(deployment, 4); err != nil {
		t.Errorf("4 partitions: %v", err)
	}
	if err := r.Check(deployment, 3); drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
		t.Errorf("3 partitions: error %v, want one of KindInvalidReceipt", err)
	}
	if err := r.Check(drainmark.DeploymentID{}, 4); drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
		t.Errorf("another deployment: error %v, want one of KindInvalidReceipt", err)
	}
}

func TestDamagedReceiptsAreRefused(t *testing.T) {
	t.Parallel()
	refused := func(text, what string, at int) {
		if _, err := drainmark.ParseReceipt(text); drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
			t.Errorf("%s at %d: error %v, want one of KindInvalidReceipt", what, at, err)
		}
	}
	for bit := range 8 * len(goldenReceiptText) {
		flipped := []byte(goldenReceiptText)
		flipped[bit/8] ^= 1 << (bit % 8)
		refused(string(flipped), "a flipped bit", bit)
	}
	for n := range len(goldenReceiptText) {
		refused(goldenReceiptText[:n], "cut off", n)
		refused(goldenReceiptText[n+1:], "begun late", n)
		refused(goldenReceiptText[:n]+"\n"+goldenReceiptText[n:], "a line break", n)
	}
	refused(goldenReceiptText+"=", "padding", len(goldenReceiptText))
}

// receiptText is the text of a receipt with these bytes behind its version, deployment and time.
func receiptText(rest ...byte) string {
	body := append(append([]byte{2}, deployment[:]...), 100)
	return base64.RawURLEncoding.EncodeToString(withSum(append(append(body, rest...), 0)))
}

func TestMalformedReceiptsWithARightChecksumAreRefused(t *testing.T) {
	t.Parallel()
	one := append(append([]byte{0, 0}, producerA[:]...), 7, 0) // partition 0, producer, sequence 7
	runs := func(n byte, all ...[]byte) []byte {
		b := []byte{n}
		for _, run := range all {
			b = append(b, run...)
		}
		return b
	}
	same := []byte{0, 1, 9, 0} // sequence 9 of the producer before
	cases := map[string][]byte{
		"no runs":                                 {0, 0},
		"65 runs":                                 append([]byte{65}, make([]byte, 2000)...),
		"a run that is missing":                   append(runs(2, one), 0),
		"bytes behind the end":                    append(runs(1, one), 0, 0),
		"sequence 0":                              append(runs(1, append(append([]byte{0, 0}, producerA[:]...), 0, 0)), 0),
		"an unknown flag":                         append(runs(1, append(append([]byte{0, 2}, producerA[:]...), 7, 0)), 0),
		"the same producer as none before":        append(runs(1, same), 0),
		"a producer written twice":                append(runs(2, one, append(append([]byte{0, 0}, producerA[:]...), 9, 0)), 0),
		"runs out of order":                       append(runs(2, one, []byte{0, 1, 5, 0}), 0),
		"runs that touch":                         append(runs(2, one, []byte{0, 1, 8, 0}), 0),
		"an integer longer than it need be":       append(runs(1, append(append([]byte{0x80, 0, 0}, producerA[:]...), 7, 0)), 0),
		"an epoch of a partition without a run":   append(append(runs(1, one), 1, 1), 1, 0, 0, 0, 0, 0, 0, 0),
		"an epoch that is cut off":                append(append(runs(1, one), 1, 0), 1, 0, 0),
		"two epochs of one partition":             append(append(runs(1, one), 2, 0, 1, 0, 0, 0, 0, 0, 0, 0), 0, 1, 0, 0, 0, 0, 0, 0, 0),
		"a clock of a partition without a run":    append(append(runs(1, one), 0, 1, 1), 7),
		"two clocks of one partition":             append(runs(1, one), 0, 2, 0, 7, 0),
		"a last sequence above the highest":       append(runs(1, append(binary.AppendUvarint(append([]byte{0, 0}, producerA[:]...), math.MaxInt64), 1)), 0),
		"more epochs than a receipt can have":     append(runs(1, one), 65),
		"a partition above 2^31-1":                append(runs(1, append(append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, producerA[:]...), 7, 0)), 0),
		"a partition that is out of order (high)": append(runs(2, append(append([]byte{1, 0}, producerA[:]...), 7, 0), same), 0),
	}
	for name, rest := range cases {
		if r, err := drainmark.ParseReceipt(receiptText(rest...)); drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
			t.Errorf("%s: %+v, error %v, want one of KindInvalidReceipt", name, r, err)
		}
	}
	// Their twins: nothing about these bytes but the faults above was wrong.
	for name, rest := range map[string][]byte{
		"one run":   append(runs(1, one), 0),
		"two runs":  append(runs(2, one, same), 0),
		"one epoch": append(append(runs(1, one), 1, 0), 1, 0, 0, 0, 0, 0, 0, 0),
	} {
		if _, err := drainmark.ParseReceipt(receiptText(rest...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseReceipt parses any text, and any bytes with the right checksum behind them: what parses has that one text,
// and merges with another receipt into one that parses.
func FuzzParseReceipt(f *testing.F) {
	f.Add([]byte(goldenReceiptText))
	golden, err := base64.RawURLEncoding.DecodeString(goldenReceiptText)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden[:len(golden)-4])
	small := receiptOf(span(0, producerA, 1, 1)).String()
	f.Add([]byte(small))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, text := range []string{string(data), base64.RawURLEncoding.EncodeToString(withSum(data))} {
			r, err := drainmark.ParseReceipt(text)
			if err != nil {
				if drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
					t.Errorf("error of kind %s: %v", drainmark.KindOf(err), err)
				}
				continue
			}
			if again := r.String(); again != text {
				t.Errorf("%q parses, and then has the text %q", text, again)
			}
			other := goldenReceipt()
			other.Deployment = r.Deployment
			merged, err := r.Merge(other)
			if drainmark.KindOf(err) == drainmark.KindTooLarge {
				continue
			}
			if parsed, err := drainmark.ParseReceipt(merged.String()); err != nil || !reflect.DeepEqual(parsed, merged) {
				t.Errorf("%+v merged does not parse: %+v, error %v", merged, parsed, err)
			}
		}
	})
}

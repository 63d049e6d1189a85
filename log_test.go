package drainmark_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
)

func TestLogNames(t *testing.T) {
	t.Parallel()
	allowed := regexp.MustCompile(`\A[a-z0-9][a-z0-9._-]{0,127}\z`)
	names := []string{
		"guestbook", "a", "0", "a.b_c-d", strings.Repeat("x", drainmark.MaxLogName),
		"", ".a", "-a", "_a", "A", "aB", "a b", "a/b", "a\n", "ä", "aä", "a\x00", strings.Repeat("x", drainmark.MaxLogName+1),
	}
	check := func(name string) error {
		err := drainmark.CheckLogName(name)
		if valid := allowed.MatchString(name); valid != (err == nil) {
			return fmt.Errorf("%q: error %v, the pattern says %v", name, err, valid)
		}
		if err != nil && drainmark.KindOf(err) != drainmark.KindInvalid {
			return fmt.Errorf("%q: error of kind %s", name, drainmark.KindOf(err))
		}
		return nil
	}
	for c := range 256 {
		names = append(names, string([]byte{byte(c)}), string([]byte{'a', byte(c)}))
	}
	for _, name := range names {
		if err := check(name); err != nil {
			t.Error(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(`[a-z0-9._-]{0,130}`), rapid.String()).Draw(t, "name")
		if err := check(name); err != nil {
			t.Fatal(err)
		}
	})
}

// A log's partition is fixed for ever: with another hash a deployment's logs would be looked for where they are not.
func TestPartitionsNeverChange(t *testing.T) {
	t.Parallel()
	golden := []struct {
		log                       string
		of1, of4, of7, of16, of64 int
	}{
		{"guestbook", 0, 2, 1, 10, 58},
		{"drainmark-verify", 0, 2, 5, 10, 58},
		{"a", 0, 0, 1, 0, 0},
		{"0", 0, 3, 2, 3, 35},
		{"tenant.42_orders-eu", 0, 0, 4, 12, 12},
		{strings.Repeat("x", drainmark.MaxLogName), 0, 3, 2, 3, 51},
	}
	for _, g := range golden {
		for n, want := range map[int]int{1: g.of1, 4: g.of4, 7: g.of7, 16: g.of16, 64: g.of64} {
			if got := drainmark.PartitionOf(g.log, n); got != want {
				t.Errorf("PartitionOf(%.20q, %d) is %d, and was %d", g.log, n, got, want)
			}
		}
	}
}

// Names that people really give: numbered, in steps, hexadecimal, and such that say a thing twice.
func TestLogsSpreadEvenly(t *testing.T) {
	t.Parallel()
	const logs = 4096
	for _, format := range []string{"room-%d", "order-%[2]d", "tenant.%05d", "%08[3]x", "user-%d-%[1]d", "%[2]d.%[2]d_x"} {
		for _, n := range []int{2, 3, 4, 8, 16} {
			counts := make([]int, n)
			for i := range logs {
				name := strings.Split(fmt.Sprintf(format+"%%!", i, i*20, uint32(i)*2654435761), "%!")[0]
				counts[drainmark.PartitionOf(name, n)]++
			}
			for partition, count := range counts {
				if mean := logs / n; count < mean*3/4 || count > mean*5/4 {
					t.Errorf("%s: partition %d of %d has %d of %d logs, the mean is %d", format, partition, n, count, logs, mean)
				}
			}
		}
	}
}

func TestMarksAndRunsAsText(t *testing.T) {
	t.Parallel()
	m := drainmark.Mark{Partition: 3, Producer: producerA, Sequence: 42}
	const text = "3-a00102030405060708090a0b0c0d0e0f-42"
	if m.String() != text {
		t.Errorf("the mark is %q, want %q", m, text)
	}
	r := span(3, producerA, 42, 50)
	if r.String() != text+"..50" {
		t.Errorf("the run is %q, want %q", r, text+"..50")
	}
	if drainmark.SpanOf(m) != span(3, producerA, 42, 42) {
		t.Errorf("RunOf gives %v", drainmark.SpanOf(m))
	}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Min(1).Draw(t, "sequence")
		r := span(rapid.IntRange(0, 1<<31-1).Draw(t, "partition"), producerB, first, rapid.Uint64Min(first).Draw(t, "last"))
		if got, err := drainmark.ParseSpan(r.String()); err != nil || got != r {
			t.Fatalf("ParseRun(%q) is %v, error %v", r, got, err)
		}
		m := drainmark.Mark{Partition: r.Partition, Producer: r.Producer, Sequence: r.First}
		if got, err := drainmark.ParseMark(m.String()); err != nil || got != m {
			t.Fatalf("ParseMark(%q) is %v, error %v", m, got, err)
		}
	})
}

func TestOtherTextsAreNoMarks(t *testing.T) {
	t.Parallel()
	const producer = "a00102030405060708090a0b0c0d0e0f"
	for _, text := range []string{
		"", "-", "--", "3-" + producer, "3-" + producer + "-0", "3-" + producer + "--1", "3-" + producer + "-42-1", "03-" + producer + "-42",
		"3-" + producer + "-042", "3-" + strings.ToUpper(producer) + "-42", "3-" + producer[1:] + "-42", "3-" + producer + "-18446744073709551616",
		"2147483648-" + producer + "-1", "+3-" + producer + "-1", " 3-" + producer + "-1", "3-" + producer + "-1 ", "x-" + producer + "-1",
		"3-" + strings.Repeat("g", 32) + "-1",
	} {
		if m, err := drainmark.ParseMark(text); drainmark.KindOf(err) != drainmark.KindInvalid {
			t.Errorf("ParseMark(%q) is %v, error %v, want one of KindInvalid", text, m, err)
		}
	}
	for _, text := range []string{
		"3-" + producer + "-2", "3-" + producer + "-2..", "3-" + producer + "-2..1", "3-" + producer + "-2..03", "..3", "3-" + producer + "-0..1",
		"3-" + producer + "-2..3..4",
	} {
		if r, err := drainmark.ParseSpan(text); drainmark.KindOf(err) != drainmark.KindInvalid {
			t.Errorf("ParseRun(%q) is %v, error %v, want one of KindInvalid", text, r, err)
		}
	}
}

func TestProducerIDs(t *testing.T) {
	t.Parallel()
	a, b := drainmark.NewProducerID(), drainmark.NewProducerID()
	if a == b || a == (drainmark.ProducerID{}) {
		t.Errorf("fresh ids are %v and %v", a, b)
	}
	if got, err := drainmark.ParseProducerID(a.String()); err != nil || got != a {
		t.Errorf("ParseProducerID(%q) is %v, error %v", a, got, err)
	}
}

func TestLogInfoCounts(t *testing.T) {
	t.Parallel()
	if n := (drainmark.LogInfo{LastPosition: 10, ClearedThrough: 7}).Count(); n != 3 {
		t.Errorf("10 messages of which 7 are cleared: %d, want 3", n)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	inner := drainmark.Errorf(drainmark.KindNotFound, "looking for %d: %w", 7, io.EOF)
	if inner.Error() != "looking for 7: EOF" || !errors.Is(inner, io.EOF) {
		t.Errorf("the error is %q and unwraps to %v", inner, inner.Unwrap())
	}
	outer := drainmark.Errorf(drainmark.KindUnavailable, "asking: %w", inner)
	for _, c := range []struct {
		err  error
		want drainmark.Kind
	}{
		{nil, ""}, {io.EOF, drainmark.KindInternal}, {inner, drainmark.KindNotFound},
		{fmt.Errorf("wrapped: %w", inner), drainmark.KindNotFound}, {outer, drainmark.KindUnavailable},
	} {
		if got := drainmark.KindOf(c.err); got != c.want {
			t.Errorf("KindOf(%v) is %q, want %q", c.err, got, c.want)
		}
	}
}

// JSON logs are for people too: ids are their texts.
func TestIDsInLogs(t *testing.T) {
	t.Parallel()
	producer := drainmark.NewProducerID()
	span := drainmark.Span{Partition: 1, Producer: producer, First: 2, Last: 3}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("x", "producer", producer, "run", span, "runs", []drainmark.Span{span})
		if n := strings.Count(b.String(), producer.String()); n != 3 {
			t.Errorf("%s: %s", name, b.String())
		}
	}
}

package sqlite

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
)

func TestRangesComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var ranges drainmark.Ranges
		for range rapid.IntRange(0, 20).Draw(t, "ranges") {
			first := rapid.Uint64Range(1, math.MaxInt64).Draw(t, "first")
			ranges = ranges.Add(first, first+rapid.Uint64Range(0, math.MaxInt64-first).Draw(t, "length"))
		}
		got, err := parseRanges(formatRanges(ranges))
		if err != nil || !slices.Equal(got, ranges) {
			t.Fatalf("%v came back as %v, error %v", ranges, got, err)
		}
	})
}

func TestBadRangesAreReported(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"x", "1", "1-", "-1", "1-2,", "1-2,x-3", "1-99999999999999999999"} {
		if got, err := parseRanges(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

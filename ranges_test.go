package drainmark_test

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
)

// model is the plainest set of sequences that there can be. Its methods do what those of Ranges say.
type model map[uint64]bool

func (m model) add(first, last uint64) {
	for s := first; s <= last; s++ {
		m[s] = true
	}
}

func (m model) count(first, last uint64) uint64 {
	var n uint64
	for s := first; s <= last; s++ {
		if m[s] {
			n++
		}
	}
	return n
}

// ranges returns the sequences from first to last that are in the set (or, if not in, that are not), as ranges.
func (m model) ranges(first, last uint64, in bool) drainmark.Ranges {
	var out drainmark.Ranges
	for s := first; s <= last; s++ {
		if m[s] != in {
			continue
		}
		if n := len(out) - 1; n >= 0 && out[n].Last+1 == s {
			out[n].Last = s
		} else {
			out = append(out, drainmark.Range{First: s, Last: s})
		}
	}
	return out
}

func (m model) max() uint64 {
	var highest uint64
	for s := range m {
		highest = max(highest, s)
	}
	return highest
}

func TestRangesAreASet(t *testing.T) {
	t.Parallel()
	const most = 60
	rapid.Check(t, func(t *rapid.T) {
		var s drainmark.Ranges
		m := model{}
		for range rapid.IntRange(0, 25).Draw(t, "additions") {
			first := rapid.Uint64Range(1, most).Draw(t, "first")
			last := min(most, first+rapid.Uint64Range(0, 6).Draw(t, "more"))
			before, kept := s, slices.Clone(s)
			s = s.Add(first, last)
			m.add(first, last)
			if !slices.Equal(before, kept) {
				t.Fatalf("Add(%d, %d) changed its receiver from %v to %v", first, last, kept, before)
			}
		}
		if want := m.ranges(1, most, true); !slices.Equal(s, want) {
			t.Fatalf("the set is %v, want %v", s, want)
		}
		if s.Max() != m.max() {
			t.Fatalf("Max of %v is %d, want %d", s, s.Max(), m.max())
		}
		if got, want := s.Gaps(), m.ranges(1, m.max(), false); !slices.Equal(got, want) {
			t.Fatalf("Holes of %v is %v, want %v", s, got, want)
		}
		first := rapid.Uint64Range(1, most+5).Draw(t, "from")
		last := rapid.Uint64Range(first, most+5).Draw(t, "to")
		in := m.count(first, last)
		if got, want := s.Contains(first, last), in == last-first+1; got != want {
			t.Fatalf("Contains(%d, %d) of %v is %v", first, last, s, got)
		}
		if got, want := s.Overlaps(first, last), in > 0; got != want {
			t.Fatalf("Overlaps(%d, %d) of %v is %v", first, last, s, got)
		}
		if got, want := s.Count(last), m.count(1, last); got != want {
			t.Fatalf("Count(%d) of %v is %d, want %d", last, s, got, want)
		}
		if got, want := s.Minus(first, last), m.ranges(first, last, false); !slices.Equal(got, want) {
			t.Fatalf("Minus(%d, %d) of %v is %v, want %v", first, last, s, got, want)
		}
	})
}

func TestNothingIsAddedOrLeftOfAnEmptyRange(t *testing.T) {
	t.Parallel()
	s := drainmark.Ranges{{First: 3, Last: 5}}
	if got := s.Add(9, 8); !slices.Equal(got, s) {
		t.Errorf("Add(9, 8) gives %v, want %v", got, s)
	}
	if got := s.Minus(9, 8); len(got) != 0 {
		t.Errorf("Minus(9, 8) is %v, want nothing", got)
	}
}

// Two sets made of one must not share the memory behind its end.
func TestSetsMadeOfOneSetStayApart(t *testing.T) {
	t.Parallel()
	base := drainmark.Ranges(nil).Add(1, 1).Add(3, 3).Add(5, 5)
	a, b := base.Add(7, 7), base.Add(9, 9)
	want := drainmark.Ranges{{First: 1, Last: 1}, {First: 3, Last: 3}, {First: 5, Last: 5}, {First: 7, Last: 7}}
	if !slices.Equal(a, want) || b.Max() != 9 || base.Max() != 5 {
		t.Errorf("the sets are %v, %v and %v", base, a, b)
	}
}

func BenchmarkRangesAddNext(b *testing.B) {
	b.ReportAllocs()
	s := drainmark.Ranges{{First: 1, Last: 1000}}
	for b.Loop() {
		s = s.Add(s.Max()+1, s.Max()+1000)
	}
}

func progressOf(producers map[drainmark.ProducerID]drainmark.Ranges) drainmark.Progress {
	p := drainmark.Progress{Partition: 2, Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{}}
	for id, done := range producers {
		p.Producers[id] = drainmark.ProducerProgress{Done: done}
	}
	return p
}

func TestProgress(t *testing.T) {
	t.Parallel()
	p := progressOf(map[drainmark.ProducerID]drainmark.Ranges{
		producerA: {{First: 1, Last: 10}},
		producerB: {{First: 3, Last: 4}, {First: 8, Last: 8}},
	})
	t.Run("it holds a run only whole", func(t *testing.T) {
		t.Parallel()
		for r, want := range map[drainmark.Span]bool{
			span(2, producerA, 1, 10):              true,
			span(2, producerA, 10, 10):             true,
			span(2, producerA, 10, 11):             false,
			span(2, producerB, 3, 8):               false,
			span(2, producerB, 8, 8):               true,
			span(2, producerB, 1, 1):               false,
			span(2, drainmark.ProducerID{7}, 1, 1): false,
		} {
			if p.Holds(r) != want {
				t.Errorf("Holds(%v) is %v", r, !want)
			}
		}
	})
	t.Run("what holds nothing holds no run", func(t *testing.T) {
		t.Parallel()
		if (drainmark.Progress{}).Holds(span(0, producerA, 1, 1)) {
			t.Error("the zero progress holds a run")
		}
	})
	t.Run("the next sequence is behind the highest", func(t *testing.T) {
		t.Parallel()
		if a, b, none := p.Next(producerA), p.Next(producerB), p.Next(drainmark.ProducerID{7}); a != 11 || b != 9 || none != 1 {
			t.Errorf("next are %d, %d and %d, want 11, 9 and 1", a, b, none)
		}
	})
	t.Run("what is missing is what lies before something persisted", func(t *testing.T) {
		t.Parallel()
		want := []drainmark.Span{span(2, producerB, 1, 2), span(2, producerB, 5, 7)}
		if got := p.Missing(); !reflect.DeepEqual(got, want) {
			t.Errorf("missing are %v, want %v", got, want)
		}
	})
	t.Run("With replaces entries and leaves its receiver as it is", func(t *testing.T) {
		t.Parallel()
		changed := p.With(map[drainmark.ProducerID]drainmark.ProducerProgress{producerB: {Done: drainmark.Ranges{{First: 1, Last: 20}}}})
		if !changed.Holds(span(2, producerB, 1, 20)) || !changed.Holds(span(2, producerA, 1, 10)) || changed.Partition != 2 {
			t.Errorf("With gives %+v", changed)
		}
		if p.Holds(span(2, producerB, 1, 20)) || len(p.Producers) != 2 {
			t.Errorf("the receiver became %+v", p)
		}
	})
}

func TestVersionIncludes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name           string
		later, earlier drainmark.Version
		want           bool
	}{
		{"itself", drainmark.Version{Token: 5, Revision: 9}, drainmark.Version{Token: 5, Revision: 9}, true},
		{"nothing yet, nothing yet", drainmark.Version{}, drainmark.Version{}, true},
		{"an earlier revision of its epoch", drainmark.Version{Token: 5, Revision: 9}, drainmark.Version{Token: 5, Revision: 8}, true},
		{"a later revision of its epoch", drainmark.Version{Token: 5, Revision: 9}, drainmark.Version{Token: 5, Revision: 10}, false},
		{"an earlier revision of another epoch", drainmark.Version{Token: 5, Revision: 9}, drainmark.Version{Token: 6, Revision: 8}, false},
		{"the same revision of another epoch", drainmark.Version{Token: 5, Revision: 9}, drainmark.Version{Token: 4, Revision: 9}, false},
	}
	for _, c := range cases {
		if got := c.later.Includes(c.earlier); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestRangesComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var ranges drainmark.Ranges
		for range rapid.IntRange(0, 20).Draw(t, "ranges") {
			first := rapid.Uint64Range(1, math.MaxInt64).Draw(t, "first")
			ranges = ranges.Add(first, first+rapid.Uint64Range(0, math.MaxInt64-first).Draw(t, "length"))
		}
		got, err := drainmark.ParseRanges(ranges.String())
		if err != nil || !slices.Equal(got, ranges) {
			t.Fatalf("%v came back as %v, error %v", ranges, got, err)
		}
	})
}

func TestBadRangesAreReported(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"x", "1", "1-", "-1", "1-2,", "1-2,x-3", "1-99999999999999999999"} {
		if got, err := drainmark.ParseRanges(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

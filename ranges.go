package drainmark

import (
	"slices"
	"strconv"
	"strings"
)

// Range is the sequences First to Last, both included.
type Range struct{ First, Last uint64 }

// Ranges is a set of sequences as sorted ranges that neither touch nor overlap, normally one range. The zero value is
// the empty set. Its methods never change the receiver, so a copy can be handed to anybody.
type Ranges []Range

// Contains says whether all of first to last are in the set.
func (s Ranges) Contains(first, last uint64) bool {
	i := s.find(first)
	return i < len(s) && s[i].First <= first && last <= s[i].Last
}

// Overlaps says whether any of first to last is in the set.
func (s Ranges) Overlaps(first, last uint64) bool {
	i := s.find(first)
	return i < len(s) && s[i].First <= last
}

// find returns the index of the first range that ends at or after sequence.
func (s Ranges) find(sequence uint64) int {
	// Nearly always the set is one range, or it is the last one that is asked for.
	if n := len(s); n > 0 && sequence >= s[n-1].First {
		if sequence <= s[n-1].Last {
			return n - 1
		}
		return n
	}
	i, _ := slices.BinarySearchFunc(s, sequence, func(r Range, sequence uint64) int {
		if r.Last < sequence {
			return -1
		}
		return 1
	})
	return i
}

// Add returns the set with first to last added.
func (s Ranges) Add(first, last uint64) Ranges {
	if first > last || s.Contains(first, last) {
		return s
	}
	out := make(Ranges, 0, len(s)+1)
	added := Range{first, last}
	i := 0
	for ; i < len(s) && s[i].Last+1 < first; i++ {
		out = append(out, s[i])
	}
	for ; i < len(s) && s[i].First <= last+1; i++ {
		added.First = min(added.First, s[i].First)
		added.Last = max(added.Last, s[i].Last)
	}
	out = append(out, added)
	return append(out, s[i:]...)
}

// Max returns the highest sequence in the set, 0 for the empty set.
func (s Ranges) Max() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].Last
}

// Count returns how many sequences up to and including limit are in the set.
func (s Ranges) Count(limit uint64) uint64 {
	var n uint64
	for _, r := range s {
		if r.First > limit {
			break
		}
		n += min(r.Last, limit) - r.First + 1
	}
	return n
}

// Gaps returns the sequences from 1 to Max that are not in the set.
func (s Ranges) Gaps() Ranges {
	var gaps Ranges
	next := uint64(1)
	for _, r := range s {
		if r.First > next {
			gaps = append(gaps, Range{next, r.First - 1})
		}
		next = r.Last + 1
	}
	return gaps
}

// Minus returns the part of first to last that is not in the set.
func (s Ranges) Minus(first, last uint64) Ranges {
	if first > last {
		return nil
	}
	var out Ranges
	for i := s.find(first); i < len(s) && s[i].First <= last; i++ {
		if s[i].First > first {
			out = append(out, Range{first, s[i].First - 1})
		}
		if s[i].Last >= last {
			return out
		}
		first = s[i].Last + 1
	}
	return append(out, Range{first, last})
}

// String writes the set as 1-500,502-900, "" if it is empty.
func (s Ranges) String() string { return string(s.AppendText(nil)) }

// AppendText appends what String writes.
func (s Ranges) AppendText(dst []byte) []byte {
	for i, r := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, r.First, 10)
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, r.Last, 10)
	}
	return dst
}

// ParseRanges reads what Ranges.String wrote.
func ParseRanges(text string) (Ranges, error) {
	if text == "" {
		return nil, nil
	}
	ranges := make(Ranges, 0, 1+strings.Count(text, ","))
	for part := range strings.SplitSeq(text, ",") {
		first, last, _ := strings.Cut(part, "-")
		from, err := strconv.ParseUint(first, 10, 64)
		to, bad := strconv.ParseUint(last, 10, 64)
		if err != nil || bad != nil {
			return nil, Errorf(KindInvalid, "%q is no range of sequences", part)
		}
		ranges = append(ranges, Range{First: from, Last: to})
	}
	return ranges, nil
}

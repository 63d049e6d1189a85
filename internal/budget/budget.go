// Package budget bounds what many requests hold at once.
package budget

import "sync/atomic"

// Budget is a number of bytes, or of anything else, that is taken from and given back to. Its methods may be called
// concurrently.
type Budget struct {
	limit   int64
	used    atomic.Int64
	refused atomic.Int64 // what the caller refused last would hold, 0 if somebody got something since
}

// New returns a budget of so much, which must be above 0.
func New(limit int64) *Budget { return &Budget{limit: limit} }

// Take takes n, all or nothing, and says whether there was so much.
func (b *Budget) Take(n int64) bool { return b.Grow(0, n) }

// Grow takes what is missing from has, which was taken before, to wants. All or nothing, as Take.
func (b *Budget) Grow(has, wants int64) bool {
	n := wants - has
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		if wants <= b.limit { // a size that never fits says nothing about others
			b.refused.Store(wants)
		}
		return false
	}
	if b.refused.Load() != 0 { // a store at each call would have all processors wait for one another
		b.refused.Store(0)
	}
	return true
}

// Give gives back n that was taken.
func (b *Budget) Give(n int64) { b.used.Add(-n) }

// Used returns how much is taken now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit returns how much there is in all.
func (b *Budget) Limit() int64 { return b.limit }

// Full says whether the newest request was refused, and would be still after it has given back what it had.
func (b *Budget) Full() bool {
	n := b.refused.Load()
	return n > 0 && b.used.Load()+n > b.limit
}

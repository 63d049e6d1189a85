package backend

import (
	"sync/atomic"

	"github.com/drainmark/drainmark"
)

// budget bounds the bytes that wait in all publishers of a backend.
type budget struct {
	limit   int64
	used    atomic.Int64
	refused atomic.Int64 // the bytes of the newest request if it was refused, else 0
}

func (b *budget) take(n int) bool {
	for {
		used := b.used.Load()
		if used+int64(n) > b.limit {
			if int64(n) <= b.limit { // a request that can never fit says nothing about others
				b.refused.Store(int64(n))
			}
			return false
		}
		if b.used.CompareAndSwap(used, used+int64(n)) {
			b.refused.Store(0)
			return true
		}
	}
}

func (b *budget) give(n int) { b.used.Add(int64(-n)) }

// full returns an error if the newest request was refused, and would be refused still.
func (b *budget) full() error {
	if n := b.refused.Load(); n > 0 && b.used.Load()+n > b.limit {
		return b.refusal()
	}
	return nil
}

func (b *budget) refusal() error {
	return drainmark.Errorf(drainmark.KindBacklogFull, "%d bytes wait to be published; the limit (waiting-bytes) is %d", b.used.Load(), b.limit)
}

package backend

import (
	"context"
	"sync/atomic"
	"time"
)

// shared is a read whose answer goes to all who asked before it began. So each answer is from after its question, and
// however many ask, reads do not overlap.
type shared[T any] struct {
	every time.Duration // between the beginnings of two reads, at least
	begun atomic.Uint64 // how many reads have begun
	turn  chan struct{} // holds one at a time, to whom the rest belongs

	last      time.Time // when a read began last
	succeeded uint64    // the number of the last one that succeeded
	answer    T         // its answer
}

func newShared[T any](every time.Duration) shared[T] {
	return shared[T]{every: every, turn: make(chan struct{}, 1)}
}

// ask returns the answer of a read that began after the call. A caller that fails, or runs out of time, leaves the read
// to the next one that waits.
func (s *shared[T]) ask(ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	var none T
	wanted := s.begun.Load() + 1
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return none, ctx.Err()
	}
	if s.succeeded >= wanted {
		return s.answer, nil
	}
	if pause := time.Until(s.last.Add(s.every)); pause > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	number := s.begun.Add(1)
	s.last = time.Now()
	answer, err := read(ctx)
	if err != nil {
		return none, err
	}
	s.succeeded, s.answer = number, answer
	return answer, nil
}

package planted

import (
	"slices"
	"sync/atomic"

	"github.com/drainmark/drainmark/effect"
)

// An effect that goes wrong now and then does so in one call of so many.
const oneCallIn = 20

// applyTwice breaks P2: now and then the last record of a call is applied once more, as if it had been delivered again and
// nobody knew that it was done. The log has it once.
func applyTwice(e effect.Effect) effect.Effect {
	var calls atomic.Uint64
	return e.Around(func(records []effect.Record, apply func([]effect.Record) error) error {
		if err := apply(records); err != nil || calls.Add(1)%oneCallIn != 0 {
			return err
		}
		return apply(records[len(records)-1:])
	})
}

// takeRollback breaks P1: now and then a call does nothing and is taken for one that has, as when the database answers
// ROLLBACK to a COMMIT. The records are done, and are in the log.
func takeRollback(e effect.Effect) effect.Effect {
	var calls atomic.Uint64
	return e.Around(func(records []effect.Record, apply func([]effect.Record) error) error {
		if calls.Add(1)%oneCallIn == 0 {
			return nil
		}
		return apply(records)
	})
}

// applyBackwards breaks P3: the records of a call are applied one by one, the last one first, as workers do that share them.
func applyBackwards(e effect.Effect) effect.Effect {
	return e.Around(func(records []effect.Record, apply func([]effect.Record) error) error {
		for i := range slices.Backward(records) {
			if err := apply(records[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	})
}

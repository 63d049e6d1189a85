package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// sweepStep is how many things of each kind one Sweep deletes at most.
const sweepStep = 500

// Sweep implements store.Store.
func (s *Store) Sweep(ctx context.Context, sweep store.Sweep) (more bool, err error) {
	doing := fmt.Sprintf("sweeping partition %d", sweep.Partition)
	err = s.update(ctx, doing, func(before *state) (*state, error) {
		w := sweeper{Sweep: sweep, left: sweepStep, state: *before, clock: before.partition(sweep.Partition).progress.Clock}
		w.logs()
		if p, ok := before.partitions.get(sweep.Partition); ok {
			w.partition = *p
			w.producers()
			w.letters()
			w.state = *w.state.withPartition(sweep.Partition, w.partition)
		}
		more = w.left == 0
		if w.left == sweepStep {
			return before, nil
		}
		return &w.state, nil
	})
	return more, err
}

type sweeper struct {
	store.Sweep
	state     state
	partition partition
	clock     time.Duration // the partition's
	left      int           // how many things it may still delete
}

// old says whether something of that time is older than a limit.
func (w *sweeper) old(at, limit time.Duration) bool {
	return limit > 0 && w.clock-at > limit
}

// logs drops cleared messages and old keys.
func (w *sweeper) logs() {
	for name, l := range w.state.logs.all() {
		if l.partition != w.Partition {
			continue
		}
		next := *l
		drop := min(int(l.ClearedThrough-l.dropped), w.left)
		next.messages = l.messages[drop:]
		next.dropped += uint64(drop)
		w.left -= drop
		for key, use := range l.keys.all() {
			if w.left > 0 && w.old(use.at, w.Keys) {
				next.keys = next.keys.without(key)
				w.left--
			}
		}
		w.state.logs = w.state.logs.with(name, &next)
	}
}

// letters drops discarded dead letters of producers that are forgotten or were never known.
func (w *sweeper) letters() {
	for ordinal, letter := range w.partition.letters.all() {
		if w.left == 0 {
			return
		}
		_, known := w.partition.progress.Producers[letter.Span.Producer]
		if letter.Discarded && !known && w.old(letter.at, w.Producers) {
			w.partition.letters = w.partition.letters.without(ordinal)
			w.partition.ordinals = w.partition.ordinals.without(letter.ID)
			w.left--
		}
	}
}

// producers forgets the progress of those producers that are named and have been silent.
func (w *sweeper) producers() {
	progress := w.partition.progress.With(nil)
	for _, id := range w.Forget {
		if producer, known := progress.Producers[id]; known && w.left > 0 && w.old(producer.LastAt, w.Producers) {
			delete(progress.Producers, id)
			w.left--
		}
	}
	w.partition.progress = progress
}

// Silent implements store.Store.
func (s *Store) Silent(ctx context.Context, partition int, age time.Duration) (silent []drainmark.ProducerID, err error) {
	err = s.update(ctx, fmt.Sprintf("asking who is silent in partition %d", partition), func(now *state) (*state, error) {
		progress := now.partition(partition).progress
		for id, producer := range progress.Producers {
			if progress.Clock-producer.LastAt > age {
				silent = append(silent, id)
			}
		}
		slices.SortFunc(silent, func(a, b drainmark.ProducerID) int {
			return cmp.Or(cmp.Compare(progress.Producers[a].LastAt, progress.Producers[b].LastAt), bytes.Compare(a[:], b[:]))
		})
		return now, nil
	})
	return silent[:min(len(silent), store.MaxSilent)], err
}

package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutSweeping = []promise{
	{"sweeping an unused partition finds nothing", func(w *world) {
		more, err := w.store.Sweep(w.ctx, store.Sweep{Partition: 3, Keys: time.Second, Producers: time.Second})
		w.must("sweeping", err)
		w.equal("whether there is more", more, false)
	}},

	{"sweeping takes away nothing that anybody can see", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.clear(log), w.append(log, "two"), w.keyed(log, "key", "three"))
		s.commit(setAside(0, "open", 1), discard(0, "discarded", 2))
		c := s.next()
		c.Producers[letterProducer] = drainmark.ProducerProgress{Done: drainmark.Ranges{{First: 1, Last: 2}}, LastAt: s.clock}
		s.put(c)
		s.tick(time.Hour)
		w.sweep(store.Sweep{Partition: 0, Keys: time.Hour, Producers: time.Hour})
		w.sameProgress(w.progressOf(0), s.progress)
		w.holds(log, 1, "two", "three")
		w.equal("how many were dropped for their key", s.commit(w.keyed(log, "key", "three")).KeyDuplicates, 1)
		w.equal("the dead letters", w.letterIDs(0), []string{"open"})
		w.equal("who is rejected", w.rejected(0, span(0, 1, 1), span(0, 2, 2)), []string{"open", "discarded"})
	}},

	{"sweeping goes by the partition's clock and by no other", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		var operations []store.Operation
		for _, d := range []time.Duration{-400 * 24 * time.Hour, 0, 400 * 24 * time.Hour} {
			op := w.keyed(log, fmt.Sprint("key ", d), "text")
			op.Record.AcceptedAt = w.now.Add(d)
			operations = append(operations, op)
			w.now = w.now.Add(d)
			s.commit(op, discard(0, fmt.Sprint("discarded ", d), 1))
		}
		w.sweep(store.Sweep{Partition: 0, Keys: time.Hour, Producers: time.Hour})
		w.sameProgress(w.progressOf(0), s.progress)
		w.equal("how many were dropped for their key", s.commit(operations...).KeyDuplicates, len(operations))
		for _, op := range operations {
			w.find(0, strings.Replace(op.Record.Key, "key", "discarded", 1))
		}
	}},

	{"sweeping what is older than 0 takes away nothing but what was cleared", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.keyed(log, "key", "one"), discard(0, "discarded", 1))
		s.tick(1000 * time.Hour)
		w.sweep(store.Sweep{Partition: 0})
		w.sameProgress(w.progressOf(0), s.progress)
		w.equal("how many were dropped for their key", s.commit(w.keyed(log, "key", "one")).KeyDuplicates, 1)
		w.find(0, "discarded")
	}},

	{"sweeping ends, in steps, however much was cleared", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		for i := range 4 {
			var operations []store.Operation
			for j := range 1500 {
				operations = append(operations, w.keyed(log, fmt.Sprint(i, " ", j), "cleared"))
			}
			s.commit(operations...)
		}
		s.tick(2 * time.Hour)
		s.commit(w.clear(log), w.append(log, "kept"))
		w.sweep(store.Sweep{Partition: 0, Keys: time.Hour, Producers: time.Hour})
		w.holds(log, 6000, "kept")
		s.commit(w.append(log, "next"))
		w.holds(log, 6000, "kept", "next")
	}},

	{"sweeping one partition leaves the others alone", func(w *world) {
		log := w.logIn(1)
		s := w.hold(1)
		w.hold(0).tick(2 * time.Hour)
		s.commit(w.keyed(log, "key", "one"), discard(1, "discarded", 1))
		s.tick(2 * time.Hour)
		w.sweep(store.Sweep{Partition: 0, Keys: time.Hour, Producers: time.Hour})
		w.sameProgress(w.progressOf(1), s.progress)
		w.equal("how many were dropped for their key", s.commit(w.keyed(log, "key", "one")).KeyDuplicates, 1)
		w.equal("who is rejected", w.rejected(1, span(1, 1, 1)), []string{"discarded"})
	}},

	{"keys that are older than the sweep says are forgotten", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.keyed(log, "old", "one"))
		s.tick(time.Microsecond)
		s.commit(w.keyed(log, "new", "two"), w.keyed(log, "old", "one"))
		s.tick(time.Hour)
		w.sweep(store.Sweep{Partition: 0, Keys: time.Hour})
		committed := s.commit(w.keyed(log, "old", "one"), w.keyed(log, "new", "two"))
		w.equal("how many were dropped for their key", committed.KeyDuplicates, 1)
		w.holds(log, 0, "one", "two", "one")
	}},

	{"producers that were silent for longer than the sweep says are forgotten, with their discarded dead letters", func(w *world) {
		s := w.hold(0)
		silent, living := drainmark.ProducerID{1}, drainmark.ProducerID{2}
		s.commit(
			of(silent, discard(0, "silent, discarded", 1)), of(silent, setAside(0, "silent, open", 2)),
			of(living, discard(0, "living, discarded", 1)),
		)
		s.tick(time.Microsecond)
		c := s.next()
		done := drainmark.Ranges{{First: 1, Last: 2}}
		c.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{
			silent: {Done: done, LastAt: s.clock - time.Microsecond},
			living: {Done: done, LastAt: s.clock}, s.producer: {Done: done, LastAt: s.clock},
		}
		s.put(c)
		s.tick(time.Hour)
		w.sweep(store.Sweep{Partition: 0, Keys: time.Hour, Producers: time.Hour})
		delete(s.progress.Producers, silent)
		w.eventually("the silent producer is forgotten", func() bool {
			return len(w.progressOf(0).Producers) == 2
		})
		w.sameProgress(w.progressOf(0), s.progress)
		w.equal("the open dead letters", w.letterIDs(0), []string{"silent, open"})
		w.counts("", sender, 1)
		w.noLetter(0, "silent, discarded")
		w.find(0, "living, discarded")
		s.commit()
		w.sameProgress(w.progressOf(0), s.progress)
	}},

	{"a producer that is silent is told, and forgotten only when it is named", func(w *world) {
		s := w.hold(0)
		kept, gone, living := drainmark.ProducerID{1}, drainmark.ProducerID{2}, drainmark.ProducerID{3}
		done := drainmark.Ranges{{First: 1, Last: 2}}
		s.commit(of(kept, discard(0, "of the kept", 1)), of(gone, discard(0, "of the gone", 1)), of(living, discard(0, "of the living", 1)))
		s.tick(time.Second)
		c := s.next()
		c.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{
			kept: {Done: done, LastAt: s.clock - time.Second}, gone: {Done: done, LastAt: s.clock - time.Microsecond},
			living: {Done: done, LastAt: s.clock}, s.producer: {Done: done, LastAt: s.clock},
		}
		s.put(c)
		w.equal("who is silent before their time", w.silent(0, time.Hour), []drainmark.ProducerID(nil))
		s.tick(time.Hour)
		w.equal("who is silent, and for how long", w.silent(0, time.Hour), []drainmark.ProducerID{kept, gone})
		w.equal("who is silent in another partition", w.silent(1, time.Hour), []drainmark.ProducerID(nil))
		sweep := store.Sweep{Partition: 0, Producers: time.Hour, Forget: []drainmark.ProducerID{gone, living, {9}}}
		for range 3 {
			_, err := w.store.Sweep(w.ctx, sweep)
			w.must("sweeping", err)
		}
		delete(s.progress.Producers, gone)
		w.eventually("the one that is named is forgotten", func() bool { return len(w.progressOf(0).Producers) == 3 })
		w.sameProgress(w.progressOf(0), s.progress)
		w.find(0, "of the kept")
		w.noLetter(0, "of the gone")
		w.find(0, "of the living")
		w.equal("who is silent then", w.silent(0, time.Hour), []drainmark.ProducerID{kept})
	}},

	{"those that were silent for the longest time are told first, if there are many", func(w *world) {
		s := w.hold(0)
		c := s.next()
		c.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{}
		var all []drainmark.ProducerID
		for i := range store.MaxSilent + 7 {
			id := drainmark.ProducerID{byte(i >> 8), byte(i), 5}
			all = append(all, id)
			c.Producers[id] = drainmark.ProducerProgress{Done: drainmark.Ranges{{First: 1, Last: 1}}, LastAt: time.Duration(i) * time.Millisecond}
		}
		c.Clock = time.Minute
		s.clock = c.Clock
		s.put(c)
		s.tick(2 * time.Hour)
		w.equal("who is silent", w.silent(0, time.Hour), all[:store.MaxSilent])
		_, err := w.store.Sweep(w.ctx, store.Sweep{Partition: 0, Producers: time.Hour, Forget: all[:store.MaxSilent]})
		w.must("sweeping", err)
		w.equal("who is silent then", w.silent(0, time.Hour), all[store.MaxSilent:])
	}},

	{"sweeping neither needs nor disturbs a claim", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.clear(log))
		s.tick(2 * time.Hour)
		w.sweepWith(w.openStore(), store.Sweep{Partition: 0, Keys: time.Hour, Producers: time.Hour})
		s.progress.Producers = nil
		s.commit(w.append(log, "two"))
		w.holds(log, 1, "two")
	}},
}

// silent returns who has been silent for longer than age.
func (w *world) silent(partition int, age time.Duration) []drainmark.ProducerID {
	w.Helper()
	silent, err := w.store.Silent(w.ctx, partition, age)
	w.must("asking who is silent", err)
	return silent
}

// of sets the producer of the record that an operation sets aside.
func of(p drainmark.ProducerID, op store.Operation) store.Operation {
	op.Letter.Span.Producer = p
	return op
}

// tick moves the partition's clock by a commit of nothing.
func (s *session) tick(d time.Duration) {
	s.Helper()
	s.clock += d
	c := s.next()
	c.Producers = nil
	s.put(c)
}

// sweep sweeps until there is no more.
func (w *world) sweep(s store.Sweep) {
	w.Helper()
	w.sweepWith(w.store, s)
}

func (w *world) sweepWith(handle store.Store, s store.Sweep) {
	w.Helper()
	if s.Producers > 0 { // the broker keeps nothing from any producer
		s.Forget = w.silent(s.Partition, s.Producers)
	}
	for range 100_000 {
		more, err := handle.Sweep(w.ctx, s)
		w.must("sweeping", err)
		if !more {
			return
		}
	}
	w.Fatalf("after 100,000 steps there is still something to sweep")
}

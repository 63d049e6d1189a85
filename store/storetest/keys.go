package storetest

import (
	"fmt"
	"time"

	"github.com/drainmark/drainmark/store"
)

var aboutKeys = []promise{
	{"an append whose key is known is dropped and counted", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		committed := s.commit(w.keyed(log, "k1", "one"), w.keyed(log, "k1", "one"), w.keyed(log, "k2", "two"))
		w.equal("how many were dropped in one commit", committed.KeyDuplicates, 1)
		committed = s.commit(w.keyed(log, "k2", "two"), w.append(log, "three"), w.keyed(log, "k1", "one"))
		w.equal("how many were dropped in a later commit", committed.KeyDuplicates, 2)
		w.holds(log, 0, "one", "two", "three")
	}},

	{"appends without a key are never duplicates", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		committed := s.commit(w.append(log, "same"), w.append(log, "same"))
		w.equal("how many were dropped", committed.KeyDuplicates, 0)
		w.holds(log, 0, "same", "same")
	}},

	{"a key used again for a different message is refused, all of them at once", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.keyed(log, "k1", "one"), w.keyed(log, "k2", "two"))
		otherType := w.keyed(log, "k2", "two")
		otherType.Record.ContentType = "text/html"
		refused := s.refused(
			w.keyed(log, "k1", "other"), // 0
			w.keyed(log, "k3", "three"),
			otherType, // 2
			w.keyed(log, "k1", "one"),
			w.keyed(log, "k3", "other"), // 4: the key is an earlier operation's
			w.append(log, "good"),
		)
		want := map[int]string{0: store.ReasonKeyReused, 2: store.ReasonKeyReused, 4: store.ReasonKeyReused}
		w.equal("the operations at fault", refused.Reasons, want)
		w.holds(log, 0, "one", "two")
	}},

	{"a key is known until it is swept, whenever its records were accepted", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		accepted := func(d time.Duration, key, body string) store.Operation {
			op := w.keyed(log, key, body)
			op.Record.AcceptedAt = w.now.Add(d)
			return op
		}
		s.commit(accepted(0, "k1", "one"), accepted(0, "k2", "two"))
		for _, d := range []time.Duration{24 * time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour} {
			w.equal("how many were dropped", s.commit(accepted(d, "k1", "one")).KeyDuplicates, 1)
			s.refused(accepted(d, "k2", "other"))
		}
		w.holds(log, 0, "one", "two")
	}},

	{"a key is known to its log only", func(w *world) {
		log, other, elsewhere := w.logIn(0), w.logIn(0), w.logIn(1)
		s := w.hold(0)
		s.commit(w.keyed(log, "key", "one"), w.keyed(other, "key", "two"))
		w.hold(1).commit(w.keyed(elsewhere, "key", "three"))
		w.holds(log, 0, "one")
		w.holds(other, 0, "two")
		w.holds(elsewhere, 0, "three")
	}},

	{"a key survives a clear", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.keyed(log, "key", "one"))
		committed := s.commit(w.clear(log), w.keyed(log, "key", "one"))
		w.equal("how many were dropped", committed.KeyDuplicates, 1)
		w.holds(log, 1)
		s.refused(w.keyed(log, "key", "other"))
	}},

	{"a key is compared byte by byte", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		for i, key := range []string{"Key", "key", "key ", "k:e{y}"} {
			s.commit(w.keyed(log, key, fmt.Sprint(i+1)))
		}
		w.holds(log, 0, "1", "2", "3", "4")
	}},
}

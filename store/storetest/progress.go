package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

var aboutProgress = []promise{
	{"the progress of a partition that was never claimed is empty", func(w *world) {
		w.sameProgress(w.progressOf(2), drainmark.Progress{})
	}},

	{"the progress comes back as it was committed", func(w *world) {
		s := w.hold(2)
		c := s.next()
		c.Cursor = drainmark.Cursor("7:" + strings.Repeat("any text, grüße;", 20))
		c.Rejected = 1 << 40
		c.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{}
		for i := range 50 {
			var done drainmark.Ranges
			for first := uint64(1 + i%2); first < uint64(20*i); first += 20 {
				done = done.Add(first, first+uint64(i%7))
			}
			done = done.Add(1<<62, 1<<63-1)
			id := drainmark.ProducerID{byte(i), 15: byte(255 - i)}
			c.Producers[id] = drainmark.ProducerProgress{Done: done, LastAt: w.clock - time.Duration(i)*1234567*time.Microsecond}
		}
		s.put(c)
		w.sameProgress(w.progressOf(2), s.progress)
		again, err := w.store.Claim(w.ctx, newClaim(2, s.claim.Owner), longLease)
		w.must("claiming", err)
		s.progress.Token = again.Token
		w.sameProgress(again, s.progress)
	}},

	{"a commit replaces the producers that it names and keeps the others", func(w *world) {
		s := w.hold(0)
		one, two := drainmark.ProducerID{1}, drainmark.ProducerID{2}
		for i, changed := range []map[drainmark.ProducerID]drainmark.ProducerProgress{
			{one: {Done: drainmark.Ranges{{First: 1, Last: 5}}, LastAt: w.clock}},
			{two: {Done: drainmark.Ranges{{First: 1, Last: 2}, {First: 4, Last: 9}}, LastAt: w.clock}},
			{two: {Done: drainmark.Ranges{{First: 1, Last: 9}}, LastAt: w.clock + time.Microsecond}},
			{},
		} {
			c := s.next()
			c.Producers = changed
			s.put(c)
			w.sameProgress(w.progressOf(0), s.progress)
			w.equal("the revision", s.progress.Revision, uint64(i+1))
		}
	}},

	{"why a partition does not go on is kept until the next commit", func(w *world) {
		s := w.hold(0)
		first := s.commit(w.append(w.logIn(0), "message"))
		w.equal("what a commit dropped", first.KeyDuplicates, 0)
		c := s.next()
		c.Trouble = &drainmark.Trouble{
			Effect: "orders", Reason: "no such table: \"grüße\"", Since: w.now.UTC(), Log: "orders", Attempts: 3, Stopped: true,
			Span: drainmark.Span{Partition: 0, Producer: s.producer, First: 7, Last: 7},
		}
		s.put(c)
		w.sameProgress(w.progressOf(0), s.progress)
		again, err := w.store.Claim(w.ctx, newClaim(0, s.claim.Owner), longLease)
		w.must("claiming", err)
		w.equal("the trouble that Claim returns", again.Trouble, c.Trouble)
		s.claim.Token, s.progress.Token = again.Token, again.Token
		s.commit()
		w.sameProgress(w.progressOf(0), s.progress)
	}},

	{"an empty cursor replaces another one", func(w *world) {
		s := w.hold(0)
		s.commit()
		c := s.next()
		c.Cursor = ""
		s.put(c)
		w.sameProgress(w.progressOf(0), s.progress)
	}},

	{"partitions have a progress each", func(w *world) {
		var sessions []*session
		for partition := range partitions {
			s := w.hold(partition)
			for range partition + 1 {
				s.commit(w.append(w.logIn(partition), "message"))
			}
			sessions = append(sessions, s)
		}
		for partition, s := range sessions {
			w.sameProgress(w.progressOf(partition), s.progress)
			w.equal(fmt.Sprintf("the revision of partition %d", partition), s.progress.Revision, uint64(partition+1))
		}
	}},

	{"a claim shows in the epoch of the progress that a reader gets", func(w *world) {
		first := w.hold(0)
		first.commit()
		second := w.holdAs(newClaim(0, first.claim.Owner))
		w.eventually("the reader shows the new epoch", func() bool {
			return w.progressOf(0).Token == second.claim.Token
		})
		w.sameProgress(w.progressOf(0), second.progress)
	}},
}

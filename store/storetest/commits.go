package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutCommits = []promise{
	{"messages that are not kept have positions and are not shown", func(w *world) {
		s := w.hold(0)
		log, other := w.logIn(0), w.logIn(0)
		s.commit(w.append(log, "kept"), w.append(other, "one"))
		c := s.next(w.append(log, "a"), w.append(other, "two"), w.append(log, "b"))
		holder := store.NewHolder(w.store, partitions)
		holder.Unkept = func(name string) bool { return name == log }
		_, err := holder.Commit(w.ctx, c)
		w.must("committing", err)
		s.progress = after(s.progress, c)
		s.shown(s.progress)
		w.holds(log, 3)
		w.holds(other, 0, "one", "two")
		s.commit(w.append(log, "kept again"))
		w.holds(log, 3, "kept again")
		for more := true; more; {
			more, err = w.store.Sweep(w.ctx, store.Sweep{})
			w.must("sweeping", err)
		}
		w.holds(log, 3, "kept again")
	}},

	{"a commit's messages and its progress are both there", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"))
		w.sameProgress(w.progressOf(0), s.progress)
		w.holds(log, 0, "one", "two")
		s.commit(w.append(log, "three"))
		w.sameProgress(w.progressOf(0), s.progress)
		w.holds(log, 0, "one", "two", "three")
	}},

	{"a commit without operations moves the progress", func(w *world) {
		s := w.hold(0)
		s.commit()
		s.commit()
		w.sameProgress(w.progressOf(0), s.progress)
		w.equal("the revision", s.progress.Revision, uint64(2))
	}},

	{"a commit with another revision is fenced and changes nothing", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"))
		s.commit(w.append(log, "two"))
		for _, revision := range []uint64{0, 1, 3} {
			c := s.next(w.append(log, "wrong"), w.clear(log))
			c.Revision = revision
			_, err := w.commitTo(w.ctx, w.store, c)
			w.fails(fmt.Sprintf("committing on revision %d", revision), err, store.ErrFenced)
		}
		w.sameProgress(w.progressOf(0), s.progress)
		w.holds(log, 0, "one", "two")
	}},

	{"the same commit again is fenced and changes nothing", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		c := s.next(w.append(log, "one"), w.keyed(log, "key", "two"))
		s.put(c)
		_, err := w.commitTo(w.ctx, w.store, c)
		w.fails("committing again", err, store.ErrFenced)
		w.sameProgress(w.progressOf(0), s.progress)
		w.holds(log, 0, "one", "two")
	}},

	{"a commit with a refused operation in its middle changes nothing", func(w *world) {
		log, fresh := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.keyed(log, "used", "one"), setAside(0, "old", 1))
		refused := s.refused(
			w.append(log, "before"), w.append(fresh, "before"), w.keyed(log, "new", "before"), setAside(0, "new", 2),
			restore("old"), w.clear(log), w.keyed(log, "used", "different"), w.append(log, "after"),
		)
		w.equal("why it is refused", refused.Reasons, map[int]string{6: store.ReasonKeyReused})
		w.shown(s.progress)
		w.sameProgress(w.progressOf(0), s.progress)
		w.holds(log, 0, "one")
		w.unknown(fresh)
		w.equal("the dead letters", w.letterIDs(0), []string{"old"})
		w.noLetter(0, "new")
		w.counts("", sender, 1)
		s.commit(w.keyed(log, "new", "the first with this key"))
		w.holds(log, 0, "one", "the first with this key")
	}},

	{"what a commit is planned from is found, all of the state that is named", func(w *world) {
		log, other, unknown := w.logIn(0), w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.keyed(log, "key", "two"), w.append(other, "gone"), w.clear(other), setAside(0, "letter", 1))
		found, err := w.store.Find(w.ctx, 0, store.Want{
			Logs:    []store.WantedLog{{Name: log, Keys: []string{"key", "new"}}, {Name: other}, {Name: unknown, Keys: []string{"key"}}},
			Letters: []string{"letter", "none"},
		})
		w.must("looking", err)
		w.equal("the version", found.Version, s.progress.Version)
		w.equal("how many logs there are", len(found.Logs), 2)
		w.equal("where a log ends", found.Logs[log].LogInfo, drainmark.LogInfo{Name: log, LastPosition: 2})
		w.equal("where a cleared log ends", found.Logs[other].LogInfo, drainmark.LogInfo{Name: other, LastPosition: 1, ClearedThrough: 1})
		w.equal("how many keys are known", len(found.Logs[log].Keys), 1)
		w.equal("how many letters there are", len(found.Letters), 1)
		w.sameLetter(found.Letters["letter"], *setAside(0, "letter", 1).Letter)
		nothing, err := w.store.Find(w.ctx, 1, store.Want{})
		w.must("looking in a partition that was never claimed", err)
		w.equal("its version", nothing.Version, drainmark.Version{})
	}},

	{"what is committed survives a restart", func(w *world) {
		log := w.logIn(1)
		s := w.hold(1)
		s.commit(w.append(log, "gone"), w.clear(log), w.keyed(log, "key", "one"), setAside(1, "letter", 1))
		_, err := w.commitTo(w.ctx, w.store, s.next(w.append(log, "two")))
		w.must("committing", err)
		s.progress = after(s.progress, s.next(w.append(log, "two")))
		w.restart()
		w.shown(s.progress)
		w.sameProgress(w.progressOf(1), s.progress)
		w.holds(log, 1, "one", "two")
		w.equal("the dead letters", w.letterIDs(1), []string{"letter"})
		w.counts("", sender, 1)
		d, err := w.reader.Deployment(w.ctx)
		w.must("reading the deployment", err)
		w.equal("the deployment", d, w.deployment)
		committed := s.commit(w.keyed(log, "key", "one"), w.append(log, "three"))
		w.equal("how many were dropped for their key", committed.KeyDuplicates, 1)
		w.holds(log, 1, "one", "two", "three")
	}},

	{"a claim survives a restart", func(w *world) {
		s := w.hold(0)
		w.restart()
		_, err := w.store.Claim(w.ctx, newClaim(0, "another"), longLease)
		w.fails("claiming it", err, store.ErrHeld)
		s.commit(w.append(w.logIn(0), "still mine"))
	}},

	{"positions are 1, 2, 3 in every log whichever commits and partitions append to it", func(w *world) {
		here, there, elsewhere := w.logIn(0), w.logIn(0), w.logIn(1)
		s, other := w.hold(0), w.hold(1)
		s.commit(w.append(here, "a"), w.append(there, "A"), w.append(here, "b"))
		other.commit(w.append(elsewhere, "x"))
		s.commit(w.append(there, "B"), w.append(here, "c"), w.append(there, "C"))
		w.holds(here, 0, "a", "b", "c")
		w.holds(there, 0, "A", "B", "C")
		w.holds(elsewhere, 0, "x")
	}},

	{"positions go on behind a clear", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"))
		s.commit(w.clear(log))
		w.holds(log, 2)
		s.commit(w.append(log, "three"))
		w.holds(log, 2, "three")
		s.commit(w.append(log, "four"), w.clear(log), w.append(log, "five"), w.append(log, "six"))
		w.holds(log, 4, "five", "six")
		w.equal("how many the log holds", w.page(log, 0, 1).Log.Count(), uint64(2))
	}},

	{"clearing one log leaves every other alone", func(w *world) {
		log, other := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(other, "two"))
		s.commit(w.clear(log))
		w.holds(log, 1)
		w.holds(other, 0, "two")
	}},

	{"clearing an unknown log makes an empty one", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.clear(log))
		w.holds(log, 0)
		s.commit(w.append(log, "one"))
		w.holds(log, 0, "one")
	}},

	{"a message has its mark, content type and times, to the microsecond", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		op := w.append(log, "hello")
		op.Record.ContentType = "text/plain; charset=utf-8"
		op.Record.AcceptedAt = time.Date(2026, 2, 3, 4, 5, 6, 123457000, time.FixedZone("east", 3600))
		c := s.next(op)
		c.Now = op.Record.AcceptedAt.Add(1234567 * time.Microsecond)
		s.put(c)
		m := w.messages(log)[0]
		w.equal("its mark", m.Mark, drainmark.Mark{Partition: 0, Producer: s.producer, Sequence: 1})
		w.equal("its content type", m.ContentType, "text/plain; charset=utf-8")
		w.sameTime("when it was accepted", m.AcceptedAt, op.Record.AcceptedAt)
		w.sameTime("when it was persisted", m.PersistedAt, c.Now)
	}},

	{"a mark comes back exactly, whatever its producer and sequence", func(w *world) {
		log := w.logIn(3)
		s := w.hold(3)
		first := drainmark.Mark{Partition: 3, Producer: drainmark.ProducerID{15: 1}, Sequence: 1<<63 - 1}
		second := drainmark.Mark{Partition: 3, Producer: drainmark.ProducerID{0: 0xff, 15: 0xff}, Sequence: 1 << 40}
		c := s.next(w.append(log, "a"), w.append(log, "b"), w.append(log, "c"))
		c.Operations[0].Mark, c.Operations[2].Mark = first, second
		s.put(c)
		messages := w.messages(log)
		w.equal("the first mark", messages[0].Mark, first)
		w.equal("the second mark", messages[1].Mark, c.Operations[1].Mark)
		w.equal("the third mark", messages[2].Mark, second)
	}},

	{"bodies come back exactly", func(w *world) {
		bodies := []string{
			"", "\x00", "a\x00b", "\xff\xfe\xfd invalid UTF-8", "grüße, мир", "'); DROP TABLE messages; --", "line\r\nline\n",
			strings.Repeat("\x00\xff\r\n", 64<<10), // 256 KiB
		}
		log := w.logIn(0)
		s := w.hold(0)
		var operations []store.Operation
		for _, body := range bodies {
			operations = append(operations, w.append(log, body))
		}
		s.commit(operations...)
		for i, m := range w.messages(log) {
			if string(m.Body) != bodies[i] {
				w.Fatalf("body %d of %d bytes came back otherwise, with %d bytes", i, len(bodies[i]), len(m.Body))
			}
		}
	}},

	{"the memory of a commit is the caller's again when Commit returns", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		op, letter := w.keyed(log, "key", "original"), setAside(0, "letter", 1)
		s.commit(op, letter)
		copy(op.Record.Body, "XXXXXXXX")
		copy(letter.Letter.Payload, "XXXX")
		w.holds(log, 0, "original")
		w.equal("the dead letter's payload", string(w.letters(0, 0, 1)[0].Payload), "payload of letter")
		w.equal("how many were dropped for their key", s.commit(w.keyed(log, "key", "original")).KeyDuplicates, 1)
	}},

	{"a large commit is applied whole and in order", func(w *world) {
		const n = 2000
		log, other := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		var operations []store.Operation
		for i := range n {
			operations = append(operations, w.append(log, fmt.Sprint(i)), w.keyed(other, fmt.Sprint("key ", i), fmt.Sprint(i)))
		}
		s.commit(operations...)
		for _, name := range []string{log, other} {
			messages := w.messages(name)
			w.equal("how many messages there are", len(messages), n)
			for i, m := range messages {
				w.equal("a body", string(m.Body), fmt.Sprint(i))
				w.equal("a position", m.Position, uint64(i+1))
			}
		}
	}},

	{"a call whose context has ended does nothing", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		_, err := w.commitTo(ended, w.store, s.next(w.append(log, "never")))
		w.fails("committing", err, context.Canceled)
		_, err = w.store.Claim(ended, newClaim(1, "never"), longLease)
		w.fails("claiming", err, context.Canceled)
		_, err = w.store.Heartbeat(ended, "never", longLease)
		w.fails("heartbeat", err, context.Canceled)
		_, err = w.reader.Messages(ended, log, 0, 1)
		w.fails("reading messages", err, context.Canceled)
		_, err = w.reader.Progress(ended, 0)
		w.fails("reading the progress", err, context.Canceled)
		_, err = w.reader.Changes(ended)
		w.fails("watching for changes", err, context.Canceled)
		s.commit()
		w.unknown(log)
		w.equal("who is alive", w.heartbeat("living").Owners, []string{"living"})
		w.hold(1)
	}},

	{"commits of several partitions at once are all applied", func(w *world) {
		const rounds = 25
		logs := make([]string, partitions)
		sessions := make([]*session, partitions)
		for partition := range sessions {
			logs[partition], sessions[partition] = w.logIn(partition), w.hold(partition)
		}
		w.atOnce(partitions, func(partition int) error {
			s := sessions[partition]
			for i := range rounds {
				c := s.next(w.append(logs[partition], fmt.Sprint(i)))
				if _, err := w.commitTo(w.ctx, w.store, c); err != nil {
					return err
				}
				s.progress = after(s.progress, c)
			}
			return nil
		})
		for partition, s := range sessions {
			w.shown(s.progress)
			w.sameProgress(w.progressOf(partition), s.progress)
			w.equal("how many messages there are", len(w.messages(logs[partition])), rounds)
		}
	}},

	{"a fenced and a refused commit do not hurt those of other partitions", func(w *world) {
		const rounds = 20
		logs := []string{w.logIn(0), w.logIn(1), w.logIn(2)}
		good, refused, fenced := w.hold(0), w.hold(1), w.hold(2)
		refused.commit(w.keyed(logs[1], "key", "one"))
		bad := []store.Commit{
			refused.next(w.append(logs[1], "never"), w.keyed(logs[1], "key", "two")),
			fenced.next(w.append(logs[2], "never")),
		}
		bad[1].Token++
		failed := []chan struct{}{make(chan struct{}), make(chan struct{})}
		done := make(chan struct{})
		w.atOnce(1+len(bad), func(i int) error {
			if i > 0 {
				return w.keepFailing(bad[i-1], failed[i-1], done)
			}
			defer close(done)
			for range rounds {
				c := good.next(w.append(logs[0], "good"))
				if _, err := w.commitTo(w.ctx, w.store, c); err != nil {
					return err
				}
				good.progress = after(good.progress, c)
				for _, each := range failed {
					<-each
				}
			}
			return nil
		})
		w.shown(good.progress)
		w.equal("how many messages there are", len(w.messages(logs[0])), rounds)
		w.holds(logs[1], 0, "one")
		w.unknown(logs[2])
	}},
}

// keepFailing makes a commit that must fail again and again, and tells of each time, until done is closed.
func (w *world) keepFailing(c store.Commit, failed chan<- struct{}, done <-chan struct{}) (wrong error) {
	for {
		if wrong == nil {
			if _, err := w.commitTo(w.ctx, w.store, c); err == nil {
				wrong = fmt.Errorf("a commit to partition %d that must fail succeeded", c.Partition)
			}
		}
		select {
		case failed <- struct{}{}:
		case <-done:
			return wrong
		}
	}
}

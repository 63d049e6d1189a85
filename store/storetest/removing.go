package storetest

import (
	"fmt"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutRemoving = []promise{
	{"a trim removes the messages up to its position, and positions go on", func(w *world) {
		log, other := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"), w.append(log, "three"), w.append(other, "stays"))
		s.commit(w.trim(log, 2))
		w.holds(log, 2, "three")
		s.commit(w.append(log, "four"), w.trim(log, 3), w.append(log, "five"))
		w.holds(log, 3, "four", "five")
		w.holds(other, 0, "stays")
		w.sweep(store.Sweep{Partition: 0})
		w.holds(log, 3, "four", "five")
	}},

	{"a trim beyond the end removes all, and one of what is gone nothing", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"))
		s.commit(w.trim(log, 1000))
		w.holds(log, 2)
		s.commit(w.append(log, "three"))
		s.commit(w.trim(log, 1))
		w.holds(log, 2, "three")
	}},

	{"removing from an unknown log makes none", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.trim(log, 1), w.erase(log, 1), w.delete(log))
		w.unknown(log)
		s.commit(w.append(log, "one"), w.trim(log, 1), w.append(log, "two"))
		w.holds(log, 1, "two")
	}},

	{"an erased message keeps position, mark and times, and loses the rest", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		headers := w.headers("tenant", "7")
		one, two := w.append(log, "one"), w.append(log, "two")
		two.Record.Headers = headers
		s.commit(one, two, w.append(log, "three"))
		want := w.messages(log)
		want[1].Body, want[1].ContentType, want[1].Headers, want[1].Erased = nil, "", drainmark.Headers{}, true
		s.commit(w.erase(log, 2))
		w.sameMessages(w.messages(log), want)
		w.equal("how many erasures the log had", w.page(log, 0, 1).Log.Erasures, uint64(1))
	}},

	{"a message is erased in the commit that appends it, and in the next", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"), w.erase(log, 1), w.append(log, "three"))
		w.erased(log, 1)
		s.commit(w.append(log, "four"), w.erase(log, 4), w.erase(log, 3))
		w.erased(log, 1, 3, 4)
	}},

	{"erasing twice, or what is not there, is harmless", func(w *world) {
		log, other := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"), w.append(log, "three"), w.append(other, "stays"))
		s.commit(w.trim(log, 1))
		s.commit(w.erase(log, 1), w.erase(log, 2), w.erase(log, 2), w.erase(log, 4))
		s.commit(w.erase(log, 2))
		w.erased(log, 2)
		w.equal("how many messages there are", len(w.messages(log)), 2)
		s.commit(w.append(log, "four"))
		w.erased(log, 2)
		w.holds(other, 0, "stays")
	}},

	{"erased messages are trimmed and swept like others", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"), w.append(log, "three"), w.append(log, "four"))
		s.commit(w.erase(log, 1), w.erase(log, 3))
		s.commit(w.erase(log, 4), w.trim(log, 2), w.erase(log, 2))
		w.sweep(store.Sweep{Partition: 0})
		w.erased(log, 3, 4)
		w.equal("how many messages there are", len(w.messages(log)), 2)
		s.commit(w.clear(log), w.append(log, "five"))
		w.sweep(store.Sweep{Partition: 0})
		w.erased(log)
	}},

	{"pages are whole wherever messages were erased", func(w *world) {
		const many = 450
		log := w.logIn(0)
		s := w.hold(0)
		var operations, erasures []store.Operation
		for i := range many {
			operations = append(operations, w.append(log, fmt.Sprint("message ", i+1)))
		}
		s.commit(operations...)
		positions := []uint64{1, 63, 64, 65, 66, 128, 200, 201, 202, 203, 449, 450}
		for _, position := range positions {
			erasures = append(erasures, w.erase(log, position))
		}
		s.commit(erasures...)
		w.erased(log, positions...)
		messages := w.messages(log)
		w.equal("how many messages there are", len(messages), many)
		for i, m := range messages {
			w.equal("a position", m.Position, uint64(i+1))
			if !m.Erased {
				w.equal("a body", string(m.Body), fmt.Sprint("message ", i+1))
			}
		}
		for _, after := range []uint64{0, 62, 64, 199, 200, 203, 448, 449} {
			page := w.page(log, after, 2)
			w.equal("the messages of a page", len(page.Messages), int(min(2, many-after)))
			w.equal("where a page begins", page.Messages[0].Position, after+1)
		}
	}},

	{"a deleted log is not listed, and positions go on when something is appended", func(w *world) {
		log, other := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.keyed(log, "key", "two"), w.append(other, "stays"))
		s.commit(w.delete(log))
		page := w.page(log, 0, 10)
		w.equal("the page of a deleted log", page.Log, drainmark.LogInfo{Name: log, LastPosition: 2, ClearedThrough: 2, Deleted: true})
		w.equal("its messages", page.Messages, nil)
		w.equal("the version of the page", page.Version, s.progress.Version)
		w.equal("the logs", w.logNames(), []string{other})
		w.equal("how many were dropped for their key", s.commit(w.keyed(log, "key", "two")).KeyDuplicates, 1)
		w.equal("the logs", w.logNames(), []string{other})
		s.commit(w.append(log, "three"))
		w.holds(log, 2, "three")
		w.equal("how many logs there are", len(w.logNames()), 2)
	}},

	{"what is removed stays so after a restart", func(w *world) {
		erased, deleted := w.logIn(0), w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(erased, "one"), w.append(erased, "two"), w.append(erased, "three"), w.append(deleted, "gone"))
		s.commit(w.trim(erased, 1), w.erase(erased, 2), w.delete(deleted))
		want := w.messages(erased)
		w.restart()
		w.sameMessages(w.messages(erased), want)
		w.erased(erased, 2)
		w.equal("the logs", w.logNames(), []string{erased})
		s.commit(w.append(deleted, "two"))
		w.holds(deleted, 1, "two")
	}},

	{"a deleted log stays so whatever is removed from it, and a clear makes it anew", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.delete(log), w.append(log, "two"))
		w.holds(log, 1, "two")
		s.commit(w.delete(log))
		s.commit(w.trim(log, 1), w.erase(log, 2), w.delete(log), w.trim(log, 7))
		w.sweep(store.Sweep{Partition: 0})
		w.equal("whether it is deleted", w.page(log, 0, 1).Log.Deleted, true)
		s.commit(w.clear(log))
		w.holds(log, 2)
		w.equal("the logs", w.logNames(), []string{log})
	}},

	{"whatever is removed from a log is told to those who ask what was written", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"), w.append(log, "two"))
		for _, op := range []store.Operation{w.trim(log, 1), w.erase(log, 2), w.delete(log)} {
			since := s.progress.Revision
			s.commit(op)
			written, err := w.reader.Written(w.ctx, 0, since, 10)
			w.must("asking what was written", err)
			w.equal("what was written", written.Logs, []string{log})
		}
	}},
}

func (w *world) trim(log string, through uint64) store.Operation {
	return w.removal(store.Trim, drainmark.Trim, log, through)
}

func (w *world) erase(log string, position uint64) store.Operation {
	return w.removal(store.Erase, drainmark.Erase, log, position)
}

func (w *world) delete(log string) store.Operation {
	return w.removal(store.Delete, drainmark.Delete, log, 0)
}

func (w *world) removal(kind store.OperationKind, record drainmark.RecordKind, log string, position uint64) store.Operation {
	return store.Operation{Kind: kind, Position: position, Record: &drainmark.Record{Kind: record, Log: log, AcceptedAt: w.now}}
}

// erased fails the case unless just these messages of a log are erased, and hold nothing.
func (w *world) erased(log string, want ...uint64) {
	w.Helper()
	var got []uint64
	for _, m := range w.messages(log) {
		if m.Erased != (len(m.Body) == 0) || m.Erased != (m.ContentType == "") {
			w.Fatalf("the message %+v is erased in part", m)
		}
		if m.Erased {
			got = append(got, m.Position)
		}
	}
	w.equal("the erased positions", got, want)
}

// sameMessages fails the case unless got is want.
func (w *world) sameMessages(got, want []drainmark.Message) {
	w.Helper()
	w.equal("how many messages there are", len(got), len(want))
	for i := range want {
		g, m := got[i], want[i]
		w.sameTime("when it was accepted", g.AcceptedAt, m.AcceptedAt)
		w.sameTime("when it was persisted", g.PersistedAt, m.PersistedAt)
		w.equal("a message's body", string(g.Body), string(m.Body))
		g.AcceptedAt, g.PersistedAt, g.Body = m.AcceptedAt, m.PersistedAt, m.Body
		w.equal("a message", g, m)
	}
}

// logNames returns the names of the logs that are listed.
func (w *world) logNames() (names []string) {
	w.Helper()
	logs, err := w.reader.Logs(w.ctx, "", 100)
	w.must("listing the logs", err)
	for _, l := range logs {
		names = append(names, l.Name)
	}
	return names
}

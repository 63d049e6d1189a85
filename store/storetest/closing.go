package storetest

import (
	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutClosing = []promise{
	{"a closed store says so, and does nothing", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		closed := w.openStore()
		w.must("closing", closed.Close())
		w.must("closing again", closed.Close())
		_, err := w.commitTo(w.ctx, closed, s.next(w.append(log, "never")))
		w.fails("committing", err, store.ErrClosed)
		w.fails("writing", closed.Write(w.ctx, store.Write{Token: s.claim.Token}), store.ErrClosed)
		_, err = closed.Claim(w.ctx, newClaim(1, "never"), longLease)
		w.fails("claiming", err, store.ErrClosed)
		_, err = closed.Heartbeat(w.ctx, "never", longLease)
		w.fails("heartbeat", err, store.ErrClosed)
		_, err = closed.Init(w.ctx, w.deployment)
		w.fails("Init", err, store.ErrClosed)
		_, err = closed.Deployment(w.ctx)
		w.fails("reading the deployment", err, store.ErrClosed)
		_, err = closed.Find(w.ctx, 0, store.Want{Letters: []string{"id"}})
		w.fails("looking for a dead letter", err, store.ErrClosed)
		_, err = closed.Sweep(w.ctx, store.Sweep{})
		w.fails("sweeping", err, store.ErrClosed)
		w.fails("releasing", closed.Release(w.ctx, s.claim.Owner, 0), store.ErrClosed)
		w.fails("leaving", closed.Leave(w.ctx, s.claim.Owner), store.ErrClosed)
		s.commit(w.append(log, "one"))
		w.holds(log, 0, "one")
	}},

	{"a closed reader says so", func(w *world) {
		closed := w.openReader()
		w.must("closing", closed.Close())
		w.must("closing again", closed.Close())
		_, err := closed.Deployment(w.ctx)
		w.fails("reading the deployment", err, store.ErrClosed)
		_, err = closed.Progress(w.ctx, 0)
		w.fails("reading the progress", err, store.ErrClosed)
		_, err = closed.Claims(w.ctx)
		w.fails("reading the claims", err, store.ErrClosed)
		_, err = closed.Messages(w.ctx, "log", 0, 1)
		w.fails("reading messages", err, store.ErrClosed)
		_, err = closed.Logs(w.ctx, "", 1)
		w.fails("listing the logs", err, store.ErrClosed)
		_, err = closed.Rejected(w.ctx, 0, []drainmark.Span{span(0, 1, 1)}, 1)
		w.fails("asking what is rejected", err, store.ErrClosed)
		_, err = closed.DeadLetters(w.ctx, 0, 0, 1)
		w.fails("listing the dead letters", err, store.ErrClosed)
		_, err = closed.CountDeadLetters(w.ctx, "", 1)
		w.fails("counting the dead letters", err, store.ErrClosed)
		_, err = closed.DeadLetter(w.ctx, 0, "id")
		w.fails("looking for a dead letter", err, store.ErrClosed)
		_, err = closed.Changes(w.ctx)
		w.fails("watching for changes", err, store.ErrClosed)
		w.fails("pinging", closed.Ping(w.ctx), store.ErrClosed)
		w.must("pinging the other", w.reader.Ping(w.ctx))
	}},

	{"closing a store while commits are under way ends them one way or the other", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "message"))
		closing := w.openStore()
		committed := uint64(1)
		w.atOnce(2, func(i int) error {
			if i == 1 {
				return closing.Close()
			}
			for range 1000 {
				c := s.next(w.append(log, "message"))
				if _, err := w.commitTo(w.ctx, closing, c); err != nil {
					return nil
				}
				s.progress = after(s.progress, c)
				committed++
			}
			return nil
		})
		again := w.holdAs(newClaim(0, s.claim.Owner))
		w.shown(again.progress)
		// The last one may have been applied although its answer was lost.
		n := uint64(len(w.messages(log)))
		if n != again.progress.Revision || n < committed || n > committed+1 {
			w.Fatalf("%d commits succeeded, the progress has %d and the log %d", committed, again.progress.Revision, n)
		}
	}},
}

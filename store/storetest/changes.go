package storetest

import (
	"context"
	"time"

	"github.com/drainmark/drainmark/store"
)

var aboutChanges = []promise{
	{"a change is signalled after a commit by another handle", func(w *world) {
		s := w.hold(0)
		signals := w.watch(w.ctx, w.reader)
		for range 3 {
			w.settle(signals)
			_, err := w.commitTo(w.ctx, w.openStore(), s.next())
			w.must("committing", err)
			s.progress = after(s.progress, s.next())
			w.signalled(signals, func() bool { return w.progressOf(0).Includes(s.progress.Version) })
		}
	}},

	{"a change is signalled after a claim by another handle", func(w *world) {
		signals := w.watch(w.ctx, w.reader)
		w.settle(signals)
		claim := newClaim(0, "another")
		_, err := w.openStore().Claim(w.ctx, claim, longLease)
		w.must("claiming", err)
		w.signalled(signals, func() bool { return w.progressOf(0).Token == claim.Token })
	}},

	{"every watcher of every reader is signalled", func(w *world) {
		other := w.openReader()
		watchers := []<-chan struct{}{w.watch(w.ctx, w.reader), w.watch(w.ctx, w.reader), w.watch(w.ctx, other)}
		for _, signals := range watchers {
			w.settle(signals)
		}
		s := w.hold(0)
		s.commit()
		for _, signals := range watchers {
			w.signalled(signals, func() bool { return true })
		}
	}},

	{"a watcher's channel is closed when its context ends, and the others stay", func(w *world) {
		ctx, cancel := context.WithCancel(w.ctx)
		ending, staying := w.watch(ctx, w.reader), w.watch(w.ctx, w.reader)
		cancel()
		w.closes(ending)
		w.settle(staying)
		w.hold(0).commit()
		w.signalled(staying, func() bool { return true })
	}},

	{"a watcher's channel is closed when its reader is closed", func(w *world) {
		signals := w.watch(w.ctx, w.reader)
		w.must("closing the reader", w.reader.Close())
		w.closes(signals)
	}},
}

func (w *world) watch(ctx context.Context, r store.Reader) <-chan struct{} {
	w.Helper()
	signals, err := r.Changes(ctx)
	w.must("watching for changes", err)
	return signals
}

// settle takes the signals of earlier changes out of the channel, also those that are still on their way.
func (w *world) settle(signals <-chan struct{}) {
	w.Helper()
	for {
		select {
		case _, open := <-signals:
			if !open {
				w.Fatalf("the channel was closed")
			}
		case <-time.After(30 * time.Millisecond):
			return
		}
	}
}

// signalled waits for signals until one comes from a state in which ok is true.
func (w *world) signalled(signals <-chan struct{}, ok func() bool) {
	w.Helper()
	deadline := time.After(w.patience)
	for {
		select {
		case _, open := <-signals:
			if !open {
				w.Fatalf("the channel was closed")
			}
			if ok() {
				return
			}
		case <-deadline:
			w.Fatalf("waited %s in vain for a signal", w.patience)
		}
	}
}

// closes waits until the channel is closed.
func (w *world) closes(signals <-chan struct{}) {
	w.Helper()
	deadline := time.After(w.patience)
	for {
		select {
		case _, open := <-signals:
			if !open {
				return
			}
		case <-deadline:
			w.Fatalf("waited %s in vain for the channel to be closed", w.patience)
		}
	}
}

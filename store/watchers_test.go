package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/drainmark/drainmark/store"
)

func TestWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w store.Watchers
		if w.Any() {
			t.Error("somebody watches before anybody does")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ending, err := w.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		staying, err := w.Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		if !w.Any() {
			t.Error("nobody is known to watch")
		}
		w.Signal()
		w.Signal()
		for range 2 {
			<-staying
			w.Signal()
		}
		<-staying
		select {
		case <-staying:
			t.Error("signals are not merged")
		default:
		}

		cancel()
		synctest.Wait()
		<-ending // the signals of before
		if _, open := <-ending; open {
			t.Error("the channel is open although its context has ended")
		}
		w.Signal()
		if _, open := <-staying; !open {
			t.Error("the other channel is closed too")
		}

		w.Close()
		w.Close()
		w.Signal()
		if _, open := <-staying; open {
			t.Error("the channel is open although the watchers are closed")
		}
		if _, err := w.Watch(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("watching after Close: %v", err)
		}
		if _, err := w.Watch(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("watching with a context that has ended: %v", err)
		}
	})
}

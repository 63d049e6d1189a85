package store

import (
	"context"
	"sync"
)

// Watchers is what an adapter needs for Reader.Changes: it hands out the channels, signals all of them, and closes each
// when its context ends. The zero value is ready. Its methods may be called concurrently and never block.
type Watchers struct {
	mu     sync.Mutex
	stops  map[chan struct{}]func() bool // what each channel's context would do when it ends
	closed bool
}

// Watch returns a new channel, as Reader.Changes must. ErrClosed after Close.
func (w *Watchers) Watch(ctx context.Context) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrClosed
	}
	if w.stops == nil {
		w.stops = map[chan struct{}]func() bool{}
	}
	changes := make(chan struct{}, 1)
	w.stops[changes] = context.AfterFunc(ctx, func() { w.remove(changes) })
	return changes, nil
}

func (w *Watchers) remove(changes chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.stops[changes]; ok {
		delete(w.stops, changes)
		close(changes)
	}
}

// Signal puts something into every channel that is empty.
func (w *Watchers) Signal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for changes := range w.stops {
		select {
		case changes <- struct{}{}:
		default:
		}
	}
}

// Any says whether there is a channel that is to be signalled.
func (w *Watchers) Any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.stops) > 0
}

// Close closes all channels. A second call does nothing.
func (w *Watchers) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for changes, stop := range w.stops {
		stop()
		close(changes)
	}
	w.stops = nil
}

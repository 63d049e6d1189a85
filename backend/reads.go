package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/store"
)

// The reads themselves show whether reads work. A store may be damaged in one place: then what lies elsewhere
// can be read, and no ping shows it. So a read that fails until somebody repairs the store is remembered, and tried
// again from time to time, until it does not.

// watched is the reader, and remembers what cannot be read.
type watched struct {
	store.Reader
	lines   *loglimit.Limiter
	metrics *metrics

	mu     sync.Mutex
	broken *brokenRead // the newest, nil while there is none
}

// brokenRead is a read that fails with store.ErrMisconfigured.
type brokenRead struct {
	err   error
	at    time.Time                   // when it was last tried
	again func(context.Context) error // tries it
}

// watching reads, and remembers it if somebody has to repair something first.
func watching[V any](ctx context.Context, w *watched, read func(context.Context) (V, error)) (V, error) {
	found, err := read(ctx)
	if errors.Is(err, store.ErrMisconfigured) {
		w.note(&brokenRead{err: err, at: time.Now(), again: func(ctx context.Context) error {
			_, err := read(ctx)
			return err
		}})
	}
	return found, err
}

func (w *watched) note(b *brokenRead) {
	w.metrics.brokenReads.Inc()
	w.metrics.readsBroken.Set(1)
	w.lines.Log("error", b.err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = b
}

// failing returns why something cannot be read until somebody repairs it, or nil. If that was seen a while ago, it is
// tried again.
func (w *watched) failing(ctx context.Context) error {
	w.mu.Lock()
	b := w.broken
	recent := b != nil && time.Since(b.at) < recheckAfter
	w.mu.Unlock()
	if b != nil && !recent {
		w.retried(b, b.again(ctx))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == nil {
		return nil
	}
	return w.broken.err
}

// retried notes the outcome of another try. One that was not answered tells nothing.
func (w *watched) retried(b *brokenRead, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.at = time.Now()
	switch {
	case errors.Is(err, store.ErrMisconfigured):
		b.err = err
		w.lines.Log("error", err)
	case (err == nil || errors.Is(err, store.ErrNotFound)) && w.broken == b:
		w.broken = nil
		w.metrics.readsBroken.Set(0)
		w.lines.End("what could not be read of the store can be read again")
	}
}

// loop tries again what could not be read, so that log and metrics say when it can, until ctx ends.
func (w *watched) loop(ctx context.Context) {
	tick := time.NewTicker(recheckAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		call, cancel := context.WithTimeout(ctx, workingTime)
		_ = w.failing(call) // which is in the log
		cancel()
	}
}

// Deployment implements store.Reader.
func (w *watched) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	return watching(ctx, w, w.Reader.Deployment)
}

// Progress implements store.Reader.
func (w *watched) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return watching(ctx, w, func(ctx context.Context) (drainmark.Progress, error) {
		return w.Reader.Progress(ctx, partition)
	})
}

// Claims implements store.Reader.
func (w *watched) Claims(ctx context.Context) ([]store.Claim, error) {
	return watching(ctx, w, w.Reader.Claims)
}

// Messages implements store.Reader.
func (w *watched) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return watching(ctx, w, func(ctx context.Context) (store.Page, error) {
		return w.Reader.Messages(ctx, log, after, limit)
	})
}

// Logs implements store.Reader.
func (w *watched) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	return watching(ctx, w, func(ctx context.Context) ([]drainmark.LogInfo, error) {
		return w.Reader.Logs(ctx, after, limit)
	})
}

// Written implements store.Reader.
func (w *watched) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	return watching(ctx, w, func(ctx context.Context) (store.Written, error) {
		return w.Reader.Written(ctx, partition, since, limit)
	})
}

// Rejected implements store.Reader.
func (w *watched) Rejected(
	ctx context.Context, partition int, spans []drainmark.Span, each int,
) ([]drainmark.DeadLetter, error) {
	return watching(ctx, w, func(ctx context.Context) ([]drainmark.DeadLetter, error) {
		return w.Reader.Rejected(ctx, partition, spans, each)
	})
}

// DeadLetter implements store.Reader.
func (w *watched) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	return watching(ctx, w, func(ctx context.Context) (drainmark.DeadLetter, error) {
		return w.Reader.DeadLetter(ctx, partition, id)
	})
}

// DeadLetters implements store.Reader.
func (w *watched) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	return watching(ctx, w, func(ctx context.Context) ([]store.DeadLetter, error) {
		return w.Reader.DeadLetters(ctx, partition, after, limit)
	})
}

// CountDeadLetters implements store.Reader.
func (w *watched) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return watching(ctx, w, func(ctx context.Context) (int, error) {
		return w.Reader.CountDeadLetters(ctx, principal, most)
	})
}

package app

import (
	"context"
	"errors"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// lateReader is the reader of a store that did not answer when the backend began. Until it does, every read fails. Then
// the reader that has been opened is used. Its methods may be called concurrently.
type lateReader struct {
	opened chan struct{} // closed when there is a reader

	mu     sync.Mutex
	reader store.Reader // nil until it is opened
	closed bool
}

var _ store.Reader = (*lateReader)(nil)

var errLate = errors.New("the store has not answered since this backend was started")

func newLateReader() *lateReader { return &lateReader{opened: make(chan struct{})} }

// open puts a reader in its place, which is closed with the lateReader. It is called once.
func (l *lateReader) open(reader store.Reader) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return reader.Close()
	}
	l.reader = reader
	close(l.opened)
	return nil
}

// Close implements store.Reader.
func (l *lateReader) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.reader == nil {
		l.closed = true
		return nil
	}
	l.closed = true
	return l.reader.Close()
}

// there is the opened reader, or why there is none.
func (l *lateReader) there() (store.Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.reader != nil:
		return l.reader, nil
	case l.closed:
		return nil, store.ErrClosed
	}
	return nil, errLate
}

// reading answers with what read says when the reader is there.
func reading[V any](l *lateReader, read func(store.Reader) (V, error)) (V, error) {
	reader, err := l.there()
	if err != nil {
		var none V
		return none, err
	}
	return read(reader)
}

// Deployment implements store.Reader.
func (l *lateReader) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	return reading(l, func(r store.Reader) (drainmark.Deployment, error) { return r.Deployment(ctx) })
}

// Progress implements store.Reader.
func (l *lateReader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return reading(l, func(r store.Reader) (drainmark.Progress, error) { return r.Progress(ctx, partition) })
}

// Claims implements store.Reader.
func (l *lateReader) Claims(ctx context.Context) ([]store.Claim, error) {
	return reading(l, func(r store.Reader) ([]store.Claim, error) { return r.Claims(ctx) })
}

// Messages implements store.Reader.
func (l *lateReader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return reading(l, func(r store.Reader) (store.Page, error) { return r.Messages(ctx, log, after, limit) })
}

// Logs implements store.Reader.
func (l *lateReader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	return reading(l, func(r store.Reader) ([]drainmark.LogInfo, error) { return r.Logs(ctx, after, limit) })
}

// Written implements store.Reader.
func (l *lateReader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	return reading(l, func(r store.Reader) (store.Written, error) { return r.Written(ctx, partition, since, limit) })
}

// Rejected implements store.Reader.
func (l *lateReader) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	return reading(l, func(r store.Reader) ([]drainmark.DeadLetter, error) { return r.Rejected(ctx, partition, spans, each) })
}

// DeadLetter implements store.Reader.
func (l *lateReader) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	return reading(l, func(r store.Reader) (drainmark.DeadLetter, error) { return r.DeadLetter(ctx, partition, id) })
}

// DeadLetters implements store.Reader.
func (l *lateReader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]store.DeadLetter, error) {
	return reading(l, func(r store.Reader) ([]store.DeadLetter, error) { return r.DeadLetters(ctx, partition, after, limit) })
}

// CountDeadLetters implements store.Reader.
func (l *lateReader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return reading(l, func(r store.Reader) (int, error) { return r.CountDeadLetters(ctx, principal, most) })
}

// Ping implements store.Reader.
func (l *lateReader) Ping(ctx context.Context) error {
	reader, err := l.there()
	if err != nil {
		return err
	}
	return reader.Ping(ctx)
}

// Changes implements store.Reader. It waits for the reader to be opened.
func (l *lateReader) Changes(ctx context.Context) (<-chan struct{}, error) {
	select {
	case <-l.opened:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return reading(l, func(r store.Reader) (<-chan struct{}, error) { return r.Changes(ctx) })
}

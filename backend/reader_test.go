package backend

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// countingReader counts the reads.
type countingReader struct {
	store.Reader
	progress, messages, rejected, written atomic.Int64
	counts                                atomic.Int64
	silent                                atomic.Bool // it does not say how many dead letters there are
	incomplete                            atomic.Bool // it cannot tell which logs were written to
	failing                               atomic.Bool // neither that nor messages can be read
	claimless                             atomic.Bool // nobody can say who holds the partitions
}

func (r *countingReader) Claims(ctx context.Context) ([]store.Claim, error) {
	if r.claimless.Load() {
		return nil, errFailing
	}
	return r.Reader.Claims(ctx)
}

var errFailing = errors.New("the reader fails")

func (r *countingReader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	r.progress.Add(1)
	return r.Reader.Progress(ctx, partition)
}

func (r *countingReader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	r.messages.Add(1)
	if r.failing.Load() {
		return store.Page{}, errFailing
	}
	return r.Reader.Messages(ctx, log, after, limit)
}

func (r *countingReader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	r.written.Add(1)
	if r.failing.Load() {
		return store.Written{}, errFailing
	}
	written, err := r.Reader.Written(ctx, partition, since, limit)
	if r.incomplete.Load() {
		written.Logs, written.Incomplete = nil, true
	}
	return written, err
}

func (r *countingReader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	r.counts.Add(1)
	if r.silent.Load() {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return r.Reader.CountDeadLetters(ctx, principal, most)
}

func (r *countingReader) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	r.rejected.Add(1)
	return r.Reader.Rejected(ctx, partition, spans, each)
}

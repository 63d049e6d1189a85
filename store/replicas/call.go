package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// errLeft is the error of an answer that came when its member was no longer the active one. It is asked for again.
var errLeft = errors.New("the replica was left meanwhile")

// call has a question answered by the active member, or by the next one when that fails. ErrNotFound is an answer: who
// returns it has made sure that it is not of an older state.
func call[T any](ctx context.Context, r *Reader, doing string, ask func(context.Context, *tenure) (T, error)) (T, error) {
	if t := r.active.Load(); t != nil {
		answer, err := once(ctx, r, t, ask)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return answer, err
		}
		if ctx.Err() != nil {
			return answer, fmt.Errorf("%s: %w", doing, ctx.Err())
		}
	}
	return repeat(ctx, r, doing, ask)
}

// once asks one member. If the member is at fault for an error, it is left.
func once[T any](ctx context.Context, r *Reader, t *tenure, ask func(context.Context, *tenure) (T, error)) (T, error) {
	asking, cancel := context.WithTimeout(ctx, r.config.CallTimeout)
	defer cancel()
	answer, err := ask(asking, t)
	if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		r.leave(t, err)
	}
	return answer, err
}

// repeat asks whoever is active until there is an answer or nobody has patience any more.
func repeat[T any](ctx context.Context, r *Reader, doing string, ask func(context.Context, *tenure) (T, error)) (T, error) {
	ctx, cancel := r.patiently(ctx)
	defer cancel()
	retry := backoff.Backoff{First: 2 * time.Millisecond, Max: r.config.ProbeEvery}
	for {
		var answer T
		t, err := r.await(ctx)
		if err != nil {
			return answer, fmt.Errorf("%s: %w", doing, err)
		}
		answer, err = once(ctx, r, t, ask)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return answer, err
		}
		if retry.Wait(ctx) != nil {
			return answer, fmt.Errorf("%s: %w; the last attempt: %s", doing, ctx.Err(), err.Error())
		}
	}
}

// patiently bounds how long a call waits for a fit member.
func (r *Reader) patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.config.GiveUp+2*r.config.CallTimeout)
}

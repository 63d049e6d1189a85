package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// errLeft is the error of an answer that came when its member was no longer the active one. It is asked for again.
var errLeft = errors.New("the replica was left meanwhile")

// call has a question answered by the active member, or by the next one when that fails. ErrNotFound is an answer: who
// returns it has made sure that it is not of an older state. So is ErrMisconfigured when every fit member has said so.
func call[T any](ctx context.Context, r *Reader, doing string, ask func(context.Context, *tenure) (T, error)) (T, error) {
	var refused refusals
	if t := r.active.Load(); t != nil {
		answer, err := once(ctx, r, t, ask)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return answer, err
		}
		if ctx.Err() != nil {
			return answer, fmt.Errorf("%s: %w", doing, ctx.Err())
		}
		refused.note(t, err)
	}
	return repeat(ctx, r, doing, ask, refused)
}

// once asks one member. If the member is at fault for an error, it is left. One that somebody has to repair is kept
// while nobody is better: it may answer everything else.
func once[T any](ctx context.Context, r *Reader, t *tenure, ask func(context.Context, *tenure) (T, error)) (T, error) {
	asking, cancel := context.WithTimeout(ctx, r.config.CallTimeout)
	defer cancel()
	answer, err := ask(asking, t)
	switch {
	case err == nil || errors.Is(err, store.ErrNotFound) || ctx.Err() != nil:
	case errors.Is(err, store.ErrMisconfigured) && !r.hasAnother():
	default:
		r.leave(t, err)
	}
	return answer, err
}

// hasAnother says whether there is a fit member besides the active one.
func (r *Reader) hasAnother() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.best(r.admitted) != nil
}

// refusals are the members that have answered a question with ErrMisconfigured, and what the last of them said.
type refusals struct {
	members []*member
	err     error
}

func (f *refusals) note(t *tenure, err error) {
	if errors.Is(err, store.ErrMisconfigured) {
		f.members, f.err = append(f.members, t.member), err
	}
}

// repeat asks the active member until there is an answer or patience has run out. A member that has refused already is
// only active again if there is nobody else.
func repeat[T any](
	ctx context.Context, r *Reader, doing string, ask func(context.Context, *tenure) (T, error), refused refusals,
) (T, error) {
	ctx, cancel := r.patiently(ctx)
	defer cancel()
	retry := backoff.Backoff{First: 2 * time.Millisecond, Max: r.config.ProbeEvery}
	for {
		var answer T
		t, err := r.await(ctx)
		if err != nil {
			return answer, fmt.Errorf("%s: %w", doing, err)
		}
		if slices.Contains(refused.members, t.member) {
			return answer, refused.err
		}
		answer, err = once(ctx, r, t, ask)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return answer, err
		}
		refused.note(t, err)
		if retry.Wait(ctx) != nil {
			return answer, fmt.Errorf("%s: %w; the last attempt: %s", doing, ctx.Err(), err.Error())
		}
	}
}

// patiently bounds how long a call waits for a fit member.
func (r *Reader) patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.config.GiveUp+2*r.config.CallTimeout)
}

package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

// discardTime is for how long a run tries to discard dead letters that it is not going to judge.
const discardTime = 5 * time.Second

// listLetters lists the dead letters of the run's logs, and discards the run's own.
func (r *runner) listLetters(ctx context.Context) error {
	letters, err := r.letters(ctx)
	if err != nil {
		return err
	}
	var own []string
	for _, d := range letters {
		if m, _ := history.Recognise(r.id, d.Body, d.ContentType, d.Headers); m != history.Nobody {
			own = append(own, d.ID)
			r.out.Write(history.Line{Letter: &history.Letter{Log: r.logOf(d.Log).index, Message: m.String(), Reason: d.Reason}})
		}
	}
	r.lettersListed = true
	return r.discard(ctx, own)
}

// discardRest discards the dead letters that this run and earlier ones on the same logs have left, if this one has not
// come to its last step. Its messages may still become dead letters afterwards: the next run discards those.
func (r *runner) discardRest(ctx context.Context) {
	if r.contacted && !r.lettersListed {
		r.discardOld(ctx)
	}
}

// discardOld discards the dead letters of all runs on the run's logs. If that fails it is left to the next run.
func (r *runner) discardOld(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, discardTime, errStill)
	defer cancel()
	letters, err := r.letters(ctx)
	if err != nil {
		return
	}
	var old []string
	for _, d := range letters {
		if bytes.HasPrefix(d.Body, []byte(history.BodyMagic)) {
			old = append(old, d.ID)
		}
	}
	_ = r.discard(ctx, old)
}

// letters returns the dead letters of the run's logs, of whomever they are. A deployment that does not know dead letters
// has none.
func (r *runner) letters(ctx context.Context) (found []client.DeadLetter, err error) {
	err = r.retry(ctx, func(target *client.Client) error {
		found = found[:0]
		for d, err := range target.DeadLetters(ctx) {
			if err != nil {
				return err
			}
			if r.logOf(d.Log) != nil {
				found = append(found, d)
			}
		}
		return nil
	})
	var failed *client.Error
	if errors.As(err, &failed) && failed.Status == http.StatusNotFound {
		return nil, nil // something that only speaks the rest of the API
	}
	if err != nil {
		return nil, fmt.Errorf("listing the dead letters: %w", err)
	}
	return found, nil
}

// discard discards dead letters. One that is no longer there is discarded.
func (r *runner) discard(ctx context.Context, ids []string) error {
	for _, id := range ids {
		err := r.retry(ctx, func(target *client.Client) error { _, err := target.DiscardDeadLetter(ctx, id, 0); return err })
		if err != nil && client.KindOf(err) != client.NotFound {
			return fmt.Errorf("discarding the dead letter %s: %w", id, err)
		}
	}
	return nil
}

// logOf returns the run's log of a name, nil if it has none.
func (r *runner) logOf(name string) *log {
	for _, l := range r.logs {
		if l.Name == name {
			return l
		}
	}
	return nil
}

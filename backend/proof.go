package backend

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// proof is the way from a raise of the flag to its lowering. flag.go says why it is right.
type proof struct {
	text    string             // the newest raise, as it was read last, "" if the flag was down
	since   time.Time          // when it was read first
	barrier *drainmark.Receipt // of the barrier that was sent when it had settled, nil before
}

// proveDrained lowers the flag, whenever it is up and everything accepted is persisted, until ctx ends. While the flag
// is down, it does nothing. While a barrier is not reached, it sends no other.
func (b *Backend) proveDrained(ctx context.Context) {
	failing := loglimit.New(b.logger, slog.LevelWarn,
		"whether everything accepted is persisted cannot be found out: consumers are wanted until it is")
	pace := backoff.Backoff{First: proofPause, Max: proofPause}
	retry := backoff.Backoff{First: proofPause, Max: proofsApart}
	var p proof
	for ctx.Err() == nil {
		wait := &pace
		if !b.flag.isDown() || p.barrier != nil {
			if err := b.prove(ctx, &p); err != nil && ctx.Err() == nil {
				failing.Log("error", err)
				wait = &retry
			} else {
				failing.End("whether everything accepted is persisted can be found out again")
				retry.Reset()
			}
		}
		_ = wait.Wait(ctx)
	}
}

// prove takes a proof one step further.
func (b *Backend) prove(ctx context.Context, p *proof) error {
	if p.barrier == nil {
		if settled, err := b.lookAtFlag(ctx, p); !settled {
			return err
		}
		call, cancel := context.WithTimeout(ctx, flagTime)
		defer cancel()
		barrier, err := b.barrier(call, nil, true)
		if err != nil {
			return err
		}
		p.barrier = &barrier
	}
	status, err := b.status(ctx, *p.barrier, proofWait, true)
	switch {
	case drainmark.KindOf(err) == drainmark.KindReceiptExpired:
		*p = proof{}
		return nil
	case err != nil:
		return err
	case status.State != Persisted:
		p.barrier = &status.Receipt
		return nil
	}
	call, cancel := context.WithTimeout(ctx, flagTime)
	defer cancel()
	if err := b.flag.Lower(call, p.text); err != nil {
		return err
	}
	b.metrics.flagProofs.Inc()
	*p = proof{}
	return nil
}

// lookAtFlag reads the flag, and says whether one raise has been the newest for long enough.
func (b *Backend) lookAtFlag(ctx context.Context, p *proof) (settled bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, flagTime)
	defer cancel()
	text, err := b.flag.read(ctx)
	switch {
	case errors.Is(err, broker.ErrNeverRaised): // what was accepted before is not known
		return false, b.flag.raise(ctx, raiseAfter)
	case err != nil:
		return false, err
	case text != p.text:
		*p = proof{text: text, since: time.Now()}
	}
	return text != "" && time.Since(p.since) >= settledAfter, nil
}

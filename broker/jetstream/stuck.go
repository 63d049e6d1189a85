package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark/broker"
)

// After a write error, such as that of a full disk, nats-server takes nothing more for a stream until it is started
// again, also when there is room. It goes on answering everything else, but publishes get no answer. Only a purge is
// answered with that error, also one of nothing. So that is what is asked when a publish has got no answer.

// stuck is why a stream takes nothing, as far as it is known.
type stuck struct {
	on  context.Context // the connection that it was seen on. Over another one NATS may have been started again
	why error           // broker.ErrDiskFull if nothing can be stored before something changes, or nil
}

// lookTime bounds the question.
const lookTime = 2 * time.Second

// full returns broker.ErrDiskFull if a publish has found the disk full, and it is still so.
func (p *partition) full(ctx context.Context) error {
	if !errors.Is(p.suspicion(), broker.ErrDiskFull) {
		return nil
	}
	p.look(ctx) // somebody may have deleted the stream
	if why := p.suspicion(); errors.Is(why, broker.ErrDiskFull) {
		return why
	}
	return nil
}

// suspicion returns what is known of why the stream takes nothing, or nil.
func (p *partition) suspicion() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck.on != p.conn.now() {
		return nil
	}
	return p.stuck.why
}

// unanswered says more of the error of a publish that got no answer, if more is known, and has it found out for the next.
func (p *partition) unanswered(err error) error {
	if p.b.process != nil || !errors.Is(err, errUnanswered) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if why := p.suspicion(); why != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	p.b.start(func() {
		if p.looking.TryLock() {
			defer p.looking.Unlock()
			p.look(p.conn.ctx)
		}
	})
	return err
}

// look finds out why the stream takes nothing.
func (p *partition) look(ctx context.Context) {
	on := p.conn.now()
	ctx, cancel := p.conn.during(ctx, lookTime)
	defer cancel()
	why := p.writeError(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck = stuck{on: on, why: why}
}

func (p *partition) writeError(ctx context.Context) error {
	err := p.purgeThrough(ctx, p.subject+"nothing-has-this-subject", 1) // NATS does not look at its error for less than 1
	var answer *natsjs.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && strings.Contains(answer.Description, "no space left"):
		return fmt.Errorf("%w: NATS could not write (no space left on device), and takes nothing more for the stream %s "+
			"until it is started again: make room on its disk, then start it again", broker.ErrDiskFull, p.config.Name)
	case errors.As(err, &answer):
		return fmt.Errorf("NATS does not let the stream %s be purged either (error %d): look at its log",
			p.config.Name, answer.ErrorCode)
	case errors.Is(err, broker.ErrMisconfigured): // as the user of a backend, who need not be allowed to purge
		if _, err := p.info(ctx); err != nil {
			return nil
		}
		return fmt.Errorf("NATS answers other questions about the stream %s, as it does after a write error, such as that "+
			"of a full disk: look for one in its log, make room, and start it again", p.config.Name)
	}
	return nil
}

package consumer

import (
	"errors"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/store"
)

// A store that is damaged, or that somebody has changed, is not cured by trying again. It is tried again all the same,
// because somebody may have repaired it. But it is an error in the log and not a warning, it is in the metrics, and the
// consumer is not ready at once.

// needsRepair says whether an error lasts until somebody repairs something.
func needsRepair(err error) bool {
	return errors.Is(err, store.ErrMisconfigured) || errors.Is(err, broker.ErrMisconfigured)
}

// storeFailed logs that the store did not do something.
func (c *common) storeFailed(what string, err error, args ...any) {
	args = append(args, "error", err)
	if !needsRepair(err) {
		c.storeFails.Log(append(args, "what", what)...)
		return
	}
	c.metrics.storeBroken.Set(1)
	c.misfit.Log(append(args, "and_so", what)...)
}

// noteRepair says in the log and in the metrics when the calls that somebody had to repair work again.
func (c *Consumer) noteRepair() {
	if c.broken() {
		return
	}
	c.metrics.storeBroken.Set(0)
	c.misfit.End("the store can be used again")
}

// broken says whether anything that the store is for fails until somebody repairs it.
func (c *Consumer) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.standing.store.why, store.ErrMisconfigured) || c.standing.unswept {
		return true
	}
	for _, d := range c.draining {
		if errors.Is(d.failing(), store.ErrMisconfigured) {
			return true
		}
	}
	return false
}

package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/store"
)

// A consumer that reaches the store but not the broker must not keep partitions that others could drain. So it takes
// part in the sharing only when the broker answers. If there are others, it gives up the partitions that it could not
// subscribe to for a lease. If it can drain none, it gives up all of them and its place in the group.
//
// Nobody knows whether the others can do better, and all of them may have lost the broker at once. So everybody stays
// away for a while only, and the last one of the group keeps what it has and tries on.

// standing is what a consumer knows of itself: what it can drain, and whether it takes part. Guarded by Consumer.mu.
type standing struct {
	absence absence
	shunned map[int]shun      // by partition
	adopted map[int]time.Time // when partitions were taken that nobody had held for a lease
	free    map[int]time.Time // since when nobody has held a partition
	store   plight            // the heartbeats'
	waits   map[int]wait      // by partition
	unswept bool              // the last sweep failed until somebody repairs the store
}

// absence is why a consumer takes no part in the sharing.
type absence struct {
	why   error     // nil while it takes part
	left  bool      // the store knows
	rest  time.Time // until then it stays away, though the broker may answer
	trial time.Time // from then on it tries again, though the broker may not answer what it is asked
	tries int       // absences since something was drained
}

// shun is why and until when a partition is not taken.
type shun struct {
	why   error
	until time.Time
	tries int // since it was drained
}

const (
	// maxRest is how many leases a consumer stays away at most from what it could not subscribe to.
	maxRest = 8
	// trialAfter is how many leases later a consumer tries to drain although the broker does not answer its question. That
	// answer is about publishing too, and may be wrong about what can be received.
	trialAfter = 12
	// adoptedFor is for how many leases a partition is kept that nobody else had wanted.
	adoptedFor = 100
	// unreadyAfter is for how many leases something must fail until the consumer is not ready.
	unreadyAfter = 3
)

// newStanding returns that of a consumer that has not begun: it is absent until the broker has answered.
func newStanding(l Limits) standing {
	trial := time.Now().Add(trialAfter * l.Lease)
	return standing{
		absence: absence{why: errors.New("the broker has not answered yet"), left: true, trial: trial},
		shunned: map[int]shun{}, adopted: map[int]time.Time{}, free: map[int]time.Time{}, waits: map[int]wait{},
	}
}

// plight is since when something fails, and why. The zero value means that it does not.
type plight struct {
	since    time.Time
	why      error
	ofBroker bool // another consumer may do better
}

// note notes a failure, or with nil that all is well.
func (p *plight) note(why error, ofBroker bool) {
	switch {
	case why == nil:
		*p = plight{}
		return
	case p.why == nil || p.ofBroker != ofBroker:
		p.since = time.Now()
	}
	p.why, p.ofBroker = why, ofBroker
}

// lasts returns why something has failed for so long, or nil.
func (p *plight) lasts(long time.Duration) error {
	if p.why == nil || time.Since(p.since) < long {
		return nil
	}
	return p.why
}

// fails is lasts, but reports at once what somebody has to repair.
func (p *plight) fails(long time.Duration) error {
	if needsRepair(p.why) {
		return p.why
	}
	return p.lasts(long)
}

// rest returns how long to stay away from something at the next of some tries.
func (c *Consumer) rest(tries int) time.Duration {
	return c.limits.Lease * time.Duration(min(1<<min(tries, 10), maxRest))
}

// Ready returns nil while this consumer takes part and can drain what it holds, and otherwise why not. It does not
// block, and may be called concurrently.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	long := unreadyAfter * c.limits.Lease
	if err := c.standing.store.fails(long); err != nil {
		return err // the store says what it was doing
	}
	if why := c.standing.absence.why; why != nil {
		return fmt.Errorf("this consumer takes no partitions: %w", why)
	}
	for _, p := range slices.Sorted(maps.Keys(c.draining)) {
		err := c.draining[p].stuck(long)
		if now := c.draining[p].failing(); err == nil && needsRepair(now) {
			err = now
		}
		if err != nil {
			return fmt.Errorf("partition %d is not drained: %w", p, err)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(c.standing.shunned)) {
		if s := c.standing.shunned[p]; time.Now().Before(s.until) {
			return fmt.Errorf("partition %d could not be drained and was left to others: %w", p, s.why)
		}
	}
	return nil
}

// noteHeartbeat notes whether the store has taken a heartbeat.
func (c *Consumer) noteHeartbeat(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.standing.store.note(err, false)
	if err != nil {
		clear(c.standing.waits) // nobody knows who holds what
	}
	c.mu.Unlock()
	if err != nil {
		c.storeFailed("the store did not take the heartbeat", err)
		return
	}
	c.noteRepair()
}

// absent says whether this consumer takes no part in the sharing now. It ends an absence when the broker answers.
func (c *Consumer) absent(ctx context.Context) bool {
	c.mu.Lock()
	a, draining := c.standing.absence, len(c.draining)
	c.mu.Unlock()
	switch {
	case a.why == nil:
		return false
	case draining > 0: // those that were given up are about to end
		return true
	case !a.left:
		a.left = c.leave(ctx)
	}
	if a.left {
		a = c.reconsider(ctx, a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.standing.absence = a
	return a.why != nil
}

// reconsider ends an absence when the broker answers. If it does not, that is the cause, and the absence ends with it.
// Otherwise the cause is something else, which may still be there, and the absence has to last for a while.
func (c *Consumer) reconsider(ctx context.Context, a absence) absence {
	call, cancel := context.WithTimeout(ctx, c.limits.Lease)
	defer cancel()
	err := c.broker.Ping(call)
	now := time.Now()
	switch {
	case ctx.Err() != nil:
	case answers(err) && !now.Before(a.rest), !now.Before(a.trial):
		c.logger.Info("taking part in the sharing of partitions")
		return absence{tries: a.tries}
	case !answers(err):
		a.rest = now
		a.why = fmt.Errorf("the broker does not answer: %w", err)
		c.logger.Debug("staying away", "error", a.why)
	}
	return a
}

// leave makes the store forget this consumer, so that the others share all partitions among themselves.
func (c *Consumer) leave(ctx context.Context) bool {
	call, cancel := context.WithTimeout(ctx, c.limits.CommitTimeout)
	defer cancel()
	err := c.store.Leave(call, c.owner)
	if err != nil && ctx.Err() == nil {
		c.storeFailed("leaving failed; it is tried again", err)
	}
	return err == nil
}

// giveUpStuck gives up, for others to take, the partitions that could not be drained for a lease because of the broker.
// If those are all, this consumer leaves the group, and giveUpStuck returns true. An attempt that is under way is not
// disturbed while the broker answers otherwise: a queue that has lost its leader needs longer than a lease to find
// another, and a new attempt begins anew.
func (c *Consumer) giveUpStuck(ctx context.Context) (left bool) {
	stuck, asking, running := c.stuck()
	if len(asking) > 0 && c.isCutOff(ctx) {
		maps.Copy(stuck, asking)
	}
	if len(stuck) == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for p, why := range stuck {
		d := c.draining[p]
		if d == nil {
			continue // it has ended meanwhile
		}
		tries := c.standing.shunned[p].tries
		c.standing.shunned[p] = shun{why: why, until: now.Add(c.rest(tries)), tries: tries + 1}
		delete(c.standing.adopted, p)
		c.metrics.givenUp.Inc()
		d.givenUp = true
		d.stop()
	}
	some := slices.Min(slices.Collect(maps.Keys(stuck)))
	why := fmt.Errorf("partition %d: %w", some, stuck[some])
	if len(stuck) < running {
		c.logger.Warn("giving partitions up that could not be drained; others may be able to", "partitions", slices.Sorted(maps.Keys(stuck)), "error", why)
		return false
	}
	c.logger.Warn("giving all partitions up, because none could be drained; others may be able to", "error", why)
	clear(c.standing.shunned) // it is not they
	clear(c.standing.waits)
	tries := c.standing.absence.tries
	c.standing.absence = absence{
		why: why, rest: now.Add(c.rest(tries)), trial: now.Add(trialAfter * c.limits.Lease), tries: tries + 1,
	}
	return true
}

// stuck returns why which partitions could not be drained for a lease because of the broker, apart for those that the
// broker is being asked for, and how many partitions are drained or tried in all.
func (c *Consumer) stuck() (stuck, asking map[int]error, running int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stuck, asking = map[int]error{}, map[int]error{}
	for p, d := range c.draining {
		if d.givenUp {
			continue
		}
		running++
		why, asks := d.stuckAtBroker(c.limits.Lease)
		switch {
		case why != nil && asks:
			asking[p] = why
		case why != nil:
			stuck[p] = why
		case d.drains():
			delete(c.standing.shunned, p)
			c.standing.absence.tries = 0
		}
	}
	return stuck, asking, running
}

// isCutOff says whether the broker does not answer this consumer. It asks for so short a time that the lease lasts.
func (c *Consumer) isCutOff(ctx context.Context) bool {
	call, cancel := context.WithTimeout(ctx, c.limits.Lease/3)
	defer cancel()
	return !answers(c.broker.Ping(call)) && ctx.Err() == nil
}

// answers says whether the broker has answered a ping, even with a refusal.
func answers(err error) bool {
	return err == nil || errors.Is(err, broker.ErrFull) || errors.Is(err, broker.ErrMisconfigured)
}

// choice says which partitions this consumer does not take, takes out of turn, and keeps. One that is alone takes
// everything: nobody else will.
func (c *Consumer) choice(group store.Group, alone bool) choice {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := &c.standing, time.Now()
	out := choice{shunned: map[int]bool{}, orphans: map[int]bool{}, adopted: map[int]bool{}}
	holder := map[int]string{}
	for _, claim := range group.Claims {
		holder[claim.Partition] = claim.Owner
	}
	for p := range c.partitions {
		out.shunned[p] = !alone && now.Before(s.shunned[p].until)
		if holder[p] != "" {
			delete(s.free, p)
		} else {
			s.free[p] = cmp.Or(s.free[p], now)
			out.orphans[p] = now.Sub(s.free[p]) >= c.limits.Lease
		}
		switch {
		case out.orphans[p] && !out.shunned[p]:
			s.adopted[p] = now
		case holder[p] != c.owner || now.Sub(s.adopted[p]) > adoptedFor*c.limits.Lease:
			delete(s.adopted, p)
		}
		_, out.adopted[p] = s.adopted[p]
	}
	return out
}

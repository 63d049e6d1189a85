package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// These can go wrong with a plan, and are in the chain of Run's error.
var (
	ErrNotHappened = errors.New("the fault did not happen")
	ErrNotHealed   = errors.New("the fault was not healed")
	ErrUnhealthy   = errors.New("the deployment is not healthy")
)

// Options say how a plan is played. Fields that are zero have their defaults.
type Options struct {
	Shell string   // is called with -c and a command (default /bin/sh)
	Dir   string   // where commands run (default: the current directory)
	Env   []string // NAME=value, besides the environment of the process
	// Timeout is how long a command may take before it is killed, with its whole process group (default 60 s).
	Timeout time.Duration
	// HealthTimeout is how long the deployment may take to be healthy, unless the plan has a Settle (default 60 s).
	HealthTimeout time.Duration
	// Health returns nil if the deployment works. It must return when its ctx ends. Nil for no checks of health.
	Health func(ctx context.Context) error
	// Reap says that the process has no children but the commands, and is to take in those that they leave behind when
	// they end. Process 1 of a container must: nobody else does.
	Reap   bool
	Record func(history.Line)   // is told of each Fault and each Health when it has ended, nil for nobody
	Now    func() time.Duration // the time of records, nil for the time since New
	Log    func(string)         // is told what is being done, for people, nil for nobody
}

func (o Options) withDefaults() Options {
	o.Shell = cmp.Or(o.Shell, "/bin/sh")
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.HealthTimeout = cmp.Or(o.HealthTimeout, time.Minute)
	if o.Record == nil {
		o.Record = func(history.Line) {}
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Duration { return time.Since(start) }
	}
	return o
}

// Runner plays a plan. InForce may be called at any time, Run once.
type Runner struct {
	plan    Plan
	seed    uint64
	options Options
	execute func(ctx context.Context, command string, env []string) (output string, err error)
	entries []*entry
	dir     string     // of the temporary files of commands
	mu      sync.Mutex // guards inForce of the entries
}

// entry is one fault of the plan and its state.
type entry struct {
	Fault
	random *rand.Rand // its own, so that it does not depend on when other faults are done
	done   int        // how often it was begun
	due    time.Duration
	over   bool // it is not done again

	// Of the last time:
	chosen  uint32 // FAULT_RANDOM
	dir     string // FAULT_DIR
	inForce bool
	healAt  time.Duration
}

// New returns a runner of a plan. Its random choices follow from the seed.
func New(plan Plan, seed uint64, options Options) (*Runner, error) {
	if err := plan.Check(); err != nil {
		return nil, fmt.Errorf("reading the plan of faults: %w", err)
	}
	r := &Runner{plan: plan, seed: seed, options: options.withDefaults()}
	r.options.HealthTimeout = cmp.Or(plan.Settle, r.options.HealthTimeout)
	r.execute = r.options.shell
	for _, f := range plan.Faults {
		name := fnv.New64a()
		_, _ = name.Write([]byte(f.Name)) // never fails
		r.entries = append(r.entries, &entry{Fault: f, random: rand.New(rand.NewPCG(seed, name.Sum64()))})
	}
	return r, nil
}

// Run does the faults of the plan, one at a time unless it allows more, until ctx ends or something goes wrong. Then it
// heals what is in force and waits until the deployment is healthy. The end of ctx does not cut that short, nor a
// command that is under way: half a fault could not be healed. It is bounded by Options.Timeout for each command, by
// twice a fault's Within for each wait for its check, and by the plan's Settle for the health.
//
// The error has all that went wrong: a fault that did not happen or never had its turn (ErrNotHappened), one that could
// not be healed (ErrNotHealed), a deployment that was not healthy in time (ErrUnhealthy). The end of ctx is no error.
func (r *Runner) Run(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "drainmark-faults-"); err != nil {
		return fmt.Errorf("making a directory for the faults: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()

	if err := r.awaitHealth(ctx, "before"); err != nil {
		return err
	}
	err = r.play(ctx)
	if err == nil {
		err = r.missed()
	}
	closing := context.WithoutCancel(ctx)
	for _, e := range r.entries {
		if e.inForce {
			err = errors.Join(err, r.heal(closing, e))
		}
	}
	return errors.Join(err, r.awaitHealth(closing, "after"))
}

// InForce names the faults that are in force, with commas between them, or returns "" if there are none.
func (r *Runner) InForce() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, e := range r.entries {
		if e.inForce {
			names = append(names, e.Name)
		}
	}
	return strings.Join(names, ", ")
}

// setInForce is how the one goroutine of Run tells InForce. Run reads the field without the lock.
func (r *Runner) setInForce(e *entry, inForce bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.inForce = inForce
}

// play does what is due next, one thing after the other, until ctx ends. One goroutine does it all: with Overlap, too,
// it is faults that overlap, never commands.
func (r *Runner) play(ctx context.Context) error {
	begin := time.Now()
	r.schedule()
	for {
		e, at := r.next()
		if e == nil {
			<-ctx.Done() // all is done
			return nil
		}
		if !sleep(ctx, at-time.Since(begin)) {
			return nil
		}
		if e.inForce {
			if err := r.heal(ctx, e); err != nil {
				return err
			}
			if err := r.settle(ctx); err != nil {
				return err
			}
			continue
		}
		begun := time.Since(begin)
		if err := r.inject(ctx, e); err != nil {
			return err
		}
		e.healAt = time.Since(begin) + e.For
		e.over = e.Every == 0
		e.due = begun + r.period(e, e.Every)
	}
}

// schedule says when each fault is done first. Those with the same period are spread over it evenly.
func (r *Runner) schedule() {
	same := make(map[time.Duration]int)
	for _, e := range r.entries {
		same[e.Every]++
	}
	before := make(map[time.Duration]int)
	for _, e := range r.entries {
		before[e.Every]++
		e.due = e.At
		if e.Every > 0 {
			e.due = r.period(e, e.Every/time.Duration(same[e.Every])*time.Duration(before[e.Every]))
		}
	}
}

// period returns a time that is longer or shorter than d by the plan's jitter.
func (r *Runner) period(e *entry, d time.Duration) time.Duration {
	share := float64(r.plan.Jitter) / 100 * (2*e.random.Float64() - 1)
	return d + time.Duration(share*float64(d))
}

// next returns what is to be done next, and when: the heal of a fault that is in force, or else a fault. Faults that
// could not be done in time, for others were in force, do not pile up. It returns nil if nothing is left to do.
func (r *Runner) next() (*entry, time.Duration) {
	var heal, fault *entry
	for _, e := range r.entries {
		switch {
		case e.inForce:
			if heal == nil || e.healAt < heal.healAt {
				heal = e
			}
		case !e.over:
			if fault == nil || e.due < fault.due {
				fault = e
			}
		}
	}
	switch {
	case heal != nil && (fault == nil || !r.plan.Overlap || heal.healAt <= fault.due):
		return heal, heal.healAt
	case fault != nil:
		return fault, fault.due
	}
	return nil, 0
}

// settle waits for health between two faults.
func (r *Runner) settle(ctx context.Context) error {
	if r.InForce() != "" {
		return nil // by Overlap: health is not to be expected
	}
	return r.awaitHealth(ctx, "between")
}

// missed returns an error for the faults that never had their turn.
func (r *Runner) missed() error {
	var errs []error
	for _, e := range r.entries {
		if e.done == 0 {
			errs = append(errs, fmt.Errorf("%s: %w: the run ended before its turn", e.title(), ErrNotHappened))
		}
	}
	return errors.Join(errs...)
}

// sleep waits for d, and says whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

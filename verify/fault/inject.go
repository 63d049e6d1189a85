package fault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// These are the waits before a command or the health is asked again.
const (
	checkEvery  = 100 * time.Millisecond
	healthEvery = 200 * time.Millisecond
)

// inject does a fault and proves that it happened. From when its command begins it is in force, even if that fails: the
// command may have done half the work.
func (r *Runner) inject(ctx context.Context, e *entry) error {
	ctx = context.WithoutCancel(ctx)
	line := history.Fault{Name: e.Name, Phase: "run", Start: r.options.Now(), Writes: e.Writes}
	r.options.Log("fault " + e.Name)
	output, err := r.perform(ctx, e)
	line.End = r.options.Now()
	line.OK = err == nil
	line.Output = outputOf(output, err)
	r.options.Record(history.Line{Fault: &line})
	if err != nil {
		return fmt.Errorf("%s: %w: %w%s", e.title(), ErrNotHappened, err, said(output))
	}
	return nil
}

// perform runs the fault's command, between a check that succeeds and one that fails.
func (r *Runner) perform(ctx context.Context, e *entry) (output string, err error) {
	e.chosen = e.random.Uint32() >> 1
	e.dir = filepath.Join(r.dir, e.Name+"-"+strconv.Itoa(e.done))
	e.done++
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return "", fmt.Errorf("making a directory for its commands: %w", err)
	}
	if e.Check != "" {
		if output, err := r.awaitCheck(ctx, e, true); err != nil {
			return output, err
		}
	}
	r.setInForce(e, true)
	output, err = r.command(ctx, e, e.Run, r.options.Timeout)
	if err != nil {
		return output, fmt.Errorf("its run command: %w", err)
	}
	if e.Check != "" {
		if said, err := r.awaitCheck(ctx, e, false); err != nil {
			return output + said, err
		}
	}
	return output, nil
}

// awaitCheck waits until the fault's check succeeds or fails, as wanted. A check that takes longer than Within has
// failed: what is paused does not answer.
func (r *Runner) awaitCheck(ctx context.Context, e *entry, want bool) (output string, err error) {
	within := e.Within
	if within == 0 {
		within = DefaultWithin
	}
	for start := time.Now(); ; {
		output, err = r.command(ctx, e, e.Check, within)
		if (err == nil) == want {
			return "", nil
		}
		if time.Since(start)+checkEvery > within {
			break
		}
		sleep(ctx, checkEvery)
	}
	if want {
		return output, fmt.Errorf("its check fails before the fault, so it cannot prove anything: %w", err)
	}
	return output, fmt.Errorf("nothing changed: its check still succeeds after %v", within)
}

// heal ends a fault. It stays in force if that fails.
func (r *Runner) heal(ctx context.Context, e *entry) error {
	ctx = context.WithoutCancel(ctx)
	line := history.Fault{Name: e.Name, Phase: "heal", Start: r.options.Now(), Writes: e.Writes}
	var output string
	var err error
	if e.Heal != "" {
		r.options.Log("healing " + e.Name)
		output, err = r.command(ctx, e, e.Heal, r.options.Timeout)
	}
	line.End = r.options.Now()
	line.OK = err == nil
	line.Output = outputOf(output, err)
	r.options.Record(history.Line{Fault: &line})
	if err != nil {
		return fmt.Errorf("%s: %w: its heal command: %w%s", e.title(), ErrNotHealed, err, said(output))
	}
	r.setInForce(e, false)
	_ = os.RemoveAll(e.dir) // or else at the end, with all others
	return nil
}

// command runs one command of the fault.
func (r *Runner) command(ctx context.Context, e *entry, command string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	output, err := r.execute(ctx, command, []string{
		"FAULT_NAME=" + e.Name,
		"FAULT_COUNT=" + strconv.Itoa(e.done-1),
		"FAULT_RANDOM=" + strconv.FormatUint(uint64(e.chosen), 10),
		"FAULT_DIR=" + e.dir,
		"DRAINMARK_SEED=" + strconv.FormatUint(r.seed, 10),
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %v, and was killed", limit)
	}
	return output, err
}

// awaitHealth waits until the deployment is healthy. If ctx ends meanwhile, that is left open: the check after all
// faults will tell.
func (r *Runner) awaitHealth(ctx context.Context, when string) error {
	if r.options.Health == nil || ctx.Err() != nil {
		return nil
	}
	start := time.Now()
	within, cancel := context.WithTimeout(ctx, r.options.HealthTimeout)
	defer cancel()
	var last error // the last answer before the time was over
	err := r.options.Health(within)
	for err != nil && within.Err() == nil {
		last = err
		if sleep(within, healthEvery) {
			err = r.options.Health(within)
		}
	}
	if err != nil && ctx.Err() != nil {
		return nil
	}
	line := history.Health{At: r.options.Now(), When: when, OK: err == nil}
	if last == nil {
		last = err
	}
	if last != nil {
		line.Detail = fmt.Sprintf("for %v: %v", time.Since(start).Round(time.Millisecond), last)
	}
	r.options.Record(history.Line{Health: &line})
	if err != nil {
		return fmt.Errorf("health %s the faults: %w within %v: %w", when, ErrUnhealthy, r.options.HealthTimeout, last)
	}
	return nil
}

// outputOf returns what is recorded of a command.
func outputOf(output string, err error) string {
	if err != nil {
		output = strings.TrimRight(output, "\n") + "\n" + err.Error()
	}
	return strings.TrimSpace(output)
}

// said returns the last line of what a command said, to be put behind its error.
func said(output string) string {
	output = strings.TrimSpace(output)
	output = output[strings.LastIndexByte(output, '\n')+1:]
	const most = 300
	switch {
	case output == "":
		return ""
	case len(output) > most:
		output = "…" + strings.ToValidUTF8(output[len(output)-most:], "")
	}
	return ": " + output
}

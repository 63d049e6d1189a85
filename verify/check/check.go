package check

import (
	"cmp"
	"fmt"
	"time"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// defaultModelTime is Options.ModelTime if that is 0.
const defaultModelTime = 20 * time.Second

// Judge judges a history. It changes nothing in it, and gives the same result whenever it is called, but for what is
// bounded by time. It takes some seconds for a million messages.
func Judge(h *history.History, o Options) Result {
	v := newView(h)
	r := Result{
		Run: h.Run.ID, Plan: h.Run.Plan, Seed: h.Run.Seed, URLs: append([]string{}, h.Run.Targets...), Logs: []string{},
		StartedAt: h.Run.StartedAt, Seconds: v.end().Seconds(),
		Appends: v.countAppends(), Windows: v.windows(), Figures: v.figures(), Foreign: v.strangers(),
		Promises: []Promise{
			v.checkDurable(), v.checkExactlyOnce(), v.checkOrder(), v.checkPositions(), v.checkBarrier(), v.checkReadYourWrites(),
			v.checkAvailable(), v.checkAccounted(), v.checkClear(), v.checkRemovals(), v.checkLinearizable(cmp.Or(o.ModelTime, defaultModelTime)),
		},
	}
	if len(r.URLs) > 0 {
		r.URL = r.URLs[0]
	}
	for _, log := range h.Run.Logs {
		r.Logs = append(r.Logs, log.Name)
	}
	r.Verdict, r.Reason = verdictOf(&r, v.wrong())
	return r
}

// wrong says what was not as it was to be, or "": then not everything could be seen.
func (v *view) wrong() string {
	for _, health := range v.Healths {
		if !health.OK && health.When != "between" {
			return fmt.Sprintf("the deployment did not work %s the run: %s", health.When, health.Detail)
		}
	}
	for _, f := range v.Faults {
		if !f.OK {
			return fmt.Sprintf("the fault %q failed to %s: %s", f.Name, f.Phase, cmp.Or(f.Output, "it said nothing"))
		}
	}
	switch {
	case v.End == nil:
		return "the run was broken off"
	case !v.End.Complete:
		return cmp.Or(v.End.Reason, "the run was not complete")
	}
	return ""
}

// verdictOf combines the promises. A broken one decides. Otherwise, all that the run was to check must have been
// checked.
func verdictOf(r *Result, reason string) (Verdict, string) {
	broken := false
	for _, p := range r.Promises {
		broken = broken || p.State == PromiseBroken
		if p.State == PromiseUnchecked && !p.idle {
			reason = cmp.Or(reason, p.Promise+" could not be checked: "+p.Checked)
		}
	}
	if r.Foreign.Count > 0 {
		reason = cmp.Or(reason, fmt.Sprintf("somebody else wrote %s messages into the logs during the run", format.Thousands(r.Foreign.Count)))
	}
	switch {
	case broken:
		return Broken, reason
	case reason != "":
		return Inconclusive, reason
	}
	return Held, ""
}

// newPromise begins a check.
func newPromise(promise, title string) *Promise {
	return &Promise{Promise: promise, Title: title, Examples: []Violation{}}
}

// broken notes a violation. It is made only if it becomes an example.
func (p *Promise) broken(violation func() Violation) {
	p.Violations++
	if len(p.Examples) < MaxExamples {
		p.Examples = append(p.Examples, violation())
	}
}

// judged closes a check. missing is what kept it from looking at all that it should have, or "".
func (p *Promise) judged(checked, missing string) Promise {
	p.State, p.Checked = PromiseHeld, checked
	switch {
	case p.Violations > 0:
		p.State = PromiseBroken
	case missing != "":
		p.State, p.Checked = PromiseUnchecked, missing
	}
	return *p
}

// rested closes a check for which there was nothing to look at, and need not have been.
func (p *Promise) rested(why string) Promise {
	p.State, p.Checked, p.idle = PromiseUnchecked, why, true
	return *p
}

// notRead says which log was not read to its end behind a barrier, or "".
func (v *view) notRead() string {
	for i := range v.logs {
		switch l := &v.logs[i]; {
		case l.barrier == nil:
			return fmt.Sprintf("no barrier was reached before a final reading of the log %s", l.Name)
		case !l.read():
			return fmt.Sprintf("the log %s could not be read to its end", l.Name)
		}
	}
	if len(v.logs) == 0 {
		return "the run has no logs"
	}
	return ""
}

// logs writes how many logs, for people.
func logs(n int) string {
	if n == 1 {
		return "1 log"
	}
	return format.Thousands(n) + " logs"
}

package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// P7 asks for these besides that no attempt fails.
const (
	answerTime  = 10 * time.Second // the API answers an append within it
	blockedTime = 3 * time.Second  // an append that waits so long, until the fault is healed, has waited for the heal
	leadTime    = time.Second      // what is accepted so soon after the begin of a fault may have been done before it
)

// trial is a time in which appends must be accepted: while a fault is in force that says so, and none that does not.
type trial struct {
	span
	fault    int // the index of the fault
	name     string
	sent     int       // appends that were sent in it
	accepted int       // of these, those that were accepted in it
	waiting  []waiting // by log
}

// waiting is how a log's appends fared in a trial.
type waiting struct {
	accepted bool          // one was, later than leadTime after the trial's begin
	blocked  attempt       // the one under way at the trial's end that had been so for the longest time
	waited   time.Duration // how long it had, since the trial's begin
}

// checkAvailable checks P7 while a fault is in force under which appends must be accepted: no attempt to append is
// refused or ends unknown, even if a later one succeeds. Each is answered in time, and they do not all wait for the
// heal. Effects of another fault, under which appends need not be accepted, are not held against the deployment.
func (v *view) checkAvailable() Promise {
	p, faults := newPromise("P7", "available"), v.faults()
	if !slices.ContainsFunc(faults, func(f inForce) bool { return f.Writes }) {
		return p.rested("there was no fault under which appends must be accepted")
	}
	others := v.excuses(faults)
	trials := v.trials(faults, others)
	var attempts []attempt
	for i := range v.Appends {
		attempts = appendAttempts(attempts[:0], &v.Appends[i])
		for _, a := range attempts {
			for t := range trials {
				if a.from < trials[t].until && a.until >= trials[t].from {
					v.try(p, &trials[t], a, others)
				}
			}
		}
	}
	for t := range trials {
		v.checkBlocked(p, &trials[t])
	}
	return p.judged(looked(faults, trials))
}

// excuses returns when faults were in force under which appends need not be accepted. They end when the deployment was
// found healthy again, if that was before anything else was done to it: what was sent before may still suffer.
func (v *view) excuses(faults []inForce) (all []span) {
	for _, f := range faults {
		if f.Writes {
			continue
		}
		s := span{f.Start, f.until}
		after := func(h history.Health) bool { return h.OK && h.At >= f.until }
		if at := slices.IndexFunc(v.Healths, after); at >= 0 {
			healthy := v.Healths[at].At
			if !slices.ContainsFunc(faults, func(g inForce) bool { return g.Start < healthy && g.until > f.until }) {
				s.until = healthy
			}
		}
		all = append(all, s)
	}
	return all
}

// trials returns the times in which appends must be accepted: from when a fault's command had ended, for until then it may
// not have happened, to when the one that heals it was started.
func (v *view) trials(faults []inForce, others []span) (all []trial) {
	for i, f := range faults {
		if !f.Writes {
			continue
		}
		for _, s := range (span{f.End, f.healing}).without(others) {
			all = append(all, trial{span: s, fault: i, name: f.Name, waiting: make([]waiting, len(v.logs))})
		}
	}
	return all
}

// try judges an attempt that was under way in a trial.
func (v *view) try(p *Promise, t *trial, a attempt, others []span) {
	if a.from == a.Start && t.has(a.from) {
		t.sent++
	}
	w := &t.waiting[a.Log]
	if a.became == history.Done && t.has(a.until) {
		w.accepted = w.accepted || a.until >= t.from+leadTime
		if t.has(a.from) {
			t.accepted++
		}
	}
	// Faults that had begun by then, and were not over when it was sent, may have been the reason.
	spoilt := func(by time.Duration) bool {
		return slices.ContainsFunc(others, func(o span) bool { return o.from <= by && o.until > a.from })
	}
	waited := min(a.until, t.until) - max(a.from, t.from)
	switch {
	case a.failedIn(t.span) && !spoilt(a.until):
		v.unavailable(p, &a, a.until, fmt.Sprintf("accepted, also while %q is in force", t.name), a.failure())
	case spoilt(t.from), a.Waited: // it may have waited as it asked for
	case waited > answerTime:
		v.unavailable(p, &a, a.until, fmt.Sprintf("answered within %v, also while %q is in force", answerTime, t.name),
			fmt.Sprintf("under way since %s, for %s of that time", seconds(a.from), seconds(waited)))
	case a.until >= t.until && waited > w.waited:
		w.blocked, w.waited = a, waited
	}
}

// checkBlocked checks that the appends of no log have waited until a trial was over. A log in which one was accepted
// meanwhile was available, however slow.
func (v *view) checkBlocked(p *Promise, t *trial) {
	for i := range t.waiting {
		if w := &t.waiting[i]; !w.accepted && w.waited >= blockedTime {
			v.unavailable(p, &w.blocked, t.until, fmt.Sprintf("accepted while %q is in force", t.name),
				fmt.Sprintf("under way since %s, and not answered before %s; nothing else was accepted in the log since %s",
					seconds(w.blocked.from), seconds(t.until), seconds(t.from+leadTime)))
		}
	}
}

// unavailable notes a violation about an attempt.
func (v *view) unavailable(p *Promise, a *attempt, at time.Duration, expected, found string) {
	p.broken(func() Violation {
		m := history.Message{Client: a.Client, Number: a.First}
		return v.logs[a.Log].of(m, 0, at, expected, found)
	})
}

// failure says how an attempt failed.
func (a *attempt) failure() string {
	how := "refused"
	if a.became == history.Unknown {
		how = "not known to be accepted or refused"
		if a.UnknownWhy != "" {
			how += " (" + a.UnknownWhy + ")"
		}
	}
	if a.Outcome == history.Done {
		return fmt.Sprintf("an attempt was %s after %s; a later one was accepted", how, seconds(a.until-a.from))
	}
	if a.Status != 0 {
		how += fmt.Sprintf(", the last time with status %d", a.Status)
	}
	if a.Error != "" {
		how += ": " + a.Error
	}
	return how
}

// looked says what the trials have looked at. A fault must have been looked at once at least, whenever it was done: an
// append was sent while it was in force, and answered.
func looked(faults []inForce, trials []trial) (checked, missing string) {
	sent, seen := 0, make([]bool, len(faults))
	names := map[string]bool{}
	for _, t := range trials {
		sent += t.sent
		seen[t.fault] = seen[t.fault] || t.accepted > 0
		names[t.name] = names[t.name] || t.accepted > 0
	}
	under, idle := 0, 0
	var not []string
	for i, f := range faults {
		switch {
		case !f.Writes:
			continue
		case seen[i]:
			under++
		default:
			idle++
		}
		if quoted := fmt.Sprintf("%q", f.Name); !names[f.Name] && !slices.Contains(not, quoted) {
			not = append(not, quoted)
		}
	}
	checked = fmt.Sprintf("%s appends under %s faults", format.Thousands(sent), format.Thousands(under))
	if idle > 0 {
		checked += fmt.Sprintf("; under %s more no append was sent and accepted, so they say nothing", format.Thousands(idle))
	}
	if len(not) > 0 {
		missing = "not looked at, for no append was sent and accepted while in force: " + strings.Join(not, ", ")
	}
	return checked, missing
}

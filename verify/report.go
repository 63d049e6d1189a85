package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verdict is what a run comes to.
type Verdict string

// The verdicts.
const (
	Held         Verdict = "held"         // every promise was checked, and held
	Broken       Verdict = "broken"       // at least one promise was broken
	Inconclusive Verdict = "inconclusive" // nothing is known to be broken, and not everything could be checked
)

// State says how one promise stands.
type State string

// The states of a promise.
const (
	PromiseHeld      State = "held"
	PromiseBroken    State = "broken"
	PromiseUnchecked State = "unchecked"
)

// Report is what a run found. As JSON it is one document, whose names do not change.
type Report struct {
	Verdict   Verdict   `json:"verdict"`
	Reason    string    `json:"reason,omitempty"` // of a verdict that is inconclusive
	URL       string    `json:"url"`              // without a password
	Log       string    `json:"log"`
	Run       string    `json:"run"` // what the run's messages can be known by
	StartedAt time.Time `json:"started_at"`
	Seconds   float64   `json:"seconds"` // how long the run took
	Appends   Appends   `json:"appends"`
	Promises  []Promise `json:"promises"` // P1 to P6
	Figures   Figures   `json:"figures"`
	Foreign   Strangers `json:"foreign"`
}

// Appends counts what became of the messages to append.
type Appends struct {
	Messages int `json:"messages"` // how many there were to append
	Clients  int `json:"clients"`
	Batch    int `json:"batch"` // messages in a request
	Done     int `json:"done"`
	Refused  int `json:"refused"`
	Unknown  int `json:"unknown"`
	Unsent   int `json:"unsent"`
	Retries  int `json:"retries"` // requests sent again because they failed
	Resent   int `json:"resent"`  // requests sent again, on purpose, after they had been accepted
}

// Promise is what was found of one promise.
type Promise struct {
	Promise    string      `json:"promise"` // P1 to P6
	Title      string      `json:"title"`
	State      State       `json:"state"`
	Checked    string      `json:"checked"`    // what was looked at, or why nothing was
	Violations int         `json:"violations"` // how many there are
	Examples   []Violation `json:"examples"`   // the first of them, MaxExamples at most
}

// MaxExamples is how many examples a report has of each thing.
const MaxExamples = 5

// Violation is one case in which a promise was broken.
type Violation struct {
	Position uint64 `json:"position,omitempty"` // of the message in the log, 0 if it has none or none is concerned
	ID       string `json:"id,omitempty"`       // of the message, if it could still be read at its position
	Client   *int   `json:"client,omitempty"`   // who sent it, from 0; nil if that cannot be told
	Number   int    `json:"number,omitempty"`   // which one of the client's messages, from 1
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

// Figures is what was measured.
type Figures struct {
	AppendsPerSecond   float64 `json:"appends_per_second"`
	AcceptP50Ms        float64 `json:"accept_p50_ms"` // from first sending a request until it was accepted, retries included
	AcceptP99Ms        float64 `json:"accept_p99_ms"`
	ReachedAfterMs     float64 `json:"reached_after_ms"` // from the answer to the last append until the barrier was reached
	MessagesReadPerSec float64 `json:"messages_read_per_second"`
}

// Strangers are messages in the log that are not the run's.
type Strangers struct {
	Count    int       `json:"count"`
	Examples []Foreign `json:"examples"`
}

// Foreign is a message that somebody else wrote into the log during the run.
type Foreign struct {
	Position uint64 `json:"position"`
	ID       string `json:"id"`
	Begins   string `json:"begins"` // the beginning of its body
}

// report judges the history. failure is what steps returned.
func (r *runner) report(ctx context.Context, failure error) Report {
	report := Report{
		URL: r.redactedURL(), Log: r.config.Log, Run: r.run, StartedAt: r.startedAt, Seconds: r.since().Seconds(),
		Appends: r.history.countAppends(), Promises: r.history.check(), Figures: r.history.figures(), Foreign: r.history.strangers(),
	}
	report.Appends.Batch = r.config.Batch
	report.Appends.Retries = int(r.retries.Load())
	r.addIDs(ctx, report.Promises)
	report.Verdict, report.Reason = verdictOf(&report, reasonOf(ctx, failure, r.display.step()))
	return report
}

// reasonOf says why a run was not done to its end, if it was not.
func reasonOf(ctx context.Context, failure error, during string) string {
	switch {
	case failure == nil:
		return ""
	case errors.Is(context.Cause(ctx), errTimeout):
		return fmt.Sprintf("%v; it was at the step %q: %v", errTimeout, during, failure)
	default:
		return failure.Error()
	}
}

// verdictOf says what the promises come to together. A broken one decides; besides, all must have been checked.
func verdictOf(r *Report, reason string) (Verdict, string) {
	var unchecked string
	for _, p := range r.Promises {
		switch p.State {
		case PromiseBroken:
			return Broken, reason
		case PromiseUnchecked:
			unchecked = cmp.Or(unchecked, p.Promise+" could not be checked: "+p.Checked)
		}
	}
	if r.Foreign.Count > 0 {
		reason = cmp.Or(reason, fmt.Sprintf("somebody else wrote %d messages into the log during the run", r.Foreign.Count))
	}
	if reason = cmp.Or(reason, unchecked); reason != "" {
		return Inconclusive, reason
	}
	return Held, ""
}

func (h *history) countAppends() Appends {
	a := Appends{Messages: len(h.appends), Clients: h.clients, Resent: h.resent}
	for i := range h.appends {
		switch h.appends[i].outcome {
		case done:
			a.Done++
		case refused:
			a.Refused++
		case unknown:
			a.Unknown++
		case unsent:
			a.Unsent++
		}
	}
	return a
}

// strangers returns the foreign messages of the reading that saw more of them.
func (h *history) strangers() Strangers {
	most := Strangers{Examples: []Foreign{}}
	for _, r := range []*reading{h.first, h.second} {
		if n := r.foreign(); n > most.Count {
			most = Strangers{Count: n, Examples: r.strangers}
		}
	}
	return most
}

func (h *history) figures() Figures {
	var f Figures
	var took []time.Duration
	from, till := time.Duration(-1), time.Duration(0)
	for i := range h.appends {
		a := &h.appends[i]
		if a.outcome != done {
			continue
		}
		took = append(took, a.answered-a.sent)
		if from < 0 || a.sent < from {
			from = a.sent
		}
		till = max(till, a.answered)
	}
	if len(took) > 0 {
		slices.Sort(took)
		f.AcceptP50Ms, f.AcceptP99Ms = milliseconds(took[len(took)/2]), milliseconds(took[len(took)*99/100])
		f.AppendsPerSecond = perSecond(len(took), till-from)
	}
	if h.final && len(took) > 0 {
		f.ReachedAfterMs = milliseconds(h.barriers[len(h.barriers)-1].reached - till)
	}
	if h.first != nil {
		f.MessagesReadPerSec = perSecond(len(h.first.messages), h.first.took)
	}
	return f
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func perSecond(n int, d time.Duration) float64 {
	return float64(n) / max(d, time.Microsecond).Seconds()
}

// addIDs looks up the ids of the examples' messages, which are not kept for all.
func (r *runner) addIDs(ctx context.Context, promises []Promise) {
	for _, p := range promises {
		for i := range p.Examples {
			position := p.Examples[i].Position
			if position == 0 {
				continue
			}
			found, err := r.api.messages(ctx, r.config.Log, position-1, 1, "", false)
			if err == nil && len(found.Messages) == 1 && found.Messages[0].Position == position {
				p.Examples[i].ID = found.Messages[0].ID
			}
		}
	}
}

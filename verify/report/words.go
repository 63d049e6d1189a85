package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// meanings say what each promise is, to somebody who knows nothing about queues.
var meanings = map[string]string{
	"P1": "When the service has said yes to a message, that message is never lost.",
	"P2": "Each message that was accepted is in its list once. It is never there twice, whatever had to be sent again.",
	"P3": "If your message was confirmed before I sent mine, then yours stands before mine.",
	"P4": "The messages of a list are numbered 1, 2, 3 and so on. No number is missing, changes its message or is given again.",
	"P5": "When the service says that everything up to now is stored, then all of it is there, and readers can see it, except for what it says to be set aside.",
	"P6": "Who asks with the receipt of a write gets an answer that contains this write, or is told to wait. No answer is from before it.",
	"P7": "While the database is down, messages are still accepted, and those that are stored can still be read.",
	"P8": "A database that comes back without its last writes is given them again: none is lost, none is doubled.",
	"P9": "A message that can never be stored is set aside with the reason, where people find it. It does not vanish, and holds nothing up.",

	"clear":        "Clearing a list removes all that was accepted before, and nothing that was sent after.",
	"removal":      "Trimming a list, erasing one message of it and deleting it do just that, for good, and no number is used again.",
	"linearizable": "All answers together make sense: some order of single steps, each done at one moment, explains every one of them.",
}

// headline says in one sentence what the run comes to.
func headline(h *history.History, r *check.Result) string {
	faults := ""
	if n := faultsDone(h); n > 0 {
		faults = " while " + counted(n, "fault") + " happened"
	}
	var broken []*check.Promise
	unchecked := 0
	for i := range r.Promises {
		switch r.Promises[i].State {
		case check.PromiseBroken:
			broken = append(broken, &r.Promises[i])
		case check.PromiseUnchecked:
			unchecked++
		}
	}
	switch {
	case len(broken) == 1:
		return "Broken: " + nameOf(broken[0])
	case len(broken) > 1:
		return fmt.Sprintf("%d promises are broken: %s", len(broken), listed(broken))
	case r.Verdict == check.Broken:
		return "Broken"
	case r.Verdict != check.Held:
		return "Not proved: nothing is known to be broken, but the run does not show that all is well"
	case unchecked > 0:
		return "Every promise that was checked held" + faults
	default:
		return "All promises held" + faults
	}
}

func listed(promises []*check.Promise) string {
	var b strings.Builder
	for i, p := range promises {
		switch i {
		case 0:
		case len(promises) - 1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(p.Promise)
	}
	return b.String()
}

// faultsDone returns how many faults were done to the deployment.
func faultsDone(h *history.History) int {
	n := 0
	for i := range h.Faults {
		if h.Faults[i].Phase == "run" && h.Faults[i].OK {
			n++
		}
	}
	return n
}

// nameOf returns how a promise is called: "P2 exactly once, in effect", or just its title if it has no number.
func nameOf(p *check.Promise) string {
	switch {
	case p.Title == "":
		return p.Promise
	case len(p.Promise) > 3:
		return p.Title
	default:
		return p.Promise + " " + p.Title
	}
}

func violations(p *check.Promise) string {
	text := counted(p.Violations, "counter-example")
	if n := len(p.Examples); n > 0 && n < p.Violations {
		text += fmt.Sprintf(", of which the first %d are shown", n)
	}
	return text
}

// subject says which message a counter-example is about.
func subject(v *check.Violation) string {
	var parts []string
	if v.Log != "" {
		parts = append(parts, "log "+v.Log)
	}
	if v.Position != 0 {
		parts = append(parts, "position "+format.Thousands(v.Position))
	}
	if v.Client != nil {
		whose := fmt.Sprintf("client %d", *v.Client)
		if v.Number != 0 {
			whose += "’s message " + format.Thousands(v.Number)
		}
		parts = append(parts, whose)
	}
	if len(parts) == 0 {
		parts = append(parts, "no single message")
	}
	if v.At > 0 {
		parts = append(parts, "seen "+span(seconds(v.At))+" into the run")
	}
	return strings.Join(parts, ", ")
}

// counted writes a number of things: "1 fault", "12,000 faults".
func counted[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return format.Thousands(n) + " " + thing + "s"
}

// rate writes a number a second: whole, except when it is small.
func rate(v float64) string {
	if v > 0 && v < 10 {
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return format.Thousands(uint64(v + .5))
}

// span writes a duration with two or three digits that matter: 0.42 ms, 830 ms, 2.5 s, 10 min, 3 h 20 min.
func span(d time.Duration) string {
	switch ms := float64(d) / 1e6; {
	case d <= 0:
		return "0 ms"
	case ms < 10:
		return strconv.FormatFloat(ms, 'g', 2, 64) + " ms"
	case ms < 999.5:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	case d < 59950*time.Millisecond:
		return strconv.FormatFloat(d.Seconds(), 'g', 3, 64) + " s"
	case d < time.Hour-time.Second/2:
		return units(d.Round(time.Second), time.Minute, " min", time.Second, " s")
	default:
		return units(d.Round(time.Minute), time.Hour, " h", time.Minute, " min")
	}
}

// units writes a duration in a large unit, and the rest in a small one.
func units(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := format.Thousands(int(d/large)) + largeName
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d%s", rest, smallName)
	}
	return text
}

// seconds returns a number of seconds as a duration, milliseconds one of milliseconds.
func seconds(s float64) time.Duration       { return time.Duration(s * float64(time.Second)) }
func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// timeOf writes a time in a run as people do: 0:07, 12:30, 3:00:00.
func timeOf(at time.Duration) string {
	s := int64(max(at, 0) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

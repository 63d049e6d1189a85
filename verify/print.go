package verify

import (
	"fmt"
	"io"
	"strings"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// Print writes a result for people.
func Print(r check.Result, out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "drainmark verify: %s, logs %s, run %s\n\n", strings.Join(r.URLs, " "), strings.Join(r.Logs, " "), r.Run)
	for _, p := range r.Promises {
		printPromise(&b, &p)
	}
	if r.Foreign.Count > 0 {
		printForeign(&b, r.Foreign)
	}
	printWindows(&b, r.Windows)
	printFigures(&b, &r)
	fmt.Fprintf(&b, "\nverdict: %s", r.Verdict)
	if r.Reason != "" {
		fmt.Fprintf(&b, ": %s", r.Reason)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(out, b.String())
	return err
}

func printPromise(b *strings.Builder, p *check.Promise) {
	state := string(p.State)
	if p.State == check.PromiseBroken {
		state = "BROKEN"
	}
	fmt.Fprintf(b, "  %-12s  %-36s  %-9s  %s\n", p.Promise, p.Title, state, p.Checked)
	if p.Violations == 0 {
		return
	}
	fmt.Fprintf(b, "      %s violations; the first:\n", format.Thousands(p.Violations))
	for _, v := range p.Examples {
		fmt.Fprintf(b, "      - %sexpected %s; found %s\n", subject(&v), v.Expected, v.Found)
	}
}

// subject says which message a violation is about.
func subject(v *check.Violation) string {
	var parts []string
	if v.Client != nil {
		parts = append(parts, fmt.Sprintf("client %d's message %d", *v.Client, v.Number))
	}
	if v.Log != "" {
		parts = append(parts, "log "+v.Log)
	}
	if v.Position != 0 {
		parts = append(parts, fmt.Sprintf("position %d", v.Position))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + ": "
}

func printForeign(b *strings.Builder, f check.Strangers) {
	fmt.Fprintf(b, "\n  %s messages in the logs are not the run's; the first:\n", format.Thousands(f.Count))
	for _, m := range f.Examples {
		fmt.Fprintf(b, "      - %s, position %d\n", m.Log, m.Position)
	}
}

// printWindows says how the deployment answered while faults were in force: the times of each fault together.
func printWindows(b *strings.Builder, windows []check.Window) {
	if len(windows) < 2 {
		return
	}
	b.WriteString("\n  while it was broken:\n")
	var names []string
	sum := map[string]*check.Window{}
	times := map[string]int{}
	for _, w := range windows[1:] {
		s := sum[w.Name]
		if s == nil {
			s = &check.Window{}
			sum[w.Name] = s
			names = append(names, w.Name)
		}
		times[w.Name]++
		s.Appends.Sent += w.Appends.Sent
		s.Appends.Refused += w.Appends.Refused
		s.Appends.Unknown += w.Appends.Unknown
		s.Appends.LongestGapMs = max(s.Appends.LongestGapMs, w.Appends.LongestGapMs)
	}
	for _, name := range names {
		a := sum[name].Appends
		fmt.Fprintf(b, "      %-24s  %d times: %s appends, %s refused, %s unknown; at most %.1f s without an accepted one\n", name, times[name],
			format.Thousands(a.Sent), format.Thousands(a.Refused), format.Thousands(a.Unknown), a.LongestGapMs/1000)
	}
}

func printFigures(b *strings.Builder, r *check.Result) {
	a := r.Appends
	fmt.Fprintf(b, "\n  %s messages of %d clients: %s accepted, %s refused, %s unknown; %s requests sent again\n", format.Thousands(a.Messages), a.Clients,
		format.Thousands(a.Done), format.Thousands(a.Refused), format.Thousands(a.Unknown), format.Thousands(a.Retries))
	if a.Unsent > 0 {
		fmt.Fprintf(b, "  %s more messages were due, and could not be sent: the times leave them out\n", format.Thousands(a.Unsent))
	}
	if f := r.Figures; f.AppendsPerSecond > 0 {
		fmt.Fprintf(b, "  %s messages/s accepted, a request within %.1f ms (median) and %.1f ms (99 of 100); barrier reached %.0f ms after the last; %s messages/s read\n",
			format.Thousands(int(f.AppendsPerSecond)), f.AcceptP50Ms, f.AcceptP99Ms, f.ReachedAfterMs, format.Thousands(int(f.MessagesReadPerSec)))
	}
}

package verify

import (
	"fmt"
	"io"
	"strings"
)

// Print writes the report for people.
func (r *Report) Print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "drainmark verify: %s, log %s, run %s\n\n", r.URL, r.Log, r.Run)
	for _, p := range r.Promises {
		p.print(&b)
	}
	r.printForeign(&b)
	r.printFigures(&b)
	fmt.Fprintf(&b, "\nverdict: %s", r.Verdict)
	if r.Reason != "" {
		fmt.Fprintf(&b, ": %s", r.Reason)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(out, b.String())
	return err
}

func (p *Promise) print(b *strings.Builder) {
	state := string(p.State)
	if p.State == PromiseBroken {
		state = "BROKEN"
	}
	fmt.Fprintf(b, "  %s  %-24s  %-9s  %s\n", p.Promise, p.Title, state, p.Checked)
	if p.Violations == 0 {
		return
	}
	fmt.Fprintf(b, "      %s violations; the first:\n", thousands(p.Violations))
	for _, v := range p.Examples {
		fmt.Fprintf(b, "      - %sexpected %s; found %s\n", v.subject(), v.Expected, v.Found)
	}
}

// subject says which message a violation is about.
func (v *Violation) subject() string {
	var parts []string
	if v.Client != nil {
		parts = append(parts, fmt.Sprintf("client %d's message %d", *v.Client, v.Number))
	}
	if v.Position != 0 {
		parts = append(parts, fmt.Sprintf("position %d", v.Position))
	}
	if v.ID != "" {
		parts = append(parts, "id "+v.ID)
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + ": "
}

func (r *Report) printForeign(b *strings.Builder) {
	if r.Foreign.Count == 0 {
		return
	}
	fmt.Fprintf(b, "\n  %s messages of somebody else are in the log:\n", thousands(r.Foreign.Count))
	for _, f := range r.Foreign.Examples {
		fmt.Fprintf(b, "      - position %d, id %s: %s\n", f.Position, f.ID, f.Begins)
	}
}

func (r *Report) printFigures(b *strings.Builder) {
	a, f := r.Appends, r.Figures
	fmt.Fprintf(b, "\n  %s of %s messages accepted from %d clients, %d a request; refused %s, unknown %s, unsent %s; retries %s\n",
		thousands(a.Done), thousands(a.Messages), a.Clients, a.Batch, thousands(a.Refused), thousands(a.Unknown), thousands(a.Unsent),
		thousands(a.Retries))
	fmt.Fprintf(b, "  %s accepted/s, in %.2f ms (p50), %.2f ms (p99); barrier reached %.1f ms after the last one; %s read/s; %.1f s in all\n",
		thousands(int(f.AppendsPerSecond)), f.AcceptP50Ms, f.AcceptP99Ms, f.ReachedAfterMs, thousands(int(f.MessagesReadPerSec)), r.Seconds)
}

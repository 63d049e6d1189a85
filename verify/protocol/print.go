package protocol

import (
	"fmt"
	"io"
	"strings"
)

// Print writes a result for people: a line for each statement.
func Print(r Result, out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "drainmark verify protocol: %s, logs %s-…\n\n", r.URL, r.Logs)
	counts := map[State]int{}
	for _, f := range r.Findings {
		counts[f.State]++
		state := string(f.State)
		if f.State == Broken {
			state = "BROKEN"
		}
		fmt.Fprintf(&b, "  %-5s  %-8s  %s\n", f.Number, state, f.Title)
		if f.Seen != "" {
			fmt.Fprintf(&b, "                   %s\n", f.Seen)
		}
	}
	fmt.Fprintf(&b, "\n  %d held, %d broken, %d not tested here\n\nverdict: %s\n", counts[Held], counts[Broken], counts[Untested], r.Verdict)
	_, err := io.WriteString(out, b.String())
	return err
}

package check

import (
	"fmt"
	"testing"

	"github.com/drainmark/drainmark/verify/history"
)

// removals makes the calls of the client that removes, each on its own line: "append 1", "trim 2", "erase 3", "delete", with ?
// behind one of which nobody knows what came of it, and "read 2 4 20 - 40" for a page of a log that begins at 2, ends at 4, and
// shows those numbers, or an erased message (-). "gone" is a page of a log that there is not.
func removals(calls ...string) *history.History {
	h := &history.History{}
	for i, call := range calls {
		d := history.Removal{Call: history.Call{Start: at(i), End: at(i), Outcome: done}, Log: "removed", Settled: "persisted"}
		var words [10]string
		n, _ := fmt.Sscan(call, &words[0], &words[1], &words[2], &words[3], &words[4], &words[5], &words[6], &words[7], &words[8], &words[9])
		number := func(i int) (n uint64) { _, _ = fmt.Sscan(words[i], &n); return n }
		switch d.Kind = words[0]; {
		case words[n-1] == "?":
			d.Outcome, d.Settled = unknown, ""
		case words[n-1] == "refused":
			d.Outcome, d.Settled = refused, ""
		}
		switch d.Kind {
		case "append":
			d.Number = number(1)
		case "trim", "erase":
			d.Position = number(1)
		case "gone":
			d.Kind, d.Gone = "read", true
		case "read":
			d.First, d.Last, d.Count = number(1), number(2), uint64(n-3)
			for i := range n - 3 {
				s := history.Shown{Position: d.First + uint64(i), Number: number(3 + i)}
				s.Erased, s.Empty = words[3+i] == "-", words[3+i] == "-"
				d.Shown = append(d.Shown, s)
			}
		}
		h.Removals = append(h.Removals, d)
	}
	return h
}

func TestRemovals(t *testing.T) {
	t.Parallel()
	appended := []string{"append 10", "append 20", "append 30", "read 1 3 10 20 30"}
	behind := func(more ...string) []string { return append(append([]string{}, appended...), more...) }
	for name, c := range map[string]struct {
		calls  []string
		broken int
	}{
		"everything is as it must be": {behind("trim 1", "read 2 3 20 30", "erase 3", "read 2 3 20 -", "append 40", "read 2 4 20 - 40",
			"delete", "gone", "append 50", "read 5 5 50", "trim 9", "read 6 5", "erase 2", "read 6 5", "append 60", "read 6 6 60"), 0},
		"nothing was done yet":                   {[]string{"gone", "append 1", "read 1 1 1"}, 0},
		"removing from what is not there":        {[]string{"trim 3", "erase 1", "delete", "gone", "append 1", "read 1 1 1"}, 0},
		"a trim takes one too many":              {behind("trim 1", "read 3 3 30"), 1},
		"a trim takes one too few":               {behind("trim 2", "read 2 3 20 30"), 1},
		"a trimmed message is shown again":       {behind("trim 1", "read 2 3 20 30", "read 1 3 10 20 30"), 1},
		"an erased message has its body":         {behind("erase 2", "read 1 3 10 20 30"), 1},
		"another message is erased":              {behind("erase 2", "read 1 3 - 20 30"), 1},
		"an erased message is not there":         {behind("erase 2", "read 1 3 10 30"), 1},
		"an erased message is back":              {behind("erase 2", "read 1 3 10 - 30", "append 40", "read 1 4 10 20 30 40"), 1},
		"a deleted log is read":                  {behind("delete", "read 4 3"), 1},
		"a log is gone that was not deleted":     {behind("trim 3", "gone"), 1},
		"a deleted log does not come back":       {behind("delete", "gone", "append 40", "gone"), 1},
		"positions begin anew behind a deletion": {behind("delete", "append 40", "read 1 1 40"), 1},
		"positions go back behind a trim":        {behind("trim 3", "append 40", "read 4 3 40"), 1},
		"one fault is told once":                 {behind("trim 1", "read 1 3 10 20 30", "read 1 3 10 20 30"), 1},
		"nobody knows whether it was trimmed":    {behind("trim 1 ?", "read 1 3 10 20 30"), 0},
		"nobody knows whether it was appended":   {behind("append 40 ?", "read 1 4 10 20 30 40"), 0},
		"a trim that was refused":                {behind("trim 1 refused", "read 1 3 10 20 30"), 0},
		"a trim that was refused, and done":      {behind("trim 1 refused", "read 2 3 20 30"), 1},
		"a page that was refused shows nothing":  {behind("trim 1", "read 1 3 10 20 30 refused"), 0},
		"a message is in the place of another":   {behind("read 1 3 10 30 20"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&view{History: removals(c.calls...)}).checkRemovals()
			if p.Violations != c.broken || (p.State == PromiseBroken) != (c.broken > 0) {
				t.Errorf("%d violations, %s: %+v", p.Violations, p.State, p.Examples)
			}
		})
	}
	if p := (&view{History: removals("append 1", "trim 1")}).checkRemovals(); p.State != PromiseUnchecked || !p.idle {
		t.Errorf("without a page it is %s", p.State)
	}
}

package history

import (
	"slices"
	"strings"
	"testing"
)

// Runs are as short as can be, and stand for the same ids in the same order.
func TestRuns(t *testing.T) {
	t.Parallel()
	for ids, want := range map[string]string{
		"":                            "",
		"2-ab-7":                      "2-ab-7..7",
		"2-ab-7 2-ab-8 2-ab-9":        "2-ab-7..9",
		"2-ab-7 2-ab-7 2-ab-9":        "2-ab-7..7 2-ab-7..7 2-ab-9..9",
		"2-ab-9 2-ab-8":               "2-ab-9..9 2-ab-8..8",
		"1-ab-1 2-ab-2 1-ab-2":        "1-ab-1..1 2-ab-2..2 1-ab-2..2",
		"2-ab-07 x 2-ab- -1 2-ab--1":  "2-ab-07 x 2-ab- -1 2-ab--1..1",
		"2-ab-1..3 2-ab-4":            "2-ab-1..3 2-ab-4..4",
		"2-ab-18446744073709551615":   "2-ab-18446744073709551615..18446744073709551615",
		"2-ab-99999999999999999999 y": "2-ab-99999999999999999999 y",
	} {
		given := strings.Fields(ids)
		runs := Runs(given)
		if strings.Join(runs, " ") != want {
			t.Errorf("%q are the runs %q", ids, runs)
		}
		if back := slices.Collect(IDs(runs)); !strings.Contains(ids, "..") && !slices.Equal(back, given) {
			t.Errorf("%q came back as %q", ids, back)
		}
	}
}

// The ids at the ends of a run, and those behind it, are sorted so that they are few runs.
func TestEnds(t *testing.T) {
	t.Parallel()
	for run, want := range map[string]string{
		"2-ab-7":                    "2-ab-7..10",
		"2-ab-8..10":                "2-ab-8..8 2-ab-10..13",
		"2-ab-8..9":                 "2-ab-8..12",
		"x":                         "x",
		"2-ab-18446744073709551614": "2-ab-18446744073709551614..18446744073709551615",
	} {
		if runs := Runs(Sort(Ends(run, 3))); strings.Join(runs, " ") != want {
			t.Errorf("%q becomes %q", run, runs)
		}
	}
}

// A damaged file does not cost all the memory.
func TestRunsAreLimited(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`{"table":{"at":1,"rows":["0-ab-1..1000001"]}}`,
		`{"append":{"client":0,"outcome":"done","log":0,"first":1,"count":1,"marks":["0-ab-1..18446744073709551615"]}}`,
		`{"resend":{"first":1,"marks":["0-ab-1..18446744073709551615"]}}`,
		`{"snapshot":{"start":1,"end":2,"held_only":["0-ab-1..1000001"]}}`,
		`{"read":{"outcome":"done","log":0,"ids":["0-ab-1..18446744073709551615"]}}`,
	} {
		begin := `{"run":{"version":1,"clients":1,"logs":[{"name":"a"}]}}`
		if _, err := Load(strings.NewReader(begin + "\n" + line + "\n" + begin)); err == nil || !strings.Contains(err.Error(), "stands for more than") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

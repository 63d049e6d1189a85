package command_test

import (
	"fmt"
	"strings"
	"testing"
)

// letters makes dead letters of a log: keys that were used before for something else.
func letters(t *testing.T, url, log string, n int) {
	t.Helper()
	want(t, url, 0, "", numbered(n, ""), "append", log, "--lines", "--wait", "--idempotency-key", "k")
	got := run(t, url, numbered(n, " again"), "append", log, "--lines", "--wait", "--idempotency-key", "k")
	if got.code != 1 || !strings.Contains(got.err, fmt.Sprintf("%d messages accepted, of which %d can never be persisted", n, n)) {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	d := up(t)
	letters(t, d.url, "a", 3)
	letters(t, d.url, "b", 250)
	first := object(t, strings.Split(want(t, d.url, 0, "", "", "dead-letters", "list", "--log", "a"), "\n")[0])
	if first["log"] != "a" || first["body"] != "1 again" || first["key"] != "k/1" || !strings.HasPrefix(first["reason"].(string), "idempotency-key-reused") {
		t.Errorf("the first is %v", first)
	}
	for arguments, n := range map[string]int{"": 253, "--log b": 250, "--log c": 0, "--reason idempotency": 253, "--reason other": 0, "--older-than 1h": 0, "--limit 7": 7} {
		if got := want(t, d.url, 0, "", "", append([]string{"dead-letters", "list", "--output", "plain"}, strings.Fields(arguments)...)...); strings.Count(got, "\n") != n {
			t.Errorf("list %s has %d lines, not %d", arguments, strings.Count(got, "\n"), n)
		}
	}
	id := first["id"].(string)
	if got := want(t, d.url, 0, "", "", "dead-letters", "show", id, "--output", "plain"); got != "1 again" {
		t.Errorf("its body is %q", got)
	}
	if got := want(t, d.url, 0, "", "", "dead-letters", "show", id, "--output", "table"); !strings.Contains(got, "key           k/1\n") || !strings.Contains(got, "body          1 again\n") {
		t.Errorf("it is shown as\n%s", got)
	}
	const once = `{"dead_letters":1,"records":1,"refused":0,"dry_run":true}` + "\n"
	if got := want(t, d.url, 0, "", "", "dead-letters", "discard", id, id, "--dry-run"); got != once {
		t.Errorf("of one that is named twice, it would be %s", got)
	}
	want(t, d.url, 1, "there is no open dead letter 0-1-1", "", "dead-letters", "discard", id, "0-1-1", "--dry-run")
	if got := want(t, d.url, 1, "1 dead letter refused again", "", "dead-letters", "retry", id); got != `{"dead_letters":1,"refused":1,"dry_run":false}`+"\n" {
		t.Errorf("a retry prints %s", got)
	}
	want(t, d.url, 0, "", "", "dead-letters", "discard", id)
	want(t, d.url, 1, "there is no open dead letter", "", "dead-letters", "show", id)
	want(t, d.url, 1, "it is reached, but 252 accepted records are set aside", "", "wait", "--fail-on-dead-letters")
}

// Many are settled only by who has said which, and has been asked or has said yes.
func TestManyDeadLetters(t *testing.T) {
	t.Parallel()
	d := up(t)
	letters(t, d.url, "a", 2)
	letters(t, d.url, "b", 250)
	for _, arguments := range []string{"", "--all --log a", "0-1-1 --log a", "--rate=-1 --all", "--older-than=-1s", "--log A"} {
		want(t, d.url, 2, "drainmark: ", "", append([]string{"dead-letters", "discard"}, strings.Fields(arguments)...)...)
	}
	want(t, d.url, 2, "this would discard 250 dead letters for ever: say --yes", "", "dead-letters", "discard", "--log", "b")
	if got := want(t, d.url, 0, "", "", "dead-letters", "discard", "--log", "b", "--dry-run"); got != `{"dead_letters":250,"records":250,"refused":0,"dry_run":true}`+"\n" {
		t.Errorf("it would be %s", got)
	}
	if shown := onTerminal(t, d.url, "\n", nil, "dead-letters", "discard", "--log", "b"); !strings.Contains(shown, "This will discard 250 dead letters for ever. Go on? [y/N]") || !strings.Contains(shown, "nothing was done") {
		t.Errorf("the terminal shows %q", shown)
	}
	slow := begin(t, d.url, "dead-letters", "discard", "--log", "b", "--yes", "--rate", "1")
	await(t, "the first step is done", func() bool {
		return strings.Count(want(t, d.url, 0, "", "", "dead-letters", "list", "--log", "b", "--output", "plain"), "\n") == 150
	})
	if code, said := slow.interrupt(); code != 1 || !strings.Contains(said, "interrupted: 100 dead letters of 250 dead letters") {
		t.Errorf("exit code %d, and it says %s", code, said)
	}
	// In steps of a hundred. Where there is no terminal, nothing is said meanwhile.
	got := run(t, d.url, "", "dead-letters", "retry", "--log", "b", "--yes", "--rate", "500")
	retried := object(t, got.out)
	refused := retried["refused"].(float64) // as many as were known soon
	if retried["dead_letters"] != 150.0 || (got.code == 1) != (refused > 0) || refused > 0 != strings.Contains(got.err, "refused again; they stay") {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	if shown := onTerminal(t, d.url, "yes\n", nil, "dead-letters", "discard", "--log", "b", "--rate", "200"); !strings.Contains(shown, "\r100 of 150 dead letters\x1b[K") || !strings.Contains(shown, "150           150      \x1b[32mdone\x1b[m\n") {
		t.Errorf("the terminal shows %q", shown)
	}
	want(t, d.url, 0, "", "", "dead-letters", "discard", "--all", "--yes")
	want(t, d.url, 0, "", "", "wait", "--fail-on-dead-letters")
}

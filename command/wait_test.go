package command_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// While nothing is persisted, waiting comes to nothing with exit code 4, and says what it waits for.
func TestWaiting(t *testing.T) {
	t.Parallel()
	d := up(t)
	want(t, d.url, 0, "", "", "wait")
	d.pause(t, true)
	receipt := strings.TrimSpace(want(t, d.url, 0, "", "a", "append", "waited", "--output", "plain"))
	for arguments, says := range map[string]string{
		"wait --timeout 1s":                                "not reached within ",
		"wait --timeout 0":                                 "everything that was accepted before: ",
		"wait --timeout 1s --log waited --log empty":       "everything that was accepted before for waited, empty: ",
		"wait --timeout 1s " + receipt:                     "the writes of 1 receipt: ",
		"clear waited --yes --wait --timeout 1s":           "the clear: ",
		"append waited --wait --timeout 1s":                "1 message accepted, the first of the input; not known to be persisted: 1 of these, see the receipts",
		"append waited --lines --wait --timeout 500ms":     "not persisted within 500ms",
		"wait --timeout 1s --output table --log elsewhere": "elsewhere",
	} {
		got := run(t, d.url, "x", strings.Fields(arguments)...)
		if got.code != 4 && !strings.Contains(arguments, "elsewhere") || got.code == 4 && !strings.Contains(got.err, says) || got.out == "" {
			t.Errorf("%s: exit code %d, it says %q and prints %q", arguments, got.code, got.err, got.out)
		}
	}
	stalls := begin(t, d.url, "wait", "--timeout", "2m")
	await(t, "it says what it waits for", func() bool { return strings.Contains(stalls.err.String(), "waiting for everything") })
	if code, said := stalls.interrupt(); code != 4 || !strings.Contains(said, "interrupted after") {
		t.Errorf("exit code %d, and it says %s", code, said)
	}
	shown := onTerminal(t, d.url, "", nil, "wait", "--timeout", "3s")
	if !strings.Contains(shown, "\rdrainmark") && !strings.Contains(shown, "\rwaiting for everything that was accepted before: ") || !strings.Contains(shown, "\x1b[K") {
		t.Errorf("the terminal shows %q", shown)
	}
	d.pause(t, false)
	if got := want(t, d.url, 0, "", "", "wait", "--output", "plain"); got != "reached\n" {
		t.Errorf("it prints %q", got)
	}
	if got := object(t, want(t, d.url, 0, "", "", "wait", receipt)); got["state"] != "persisted" {
		t.Errorf("it prints %v", got)
	}
}

// A result that cannot be printed is an error, or a receipt would be lost without a word.
func TestResultsThatCannotBePrinted(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	want(t, url, 0, "", "a", "append", "unprinted", "--wait")
	for _, arguments := range []string{
		"append unprinted", "read unprinted", "tail unprinted", "clear unprinted --yes", "trim unprinted --through 1 --yes --wait", "wait", "wait -o table",
		"logs", "status", "backlog", "dead-letters discard --all --yes",
	} {
		closed, err := os.Open(os.DevNull) // which is for reading only
		if err != nil {
			t.Fatal(err)
		}
		cmd := program(t.Context(), url, strings.Fields(arguments)...)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = closed, &said
		_ = cmd.Run() // its exit code says more
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(said.String(), "printing the result: ") {
			t.Errorf("%s: exit code %d, and it says %s", arguments, code, said.String())
		}
		_ = closed.Close()
	}
}

// A reason that changes is told, also where there is no terminal.
func TestWaitingTellsWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	d := up(t, "--stall-after", "1s")
	d.pause(t, true)
	want(t, d.url, 0, "", "a", "append", "stalled")
	waits := begin(t, d.url, "wait", "--timeout", "2m")
	stalled := regexp.MustCompile(`(?m)^drainmark: waiting for everything that was accepted before: stalled, .*: partition \d: something has waited for`)
	await(t, "it says why nothing moves", func() bool { return stalled.MatchString(waits.err.String()) })
	if code, said := waits.interrupt(); code != 4 {
		t.Errorf("exit code %d, and it says %s", code, said)
	}
	if status := run(t, d.url, "", "status"); status.code != 1 || !strings.Contains(status.err, "something does not work") || !strings.Contains(status.out, `"persisting":{"working":false`) {
		t.Errorf("status: exit code %d, %s%s", status.code, status.out, status.err)
	}
	if backlog := want(t, d.url, 0, "", "", "backlog", "--output", "table"); !strings.Contains(backlog, "something has waited") || !regexp.MustCompile(`(?m)^all +[1-9]`).MatchString(backlog) {
		t.Errorf("the backlog is\n%s", backlog)
	}
}

// It is waited over a restart of the deployment.
func TestWaitingOverARestart(t *testing.T) {
	t.Parallel()
	data, port := t.TempDir(), fmt.Sprint(servers.Port(t))
	arguments := []string{"--data", data, "--listen", net.JoinHostPort("127.0.0.1", port)}
	d := up(t, arguments...)
	d.pause(t, true)
	receipt := strings.TrimSpace(want(t, d.url, 0, "", "a", "append", "waited", "--output", "plain"))
	waits := begin(t, d.url, "wait", receipt, "--timeout", "2m", "--patience", "1m", "--output", "plain")
	d.end()
	up(t, arguments...)
	if got := waits.line(); got != "persisted" {
		t.Errorf("it prints %s", got)
	}
}

func TestBadWaits(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	want(t, url, 2, "--log and --fail-on-dead-letters are of a barrier", "", "wait", "AhEz2FGL", "--log", "a")
	want(t, url, 2, "log name", "", "wait", "--log", "A B")
	want(t, url, 2, "--timeout", "", "wait", "--timeout=-1s")
	want(t, url, 1, "400", "", "wait", "AhEz2FGL")
	want(t, url, 1, "404 Not Found", "", "read", "never-written")
	want(t, url, 1, "404 Not Found", "", "tail", "never-written")
	want(t, url, 1, "404 Not Found", "", "dead-letters", "discard", "0-4bf92f3577b34da6a3ce929d0e0e4736-7")
	want(t, url, 1, "there is no open dead letter 0-1-1", "", "dead-letters", "show", "0-1-1")
}

// Who may not do something is told so with exit code 1. The token comes from a file or from the environment, and is in
// nothing that is said.
func TestTokens(t *testing.T) {
	t.Parallel()
	made := run(t, "", "", "token", "new", "shop")
	token := regexp.MustCompile(`dmk_\S+`).FindString(made.err)
	access, file := filepath.Join(t.TempDir(), "access.yaml"), filepath.Join(t.TempDir(), "token")
	sum := regexp.MustCompile(`[0-9a-f]{64}`).FindString(made.out)
	entry := fmt.Sprintf("principals:\n  - {name: shop, tokens: [{sha256: %s}], grants: [\"append:orders\"]}\n", sum)
	if token == "" || os.WriteFile(access, []byte(entry), 0o600) != nil || os.WriteFile(file, []byte(token+"\n"), 0o600) != nil {
		t.Fatalf("%+v", made)
	}
	d := up(t, "--access", access)
	given := []string{"DRAINMARK_TOKEN=" + token}
	for name, test := range map[string]struct {
		env       []string
		arguments string
		code      int
		says      string
	}{
		"nobody":                   {nil, "append orders", 1, "401"},
		"a wrong token":            {[]string{"DRAINMARK_TOKEN=dmk_wrong"}, "append orders", 1, "401"},
		"the environment":          {given, "append orders", 0, ""},
		"a file":                   {nil, "append orders --token-file " + file, 0, ""},
		"a file goes first":        {[]string{"DRAINMARK_TOKEN=dmk_wrong"}, "append orders --token-file " + file, 0, ""},
		"a file from the variable": {[]string{"DRAINMARK_TOKEN_FILE=" + file}, "append orders", 0, ""},
		"another log":              {given, "append other", 1, "403"},
		"reading":                  {given, "read orders", 1, "403"},
		"following":                {given, "tail orders --follow", 1, "403"},
		"clearing":                 {given, "clear orders --yes", 1, "403"},
		"dead letters":             {given, "dead-letters discard --all --yes", 1, "403"},
		"no such file":             {nil, "append orders --token-file /nosuch", 2, "/nosuch"},
		"no flag for a token":      {nil, "append orders --token=" + token, 2, "unknown flag --token"},
	} {
		got := runWith(t, d.url, strings.NewReader("x"), test.env, strings.Fields(test.arguments)...)
		if got.code != test.code || !strings.Contains(got.err, test.says) || test.says == "" && got.err != "" || strings.Contains(got.err+got.out, token) {
			t.Errorf("%s: exit code %d, it says %q", name, got.code, got.err)
		}
	}
}

// With TLS the server must be known, and a certificate is shown.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	authority := servers.NewAuthority(t)
	cert, key := authority.Issue("server")
	mine, mineKey := authority.Issue("me")
	d := up(t, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.Path)
	want(t, d.url, 0, "", "x", "append", "a", "--wait", "--ca", authority.Path, "--cert", mine, "--key", mineKey)
	want(t, d.url, 2, "certificate", "x", "append", "a", "--patience", "0")
	want(t, d.url, 2, "--cert and --key go together", "x", "append", "a", "--cert", mine)
	want(t, d.url, 2, "--ca", "x", "append", "a", "--ca", "/nosuch")
}

package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// typed has an interactive bash, which has sourced the completion, read keys, and returns what it shows. Commands that
// it is told to run are not run: it says which they would be.
func typed(t *testing.T, keys string) string {
	t.Helper()
	dir := t.TempDir()
	program := "#!/bin/sh\nif [ \"$1\" = complete ] || [ \"$1\" = completion -a $# = 2 -a -z \"$SHOW\" ]; then exec \"$TEST_PROGRAM\" \"$@\"; fi\necho \"ran:$*.\"\n"
	if err := os.WriteFile(filepath.Join(dir, "drainmark"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", "bash --norc --noprofile -i", "/dev/null") // of util-linux: a terminal
	cmd.Env = append(os.Environ(), "TEST_PROGRAM="+os.Args[0], "TEST_PROCESS_OF_DRAINMARK=1", "PATH="+dir+":"+os.Getenv("PATH"), "TERM=dumb", "INPUTRC=/dev/null")
	cmd.Stdin = strings.NewReader("eval \"$(drainmark completion bash)\"; export SHOW=1\n" + keys + "\nexit\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// The tab key completes commands, the commands behind them, flags, their values, and files, in a real bash.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "history.jsonl")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for keys, want := range map[string]string{
		"drainmark heal\t":                                      "ran:healthcheck.",
		"drainmark verify rech\t":                               "ran:verify recheck.",
		"drainmark verify --durat\t5s":                          "ran:verify --duration 5s.",
		"drainmark up --log-format=j\t":                         "ran:up --log-format=json.",
		"drainmark backend --broker nats://h --log-format te\t": "ran:backend --broker nats://h --log-format text.",
		"drainmark completion z\t":                              "ran:completion zsh.",
		"drainmark verify recheck " + strings.TrimSuffix(file, "story.jsonl") + "\t": "ran:verify recheck " + file + ".",
	} {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			if shown := typed(t, keys); !strings.Contains(shown, want) {
				t.Errorf("the terminal has no %q:\n%s", want, shown)
			}
		})
	}
}

func TestHowACommandLineMayGoOn(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"":                               "append backend backlog clear completion config consumer dead-letters delete effects erase frontend healthcheck init logs man migrate read status tail token trim up verify version wait",
		"v":                              "verify version",
		"comp":                           "completion", // and not what the scripts call
		"verify re":                      "recheck",
		"config ":                        "check show schema",
		"config check ":                  ":files",
		"backend --config ":              ":files",
		"config show co":                 "consumer config completion",
		"config show --output j":         "json",
		"config show --output ":          "text json",
		"config show verify rech":        "recheck",
		"config show up --pause-switch ": "auto on off",
		"completion ":                    "bash zsh fish",
		"verify --work":                  "--workload",
		"verify --workload ":             "mixed appends",
		"verify --workload=a":            "--workload=appends", // as zsh and fish have it
		"verify --workload = a":          "appends",            // as bash has it
		"verify --workload =":            "mixed appends",
		"verify --report ":               ":files",
		"verify recheck ":                ":files",
		"up --data x --pause-switch o":   "on off",
		"up --nothing-like-it=":          "",
		"up --log-level info --log-form": "--log-format",
		"--vers":                         "--version",
		"version x":                      "",
		"dead-letters r":                 "retry",
		"tail -o ":                       "auto json table plain",
		"tail --url http://127.0.0.1:1 ": "", // nobody answers, and nobody can know
		"wait ":                          "",
		"append log ":                    "",
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			arguments := append([]string{"complete", "--"}, strings.Split(words, " ")...)
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), arguments, &stdout, &stderr); code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}
			var got []string
			for line := range strings.Lines(stdout.String()) {
				name, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
				got = append(got, name)
			}
			if sorted := slices.Sorted(slices.Values(got)); words == "" {
				got = sorted
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%q may go on with %q, not %q", words, got, want)
			}
		})
	}
}

// The names of logs are those of the deployment that the command line names, also where bash takes its URL apart.
func TestNamesOfLogsAreCompleted(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	for _, log := range []string{"orders", "orders.late", "guestbook"} {
		p.want(201, "POST", "/v1/logs/"+log+"/messages", "x", "Prefer", "wait=30")
	}
	var all cli
	parser, err := newParser(&all, io.Discard, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &invocation{ctx: t.Context()}
	parts := strings.SplitN(p.api, ":", 3)
	for _, words := range [][]string{
		{"tail", "--url", p.api, "o"}, {"wait", "--url=" + p.api, "--log", "o"}, {"dead-letters", "list", "--url", parts[0], ":", parts[1], ":", parts[2], "--log", "o"},
	} {
		p.awaitNames(parser.Model, words, a, "orders\t orders.late\t")
	}
	p.awaitNames(parser.Model, []string{"wait", "--url", p.api, "--log=g"}, a, "--log=guestbook\t")
	p.await("the terminal has a completed name", func() bool {
		return strings.Contains(typed(t, "drainmark tail --url "+p.api+" guest\t"), "ran:tail --url "+p.api+" guestbook.")
	})
}

// awaitNames waits until a command line goes on as it should: the server is asked for half a second only, which a busy machine
// may need for something else.
func (p *program) awaitNames(model *kong.Application, words []string, a *invocation, want string) {
	p.t.Helper()
	p.await(fmt.Sprintf("%q goes on with %q", words, want), func() bool {
		return strings.Join(complete(model, words, a.logNames), " ") == want
	})
}

// The scripts of the other shells are there, and end when the program does not answer. Without a shell, or with another
// one, the error says which there are.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"completion", shell}, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), " complete -- ") {
			t.Errorf("%s: exit code %d, %s%s", shell, code, stdout.String(), stderr.String())
		}
	}
	for shell, says := range map[string]string{"": "<bash|zsh|fish>", "tcsh": `<bash|zsh|fish> must be one of "bash","zsh","fish" but got "tcsh"`} {
		var stderr bytes.Buffer
		code := run(t.Context(), slices.DeleteFunc([]string{"completion", shell}, func(s string) bool { return s == "" }), &stderr, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), says) {
			t.Errorf("%q: exit code %d, %s", shell, code, stderr.String())
		}
	}
}

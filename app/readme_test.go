package app

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The README's quick start, line by line, against a deployment on another port.
func TestQuickStart(t *testing.T) {
	t.Parallel()
	lines := quickStart(t)
	wants := []string{
		`"state":"accepted"`, `"state":"persisted"`, `"position":1`, `"state":"reached"`, `"pending"`, "event: message", "verdict: held",
	}
	if len(lines) != 1+len(wants) {
		t.Fatalf("the quick start has other lines than the test:\n%s", strings.Join(lines, "\n"))
	}
	p := start(t, "up", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	api := strings.Replace(lines[0], "http://localhost:8080", p.api, 1)
	if api == lines[0] {
		t.Fatalf("%q does not name the deployment", api)
	}
	for i, want := range wants {
		saysInShell(t, p, api+"\n"+lines[1+i], want)
	}
}

// quickStart returns what the README's quick start says to do while "drainmark up" runs.
func quickStart(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "```sh\ndrainmark up\n```\n\nAnd in another terminal:\n\n```sh\n")
	block, _, found := strings.Cut(section, "\n```")
	if !found {
		t.Fatal("the README has no quick start")
	}
	return strings.Split(block, "\n")
}

// saysInShell runs a script in which drainmark is this program, until it says what is wanted.
func saysInShell(t *testing.T, p *program, script, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `drainmark() { "$TEST_PROGRAM" "$@"; }`+"\n"+script)
	cmd.Env = append(os.Environ(), "TEST_PROGRAM="+os.Args[0], "TEST_PROCESS_OF_DRAINMARK=1", "DRAINMARK_URL="+p.api, "DRAINMARK_MESSAGES=300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a curl that follows a log does not end by itself
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewReader(out); !strings.Contains(said.String(), want); {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if err != nil {
			break
		}
	}
	cancel()
	_ = cmd.Wait() // killed, most likely
	if !strings.Contains(said.String(), want) {
		t.Errorf("%s\nsays nothing with %s, but\n%s", script, want, said.String())
	}
}

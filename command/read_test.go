package command_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

func TestPartsOfALog(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	want(t, url, 0, "", numbered(250, ""), "append", "parts", "--lines", "--wait")
	for arguments, first := range map[string]int{
		"read parts --from 248": 248, "tail parts --last 3": 248, "tail parts": 241, "tail parts --from 200": 200, "read parts": 1, "tail parts --last 1000": 1,
	} {
		var wanted strings.Builder
		for i := first; i <= 250; i++ {
			fmt.Fprintln(&wanted, i)
		}
		if got := want(t, url, 0, "", "", append(strings.Fields(arguments), "--output", "plain")...); got != wanted.String() {
			t.Errorf("%s prints %q", arguments, got)
		}
	}
	if got := want(t, url, 0, "", "", "read", "parts", "--from", "9", "--limit", "2", "--output", "plain", "--separator", "nul"); got != "9\x0010\x00" {
		t.Errorf("two messages are %q", got)
	}
	want(t, url, 2, "positions are 1, 2, 3", "", "read", "parts", "--from", "0")
	want(t, url, 2, "--from", "", "tail", "parts", "--from", "1", "--last", "2")
	if got := want(t, url, 0, "", "", "logs"); !strings.Contains(got, `{"name":"parts","last_position":250,"count":250,"first_position":1}`) {
		t.Errorf("the logs are %s", got)
	}
	if got := want(t, url, 0, "", "", "logs", "--output", "plain"); !strings.Contains(got, "parts\t250\t250\n") {
		t.Errorf("the logs are %s", got)
	}
}

// A log is read from a state that has a receipt's writes, or not at all.
func TestReadingOnesWrites(t *testing.T) {
	t.Parallel()
	d := up(t)
	want(t, d.url, 0, "", "a", "append", "written", "--wait")
	d.pause(t, true)
	receipt := strings.TrimSpace(want(t, d.url, 0, "", "b", "append", "written", "--output", "plain"))
	want(t, d.url, 4, "412", "", "read", "written", "--receipt", receipt, "--timeout", "1s")
	if got := want(t, d.url, 0, "", "", "read", "written", "--output", "plain"); got != "a\n" {
		t.Errorf("without the receipt it is %q", got)
	}
	d.pause(t, false)
	if got := want(t, d.url, 0, "", "", "read", "written", "--receipt", receipt, "--output", "plain"); got != "a\nb\n" {
		t.Errorf("with the receipt it is %q", got)
	}
}

// A tail goes on where it was when its deployment is killed and started again, and shows what was cleared meanwhile.
func TestATailGoesOn(t *testing.T) {
	t.Parallel()
	data, port := t.TempDir(), fmt.Sprint(servers.Port(t))
	arguments := []string{"--data", data, "--listen", net.JoinHostPort("127.0.0.1", port)}
	d := up(t, arguments...)
	tail := begin(t, d.url, "tail", "followed", "--follow", "--from", "1")
	want(t, d.url, 0, "", "1\n2\n", "append", "followed", "--lines", "--wait")
	for i := 1; i <= 2; i++ {
		if m := object(t, tail.line()); m["position"] != float64(i) || m["body"] != fmt.Sprint(i) {
			t.Errorf("message %d is %v", i, m)
		}
	}
	d.end()
	d = up(t, arguments...)
	want(t, d.url, 0, "", "3\n", "append", "followed", "--lines", "--wait")
	if m := object(t, tail.line()); m["position"] != 3.0 {
		t.Errorf("after the restart comes %v", m)
	}
	d.end()
	d = up(t, arguments...)
	d.pause(t, true) // so that the stream, once it is there again, cannot have what is cleared
	want(t, d.url, 0, "", "4\n", "append", "followed", "--lines")
	want(t, d.url, 0, "", "", "clear", "followed", "--yes")
	want(t, d.url, 0, "", "5\n", "append", "followed", "--lines")
	d.pause(t, false)
	line := tail.line()
	if strings.Contains(line, `"position":4`) { // it was quick enough to see it
		line = tail.line()
	} else if line != `{"cleared_through":4}` {
		t.Errorf("after the clear comes %s", line)
	} else {
		line = tail.line()
	}
	if m := object(t, line); m["position"] != 5.0 {
		t.Errorf("behind the clear comes %v", m)
	}
	if code, said := tail.interrupt(); code != 0 || !strings.Contains(said, "drainmark: trying again: ") {
		t.Errorf("exit code %d, and it says %s", code, said)
	}
}

// Whoever reads only the beginning ends the command as it ends other tools: silently, by SIGPIPE.
func TestABrokenPipe(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	want(t, url, 0, "", numbered(3000, strings.Repeat("x", 100)), "append", "piped", "--lines", "--wait")
	for _, arguments := range [][]string{{"tail", "piped", "--last", "3000", "--output", "plain"}, {"read", "piped"}, {"tail", "piped", "--from", "1", "--follow"}} {
		r := begin(t, url, arguments...)
		r.line()
		if err := r.pipe.Close(); err != nil {
			t.Fatal(err)
		}
		_ = r.cmd.Wait()
		status := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if r.err.String() != "" || !status.Signaled() || status.Signal() != syscall.SIGPIPE {
			t.Errorf("%v: %v, and it says %q", arguments, r.cmd.ProcessState, r.err)
		}
	}
}

// On a terminal there are tables with colors, as wide as it is, and nothing that a message says is obeyed.
func TestOnATerminal(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	want(t, url, 0, "", "plain\n\x1b[31mred\u202e\n"+strings.Repeat("long ", 30)+"\n\xff\n", "append", "shown", "--lines", "--wait")
	shown := onTerminal(t, url, "", nil, "read", "shown")
	for _, wanted := range []string{"  plain\n", `\x1b[31mred\u202e`, "  long long long long long lon…\n", "  (1 bytes of application/octe…\n"} {
		if !strings.Contains(shown, wanted) {
			t.Errorf("the terminal has no %q:\n%q", wanted, shown)
		}
	}
	for line := range strings.Lines(shown) {
		if n := len([]rune(strings.TrimSpace(line))); n > 60 {
			t.Errorf("a line of %d characters: %q", n, line)
		}
	}
	if shown := onTerminal(t, url, "", nil, "status"); !strings.Contains(shown, "WHAT        WORKS  WHY NOT\nappends     \x1b[32myes\x1b[m    -\n") {
		t.Errorf("the terminal shows %q", shown)
	}
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
		if shown := onTerminal(t, url, "", []string{env}, "status"); strings.Contains(shown, "\x1b") || !strings.Contains(shown, "appends     yes    -") {
			t.Errorf("with %s the terminal shows %q", env, shown)
		}
	}
	if got := want(t, url, 0, "", "", "status", "--output", "table"); strings.Contains(got, "\x1b") {
		t.Errorf("elsewhere the table is %q", got)
	}
	if shown := onTerminal(t, url, "n\n", nil, "clear", "shown"); !strings.Contains(shown, "This will remove 4 messages of the log shown, and what has been accepted besides. Go on? [y/N] ") || !strings.Contains(shown, "nothing was done") {
		t.Errorf("the terminal shows %q", shown)
	}
	if shown := onTerminal(t, url, "y\n", nil, "clear", "shown", "--wait"); !strings.Contains(shown, "\x1b[32mpersisted\x1b[m") {
		t.Errorf("the terminal shows %q", shown)
	}
	want(t, url, 2, "say --yes", "", "clear", "shown")
	if shown := onTerminal(t, url, "a\nb\n\x04", nil, "append", "typed", "--lines", "--wait"); !strings.Contains(shown, "reading from the terminal; ctrl-D ends it") || !strings.Contains(shown, "\x1b[32mpersisted\x1b[m") {
		t.Errorf("the terminal shows %q", shown)
	}
}

// Every command says with exit code 3 that nobody answers, and where nobody does.
func TestNoServer(t *testing.T) {
	t.Parallel()
	nobody := fmt.Sprintf("127.0.0.1:%d", servers.Port(t))
	for _, command := range commands {
		got := run(t, "http://me:secret@"+nobody, "x", append(strings.Fields(command), "--patience", "100ms")...)
		if got.code != 3 || !strings.Contains(got.err, nobody) || strings.Contains(got.err, "secret") {
			t.Errorf("%s: exit code %d, %s", command, got.code, got.err)
		}
	}
	want(t, "nothing", 2, "--url (DRAINMARK_URL)", "", "status")
	want(t, "http://a,http://b", 2, "--url (DRAINMARK_URL): there are 2", "", "status")
}

// What is removed is not shown any more, and positions stay.
func TestRemovals(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	want(t, url, 0, "", "a\nb\nc\nd\n", "append", "removed", "--lines", "--wait")
	want(t, url, 0, "", "", "trim", "removed", "--through", "1", "--yes", "--wait")
	want(t, url, 0, "", "", "erase", "removed", "3", "--yes", "--wait")
	if shown := want(t, url, 0, "up to position 1", "", "read", "removed", "-o", "plain"); shown != "b\n\nd\n" {
		t.Errorf("after a trim and an erasure: %q", shown)
	}
	shown := want(t, url, 0, "", "", "read", "removed", "-o", "json")
	if lines := strings.Split(shown, "\n"); lines[0] != `{"cleared_through":1}` || !strings.Contains(lines[2], `"erased":true`) {
		t.Errorf("after a trim and an erasure: %s", shown)
	}
	if table := want(t, url, 0, "", "", "read", "removed", "-o", "table"); !strings.Contains(table, "(erased)") {
		t.Errorf("after an erasure: %s", table)
	}
	if n := accepted(t, want(t, url, 0, "", shown, "append", "kept", "--ndjson", "--wait")); n != 2 {
		t.Errorf("of what was erased, a copy has %d messages", n)
	}
	want(t, url, 0, "", "", "delete", "removed", "--yes", "--wait")
	want(t, url, 1, "404", "", "read", "removed")
	want(t, url, 0, "", "e", "append", "removed", "--wait")
	if again := object(t, want(t, url, 0, "", "", "read", "removed", "--from", "5")); again["position"] != 5.0 {
		t.Errorf("after a deletion the next message is %v", again)
	}
	for wrong, says := range map[string]string{
		"trim removed": "--through", "trim removed --through 0": "positions are 1", "erase removed": "<position>",
		"erase removed 0": "positions are 1", "erase removed x": "position", "delete": "<log>",
	} {
		want(t, url, 2, says, "", append(strings.Fields(wrong), "--yes")...)
	}
}

// commands is one of each.
var commands = []string{
	"append a", "append a --lines", "read a", "tail a", "tail a --follow", "clear a --yes", "clear a", "trim a --through 1 --yes", "erase a 1 --yes", "delete a --yes", "wait", "wait AhEz2FGL", "logs", "status", "backlog",
	"dead-letters list", "dead-letters show 0-1-1", "dead-letters retry 0-1-1", "dead-letters retry --all", "dead-letters discard --log a --yes",
}

// Somebody else's server is a wrong setting.
func TestAServerOfSomebodyElse(t *testing.T) {
	t.Parallel()
	want(t, "http://"+answering(t, "200 OK"), 2, "not an answer of Drainmark's API", "", "status")
	const hint = ": this is not Drainmark's API: look at --url"
	want(t, "http://"+answering(t, "404 Not Found"), 2, hint, "x", "append", "a")
	want(t, "http://"+answering(t, "400 Bad Request"), 2, hint, "", "tail", "a", "--follow") // so a TLS server answers
	want(t, "https://"+answering(t, "400 Bad Request"), 2, hint, "x", "append", "a", "--patience", "0")
	// What a proxy before the right server may say.
	for status, code := range map[string]int{"401 Unauthorized": 1, "403 Forbidden": 1, "413 Content Too Large": 1, "429 Too Many Requests": 3, "502 Bad Gateway": 3} {
		if got := run(t, "http://"+answering(t, status), "", "status", "--patience", "0"); got.code != code || strings.Contains(got.err, hint) {
			t.Errorf("%s: exit code %d, %s", status, got.code, got.err)
		}
	}
}

// answering returns the address of a server that has the same answer to everything, and is not Drainmark.
func answering(t *testing.T, status string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-served })
	return listener.Addr().String()
}

// A command that is told to end while it asks ends at once.
func TestInterruptedWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for arguments, code := range map[string]int{"wait --patience 1m": 4, "logs --patience 1m": 1} {
		r := begin(t, "http://"+listener.Addr().String(), strings.Fields(arguments)...)
		c, err := accept(t.Context(), listener)
		if err != nil {
			t.Fatal(err)
		}
		if got, said := r.interrupt(); got != code || said == "" {
			t.Errorf("%s: exit code %d, and it says %q", arguments, got, said)
		}
		_ = c.Close()
	}
}

// accept waits for a connection.
func accept(ctx context.Context, from net.Listener) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = from.Close() })
	defer stop()
	return from.Accept()
}

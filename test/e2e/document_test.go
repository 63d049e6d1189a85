package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// document does what a page of documentation says, from its text:
//
//	<!-- file NAME -->      the block below is that file of the example
//	<!-- part NAME -->      the block below is a part of it
//	```sh NAME              runs in a terminal of its own, in place of what ran there before
//	```console              commands, with $ before them, and what they print: … is anything, and so is a message's id
//
// Ports are others than in the text, so that any number of tests can run.
type document struct {
	t         *testing.T
	example   string // the folder of its files
	dir       string // where the commands run, with a copy of them
	env       []string
	ports     map[string]string
	postgres  *syscall.Credential // as whom PostgreSQL's servers run
	terminals map[string]*terminal
	shell     *os.Process // in which commands run, one after the other
	in        io.Writer
	out       *bufio.Reader
}

// block is a part of a page that stands between fences.
type block struct{ check, file, language, name, text string }

var (
	blockText = regexp.MustCompile("(?ms)(?:^<!-- (file|part) (\\S+) -->\n\n)?^```(\\w+)(?: (\\w+))?\n(.*?)^```$")
	portText  = regexp.MustCompile(`\b(4222|5432|5433|8000|8080|9090|9091)\b`)
	idText    = regexp.MustCompile(`\b[0-9]+-[0-9a-f]{32}-[0-9]+\b`)
)

// openDocument prepares to do what a page says about an example.
func openDocument(t *testing.T, example string) *document {
	t.Helper()
	dir, err := os.MkdirTemp("", "drainmark-document-") // not the test's own, which PostgreSQL's user could not enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &document{t: t, example: example, dir: dir, ports: map[string]string{}, terminals: map[string]*terminal{}}
	d.postgres = servers.PostgresAccount(t, dir)
	if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	for _, port := range strings.Split(strings.Trim(portText.String(), `\b()`), "|") {
		d.ports[port] = fmt.Sprint(servers.Port(t))
	}
	bin := filepath.Join(dir, "bin")
	d.fillBin(bin)
	d.env = append(os.Environ(), "DRAINMARK_LISTEN=127.0.0.1:"+d.ports["8080"],
		"DRAINMARK_ADMIN_LISTEN=127.0.0.1:"+d.ports["9090"], "DRAINMARK_SHUTDOWN_DELAY=0s",
		"PATH="+bin+":"+servers.PostgresPrograms(t)+":"+os.Getenv("PATH"))
	if raceEnabled {
		d.env = append(d.env, "GOFLAGS=-race")
	}
	d.openShell()
	return d
}

// fillBin makes a folder of the programs that the page takes for granted.
func (d *document) fillBin(bin string) {
	d.t.Helper()
	program, err := binary()
	if err != nil {
		d.t.Fatal(err)
	}
	compiler, err := exec.LookPath("go")
	if err != nil {
		d.t.Fatal(err)
	}
	source, err := filepath.Abs(d.example)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o755); err != nil {
		d.t.Fatal(err)
	}
	links := map[string]string{"drainmark": program, "nats-server": servers.NATSProgram(d.t)}
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		links["python3"] = "/usr/bin/python3" // which has Debian's packages
	}
	for name, path := range links {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			d.t.Fatal(err)
		}
	}
	inModule := fmt.Sprintf("#!/bin/sh\nverb=$1; shift\nexec '%s' \"$verb\" -C '%s' \"$@\"\n", compiler, source)
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(inModule), 0o755); err != nil {
		d.t.Fatal(err)
	}
}

// here returns the text with this test's ports.
func (d *document) here(text string) string {
	return portText.ReplaceAllStringFunc(text, func(port string) string { return d.ports[port] })
}

// run does everything that the page says.
func (d *document) run(page string) {
	d.t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range blockText.FindAllStringSubmatch(string(text), -1) {
		b := block{check: m[1], file: m[2], language: m[3], name: m[4], text: m[5]}
		switch {
		case b.check != "":
			d.compare(b)
		case b.language == "sh" && b.name != "":
			d.start(b.name, b.text)
		case b.language == "console":
			d.converse(b.text)
		case !strings.HasPrefix(b.text, "make build"): // which is how a reader gets what is in bin
			d.t.Errorf("nothing tests the block\n%s", b.text)
		}
	}
}

// compare compares a block with the file that it is from.
func (d *document) compare(b block) {
	d.t.Helper()
	content, err := os.ReadFile(filepath.Join(d.example, b.file))
	switch {
	case err != nil:
		d.t.Error(err)
	case b.check == "file" && string(content) != b.text, !bytes.Contains(content, []byte(b.text)):
		d.t.Errorf("%s has something else than\n%s", b.file, b.text)
	}
}

// openShell starts the shell that conversations are with.
func (d *document) openShell() {
	d.t.Helper()
	cmd := exec.Command("bash")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = d.dir, d.env, processAttributes()
	in, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	d.shell, d.in, d.out = cmd.Process, in, bufio.NewReader(out)
	d.ask("exec 2>&1")
}

// converse runs commands one by one, and compares what they print.
func (d *document) converse(text string) {
	d.t.Helper()
	for _, part := range strings.Split("\n"+text, "\n$ ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		got := d.ask(d.here(command))
		pattern := strings.ReplaceAll(regexp.QuoteMeta(d.here(strings.TrimSpace(want))), "…", ".*")
		pattern = idText.ReplaceAllLiteralString(pattern, idText.String())
		if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			d.t.Fatalf("$ %s\nprints\n%s\nand not\n%s\n%s", command, got, want, d.said())
		}
	}
}

const endOfCommand = "--- end of the command"

// ask runs one command in the shell, and returns what it prints.
func (d *document) ask(command string) string {
	d.t.Helper()
	late := time.AfterFunc(buildTime, func() { _ = d.shell.Kill() })
	defer late.Stop()
	if _, err := fmt.Fprintf(d.in, "{ %s\n} </dev/null; printf '\\n%%s\\n' '%s'\n", command, endOfCommand); err != nil {
		d.t.Fatalf("%s: %v", command, err)
	}
	var said strings.Builder
	for {
		line, err := d.out.ReadString('\n')
		if strings.TrimSpace(line) == endOfCommand {
			return strings.TrimSpace(said.String())
		}
		said.WriteString(line)
		if err != nil {
			d.t.Fatalf("%s: %v\n%s", command, err, said.String())
		}
	}
}

// said returns what the terminals show.
func (d *document) said() string {
	var b strings.Builder
	for name, terminal := range d.terminals {
		said := terminal.output.String()
		fmt.Fprintf(&b, "--- %s\n%s\n", name, said[max(0, len(said)-logShown/4):])
	}
	return b.String()
}

// terminal is a terminal in which something runs until it is ended.
type terminal struct {
	text   string // what was typed
	cmd    *exec.Cmd
	quit   syscall.Signal // what ends it in order
	output *shown
	exited chan struct{}
}

// shown is what a terminal shows.
type shown struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shown) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// ready is what a terminal shows when the program in it can be used.
var ready = regexp.MustCompile(
	`serving the API|taking part in the sharing|Server is ready|database system is ready to accept|listening on \d`)

// start runs commands in a terminal, until the last of them is ready.
func (d *document) start(name, text string) {
	d.t.Helper()
	if before := d.terminals[name]; before != nil {
		before.end(before.quit)
	}
	lines := strings.Split(strings.TrimSpace(d.here(text)), "\n")
	lines[len(lines)-1] = "exec " + lines[len(lines)-1]
	n := &terminal{text: text, quit: syscall.SIGINT, output: &shown{}, exited: make(chan struct{})}
	n.cmd = exec.Command("bash", "-ec", strings.Join(lines, "\n"))
	n.cmd.Dir, n.cmd.Env, n.cmd.SysProcAttr = d.dir, d.env, processAttributes()
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.WaitDelay = n.output, n.output, time.Second
	last := syscall.SIGKILL
	if strings.Contains(text, "postgres -D") {
		n.cmd.SysProcAttr.Credential, last = d.postgres, syscall.SIGQUIT // or it would leave its children
	}
	if err := n.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.terminals[name] = n
	go func() { defer close(n.exited); _ = n.cmd.Wait() }()
	d.t.Cleanup(func() { n.end(last) })
	await(d.t, name+" is ready", 2*patience, func() bool {
		select {
		case <-n.exited:
			d.t.Fatalf("%s ended:\n%s", name, n.output)
		default:
		}
		return ready.MatchString(n.output.String())
	})
}

// end ends what runs in the terminal.
func (n *terminal) end(how syscall.Signal) {
	_ = n.cmd.Process.Signal(how) // it may have ended
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-n.exited:
	case <-ctx.Done():
		_ = n.cmd.Process.Kill()
		<-n.exited
	}
}

package command_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/app"
	"github.com/drainmark/drainmark/test/servers"
)

// TestMain lets the test binary be the program, so that tests start real processes of it.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_PROCESS_OF_DRAINMARK") == "1" {
		app.Main()
		return
	}
	servers.ForgetSettings()
	code := m.Run()
	shared.end()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test waits for something, on a machine that has much to do.
const patience = time.Minute

// deployment is a running "drainmark up".
type deployment struct {
	url    string
	cmd    *exec.Cmd
	exited chan struct{}
	mu     sync.Mutex
	said   strings.Builder
}

// shared is for tests that leave the deployment as others need it. Each has logs of its own.
var shared sharedDeployment

type sharedDeployment struct {
	once sync.Once
	dir  string
	up   *deployment
	err  error
}

func (s *sharedDeployment) end() {
	if s.up != nil {
		s.up.end()
	}
	_ = os.RemoveAll(s.dir)
}

// sharedUp returns the URL of the deployment that tests share.
func sharedUp(t *testing.T) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "drainmark-command-"); shared.err == nil {
			shared.up, shared.err = launch("--data", shared.dir, "--listen", "127.0.0.1:0")
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.up.url
}

// up starts a deployment of the test's own.
func up(t *testing.T, arguments ...string) *deployment {
	t.Helper()
	d, err := launch(append([]string{"--data", t.TempDir(), "--listen", "127.0.0.1:0"}, arguments...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.end()
		if t.Failed() {
			t.Logf("up said:\n%s", d.text())
		}
	})
	return d
}

var served = regexp.MustCompile(`serving the API" url=(\S+)/v1`)

// launch starts a deployment, and returns when it serves. A machine that stands still for some seconds is no stall of it,
// which commands would tell of, unless the arguments say so.
func launch(arguments ...string) (*deployment, error) {
	d := &deployment{cmd: exec.Command(os.Args[0], append([]string{"up", "--admin-listen", "127.0.0.1:0", "--stall-after", "1m"}, arguments...)...), exited: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1")
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		defer close(d.exited)
		defer close(ready)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			d.mu.Lock()
			d.said.WriteString(lines.Text() + "\n")
			d.mu.Unlock()
			if m := served.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m[1]
			}
		}
		_ = d.cmd.Wait()
	}()
	select {
	case d.url = <-ready:
	case <-time.After(patience):
	}
	if d.url == "" {
		d.end()
		return nil, fmt.Errorf("up does not serve: %s", d.text())
	}
	return d, nil
}

func (d *deployment) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
}

func (d *deployment) end() {
	_ = d.cmd.Process.Kill()
	<-d.exited
}

// pause has the deployment's consumer pause, or go on. It has ended, or runs, when pause returns: the switch alone lets it
// commit what it has in hand.
func (d *deployment) pause(t *testing.T, paused bool) {
	t.Helper()
	d.pauseSwitch(t, http.MethodPut, fmt.Sprintf(`{"paused":%v}`, paused))
	await(t, "the consumer has done as the switch says", func() bool {
		return strings.Contains(d.pauseSwitch(t, http.MethodGet, ""), fmt.Sprintf(`"running":%v`, !paused))
	})
}

// pauseSwitch makes a request to the deployment's pause switch, and returns what it says.
func (d *deployment) pauseSwitch(t *testing.T, method, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, d.url+"/admin/consumer", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("the pause switch says %s %s, %v", answer.Status, said, err)
	}
	return string(said)
}

// outcome is what a command has come to.
type outcome struct {
	out, err string
	code     int // -1 if a signal ended it
}

// program prepares a command of the program, as a client of a deployment.
func program(ctx context.Context, url string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], arguments...)
	cmd.Env = append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1", "DRAINMARK_URL="+url)
	return cmd
}

// run runs a command with an input.
func run(t *testing.T, url, input string, arguments ...string) outcome {
	t.Helper()
	return runWith(t, url, strings.NewReader(input), nil, arguments...)
}

func runWith(t *testing.T, url string, input io.Reader, env []string, arguments ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := program(ctx, url, arguments...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = input, &out, &err, append(cmd.Env, env...)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{out.String(), err.String(), cmd.ProcessState.ExitCode()}
}

// stillWaiting is what a command says every ten seconds that waits, on a busy machine, though nothing is wrong.
var stillWaiting = regexp.MustCompile(`(?m)^drainmark: waiting for [^:]*: pending, [0-9hms.]+\n`)

// want runs a command that must end with an exit code, and whose standard error must say something, or nothing if that is "".
func want(t *testing.T, url string, code int, says, input string, arguments ...string) string {
	t.Helper()
	got := run(t, url, input, arguments...)
	if got.code != code || !strings.Contains(got.err, says) || says == "" && stillWaiting.ReplaceAllString(got.err, "") != "" {
		t.Fatalf("%v: exit code %d, not %d; it says %q, which should have %q; it prints %.2000s", arguments, got.code, code, got.err, says, got.out)
	}
	return got.out
}

// object decodes a line of JSON.
func object(t *testing.T, line string) (members map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &members); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return members
}

// running is a command that runs until it is ended.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	pipe io.Closer // what it prints
	out  *bufio.Reader
	err  *said
}

// said is what a command says while it runs.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v it is not so: %s", patience, what)
		}
	}
}

// begin starts a command.
func begin(t *testing.T, url string, arguments ...string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	r := &running{t: t, cmd: program(ctx, url, arguments...), err: &said{}}
	in, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.in, r.pipe, r.out, r.cmd.Stderr = in, out, bufio.NewReader(out), r.err
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		cancel()
	})
	return r
}

// line returns the next line that the command prints.
func (r *running) line() string {
	r.t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		_ = r.cmd.Wait()
		r.t.Fatalf("%v: %v after %q; it says %s", r.cmd.Args[1:], err, line, r.err)
	}
	return strings.TrimSuffix(line, "\n")
}

// interrupt ends the command as ctrl-C does, and returns its exit code and what it said.
func (r *running) interrupt() (int, string) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r.out)
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode(), r.err.String()
}

// onTerminal runs a command on a terminal on which something is typed, and returns what the terminal shows.
func onTerminal(t *testing.T, url, typed string, env []string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	quoted := "'" + os.Args[0] + "'"
	for _, argument := range arguments {
		quoted += " '" + argument + "'"
	}
	cmd := exec.CommandContext(ctx, "script", "-qec", "stty cols 60; "+quoted, "/dev/null") // of util-linux
	cmd.Env = append(append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1", "DRAINMARK_URL="+url, "TERM=xterm"), env...)
	cmd.Stdin = strings.NewReader(typed)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

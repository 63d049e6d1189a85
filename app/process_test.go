package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// testRoles are what else the test binary can be, by its first argument.
var testRoles = map[string]func(){"empty": serveEmpty}

// testRole adds one.
func testRole(name string, run func()) string {
	testRoles[name] = run
	return name
}

// TestMain lets the test binary be the program itself, so that tests start real processes of what is being tested.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_PROCESS_OF_DRAINMARK") == "1" {
		if role := testRoles[os.Args[1]]; role != nil {
			role()
		}
		Main()
		return
	}
	servers.ForgetSettings()
	waitTogether()
	os.Exit(m.Run())
}

// waitTogether runs more tests at a time than there are processors, unless somebody has said how many: most of them wait
// for processes most of the time.
func waitTogether() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", fmt.Sprint(2*runtime.GOMAXPROCS(0))) // it is there, and takes a number
	}
}

// program is a running process of drainmark.
type program struct {
	t      testing.TB
	cmd    *exec.Cmd
	api    string // base URL of the HTTP API
	admin  string
	mu     sync.Mutex
	output bytes.Buffer
	exited chan struct{}
	err    error
}

// programTimeout bounds every process of a test.
const programTimeout = 5 * time.Minute

// start starts a process and waits until it serves what its role serves.
func start(t testing.TB, arguments ...string) *program {
	t.Helper()
	return startWith(t, func(*exec.Cmd) {}, arguments...)
}

// startWith does the same with a command that was changed before it is started.
func startWith(t testing.TB, change func(*exec.Cmd), arguments ...string) *program {
	t.Helper()
	p := launchWith(t, change, arguments...)
	for _, role := range []string{"up", "backend", "frontend", "empty"} {
		if arguments[0] == role {
			p.findAPI()
		}
	}
	return p
}

// launch starts a process, and reads what it says.
func launch(t testing.TB, arguments ...string) *program {
	t.Helper()
	return launchWith(t, func(*exec.Cmd) {}, arguments...)
}

func launchWith(t testing.TB, change func(*exec.Cmd), arguments ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), programTimeout+*apiFuzzLasts)
	p := &program{t: t, cmd: exec.CommandContext(ctx, os.Args[0], arguments...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1")
	if role := arguments[0]; role == "backend" || role == "frontend" { // or each stop would take five seconds more
		p.cmd.Env = append(p.cmd.Env, "DRAINMARK_SHUTDOWN_DELAY=100ms")
	}
	p.cmd.Stdout = nil
	p.cmd.SysProcAttr = processAttributes()
	change(p.cmd)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer cancel()
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.mu.Lock()
			fmt.Fprintln(&p.output, lines.Text())
			p.mu.Unlock()
		}
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v said:\n%s", arguments, p.said())
		}
	})
	return p
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// find waits until the process says something that matches, and returns the first group.
func (p *program) find(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	found := ""
	p.await("says "+pattern, func() bool {
		if m := re.FindStringSubmatch(p.said()); m != nil {
			found = m[len(m)-1]
		}
		return found != ""
	})
	return found
}

// findAPI waits until the process says where its API is.
func (p *program) findAPI() {
	p.t.Helper()
	p.api = strings.TrimSuffix(p.find(`serving the API" url=(\S+)`), "/v1")
}

// findAdmin waits until the process says where its admin address is.
func (p *program) findAdmin() {
	p.t.Helper()
	p.admin = strings.TrimSuffix(p.find(`admin address" url=(\S+)`), "/readyz")
}

// await polls until a condition holds, at most for 30 seconds.
func (p *program) await(what string, holds func() bool) {
	p.t.Helper()
	p.awaitFor(30*time.Second, what, holds)
}

// awaitFor is await with a deadline, for what needs many steps: on a machine that is busy with other tests each takes long.
func (p *program) awaitFor(limit time.Duration, what string, holds func() bool) {
	p.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-p.exited:
			if !holds() {
				p.t.Fatalf("the process ended (%v) before it: %s:\n%s", p.err, what, p.said())
			}
			return
		case <-deadline:
			p.t.Fatalf("after %v the process has not: %s:\n%s", limit, what, p.said())
		}
	}
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop interrupts the process and returns how long it took to end, and its exit code.
func (p *program) stop() (time.Duration, int) {
	p.t.Helper()
	begin := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("30 seconds after the interrupt the process still runs:\n%s", p.said())
	}
	return time.Since(begin), p.cmd.ProcessState.ExitCode()
}

// answer is an HTTP response, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
	closes bool // the connection is not used again
}

func (a answer) decode(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
}

// call makes one request.
func (p *program) call(method, path, body string, header ...string) (answer, error) {
	base := p.api
	if strings.HasPrefix(path, "/livez") || strings.HasPrefix(path, "/readyz") || strings.HasPrefix(path, "/metrics") || strings.HasPrefix(path, "/debug") {
		base = p.admin
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, read, response.Close}, err
}

// want makes one request that must have a status.
func (p *program) want(status int, method, path, body string, header ...string) answer {
	p.t.Helper()
	a, err := p.call(method, path, body, header...)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != status {
		p.t.Fatalf("%s %s: %d %s, not %d", method, path, a.status, a.body, status)
	}
	return a
}

// isReady waits until the process says that it is ready. It gives itself two seconds to find out, for which a machine that has much
// to do may stand still.
func (p *program) isReady() {
	p.t.Helper()
	p.await("is ready", func() bool { a, err := p.call("GET", "/readyz", ""); return err == nil && a.status == 200 })
}

// page is what the tests read of a page.
type page struct {
	Messages []struct {
		Position uint64 `json:"position"`
		Body     string `json:"body"`
	} `json:"messages"`
	Last  uint64 `json:"last_position"`
	Count int    `json:"count"`
}

// readAll reads a log page by page.
func (p *program) readAll(log string) (all page) {
	p.t.Helper()
	for after := uint64(0); ; {
		var next page
		p.want(200, "GET", fmt.Sprintf("/v1/logs/%s/messages?limit=1000&after=%d", log, after), "").decode(p.t, &next)
		all.Messages = append(all.Messages, next.Messages...)
		all.Last, all.Count = next.Last, next.Count
		if len(next.Messages) == 0 {
			return all
		}
		after = next.Messages[len(next.Messages)-1].Position
	}
}

// barrier waits until a barrier is reached.
func (p *program) barrier() {
	p.t.Helper()
	path := "/v1/barriers"
	deadline := time.Now().Add(30 * time.Second)
	for {
		var b struct{ Receipt, State string }
		a, err := p.call("POST", path, "", "Prefer", "wait=20")
		if err != nil {
			p.t.Fatalf("asking for a barrier: %v", err)
		}
		a.decode(p.t, &b)
		if b.State == "reached" {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the barrier is not reached after 30 seconds: %d %s", a.status, a.body)
		}
		if b.Receipt != "" {
			path = "/v1/barriers?receipt=" + b.Receipt
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// program is one process of drainmark, which can be killed and started again with the same arguments. Its methods are
// called by one goroutine, the test's. starts may be read by any.
type program struct {
	t         testing.TB
	name      string
	arguments []string
	planted   string // the promise that it breaks on purpose, as the package planted has it, empty for none
	store     string // the master, for some of the planted faults
	clocks    bool   // its clock can be set wrong
	clock     string // by how much the clock is wrong from the next start on: a duration, empty for not at all
	dir       string // of its logs, one file a start
	starts    atomic.Int64
	cmd       *exec.Cmd
	exited    chan struct{}
}

// processLifetime is how long a process can be there at most.
var processLifetime = 5 * time.Minute

const (
	patience = 60 * time.Second // for something that must happen
	logShown = 24 << 10         // bytes of a log that are shown when a test fails
)

// newProgram makes a program that ends with the test. Its logs are shown when the test fails, and must never tell of a
// data race or of a panic.
func newProgram(t testing.TB, name string, arguments ...string) *program {
	t.Helper()
	p := &program{t: t, name: name, arguments: arguments, dir: t.TempDir()}
	t.Cleanup(func() {
		p.kill()
		said := p.said()
		for _, fatal := range []string{"WARNING: DATA RACE", "panic: ", "handler panic"} {
			if i := strings.Index(said, fatal); i >= 0 {
				t.Errorf("%s said:\n%.8000s", name, said[i:])
			}
		}
		if t.Failed() {
			t.Logf("the end of what %s said in %d starts:\n%s", name, p.starts.Load(), said[max(0, len(said)-logShown):])
		}
	})
	return p
}

// start starts the process, if it does not run, and does not wait for it.
func (p *program) start() {
	p.t.Helper()
	if p.running() {
		return
	}
	path, err := binary()
	if p.planted != "" || p.clocks {
		path, err = plantedBinary()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.Create(p.logFile(p.starts.Add(1)))
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(context.Background(), processLifetime)
	p.cmd = exec.CommandContext(ctx, path, p.arguments...)
	p.cmd.Stderr = log
	p.cmd.Env = os.Environ()
	if p.planted != "" {
		p.cmd.Env = append(p.cmd.Env, "DRAINMARK_PLANTED="+p.planted, "DRAINMARK_STORE="+p.store)
	}
	if p.clock != "" {
		p.cmd.Env = append(p.cmd.Env, "DRAINMARK_CLOCK_OFFSET="+p.clock)
	}
	p.cmd.SysProcAttr = processAttributes()
	if err := p.cmd.Start(); err != nil {
		cancel()
		p.t.Fatalf("starting %s: %v", p.name, err)
	}
	p.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		defer cancel()
		_ = cmd.Wait()
	}(p.cmd, p.exited)
}

func (p *program) logFile(start int64) string { return filepath.Join(p.dir, fmt.Sprint(start, ".log")) }

// said returns what the process said since it was first started.
func (p *program) said() string {
	var all strings.Builder
	for start := range p.starts.Load() {
		text, err := os.ReadFile(p.logFile(start + 1))
		if err != nil {
			p.t.Errorf("reading a log: %v", err)
		}
		fmt.Fprintf(&all, "--- start %d\n%s", start+1, text)
	}
	return all.String()
}

// find waits until the process has said something that matches since its last start, and returns the last group.
func (p *program) find(pattern string) (found string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	await(p.t, p.name+" says "+pattern, patience, func() bool {
		ended := !p.running()
		text, err := os.ReadFile(p.logFile(p.starts.Load()))
		if m := re.FindSubmatch(text); err == nil && m != nil {
			found = string(m[len(m)-1])
			return true
		}
		if ended {
			p.t.Fatalf("%s ended before it said %s", p.name, pattern)
		}
		return false
	})
	return found
}

// running says whether the process runs, or is paused.
func (p *program) running() bool {
	if p.exited == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends the process without warning, and waits until it is gone.
func (p *program) kill() {
	if p.exited != nil {
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// stop lets the process end in order.
func (p *program) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("%s has not ended %v after SIGTERM", p.name, patience)
	}
}

// pause stops the process where it stands, if it runs.
func (p *program) pause() {
	if p.running() {
		servers.PauseProcess(p.t, p.cmd.Process)
	}
}

func (p *program) resume() { p.signal(syscall.SIGCONT) }

// signal sends a signal, if the process runs.
func (p *program) signal(s syscall.Signal) {
	if p.running() {
		_ = p.cmd.Process.Signal(s) // it may have ended meanwhile
	}
}

// adminURL returns where the running process serves its metrics.
func (p *program) adminURL() string {
	p.t.Helper()
	return strings.TrimSuffix(p.find(`admin address" url=(\S+)`), "/readyz")
}

// metric returns the sum of a metric over its labels. It is 0 for a process that does not run.
func (p *program) metric(name string) (sum float64) {
	p.t.Helper()
	if !p.running() {
		return 0
	}
	a, err := get(p.t.Context(), p.adminURL()+"/metrics")
	if err != nil || a.status != 200 {
		p.t.Fatalf("%s's metrics: %d %v", p.name, a.status, err)
	}
	for line := range strings.Lines(string(a.body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			p.t.Fatalf("the metric %q: %v", line, err)
		}
		sum += value
	}
	return sum
}

// await polls until a condition holds.
func await(t testing.TB, what string, within time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it is not so: %s", within, what)
		}
		<-tick.C
	}
}

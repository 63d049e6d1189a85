// Package servers starts real servers for tests: RabbitMQ, Apache Kafka, Apache ActiveMQ and Artemis, Redis with replicas and Sentinels, PostgreSQL with
// standbys and PgBouncer, and NATS. Each runs as a process of its own on free ports of the loopback interface, with directories
// of its own, and can be killed, paused and
// started again. It needs the servers' programs: scripts/install-servers installs them.
package servers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// T is what this package uses of a *testing.T. Suites with a T of their own fit too.
type T interface {
	Helper()
	Cleanup(func())
	TempDir() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Host is where every server listens.
const Host = "127.0.0.1"

// patience is for how long a server may take to answer after its start, or to end after a signal. RabbitMQ takes five
// seconds on an idle machine.
const patience = 90 * time.Second

// outputTime is for how long the output of a program that has ended is waited for: somebody whom it started may hold it open.
const outputTime = 10 * time.Second

// Process is one server's process. Its methods may be called by any goroutine, one at a time.
type Process struct {
	t       T
	name    string
	program string
	args    []string
	env     []string
	dir     string
	group   bool                // signals go to the whole process group: the server is a wrapper with children
	family  bool                // SIGKILL, SIGSTOP and SIGCONT go to the children too, which have groups of their own
	who     *syscall.Credential // as whom it runs, nil for the test's own user
	quit    syscall.Signal      // what asks it to end, SIGTERM if zero
	ready   func(ctx context.Context) error

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	output *tail
	paused bool
}

// program returns the path of a server's program, and fails the test if it is not installed: no test that needs a
// server is passed over.
func program(t T, name, debianPackage string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/lib/rabbitmq/bin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: run scripts/install-servers, or install the package %s", name, debianPackage)
	return ""
}

// Port returns a port of the loopback interface that is free now, and that nobody else is given before it has come round: no
// other test, and no outgoing connection. So it is still free when a server comes to it, also after a kill.
func Port(t T) int {
	t.Helper()
	for range blockSize {
		port, err := ports.next()
		if err != nil {
			t.Fatalf("looking for a port on %s: %v", Host, err)
			return 0
		}
		if listener, err := net.Listen("tcp", address(port)); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatalf("none of the %d ports of this process is free on %s", blockSize, Host)
	return 0
}

// Start starts the process, which must not run, and waits until it answers.
func (p *Process) Start() {
	p.t.Helper()
	p.Launch()
	p.Await()
}

// Launch starts the process, which must not run, and does not wait.
func (p *Process) Launch() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		p.t.Fatalf("%s runs already", p.name)
		return
	}
	cmd := exec.Command(p.program, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = processAttributes()
	cmd.SysProcAttr.Credential = p.who
	// A grandchild that keeps the output open must not keep Wait from returning.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("starting %s: %v", p.name, err)
		return
	}
	p.cmd, p.exited, p.paused = cmd, make(chan struct{}), false
	go func(exited chan struct{}) { _ = cmd.Wait(); close(exited) }(p.exited)
}

// Await waits until the process answers.
func (p *Process) Await() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		try, end := context.WithTimeout(ctx, 2*time.Second)
		err := p.ready(try)
		end()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-p.exited:
			p.t.Fatalf("%s ended before it answered (%v). It said:\n%s", p.name, err, p.output)
			return
		case <-ctx.Done():
			p.t.Fatalf("%s does not answer %v after its start: %v. It said:\n%s", p.name, patience, err, p.output)
			return
		}
	}
}

// Kill ends the process without warning (SIGKILL), and waits until it is gone. It does nothing if it does not run.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop asks the process to end (SIGTERM, or what it takes for that), and waits until it is gone. It does nothing if it does
// not run.
func (p *Process) Stop() { p.end(cmp.Or(p.quit, syscall.SIGTERM)) }

func (p *Process) end(signal syscall.Signal) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return
	}
	p.signal(signal)
	if p.paused && signal != syscall.SIGKILL {
		p.signal(syscall.SIGCONT)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-p.exited
		p.t.Errorf("%s had not ended %v after the signal %v, and was killed. It said:\n%s", p.name, patience, signal, p.output)
	}
}

// Pause stops the process where it stands (SIGSTOP) until Continue. On Linux it has stopped when Pause returns.
func (p *Process) Pause() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(syscall.SIGSTOP)
	p.paused = true
	if !p.running() {
		return
	}
	pid := p.cmd.Process.Pid
	awaitStopped(p.t, pid)
	if p.family {
		for _, child := range children(pid) {
			awaitStopped(p.t, child)
		}
	}
}

// PauseProcess stops a process that the caller started where it stands (SIGSTOP). On Linux it has stopped when PauseProcess
// returns: a signal alone lets the process go on until its threads come to take it, and answer once more.
func PauseProcess(t T, process *os.Process) {
	t.Helper()
	_ = process.Signal(syscall.SIGSTOP) // it may have ended
	awaitStopped(t, process.Pid)
}

// awaitStopped waits until a process has stopped, or has ended.
func awaitStopped(t T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); !stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d has not stopped %v after SIGSTOP", pid, patience)
			return
		}
	}
}

// Continue lets a paused process go on (SIGCONT).
func (p *Process) Continue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(syscall.SIGCONT)
	p.paused = false
}

// Running says whether the process runs, or is paused.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process, or to its group. It never fails in a way that matters: a process that is gone
// needs none.
func (p *Process) signal(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	pid := p.cmd.Process.Pid
	if p.group {
		pid = -pid
	}
	if !p.family || s != syscall.SIGKILL && s != syscall.SIGSTOP && s != syscall.SIGCONT {
		_ = syscall.Kill(pid, s)
		return
	}
	// One that is stopped has no more children, and those of one that is dead are nobody's.
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	awaitStopped(p.t, pid)
	for _, child := range children(pid) {
		_ = syscall.Kill(child, s)
		if s == syscall.SIGKILL {
			awaitGone(child)
		}
	}
	_ = syscall.Kill(pid, s)
}

// PID returns the id of the process that was started last, 0 if none was.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Output returns the end of what the process has said.
func (p *Process) Output() string { return p.output.String() }

// newProcess makes a process that ends with the test.
func newProcess(t T, name, program string) *Process {
	p := &Process{t: t, name: name, program: program, output: &tail{}}
	t.Cleanup(p.Kill)
	return p
}

// write writes a file of the server's.
func write(t T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err != nil {
		t.Fatalf("writing the server's settings: %v", err)
	}
}

// tail keeps the last part of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

const tailBytes = 32 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	if over := len(t.data) - tailBytes; over > 0 {
		t.data = bytes.Clone(t.data[over:])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

var errNotYet = errors.New("not yet")

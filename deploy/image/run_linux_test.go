package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// anyUser is a user that the image does not know, in the group that containers have then.
const anyUser = "12345:0"

// script makes the root file system read-only, and ends as the program, which is process 1 of its PID namespace, has no
// capabilities, and gets none. $1 is the root, $2 a folder to write to, or nothing.
const script = `set -e
mount --make-rprivate /
mount --bind "$1" "$1"
[ -z "$2" ] || mount -t tmpfs -o mode=0777 none "$1$2"
mount -o remount,bind,ro "$1"
root=$1
shift 2
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid chroot --userspec=` + anyUser + ` "$root" /drainmark "$@"
`

// container is the program of the image, run as an orchestrator would that trusts it with nothing.
type container struct {
	t    *testing.T
	root string
	cmd  *exec.Cmd
	mu   sync.Mutex
	said bytes.Buffer
	done chan struct{}
}

// Write takes what the program says.
func (c *container) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(p)
}

func (c *container) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

// root unpacks the image of this machine.
func root(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can run the image without an engine: run this test as root")
	}
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range unpack(t, theImage(t).images["linux/"+runtime.GOARCH]) {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, c.data, c.header.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start runs the program with a folder that it can write to, or "" for none.
func start(t *testing.T, root, writable string, arguments ...string) *container {
	t.Helper()
	c := &container{t: t, root: root, done: make(chan struct{})}
	c.cmd = exec.Command("sh", append([]string{"-c", script, "sh", root, writable}, arguments...)...)
	c.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TZ=Pacific/Kiritimati"}
	c.cmd.Stdout, c.cmd.Stderr = c, c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // its state is looked at
		close(c.done)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
	})
	return c
}

// await polls until the program says something, or something else holds.
func (c *container) await(what string, holds func() bool) {
	c.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-c.done:
			c.t.Fatalf("it ended before this: %s\n%s", what, c.output())
		case <-deadline:
			c.t.Fatalf("after a minute it has not: %s\n%s", what, c.output())
		}
	}
}

// code waits for the end, and returns the exit code.
func (c *container) code() int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		c.t.Fatalf("after a minute it still runs:\n%s", c.output())
	}
	return c.cmd.ProcessState.ExitCode()
}

// healthcheck runs the image's own check beside it.
func (c *container) healthcheck(admin string) (int, string) {
	cmd := exec.Command("chroot", "--userspec="+anyUser, c.root, "/drainmark", "healthcheck", "--admin-listen", admin)
	said, _ := cmd.CombinedOutput() // the exit code says it
	return cmd.ProcessState.ExitCode(), string(said)
}

// free returns a loopback address that nobody uses.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Everything in one process, on a root file system that cannot be written to, as a user whom the image does not know,
// without capabilities, and as process 1: it accepts, is healthy, and SIGTERM ends it in order.
func TestTheImageRuns(t *testing.T) {
	admin, api := free(t), free(t)
	c := start(t, root(t), "/"+dataDir, "up", "--data", "/"+dataDir, "--admin-listen", admin, "--listen", api)
	c.await("is healthy", func() bool { code, _ := c.healthcheck(admin); return code == 0 })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+api+"/v1/logs/guestbook/messages", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/plain")
	request.Header.Set("Prefer", "wait=30")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if said, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusCreated {
		t.Errorf("an append was answered %s, %s, %v", answer.Status, said, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\t1\n", "Uid:\t12345\t12345", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the process has no %q:\n%s", want, status)
		}
	}
	if !strings.Contains(c.output(), "+14:00") {
		t.Errorf("the log is not in the time zone of the environment:\n%s", c.output())
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.code(); code != 0 || !strings.Contains(c.output(), "msg=stopped") {
		t.Errorf("exit code %d\n%s", code, c.output())
	}
	if code, said := c.healthcheck(admin); code != 3 {
		t.Errorf("the check of a process that is gone: exit code %d, %s", code, said)
	}
}

// A role that keeps nothing needs no folder to write to. A second signal ends process 1 at once, for which the kernel
// has no default action.
func TestNothingIsWritten(t *testing.T) {
	admin := free(t)
	c := start(t, root(t), "", "frontend", "--backend", "http://"+free(t), "--admin-listen", admin, "--listen", free(t), "--shutdown-delay", "1h")
	c.await("listens", func() bool { code, _ := c.healthcheck(admin); return code == 1 })
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.await("is stopping", func() bool { return strings.Contains(c.output(), "a second signal") })
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.code(); code == 0 {
		t.Errorf("exit code %d\n%s", code, c.output())
	}
}

// Data that cannot be kept is a setting that is wrong, and the error names it.
func TestDataNeedsAFolder(t *testing.T) {
	c := start(t, root(t), "", "up", "--data", "/"+dataDir, "--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0")
	if code := c.code(); code != 2 || !strings.Contains(c.output(), "--data") {
		t.Errorf("exit code %d\n%s", code, c.output())
	}
}

// The program says of which commit it is.
func TestVersionOfTheImage(t *testing.T) {
	c := start(t, root(t), "", "version")
	if code := c.code(); code != 0 || !strings.Contains(c.output(), "revision "+theImage(t).commit.revision) {
		t.Errorf("exit code %d\n%s", code, c.output())
	}
}

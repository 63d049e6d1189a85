package tracing

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"github.com/nats-io/nats-server/v2/server"
)

// program is that of drainmark, made once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(built, "drainmark")
	command := exec.Command("go", "build", "-o", path, "./cmd/drainmark")
	command.Dir = filepath.Join("..", "..")
	if said, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building drainmark: %w\n%s", err, said)
	}
	return path, nil
})

// built is where the program is.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "tracing"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// freeAddress returns an address of loopback on which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort(servers.Host, strconv.Itoa(servers.Port(t)))
}

// startNATS starts a NATS server, and returns its URL.
func startNATS(t *testing.T) string {
	t.Helper()
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true})
	must(t, err)
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not answer")
	}
	return nats.ClientURL()
}

// process is one of drainmark.
type process struct {
	t     *testing.T
	admin string
	cmd   *exec.Cmd
	log   bytes.Buffer // to be read when it has ended
	ended chan struct{}
}

// start starts a command with further variables, and waits until it is ready.
func start(t *testing.T, environment []string, command string, args ...string) *process {
	t.Helper()
	path, err := program()
	must(t, err)
	p := &process{t: t, admin: "http://" + freeAddress(t), ended: make(chan struct{})}
	p.cmd = exec.Command(path, append([]string{command, "--admin-listen", p.admin[len("http://"):]}, args...)...)
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), environment...), &p.log
	must(t, p.cmd.Start())
	go func() { defer close(p.ended); _ = p.cmd.Wait() }()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", command, p.log.String())
		}
	})
	until(t, command+" is ready", func() bool {
		answer, err := http.Get(p.admin + "/readyz")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return p
}

// stop ends it in order, and returns how long that took.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Error("a process does not end")
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return time.Since(began)
}

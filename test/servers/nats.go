package servers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// NATSOptions is how a NATS server is set up. The zero value will do.
type NATSOptions struct {
	MaxPayload   int    // bytes of a message at most, 0 for the server's default, 1 MiB
	MaxFileStore int64  // bytes that JetStream may store, 0 for what the server finds free
	Dir          string // of its files, empty for one that ends with the test
	NoJetStream  bool
	Settings     []string // further lines of its settings file
}

// NATS is a NATS server with JetStream, which syncs each message to the disk before it confirms it.
type NATS struct {
	*Process
	Port     int
	StoreDir string // everything that it keeps: remove it while the server is down, and it has forgotten all

	options  NATSOptions
	settings string // the path of its settings file
}

// StartNATS starts a NATS server and waits until JetStream answers. It ends with the test at the latest. The program is
// built from the version in go.mod, once per process of tests: call Cleanup at the end of TestMain.
func StartNATS(t T, o NATSOptions) *NATS {
	t.Helper()
	path, err := natsProgram.build()
	if err != nil {
		t.Fatalf("building nats-server: %v", err)
		return nil
	}
	dir := directory(t, o.Dir)
	n := &NATS{Process: newProcess(t, "nats-server", path), Port: Port(t), StoreDir: filepath.Join(dir, "store"), options: o, settings: filepath.Join(dir, "nats.conf")}
	write(t, n.settings, o.settings(n.Port, n.StoreDir))
	n.args, n.dir, n.ready = []string{"-c", n.settings}, dir, n.answers
	n.Start()
	return n
}

// Reload gives the server other further settings (NATSOptions.Settings), which it takes soon. It cuts those off who may no
// longer be connected.
func (n *NATS) Reload(settings ...string) {
	n.t.Helper()
	n.options.Settings = settings
	write(n.t, n.settings, n.options.settings(n.Port, n.StoreDir))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.signal(syscall.SIGHUP)
}

// URL returns the URL for clients.
func (n *NATS) URL() string { return "nats://" + n.address() }

func (n *NATS) address() string { return net.JoinHostPort(Host, strconv.Itoa(n.Port)) }

// settings returns the server's settings file.
func (o NATSOptions) settings(port int, storeDir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %q\n", net.JoinHostPort(Host, strconv.Itoa(port)))
	if o.MaxPayload > 0 {
		fmt.Fprintf(&b, "max_payload: %d\n", o.MaxPayload)
	}
	for _, line := range o.Settings {
		b.WriteString(line + "\n")
	}
	if o.NoJetStream {
		return b.String()
	}
	// By itself the server syncs every two minutes, and a power failure loses what it has confirmed since.
	fmt.Fprintf(&b, "jetstream {\n  store_dir: %q\n  sync_interval: always\n", storeDir)
	if o.MaxFileStore > 0 {
		fmt.Fprintf(&b, "  max_file_store: %d\n", o.MaxFileStore)
	}
	b.WriteString("}\n")
	return b.String()
}

// answers asks for the server's greeting. The server listens once JetStream has recovered what is stored.
func (n *NATS) answers(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", n.address())
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading the server's greeting: %w", err)
	}
	var greeting struct {
		JetStream bool `json:"jetstream"`
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	if !ok || json.Unmarshal([]byte(text), &greeting) != nil || greeting.JetStream == n.options.NoJetStream {
		return fmt.Errorf("the server's greeting says nothing of JetStream: %.200q", line)
	}
	return nil
}

// Cleanup removes what this package has built. Call it at the end of TestMain, when no server is needed:
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		servers.Cleanup()
//		os.Exit(code)
//	}
//
// or with goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { servers.Cleanup(); os.Exit(code) })).
func Cleanup() { natsProgram.remove() }

// natsProgram is the server's program.
var natsProgram = builtProgram{name: "nats-server", module: "github.com/nats-io/nats-server/v2"}

// buildTime is for how long building a program may take, with nothing in Go's cache.
const buildTime = 5 * time.Minute

// builtProgram is a program of a module in go.mod, built when it is first needed. Its methods may be called
// concurrently.
type builtProgram struct {
	name, module string

	mu  sync.Mutex
	dir string // empty: not built
	err error  // building it once more would not help
}

// build returns the program's path. The directory is nobody's t.TempDir, because the first test that needs the program
// may be over long before the last one.
func (p *builtProgram) build() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" && p.err == nil {
		p.dir, p.err = p.buildIn()
	}
	return filepath.Join(p.dir, p.name), p.err
}

func (p *builtProgram) buildIn() (string, error) {
	dir, err := os.MkdirTemp("", "drainmark-servers-")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	// Without its tables of symbols the program is half as large, and a crash still shows its stack.
	command := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, p.name), p.module)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.WaitDelay = outputTime
	if output, err := command.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("go build %s: %w:\n%s", p.module, err, output)
	}
	return dir, nil
}

func (p *builtProgram) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
	p.dir, p.err = "", nil
}

package jetstream

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

func TestEmbeddedConformance(t *testing.T) {
	brokertest.Run(t, brokertest.Harness{
		Start: func(t brokertest.T) *brokertest.Server { return startEmbedded(t, EmbedConfig{}).describe() },
		StartSmall: func(t brokertest.T) *brokertest.Server {
			return startEmbedded(t, EmbedConfig{Options: small}).describe()
		},
	})
}

func TestExternalConformance(t *testing.T) {
	brokertest.Run(t, brokertest.Harness{
		Start:      func(t brokertest.T) *brokertest.Server { return startPermitted(t, Options{}).describe() },
		StartSmall: func(t brokertest.T) *brokertest.Server { return startPermitted(t, small).describe() },
	})
}

// small options have room for some 60 batches of 1 kB in a partition.
var small = Options{MaxBytes: 2 << 16, PurgeInterval: 20 * time.Millisecond}

// embedded is an embedded server, with brokers on connections of their own as if they were several processes.
type embedded struct {
	config  EmbedConfig
	mu      sync.Mutex
	process *process
	stop    func()
	brokers []*Broker
}

func startEmbedded(t brokertest.T, c EmbedConfig) *embedded {
	c.Partitions = 2
	c.Timeout = orDefault(c.Timeout, answerTime)
	c.Dir = t.TempDir()
	e := &embedded{config: c}
	e.start(t)
	return e
}

func (e *embedded) start(t brokertest.T) {
	c, err := e.config.resolved()
	if err != nil {
		t.Fatalf("%v", err)
	}
	p, err := startProcess(t.Context(), c)
	if err != nil {
		t.Fatalf("starting: %v", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.process = p
	stop := sync.OnceFunc(func() {
		if err := p.close(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	t.Cleanup(stop)
	e.stop = stop
}

func (e *embedded) connect(t brokertest.T) *Broker {
	e.mu.Lock()
	defer e.mu.Unlock()
	b, err := e.process.connect(context.Background(), e.config.Partitions)
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	e.brokers = append(e.brokers, b)
	t.Cleanup(func() { b.Close() })
	return b
}

// kill leaves what a killed process leaves: the files as they are at that moment.
func (e *embedded) kill(t brokertest.T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.brokers {
		b.conn.Conn.Close()
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(e.config.Dir)); err != nil {
		t.Fatalf("copying the directory: %v", err)
	}
	e.config.Dir = filepath.Join(dir, "copy")
}

func (e *embedded) describe() *brokertest.Server {
	return &brokertest.Server{
		Connect: func(t brokertest.T) broker.Broker { return e.connect(t) },
		Drop:    drop,
		Kill:    e.kill,
		Revive:  e.start,
		Foreign: func(t brokertest.T, partition int, payload []byte) {
			nc, err := nats.Connect("", nats.InProcessServer(e.process))
			if err != nil {
				t.Fatalf("connecting: %v", err)
			}
			defer nc.Close()
			publishForeign(t, nc, partition, payload)
		},
		Purge: func(t brokertest.T, partition int) {
			if err := purgeAll(e.connect(t), partition); err != nil {
				t.Fatalf("purging: %v", err)
			}
		},
	}
}

// purgeAll purges a partition as a person with NATS's tools does.
func purgeAll(b *Broker, partition int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := b.partitions[partition].ready(ctx)
	if err != nil {
		return err
	}
	return stream.Purge(ctx)
}

func drop(_ brokertest.T, b broker.Broker) {
	if roles, ok := b.(brokertest.Roles); ok {
		roles.Backend.(*Broker).conn.Conn.Close()
		b = roles.Consumer
	}
	b.(*Broker).conn.Conn.Close()
}

func publishForeign(t brokertest.T, nc *nats.Conn, partition int, payload []byte) {
	if _, err := nc.Request(fmt.Sprintf("drainmark.p%d.somebody", partition), payload, answerTime); err != nil {
		t.Fatalf("publishing a message without headers: %v", err)
	}
}

// external is a NATS server in a process of its own.
type external struct {
	settings natsSettings
	options  Options
	command  *exec.Cmd
	url      string
	// permitted says that its users are those of deploy/permissions, and admin.
	permitted bool
}

func startExternal(t brokertest.T, o Options) *external {
	o.Partitions = 2
	return startNATS(t, natsSettings{}, o)
}

// startPermitted starts a server with the users of deploy/permissions.
func startPermitted(t brokertest.T, o Options) *external {
	o.Partitions = 2
	admin := fmt.Sprintf("users: [{ user: admin, password: %q }", servers.RolePassword) // who purges, and puts foreign messages in
	e := startNATS(t, natsSettings{More: strings.Replace(servers.Permissions(t, "nats.conf"), "users: [", admin, 1)}, o)
	e.permitted = true
	return e
}

func startNATS(t brokertest.T, s natsSettings, o Options) *external {
	s.Dir = t.TempDir()
	s.Port = servers.Port(t) // no outgoing connection gets it while the server is dead
	o.Timeout = orDefault(o.Timeout, answerTime)
	e := &external{settings: s, options: o}
	e.start(t)
	t.Cleanup(func() { e.kill(t) })
	return e
}

func (e *external) start(t brokertest.T) {
	settings, err := json.Marshal(e.settings)
	if err != nil {
		t.Fatalf("%v", err)
	}
	command, said := child(t, natsRole, nil, settingsVariable+"="+string(settings))
	address, ok := strings.CutPrefix(said(), "ready ")
	if !ok {
		t.Fatalf("the server did not start: %s", address)
	}
	e.command = command
	e.url = "nats://" + address
}

func (e *external) kill(brokertest.T) {
	if e.command != nil {
		e.command.Process.Kill()
		e.command.Wait()
	}
	e.command = nil
}

func (e *external) open(t brokertest.T) *Broker { return e.openAs(t, "admin") }

// as returns the URL of a user, if there are users.
func (e *external) as(user string) string {
	if e.permitted {
		return servers.As(user, e.url)
	}
	return e.url
}

// connect makes a connection, or one of each role if the roles have users.
func (e *external) connect(t brokertest.T) broker.Broker {
	if e.permitted {
		return brokertest.Roles{Backend: e.openAs(t, servers.BackendUser), Consumer: e.openAs(t, servers.ConsumerUser)}
	}
	return e.open(t)
}

func (e *external) openAs(t brokertest.T, user string) *Broker {
	b, err := Open(context.Background(), Config{Options: e.options, URL: e.as(user)})
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	if e.command != nil {
		connected(t, b)
	}
	return b
}

// connected waits until a broker is connected. Open does so for two seconds, in which a busy machine may stand still.
func connected(t brokertest.T, b *Broker) {
	t.Helper()
	if err := b.conn.wait(context.Background(), patience); err != nil {
		t.Fatalf("connecting: %v", err)
	}
}

// refused opens until that is refused, and returns why. A server that answers too late, because the machine has stood still,
// is taken for one that is away, which is waited for.
func refused[C io.Closer](open func() (C, error)) error {
	for end := time.Now().Add(patience); ; {
		opened, err := open()
		if err != nil {
			return err
		}
		_ = opened.Close()
		if time.Now().After(end) {
			return nil
		}
	}
}

// refusalOf returns why a broker is refused.
func refusalOf(t *testing.T, c Config) error {
	t.Helper()
	c.Timeout = orDefault(c.Timeout, answerTime)
	return refused(func() (*Broker, error) { return Open(bounded(t), c) })
}

func (e *external) describe() *brokertest.Server {
	return &brokertest.Server{
		Connect:    e.connect,
		Drop:       drop,
		Kill:       e.kill,
		Revive:     e.start,
		Reconnects: true,
		Foreign: func(t brokertest.T, partition int, payload []byte) {
			nc, err := nats.Connect(e.as("admin"))
			if err != nil {
				t.Fatalf("connecting: %v", err)
			}
			defer nc.Close()
			publishForeign(t, nc, partition, payload)
		},
		Purge: func(t brokertest.T, partition int) {
			if err := purgeAll(e.open(t), partition); err != nil {
				t.Fatalf("purging: %v", err)
			}
		},
	}
}

// child starts the test binary in another role, isolated from this process in some way or not. The function returns the next line that it says. It ends with the test
// at the latest.
func child(t brokertest.T, role string, isolation *syscall.SysProcAttr, environment ...string) (*exec.Cmd, func() string) {
	command := exec.Command(os.Args[0])
	command.Env = append(append(os.Environ(), roleVariable+"="+role), environment...)
	command.Stderr = os.Stderr
	command.SysProcAttr = isolation
	stdin, err1 := command.StdinPipe()
	stdout, err2 := command.StdoutPipe()
	if err1 != nil || err2 != nil || command.Start() != nil {
		t.Fatalf("starting a process: %v %v", err1, err2)
	}
	t.Cleanup(func() {
		stdin.Close()
		if command.ProcessState == nil {
			command.Process.Kill()
			command.Wait()
		}
	})
	lines := bufio.NewReader(stdout)
	return command, func() string {
		line, err := lines.ReadString('\n')
		if err != nil && err != io.EOF {
			return err.Error()
		}
		return strings.TrimSpace(line)
	}
}

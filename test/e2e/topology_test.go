package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
)

// topology is a whole deployment that commands from outside can break and mend, as the plans "local" and "harsh" of verify
// do: a directory as docs/faults.md describes it.
type topology struct {
	*deployment
	t        testing.TB
	dir      string
	listener net.Listener
	parts    map[string]part
	wires    map[string]wire
	doors    map[string]string // by the program's name: a broker's URL that leads through the program's wire
	disks    map[string]string // by the server's name: where its limited disk is
	master   func() string     // the name of the server that is the master now
	failOver func() string     // makes another one the master, if somebody has to, and returns the answer
	nodes    cluster           // of a broker that is one
	asked    chan question
}

// cluster is a broker of several nodes, which are named broker-0 and so on.
type cluster interface {
	// Replicas returns the nodes that have a partition, modulo their number. Its leader comes first.
	Replicas(ctx context.Context, prefix string, partition int) ([]int, error)
	Controller(ctx context.Context) (int, error)
}

// nodeThatIs answers which node leads a partition, follows its leader, or is the active controller.
func (o *topology) nodeThatIs(what, partition string) string {
	node, err := 0, error(nil)
	if what == "controller" {
		node, err = o.nodes.Controller(context.Background())
	} else {
		n, _ := strconv.Atoi(partition)
		var replicas []int
		if replicas, err = o.nodes.Replicas(context.Background(), "drainmark", n); err == nil {
			node = replicas[0]
			if what == "follower" && len(replicas) > 1 {
				node = replicas[1+n%(len(replicas)-1)]
			}
		}
	}
	if err != nil {
		return fmt.Sprintf("%s %s: %v", what, partition, err)
	}
	return fmt.Sprint("ok broker-", node)
}

// part is one process of a topology.
type part struct {
	start   func() // starts it if it does not run, and returns when it answers
	launch  func() // starts it if it does not run, and returns at once
	pid     func() int
	program *program // nil for a server
}

// question is a command's line, and where its answer goes.
type question struct {
	line   string
	answer chan string
}

// startSmallTopology starts two backends and two consumers on a broker and an SQLite file. Each may break a promise on
// purpose.
func startSmallTopology(t testing.TB, broker, planted string) *topology {
	t.Helper()
	o := newTopology(t)
	o.deploy(setup{
		broker: o.startBroker(broker, nowhere), store: "sqlite:" + filepath.Join(t.TempDir(), "store.db"), backends: 2, consumers: 2,
		backendFlags: []string{"--stall-after", "2s"}, consumerFlags: []string{"--lease", "500ms"}, planted: planted,
	})
	return o
}

func newTopology(t testing.TB) *topology {
	return &topology{
		t: t, dir: t.TempDir(), parts: map[string]part{}, wires: map[string]wire{}, doors: map[string]string{}, disks: map[string]string{}, asked: make(chan question),
	}
}

// brokerNames is what startBroker knows, for people.
const brokerNames = "rabbitmq, rabbitmq4, rabbitmq4cluster, nats, kafka, kafka3, artemis, activemq or rabbitmq4-amqp10"

// nowhere is for servers that have directories of their own.
func nowhere(string) (dir string) { return "" }

// startBroker starts a broker, and returns its URL. disk returns the directory of a server's files, or "".
func (o *topology) startBroker(name string, disk func(server string) (dir string)) (url string) {
	o.t.Helper()
	switch name {
	case "rabbitmq":
		return o.startRabbitMQ(disk, 0)
	case "rabbitmq4":
		return o.startRabbitMQ(disk, 4)
	case "rabbitmq4cluster":
		return o.startRabbitMQCluster(disk, "broker-0", "broker-1", "broker-2")
	case "nats":
		server := servers.StartNATS(o.t, servers.NATSOptions{Dir: disk("broker"), MaxFileStore: 20 << 30})
		o.addServer("broker", server.Process)
		return server.URL()
	case "kafka":
		return o.startKafka(disk, "broker")
	case "kafka3":
		return o.startKafka(disk, "broker-0", "broker-1", "broker-2")
	case "artemis":
		server := servers.StartArtemis(o.t, servers.ArtemisOptions{Dir: disk("broker")})
		o.addServer("broker", server.Process)
		return server.URL()
	case "activemq":
		server := servers.StartActiveMQ(o.t, servers.ActiveMQOptions{Dir: disk("broker")})
		o.addServer("broker", server.Process)
		return server.URL()
	case "rabbitmq4-amqp10":
		server := servers.StartRabbitMQ(o.t, servers.RabbitMQOptions{Dir: disk("broker"), Version: 4})
		o.addServer("broker", server.Process)
		return "amqp10" + strings.TrimPrefix(server.URL(), "amqp")
	}
	o.t.Fatalf("there is no broker %q: it must be %s", name, brokerNames)
	return ""
}

// deploy starts the programs, and makes the directory.
func (o *topology) deploy(s setup) {
	o.t.Helper()
	o.deployment = deploy(o.t, s)
	for i, p := range o.consumers {
		o.addProgram(fmt.Sprint("consumer-", i), p)
	}
	for i, p := range o.backends {
		o.addProgram(fmt.Sprint("backend-", i), p)
	}
	if o.frontend != nil {
		o.addProgram("frontend", o.frontend)
	}
	o.serve()
}

// addStack adds the servers of a stack.
func (o *topology) addStack(s *stack) {
	o.addServer("broker", s.broker.Process)
	o.addServer("redis-master", s.master.Process)
	for i, r := range s.replicas {
		o.addServer(fmt.Sprint("redis-replica-", i), r.Process)
	}
}

func (o *topology) addServer(name string, p *servers.Process) {
	o.parts[name] = part{ // it is dead (Kill waits until it is gone)
		pid:    p.PID,
		start:  func() { p.Kill(); p.Start() },
		launch: func() { p.Kill(); p.Launch() },
	}
}

// addProgram adds a process of drainmark. Starting it does not wait: it may need servers that are not there yet.
func (o *topology) addProgram(name string, p *program) {
	start := func() { p.kill(); p.start() }
	o.parts[name] = part{pid: func() int { return p.cmd.Process.Pid }, start: start, launch: start, program: p}
}

// serve writes the directory's files, and answers its commands in the background, one after the other, by handing them
// to the goroutine that runs handle: processes are started and stopped by one goroutine.
func (o *topology) serve() {
	o.t.Helper()
	var err error
	socket := filepath.Join(o.dir, "control.sock")
	if o.listener, err = net.Listen("unix", socket); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = o.listener.Close() })
	self, err := os.Executable()
	if err != nil {
		o.t.Fatal(err)
	}
	for name, arguments := range map[string]string{
		"start": `start "$@"`, "launch": `launch "$1"`, "master": "master", "failover": "failover", "clock": `clock "$1"`, "wire": `wire "$@"`,
		"rotate": `rotate "$1"`, "leader": `leader "$1"`, "follower": `follower "$1"`, "controller": "controller",
	} {
		script := fmt.Sprintf("#!/bin/sh\nexec '%s' -control '%s' %s\n", self, socket, arguments)
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(script), 0o755); err != nil {
			o.t.Fatal(err)
		}
	}
	for name := range o.parts {
		o.writePID(name)
	}
	for name := range o.wires {
		o.writeFile(name+".wire", "")
	}
	for name, dir := range o.disks {
		o.writeFile(name+".disk", dir+"\n")
	}
	go o.listen() // ends when the listener is closed
}

func (o *topology) listen() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			return
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		q := question{strings.TrimSpace(line), make(chan string, 1)}
		select {
		case o.asked <- q:
			fmt.Fprintln(c, <-q.answer)
		case <-o.t.Context().Done():
		}
		_ = c.Close()
	}
}

// verify has verify work at the deployment, and answers the commands of its faults meanwhile.
func (o *topology) verify(c verify.Config) check.Result {
	o.t.Helper()
	c.FaultEnv = []string{"DRAINMARK_TOPOLOGY=" + o.dir}
	v := o.startVerify(c)
	o.handle(v.ended)
	return v.judge()
}

// handle answers commands until done is closed.
func (o *topology) handle(done <-chan struct{}) {
	for {
		select {
		case q := <-o.asked:
			q.answer <- o.answer(q.line)
		case <-done:
			return
		}
	}
}

// answer does what a command asks for. The answer begins with "ok ", or is an error.
func (o *topology) answer(line string) string {
	words := append(strings.Fields(line), "", "", "")
	command, name, change := words[0], words[1], words[2]
	p, known := o.parts[name]
	w, wired := o.wires[name]
	switch {
	case command == "master" && o.master != nil:
		return "ok " + o.master()
	case command == "failover" && o.failOver != nil:
		return o.failOver()
	case slices.Contains([]string{"leader", "follower", "controller"}, command) && o.nodes != nil:
		return o.nodeThatIs(command, name)
	case command == "start" && known && (change == "" || p.program != nil && p.program.clocks):
		if p.program != nil {
			p.program.clock = change
		}
		p.start()
		o.writePID(name)
		return "ok"
	case command == "launch" && known:
		p.launch()
		o.writePID(name)
		return "ok"
	case command == "clock" && known && p.program != nil:
		return "ok " + p.program.clockNow()
	case command == "rotate" && o.secured != nil:
		return o.secured.rotate(name, o.addresses())
	case command == "wire" && wired:
		return w.do(change)
	}
	return fmt.Sprintf("there is no %q; there are %v and %v", line, slices.Sorted(maps.Keys(o.parts)), slices.Sorted(maps.Keys(o.wires)))
}

func (o *topology) writePID(name string) {
	o.writeFile(name+".pid", fmt.Sprintln(o.parts[name].pid()))
}

// writeFile writes one of the directory's files in one step.
func (o *topology) writeFile(name, text string) {
	path := filepath.Join(o.dir, name)
	err := os.WriteFile(path+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		o.t.Errorf("writing %s: %v", name, err)
	}
}

// A topology's commands are this program too.
func init() {
	if len(os.Args) > 2 && os.Args[1] == "-control" {
		os.Exit(runControl(os.Args[2], os.Args[3:]))
	}
}

// runControl is what this test's program does when it is one of a topology's commands.
func runControl(socket string, arguments []string) int {
	c, err := net.DialTimeout("unix", socket, 10*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	fmt.Fprintln(c, strings.Join(arguments, " "))
	answer, err := bufio.NewReader(c).ReadString('\n')
	if rest, ok := strings.CutPrefix(strings.TrimSpace(answer), "ok"); ok && err == nil {
		fmt.Println(strings.TrimSpace(rest))
		return 0
	}
	fmt.Fprintln(os.Stderr, strings.TrimSpace(answer), err)
	return 1
}

package naive

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// stack is a broker, a master and a replica, which all tests use, each with a queue and a log of its own.
type stack struct {
	broker          *servers.RabbitMQ
	master, replica *servers.Redis
	program         string
}

func TestNaive(t *testing.T) {
	t.Parallel()
	s := &stack{program: build(t), broker: servers.StartRabbitMQ(t, servers.RabbitMQOptions{})}
	s.master = servers.StartRedis(t, servers.RedisOptions{})
	s.replica = servers.StartRedis(t, servers.RedisOptions{ReplicaOf: s.master})
	for name, test := range map[string]func(*testing.T, *stack){
		"in fair weather what is appended is persisted, read and followed":                                fairWeather,
		"the barrier is reached, receipts persisted and the backlog exactly 0 while a consumer holds all": lies,
		"a consumer that is killed, and acknowledges at once, loses all that it holds":                    loses,
		"a connection that breaks before the acknowledgement doubles a message":                           doubles,
		"the barrier is reached while the replica that is read has nothing":                               lags,
		"a process says where it listens, and ends when it is told to":                                    ends,
		"what was accepted before a clear comes behind it":                                                clears,
		"verify says what it loses, and how it lies":                                                      verified,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) }) // one at a time: one of them counts the master's commands
	}
}

func fairWeather(t *testing.T, s *stack) {
	for _, ack := range []Ack{AutoAck, ManualAck} {
		n := s.start(t, "fair-"+string(ack), ack, All)
		if status := n.do(http.MethodGet, n.log+"/messages", "", nil); status != http.StatusNotFound {
			t.Errorf("%s: before the first message: %d", ack, status)
		}
		n.append("one", "two \x00", "three")
		n.awaitBodies("one", "two \x00", "three")
		if state := n.barrier(); state != "reached" {
			t.Errorf("%s: the barrier is %s", ack, state)
		}
		var p page
		if status := n.do(http.MethodGet, n.log+"/messages?after=1&limit=1", "", &p); status != http.StatusOK || len(p.Messages) != 1 ||
			p.Messages[0].Position != 2 || p.LastPosition != 3 || p.Count != 3 {
			t.Errorf("%s: the second page: %d %+v", ack, status, p)
		}
		if got := n.events(1, 2); got != "id: 2 id: 3" {
			t.Errorf("%s: the events behind the first message: %s", ack, got)
		}
	}
}

func lies(t *testing.T, s *stack) {
	for _, ack := range []Ack{AutoAck, ManualAck} {
		n := s.start(t, "lies-"+string(ack), ack, All)
		n.lock() // the consumer can persist nothing
		n.append("one", "two", "three")
		n.await("the barrier is reached", func() bool { return n.barrier() == "reached" })
		var receipt struct{ State string }
		var backlog struct{ Pending struct{ Records, Exact any } }
		n.do(http.MethodGet, "/v1/receipts/any", "", &receipt)
		n.do(http.MethodGet, "/v1/backlog", "", &backlog)
		if fmt.Sprint(receipt.State, backlog.Pending) != "persisted{0 true}" {
			t.Errorf("%s: the receipt is %s, the backlog %+v", ack, receipt.State, backlog.Pending)
		}
		if status := n.do(http.MethodGet, n.log+"/messages", "", nil); status != http.StatusNotFound {
			t.Errorf("%s: something is in the log: %d", ack, status)
		}
		n.unlock()
		n.awaitBodies("one", "two", "three")
	}
}

func loses(t *testing.T, s *stack) {
	n := s.start(t, "loses", AutoAck, Backend)
	consumer, said := s.run(t, "--role", "consumer", "--queue", "loses")
	if said != "consuming\n" {
		t.Fatalf("the consumer says %q", said)
	}
	n.lock()
	n.append("one", "two", "three")
	n.await("the barrier is reached", func() bool { return n.barrier() == "reached" })
	if err := consumer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = consumer.Wait() // killed
	n.unlock()
	s.start(t, "loses", AutoAck, All).append("four")
	n.awaitBodies("four")
}

func doubles(t *testing.T, s *stack) {
	n := s.start(t, "doubles", ManualAck, All)
	n.lock()
	before := s.locking()
	n.append("one")
	n.await("the consumer wants to persist", func() bool { return s.locking() > before })
	if err := n.server.connection.Close(); err != nil {
		t.Fatal(err)
	}
	<-n.server.Lost()
	n.unlock()
	n.awaitBodies("one")
	s.start(t, "doubles", ManualAck, All).awaitBodies("one", "one")
}

func lags(t *testing.T, s *stack) {
	n := s.start(t, "lags", ManualAck, All)
	s.replica.Do("REPLICAOF", "NO", "ONE")
	n.append("one")
	n.await("the master has it", func() bool { return s.master.Do("EXISTS", listKey(n.name)) == int64(1) })
	if state := n.barrier(); state != "reached" {
		t.Errorf("the barrier is %s", state)
	}
	if bodies := n.bodies(); len(bodies) > 0 {
		t.Errorf("the log holds %q", bodies)
	}
	s.replica.Do("REPLICAOF", servers.Host, s.master.Port)
	n.awaitBodies("one")
}

func ends(t *testing.T, s *stack) {
	process, said := s.run(t, "--ack", "manual", "--queue", "ends")
	url, ok := strings.CutPrefix(strings.TrimSpace(said), "listening on ")
	if !ok {
		t.Fatalf("it says %q", said)
	}
	n := &deployment{T: t, stack: s, url: url, log: "/v1/logs/ends", name: "ends"}
	n.append("one")
	n.awaitBodies("one")
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func clears(t *testing.T, s *stack) {
	n := s.start(t, "clears", ManualAck, All)
	n.lock()
	n.append("one")
	if status := n.do(http.MethodDelete, n.log+"/messages", "", nil); status != http.StatusAccepted {
		t.Fatalf("clearing: %d", status)
	}
	var p page
	n.await("the log is empty", func() bool { return n.do(http.MethodGet, n.log+"/messages", "", &p) == http.StatusOK && p.Count == 0 })
	n.unlock()
	n.awaitBodies("one")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{
		{AMQP: "amqp://u:s3cret@127.0.0.1:1/", Redis: "redis://127.0.0.1:1", Ack: "later"},
		{AMQP: "amqp://u:s3cret@127.0.0.1:1/", Redis: "redis://127.0.0.1:1", Role: "spectator"},
		{AMQP: "http://u:s3cret@127.0.0.1:1/", Redis: "redis://127.0.0.1:1"},
		{AMQP: "amqp://u:s3cret@127.0.0.1:1/", Redis: "http://u:s3cret@127.0.0.1:1"},
		{AMQP: "amqp://u:s3cret@127.0.0.1:1/", Redis: "redis://127.0.0.1:1"}, // nobody answers
	} {
		if _, err := New(c); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestDrainmarkIsWithoutIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	list := exec.CommandContext(ctx, "go", "list", "-deps", "github.com/drainmark/drainmark/cmd/drainmark")
	packages, err := list.Output()
	if err != nil || !strings.Contains(string(packages), "drainmark/backend\n") || strings.Contains(string(packages), "naive") {
		t.Errorf("%v: the program's packages are\n%s", err, packages)
	}
}

// build builds the program that runs a Server, and returns its path.
func build(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "naive")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/naive").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, output)
	}
	return path
}

// run starts a process, which is killed with the test, and returns the first line that it says.
func (s *stack) run(t *testing.T, arguments ...string) (*exec.Cmd, string) {
	t.Helper()
	process := exec.Command(s.program, append(arguments, "--amqp", s.broker.URL(), "--redis", s.master.URL())...)
	output, err := process.StdoutPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	line, _ := bufio.NewReader(output).ReadString('\n') // the part that there is is compared
	return process, line
}

// locking returns how often anybody has tried to lock, or has written.
func (s *stack) locking() (calls int) {
	_, line, _ := strings.Cut(fmt.Sprint(s.master.Do("INFO", "commandstats")), "cmdstat_set:")
	_, _ = fmt.Sscanf(line, "calls=%d", &calls)
	return calls
}

// deployment is a Server, and a log that is called like its queue.
type deployment struct {
	*testing.T
	*stack
	server *Server
	url    string
	log    string // its path
	name   string
}

func (s *stack) start(t *testing.T, name string, ack Ack, role Role) *deployment {
	t.Helper()
	server, err := New(Config{
		AMQP: s.broker.URL(), Redis: s.master.URL(), Replica: s.replica.URL(), Ack: ack, Role: role, Queue: name,
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(func() {
		front.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &deployment{T: t, stack: s, server: server, url: front.URL, log: "/v1/logs/" + name, name: name}
}

type page struct {
	Messages     []message `json:"messages"`
	LastPosition int       `json:"last_position"`
	Count        int       `json:"count"`
}

// do makes a call, decodes its answer unless into is nil, and returns the status.
func (d *deployment) do(method, path, body string, into any) int {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		d.Fatal(err)
	}
	defer response.Body.Close()
	if into != nil && response.StatusCode < 300 {
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			d.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return response.StatusCode
}

func (d *deployment) append(bodies ...string) {
	d.Helper()
	for _, body := range bodies {
		if status := d.do(http.MethodPost, d.log+"/messages", body, nil); status != http.StatusAccepted {
			d.Fatalf("appending %q: %d", body, status)
		}
	}
}

func (d *deployment) barrier() string {
	d.Helper()
	var answer struct{ State string }
	d.do(http.MethodPost, "/v1/barriers", "", &answer)
	return answer.State
}

// bodies returns what the log holds.
func (d *deployment) bodies() (bodies []string) {
	d.Helper()
	var p page
	d.do(http.MethodGet, d.log+"/messages", "", &p)
	for _, m := range p.Messages {
		if m.Body != nil {
			m.BodyBase64 = []byte(*m.Body)
		}
		bodies = append(bodies, string(m.BodyBase64))
	}
	return bodies
}

func (d *deployment) awaitBodies(bodies ...string) {
	d.Helper()
	d.await(fmt.Sprintf("the log holds %q", bodies), func() bool { return slices.Equal(d.bodies(), bodies) })
}

func (d *deployment) await(what string, is func() bool) {
	d.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			d.Fatalf("not within %v: %s; the log holds %q", patience, what, d.bodies())
		}
	}
}

// events follows the log behind a position for n events, and returns their ids.
func (d *deployment) events(after, n int) string {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s/events?after=%d", d.url, d.log, after), nil)
	if err != nil {
		d.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		d.Fatal(err)
	}
	defer response.Body.Close()
	var ids []string
	for lines := bufio.NewScanner(response.Body); len(ids) < n && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "id: ") {
			ids = append(ids, lines.Text())
		}
	}
	return strings.Join(ids, " ")
}

// lock takes the log's lock, so that no consumer can persist anything until unlock.
func (d *deployment) lock() {
	d.Helper()
	d.master.Do("SET", lockKey(d.name), 1)
}

func (d *deployment) unlock() {
	d.Helper()
	d.master.Do("DEL", lockKey(d.name))
}

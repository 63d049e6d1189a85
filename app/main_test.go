package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// free are the flags of a process on ports that the system gives.
var free = []string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}

// soon is how long a process may take to stop that has next to nothing to do, on a machine that has much to do.
const soon = 30 * time.Second

func up(t testing.TB, data string, more ...string) *program {
	t.Helper()
	p := start(t, append(append([]string{"up", "--data", data}, free...), more...)...)
	p.admin = strings.TrimSuffix(p.find(`admin address" url=(\S+)`), "/readyz")
	return p
}

// badSettings are command lines that are refused, with what the error says. TAKEN is an address in use, and EMPTY a directory.
var badSettings = []struct {
	arguments string
	want      []string
}{
	{"up --partitions 65", []string{"--partitions", "65", "1 and 64", "DRAINMARK_PARTITIONS"}},
	{"up --partitions=-1", []string{"--partitions", "-1"}},
	{"up --partitions many", []string{"--partitions", "many"}},
	{"up --listen nowhere", []string{"--listen", "nowhere", "HOST:PORT"}},
	{"up --listen TAKEN", []string{"--listen", "address already in use"}},
	{"up --admin-listen 1:2:3", []string{"--admin-listen", "1:2:3"}},
	{"up --log-level loud", []string{"--log-level", "loud", "debug, info, warn or error"}},
	{"up --log-format xml", []string{"--log-format", "xml"}},
	{"up --lease 1ms", []string{"--lease", "1ms"}},
	{"up --lease soon", []string{"--lease", "soon"}},
	{"up --commit-records 0", []string{"--commit-records", "0"}},
	{"up --batch-records=-5", []string{"--batch-records", "-5"}},
	{"up --message-bytes 0", []string{"--message-bytes", "0"}},
	{"up --message-bytes 9000000 --request-bytes 9000000", []string{"--message-bytes", "9000000"}},
	{"up --backlog-bytes 5", []string{"--backlog-bytes", "5"}},
	{"up --replay-window=-1h", []string{"--replay-window", "-1h"}},
	{"up --producer-retention 1m", []string{"--producer-retention", "1m"}},
	{"up --what", []string{"--what"}},
	{"backend --broker nats://x", []string{"--replica", "(empty)", "sqlite:PATH"}},
	{"backend --store sqlite:/x", []string{"--broker"}},
	{"consumer --broker ftp://me:secret@host --store sqlite:/x", []string{"--broker", "ftp:", "nats://"}},
	{"consumer --broker nats://h --store oracle:secret", []string{"--store", "oracle:", "sqlite:PATH"}},
	{"backend --broker nats://h --replica sqlite:/x --replica redis://secret@h", []string{"--replica", "sqlite:… and redis:…", "one kind"}},
	{"backend --broker nats://h --replica sqlite:/x --replica sqlite:/y", []string{"--replica", "no replicas"}},
	{"backend --broker nats://h --replica redis+sentinel://secret@a/m --replica redis+sentinel://secret@b/m", []string{"--replica", "names all replicas"}},
	{"backend --broker nats://h --replica redis://me:secret@h:port", []string{"replica", "URL"}},
	{"consumer --admin-listen 127.0.0.1:0 --broker amqp://me:secret@h:port --store sqlite:EMPTY/x", []string{"broker", "port"}},
	{"consumer --broker nats://h --store sqlite:/x --store-wait-replicas 1", []string{"--store-wait-replicas", "no replicas"}},
	{"consumer --broker nats://h --store postgres://h/d --store-wait-replicas 1", []string{"--store-wait-replicas", "synchronous_standby_names"}},
	{"consumer --broker nats://h --store redis://h --store-wait-replicas=-1", []string{"--store-wait-replicas", "-1"}},
	{"verify --log Bad", []string{"--log", "Bad"}},
	{"verify --url nothing", []string{"http://host:port"}},
	{"verify --workload slow", []string{"--workload", "slow"}},
	{"verify --rate=-1", []string{"rate", "-1"}},
	{"verify --plan nowhere", []string{"--plan", "nowhere", "no file"}},
	{"verify --fault name='x'", []string{"--fault", "fault x", "every"}},
	{"verify --canary --report x", []string{"--report", "canary"}},
	{"what", []string{"what"}},
}

// Every bad setting is an error that names the setting and the value, and exit code 2. Nothing is left running.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // the subtests run after this function has returned
	data := filepath.Join(t.TempDir(), "data")
	places := strings.NewReplacer("TAKEN", taken.Addr().String(), "EMPTY", t.TempDir())
	for _, test := range badSettings {
		t.Run(test.arguments, func(t *testing.T) {
			t.Parallel()
			arguments := strings.Fields(places.Replace(test.arguments))
			switch arguments[0] {
			case "up":
				arguments = append(append([]string{"up", "--data", filepath.Join(data, strings.Join(arguments[1:], ""))}, free...), arguments[1:]...)
			case "backend":
				arguments = append(append([]string{"backend"}, free...), arguments[1:]...)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var stdout, stderr bytes.Buffer
			code := run(ctx, arguments, &stdout, &stderr)
			for _, want := range test.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("the error does not have %q: %s", want, stderr.String())
				}
			}
			if code != exitUsage {
				t.Errorf("exit code %d: %s", code, stderr.String())
			}
			if strings.Contains(stderr.String(), "secret") {
				t.Errorf("the error shows a password: %s", stderr.String())
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]string{"version": "drainmark ", "--help": "consumer", "up --help": "DRAINMARK_PARTITIONS"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(arguments), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), want) {
			t.Errorf("%s: exit code %d, %s%s", arguments, code, stdout.String(), stderr.String())
		}
	}
}

// "drainmark" alone names the command that lists the others.
func TestNoCommand(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), nil, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "drainmark --help lists the commands\n") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

func TestVerifyOfNothing(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"verify", "--url", "http://127.0.0.1:1", "--contact", "1s"}, &stdout, &stderr); code != exitUnavailable {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

func TestUpFromFirstToLastStep(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--partitions", "3")
	p.want(200, "GET", "/livez", "")
	p.isReady()

	p.want(404, "GET", "/v1/logs/guestbook/messages", "")
	posted := p.want(201, "POST", "/v1/logs/guestbook/messages", "hello", "Content-Type", "text/plain", "Prefer", "wait=20")
	var receipt struct{ Receipt, State string }
	posted.decode(t, &receipt)
	if receipt.State != "persisted" || posted.header.Get("Drainmark-Receipt") != receipt.Receipt {
		t.Errorf("the append was answered %s", posted.body)
	}
	p.want(202, "POST", "/v1/logs/guestbook/messages", "{\"body\":\"a\"}\n{\"body_base64\":\"AP8=\"}\n", "Content-Type", "application/x-ndjson")
	p.barrier()
	first := p.want(200, "GET", "/v1/logs/guestbook/messages?limit=2", "")
	if !strings.Contains(string(first.body), `"last_position":3,"count":3`) {
		t.Errorf("the page is %s", first.body)
	}
	p.want(304, "GET", "/v1/logs/guestbook/messages?limit=2", "", "If-None-Match", first.header.Get("ETag"))

	// The same key twice, and once for something else.
	for range 2 {
		p.want(201, "POST", "/v1/logs/guestbook/messages", "keyed", "Idempotency-Key", `"k"`, "Prefer", "wait=20")
	}
	p.want(202, "POST", "/v1/logs/guestbook/messages", "other", "Idempotency-Key", `"k"`, "Prefer", "wait=20")
	var letters struct {
		DeadLetters []struct{ ID, Body, Reason string } `json:"dead_letters"`
	}
	p.want(200, "GET", "/v1/dead-letters", "").decode(t, &letters)
	if len(letters.DeadLetters) != 1 || letters.DeadLetters[0].Body != "other" || !strings.Contains(letters.DeadLetters[0].Reason, "idempotency-key-reused") {
		t.Fatalf("the dead letters are %+v", letters)
	}
	p.want(200, "DELETE", "/v1/dead-letters/"+letters.DeadLetters[0].ID, "", "Prefer", "wait=20")
	if n := len(p.readAll("guestbook").Messages); n != 4 {
		t.Errorf("there are %d messages, not 4", n)
	}
	if all := string(p.want(200, "GET", "/metrics", "").body); !strings.Contains(all, "drainmark_consumer_persisted_messages_total 4") || !strings.Contains(all, `drainmark_backlog_records{partition="0"} 0`) {
		t.Error("the metrics lack what was persisted, or the backlog")
	}
	p.want(404, "GET", "/debug/pprof/cmdline", "")

	// A second process on the same data, and a changed number of partitions.
	limit := debug.SetMemoryLimit(-1)
	var stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"up", "--data", data}, free...), &stderr, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "in use by another process") {
		t.Errorf("a second process on the data: exit code %d, %s", code, stderr.String())
	}
	if took, code := p.stop(); code != exitOK || took > soon {
		t.Errorf("stopping took %s, exit code %d", took, code)
	}
	stderr.Reset()
	if code := run(t.Context(), append([]string{"up", "--data", data, "--partitions", "4"}, free...), &stderr, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "this deployment has 3") {
		t.Errorf("other partitions: exit code %d, %s", code, stderr.String())
	}
	if now := debug.SetMemoryLimit(-1); now != limit {
		t.Errorf("a command that a test runs has set the memory limit of all tests to %d", now)
	}
	again := up(t, data)
	if n := len(again.readAll("guestbook").Messages); n != 4 {
		t.Errorf("after a restart there are %d messages, not 4", n)
	}
	again.want(200, "GET", "/v1/receipts/"+receipt.Receipt, "", "Prefer", "wait=20")
}

// A stop does not wait for event streams or long waits, and a second signal ends at once.
func TestStoppingWithOpenRequests(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	p.want(201, "POST", "/v1/logs/guestbook/messages", "hello", "Prefer", "wait=20")
	stream, err := http.Get(p.api + "/v1/logs/guestbook/events?after=0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	first := make([]byte, 10)
	if _, err := stream.Body.Read(first); err != nil {
		t.Fatal(err)
	}
	if took, code := p.stop(); code != exitOK || took > soon {
		t.Errorf("stopping took %s, exit code %d", took, code)
	}
	q := up(t, t.TempDir())
	_ = q.cmd.Process.Signal(syscall.SIGINT)
	_ = q.cmd.Process.Signal(syscall.SIGINT)
	<-q.exited
}

// A backlog limit that is reached refuses appends with a clear error, keeps what was accepted, and ends by draining.
func TestBacklogFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nats := startNATS(t, filepath.Join(dir, "nats"))
	store := "sqlite:" + filepath.Join(dir, "store.db")
	limits := []string{"--backlog-bytes", "67108864"}
	consumer := launch(t, append([]string{"consumer", "--broker", nats, "--store", store, "--admin-listen", "127.0.0.1:0"}, limits...)...)
	backend := start(t, append(append([]string{"backend", "--broker", nats, "--store", store}, free...), limits...)...)
	consumer.find("(consumer is running)")
	consumer.stop()
	line := `{"body":"` + strings.Repeat("x", 100_000) + "\"}\n"
	accepted := 0
	var full answer
	for range 100 {
		a, err := backend.call("POST", "/v1/logs/guestbook/messages", strings.Repeat(line, 5), "Content-Type", "application/x-ndjson")
		if err != nil {
			t.Fatal(err)
		}
		if a.status != 202 {
			full = a
			break
		}
		accepted += 5
	}
	if full.status != 503 || !strings.Contains(string(full.body), "backlog-full") || !strings.Contains(string(full.body), "backlog-bytes") || full.header.Get("Retry-After") == "" {
		t.Fatalf("after %d messages: %d %s", accepted, full.status, full.body)
	}
	launch(t, append([]string{"consumer", "--broker", nats, "--store", store, "--admin-listen", "127.0.0.1:0"}, limits...)...)
	backend.await("takes appends again", func() bool {
		a, err := backend.call("POST", "/v1/logs/guestbook/messages", "room", "Content-Type", "text/plain")
		return err == nil && a.status == 202
	})
	backend.barrier()
	var p page
	backend.want(200, "GET", "/v1/logs/guestbook/messages?limit=1", "").decode(t, &p)
	if p.Count != accepted+1 {
		t.Errorf("%d messages are there; %d were accepted", p.Count, accepted+1)
	}
}

// While the database is locked, appends are accepted and reads go on. The barrier is not reached until it is free
// again.
func TestLockedDatabase(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := up(t, data)
	p.want(201, "POST", "/v1/logs/guestbook/messages", "before", "Prefer", "wait=20")
	unlock := lock(t, filepath.Join(data, "store.db"))
	for i := range 50 {
		p.want(202, "POST", "/v1/logs/guestbook/messages", fmt.Sprint("while ", i))
	}
	if n := len(p.readAll("guestbook").Messages); n != 1 {
		t.Errorf("while the database is locked, %d messages are read", n)
	}
	p.isReady()
	barrier := p.want(202, "POST", "/v1/barriers", "", "Prefer", "wait=1")
	if !strings.Contains(string(barrier.body), `"state":"pending"`) && !strings.Contains(string(barrier.body), `"state":"stalled"`) {
		t.Errorf("while the database is locked, the barrier is %s", barrier.body)
	}
	var backlog struct{ Pending struct{ Records int } }
	p.want(200, "GET", "/v1/backlog", "").decode(t, &backlog)
	if backlog.Pending.Records < 50 {
		t.Errorf("while the database is locked, the backlog has %d records", backlog.Pending.Records)
	}
	unlock()
	p.barrier()
	if n := len(p.readAll("guestbook").Messages); n != 51 {
		t.Errorf("when it is free again, %d messages are read", n)
	}
}

// Backends and consumers as processes of their own, on an external NATS and a shared store. A consumer is killed, and
// its partitions are taken over. Verify holds through either backend.
func TestSeparateProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nats := startNATS(t, filepath.Join(dir, "nats"))
	store := "sqlite:" + filepath.Join(dir, "store.db")
	consume := func() *program {
		return launch(t, "consumer", "--broker", nats, "--store", store, "--admin-listen", "127.0.0.1:0", "--lease", "1s")
	}
	serve := func() *program {
		return start(t, append([]string{"backend", "--broker", nats, "--store", store}, free...)...)
	}
	one, two := consume(), consume()
	a, b := serve(), serve()
	one.find("(consumer is running)")
	two.find("(consumer is running)")
	holders := func() map[string]int {
		var backlog struct{ Partitions []struct{ Owner *string } }
		a.want(200, "GET", "/v1/backlog", "").decode(t, &backlog)
		held := map[string]int{}
		for _, p := range backlog.Partitions {
			if p.Owner != nil {
				held[*p.Owner]++
			}
		}
		return held
	}
	a.await("shows that two consumers hold two partitions each", func() bool {
		held := holders()
		for _, n := range held {
			if n != 2 {
				return false
			}
		}
		return len(held) == 2
	})
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"verify", "--url", b.api, "--messages", "2000", "--json"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("verify: exit code %d, %s%s", code, stdout.String(), stderr.String())
	}
	var report map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil || fmt.Sprint(report["verdict"]) != "held" {
		t.Errorf("the report is %s (%v)", stdout.String(), err)
	}
	one.kill()
	a.want(202, "POST", "/v1/logs/guestbook/messages", "after the kill")
	a.barrier()
	a.await("shows that one consumer holds all", func() bool {
		held := holders()
		return len(held) == 1
	})
	posted := a.want(202, "POST", "/v1/logs/guestbook/messages", "through a")
	read := b.want(200, "GET", "/v1/logs/guestbook/messages", "", "Drainmark-Receipt", posted.header.Get("Drainmark-Receipt"), "Prefer", "wait=20")
	if !strings.Contains(string(read.body), "through a") {
		t.Errorf("read through b with a's receipt: %s", read.body)
	}
}

// startNATS starts a NATS server with JetStream, which fsyncs always, on a free port.
func startNATS(t testing.TB, dir string) (url string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: dir, SyncAlways: true, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(soon) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// pieces are a broker and a store, on which a test starts processes.
type pieces struct {
	t             *testing.T
	broker, store string
}

func (d pieces) backend(flags ...string) *program {
	d.t.Helper()
	p := start(d.t, append(append([]string{"backend", "--broker", d.broker, "--store", "sqlite:" + d.store}, free...), flags...)...)
	p.admin = strings.TrimSuffix(p.find(`admin address" url=(\S+)`), "/readyz")
	return p
}

func (d pieces) consumer(flags ...string) *program {
	d.t.Helper()
	return launch(d.t, append([]string{
		"consumer", "--broker", d.broker, "--store", "sqlite:" + d.store, "--admin-listen", "127.0.0.1:0", "--lease", "1s"}, flags...)...)
}

// emptyStore removes the database.
func (d pieces) emptyStore() {
	d.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(d.store + suffix); err != nil && !os.IsNotExist(err) {
			d.t.Fatal(err)
		}
	}
}

// refuses checks that a process ends with exit code 2 and says why.
func refuses(t *testing.T, p *program, why string) {
	t.Helper()
	p.await("refuses to run", p.hasEnded)
	if code := p.cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(p.said(), why) {
		t.Errorf("exit code %d, want 2 and %q:\n%s", code, why, p.said())
	}
}

func bodies(p page) string {
	var all []string
	for _, m := range p.Messages {
		all = append(all, m.Body)
	}
	return strings.Join(all, " ")
}

// A backend accepts before any consumer has run, says that nothing is persisted yet, and goes on by itself when one has.
func TestBackendBeforeAnyConsumer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := pieces{t, startNATS(t, filepath.Join(dir, "nats")), filepath.Join(dir, "store.db")}
	b := d.backend("--partitions", "3")
	for i := range 3 {
		b.want(202, "POST", fmt.Sprintf("/v1/logs/log-%d/messages", i), fmt.Sprint("message ", i))
	}
	receipt := b.want(202, "POST", "/v1/logs/log-0/messages", "last").header.Get("Drainmark-Receipt")
	b.isReady()
	b.want(404, "GET", "/v1/logs/log-0/messages", "")
	pending := string(b.want(200, "GET", "/v1/receipts/"+receipt, "").body)
	if !strings.Contains(pending, `"pending"`) || !strings.Contains(pending, "no consumer has made the store") {
		t.Errorf("the receipt while there is no store: %s", pending)
	}
	var backlog struct {
		Pending    struct{ Records int }
		Partitions []struct{ Partition int }
	}
	b.want(200, "GET", "/v1/backlog", "").decode(t, &backlog)
	if backlog.Pending.Records != 4 || len(backlog.Partitions) != 3 {
		t.Errorf("the backlog while there is no store: %+v", backlog)
	}
	refuses(t, d.consumer("--partitions", "5"), "--partitions")
	c := d.consumer()
	b.barrier()
	for i, want := range []string{"message 0 last", "message 1", "message 2"} {
		if got := bodies(b.readAll(fmt.Sprint("log-", i))); got != want {
			t.Errorf("log-%d has %q, want %q", i, got, want)
		}
	}
	b.find("(a consumer has made the store)")
	if c.find(`consumer is running".* partitions=(\d)`) != "3" {
		t.Error("the consumer works for another number of partitions")
	}
	d.backend().want(200, "GET", "/v1/receipts/"+receipt, "")
}

// An emptied store is not taken for a new deployment, unless one says so. Then what the broker still has comes back.
func TestEmptiedStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := pieces{t, startNATS(t, filepath.Join(dir, "nats")), filepath.Join(dir, "store.db")}
	c := d.consumer()
	b := d.backend()
	receipt := b.want(202, "POST", "/v1/logs/log/messages", "kept").header.Get("Drainmark-Receipt")
	b.barrier()
	b.stop()
	c.stop()
	d.emptyStore()
	refuses(t, d.consumer(), "--new-store")
	refuses(t, launch(t, append([]string{"backend", "--broker", d.broker, "--store", "sqlite:" + d.store}, free...)...), "--new-store")
	d.consumer("--new-store").find("(the store is made anew)")
	b = d.backend()
	b.barrier()
	if got := bodies(b.readAll("log")); got != "kept" {
		t.Errorf("the log has %q", got)
	}
	b.want(200, "GET", "/v1/receipts/"+receipt, "")
}

// Two deployments on one broker, and a store that is kept while the broker is new.
func TestStoreOfAnotherDeployment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one := pieces{t, startNATS(t, filepath.Join(dir, "nats")), filepath.Join(dir, "one.db")}
	c := one.consumer()
	c.find("(consumer is running)")
	fresh := pieces{t, startNATS(t, filepath.Join(dir, "nats2")), filepath.Join(dir, "two.db")}
	fresh.consumer().find("(consumer is running)")
	mixed := pieces{t, one.broker, fresh.store}
	refuses(t, mixed.consumer(), "give each deployment its own store")
	refuses(t, launch(t, append([]string{"backend", "--broker", mixed.broker, "--store", "sqlite:" + mixed.store}, free...)...),
		"give each deployment its own store")

	b := one.backend()
	b.want(202, "POST", "/v1/logs/log/messages", "before")
	b.barrier()
	b.stop()
	c.stop()
	emptied := pieces{t, startNATS(t, filepath.Join(dir, "nats3")), one.store}
	emptied.consumer().find("(consumer is running)")
	b = emptied.backend()
	b.want(202, "POST", "/v1/logs/log/messages", "after")
	b.barrier()
	if got := bodies(b.readAll("log")); got != "before after" {
		t.Errorf("the log has %q", got)
	}
}

func TestUpWithAnEmptiedStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := up(t, dir)
	p.want(202, "POST", "/v1/logs/log/messages", "kept")
	p.barrier()
	p.stop()
	pieces{t: t, store: filepath.Join(dir, "store.db")}.emptyStore()
	refuses(t, launch(t, append([]string{"up", "--data", dir}, free...)...), "--new-store")
	p = up(t, dir, "--new-store")
	p.barrier()
	if got := bodies(p.readAll("log")); got != "kept" {
		t.Errorf("the log has %q", got)
	}
}

// Every backend's barrier reports records purged before they were read, though nobody knows which they were.
func TestPurgedBeforeItWasRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := pieces{t, startNATS(t, filepath.Join(dir, "nats")), filepath.Join(dir, "store.db")}
	a := d.backend("--partitions", "1")
	for i := range 3 {
		a.want(202, "POST", "/v1/logs/log/messages", fmt.Sprint("gone ", i))
	}
	a.kill()
	nc, err := nats.Connect(d.broker)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("$JS.API.STREAM.PURGE.drainmark-p0", nil, soon); err != nil {
		t.Fatal(err)
	}
	c := d.consumer()
	b := d.backend()
	b.want(202, "POST", "/v1/logs/log/messages", "kept")
	reached := string(b.want(200, "POST", "/v1/barriers", "", "Prefer", "wait=30").body)
	if !strings.Contains(reached, `"reached"`) || !strings.Contains(reached, `"set_aside":1`) {
		t.Errorf("the barrier: %s", reached)
	}
	letters := string(b.want(200, "GET", "/v1/dead-letters", "").body)
	if !strings.Contains(letters, "messages 1 to 3 of the stream drainmark-p0") {
		t.Errorf("the dead letters: %s", letters)
	}
	c.find("(the broker has lost what it had stored)")
}

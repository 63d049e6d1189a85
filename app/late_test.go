package app

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// far is a broker and a store that run as servers of their own.
type far struct {
	t      *testing.T
	broker string
	redis  *servers.Redis
}

func newFar(t *testing.T) far {
	t.Parallel()
	return far{t, startNATS(t, filepath.Join(t.TempDir(), "nats")), servers.StartRedis(t, servers.RedisOptions{})}
}

func (f far) launch(role string, flags ...string) *program {
	f.t.Helper()
	arguments := []string{role, "--broker", f.broker, "--store", f.redis.URL()}
	if role == "consumer" {
		arguments = append(arguments, "--admin-listen", "127.0.0.1:0", "--lease", "1s")
	} else {
		arguments = append(arguments, free...)
	}
	return launch(f.t, append(arguments, flags...)...)
}

// serves waits until a backend serves the API.
func (p *program) serves() {
	p.t.Helper()
	p.api = strings.TrimSuffix(p.find(`serving the API" url=(\S+)`), "/v1")
	p.findAdmin()
}

// recorded has a backend record a deployment in the broker, whose store no consumer makes.
func (f far) recorded() {
	f.t.Helper()
	b := pieces{f.t, f.broker, filepath.Join(f.t.TempDir(), "empty.db")}.backend()
	b.stop()
}

// awaitReading waits until a backend can read.
func (p *program) awaitReading() {
	p.t.Helper()
	p.await("reads", func() bool {
		a, err := p.call("GET", "/v1/logs", "")
		return err == nil && a.status == 200
	})
}

// A backend needs the store for reading alone: where that does not answer, the broker says which deployment it is.
func TestBackendBeginsWhileTheStoreDoesNotAnswer(t *testing.T) {
	f := newFar(t)
	c, b := f.launch("consumer"), f.launch("backend")
	b.serves()
	b.want(202, "POST", "/v1/logs/log/messages", "before")
	b.barrier()
	b.kill()
	f.redis.Kill()

	b = f.launch("backend")
	b.serves()
	receipt := b.want(202, "POST", "/v1/logs/log/messages", "meanwhile").header.Get("Drainmark-Receipt")
	b.isReady()
	b.want(503, "GET", "/v1/logs/log/messages", "")
	b.want(503, "GET", "/v1/dead-letters", "")
	b.want(503, "GET", "/v1/backlog", "")
	if status := string(b.want(200, "GET", "/v1/receipts/"+receipt, "").body); !strings.Contains(status, `"pending"`) {
		t.Errorf("the receipt: %s", status)
	}
	barrier := string(b.want(202, "POST", "/v1/barriers", "").body)
	if !strings.Contains(barrier, `"pending"`) {
		t.Errorf("a barrier: %s", barrier)
	}
	status := string(b.want(200, "GET", "/v1/status", "").body)
	if !strings.Contains(status, `"appends":{"working":true`) || !strings.Contains(status, `"reads":{"working":false`) {
		t.Errorf("the status: %s", status)
	}
	if strings.Contains(b.said(), "no consumer has made the store") {
		t.Error("a store that does not answer is taken for one that is empty")
	}

	f.redis.Start()
	b.find("(the store answers)")
	b.barrier()
	if got := bodies(b.readAll("log")); got != "before meanwhile" {
		t.Errorf("the log has %q", got)
	}
	b.want(200, "GET", "/v1/receipts/"+receipt, "")
	c.stop()
	if _, code := b.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A backend whose store never answers ends in order.
func TestBackendWhoseStoreNeverAnswersStops(t *testing.T) {
	f := newFar(t)
	f.recorded()
	f.redis.Kill()
	b := f.launch("backend")
	b.serves()
	b.want(202, "POST", "/v1/logs/log/messages", "a")
	if _, code := b.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The store may be empty when it answers at last: then everything is as if it had been from the start.
func TestBackendBeginsBeforeAStoreThatIsEmpty(t *testing.T) {
	f := newFar(t)
	f.recorded()
	f.redis.Kill()
	b := f.launch("backend")
	b.serves()
	receipt := b.want(202, "POST", "/v1/logs/log/messages", "first").header.Get("Drainmark-Receipt")
	f.redis.Start()
	b.awaitReading()
	b.want(404, "GET", "/v1/logs/log/messages", "")
	if status := string(b.want(200, "GET", "/v1/receipts/"+receipt, "").body); !strings.Contains(status, "no consumer has made the store") {
		t.Errorf("the receipt: %s", status)
	}
	f.launch("consumer")
	b.barrier()
	if got := bodies(b.readAll("log")); got != "first" {
		t.Errorf("the log has %q", got)
	}
}

// A store that answers at last, and is of another deployment, ends the backend, and so does one that was emptied.
func TestBackendBeginsBeforeAStoreThatDoesNotFit(t *testing.T) {
	t.Run("of another deployment", func(t *testing.T) {
		f := newFar(t)
		f.launch("consumer").find("(consumer is running)")
		mixed := far{t, startNATS(t, filepath.Join(t.TempDir(), "nats2")), f.redis}
		mixed.recorded()
		f.redis.Kill()
		b := mixed.launch("backend")
		b.serves()
		b.want(202, "POST", "/v1/logs/log/messages", "a")
		f.redis.Start()
		refuses(t, b, "give each deployment its own store")
	})
	t.Run("emptied", func(t *testing.T) {
		f := newFar(t)
		c := f.launch("consumer")
		c.find("(consumer is running)")
		c.stop()
		f.redis.Do("FLUSHALL")
		f.redis.Kill()
		b := f.launch("backend")
		b.serves()
		f.redis.Start()
		refuses(t, b, "--new-store")
	})
}

// If the broker has no record, a store that does not answer may be of any deployment: the backend makes none up.
func TestBackendMakesNoDeploymentUpWhileTheStoreDoesNotAnswer(t *testing.T) {
	f := newFar(t)
	c, b := f.launch("consumer"), f.launch("backend")
	b.serves()
	b.want(202, "POST", "/v1/logs/log/messages", "before")
	b.barrier()
	b.stop()
	c.stop()
	f.redis.Kill()
	anew := far{t, startNATS(t, filepath.Join(t.TempDir(), "nats2")), f.redis}
	b = anew.launch("backend")
	b.find("(waiting for the store).*no deployment is recorded")
	f.redis.Start()
	b.serves()
	anew.launch("consumer")
	b.want(202, "POST", "/v1/logs/log/messages", "after")
	b.barrier()
	if got := bodies(b.readAll("log")); got != "before after" {
		t.Errorf("the log has %q", got)
	}
}

package app

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/patient"
	"github.com/drainmark/drainmark/test/servers"
)

// initialize runs "drainmark init" and returns its exit code and what it said.
func initialize(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"init"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// The same deployment is there after one init, after two at once, and after one more.
func TestInitMakesADeploymentOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := pieces{t, startNATS(t, filepath.Join(dir, "nats")), filepath.Join(dir, "store.db")}
	args := []string{"--broker", d.broker, "--store", "sqlite:" + d.store, "--partitions", "3"}
	said := make([]string, 3)
	one := func(i int) {
		code, stdout, stderr := initialize(t, args...)
		if code != exitOK || !strings.Contains(stdout, "with 3 partitions") {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
		said[i] = stdout
	}
	var both sync.WaitGroup
	both.Go(func() { one(0) })
	both.Go(func() { one(1) })
	both.Wait()
	one(2)
	if said[0] != said[1] || said[1] != said[2] {
		t.Errorf("they made other deployments: %q", said)
	}
	b := d.backend()
	b.want(202, "POST", "/v1/logs/log/messages", "early")
	b.want(404, "GET", "/v1/logs/log/messages", "") // the store is there, and nobody has persisted anything
	d.consumer()
	b.barrier()
	if got := bodies(b.readAll("log")); got != "early" {
		t.Errorf("the log has %q", got)
	}
	if code, _, stderr := initialize(t, append(args[:4:4], "--partitions", "5")...); code != exitUsage || !strings.Contains(stderr, "--partitions") {
		t.Errorf("another number of partitions: exit code %d: %s", code, stderr)
	}
	b.stop()
}

// The servers that users run, not files.
func TestInitOnRabbitMQAndRedis(t *testing.T) {
	t.Parallel()
	rabbit, redis := servers.StartRabbitMQ(t, servers.RabbitMQOptions{}), servers.StartRedis(t, servers.RedisOptions{})
	for range 2 {
		if code, stdout, stderr := initialize(t, "--broker", rabbit.URL(), "--store", redis.URL()+"\n"); code != exitOK {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
}

// A server that is not there is waited for, and not for ever.
func TestInitGivesUp(t *testing.T) {
	t.Parallel()
	const nowhere = "127.0.0.1:1"
	nats := startNATS(t, t.TempDir())
	for what, args := range map[string][]string{
		"broker": {"--broker", "amqp://guest:guest@" + nowhere, "--store", "sqlite:" + filepath.Join(t.TempDir(), "store.db")},
		"store":  {"--broker", nats, "--store", "redis://" + nowhere},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			// A short time can be over before the store's turn comes.
			patient.Within(t, time.Second, func(limit time.Duration) error {
				code, stdout, stderr := initialize(t, append(args, "--timeout", limit.String())...)
				if code != exitUnavailable || stdout != "" || !strings.Contains(stderr, "(timeout)") || !strings.Contains(stderr, "the "+what+" does not answer") {
					return fmt.Errorf("exit code %d: %s%s", code, stdout, stderr)
				}
				return nil
			})
		})
	}
	for _, args := range [][]string{{"--timeout", "0s"}, {"--store", "mysql://x"}, {"--partitions", "0"}} {
		good := []string{"--broker", nats, "--store", "sqlite:" + filepath.Join(t.TempDir(), "store.db")}
		if code, _, stderr := initialize(t, append(good, args...)...); code != exitUsage {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
}

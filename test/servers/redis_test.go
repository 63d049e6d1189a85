package servers

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRedis(t *testing.T) {
	t.Parallel()
	master := StartRedis(t, RedisOptions{User: "guest", Password: "secret"})
	replicas := []*Redis{StartRedis(t, RedisOptions{ReplicaOf: master}), StartRedis(t, RedisOptions{ReplicaOf: master})}
	sentinels := StartSentinels(t, 3, "the-master", master)
	if !strings.HasPrefix(sentinels.URL(), "redis+sentinel://127.0.0.1:") || !strings.HasSuffix(sentinels.URL(), "/the-master") {
		t.Errorf("the Sentinels' URL is %s", sentinels.URL())
	}

	// A value that was set before a kill is there again, once it has arrived: Redis replicates in the background.
	master.Do("SET", "key", "value")
	if n := master.Do("WAIT", len(replicas), patience.Milliseconds()); n != int64(len(replicas)) {
		t.Fatalf("%v replicas have the value", n)
	}
	replicas[1].Kill()
	replicas[1].Start()
	if value := replicas[1].Do("GET", "key"); value != "value" {
		t.Errorf("the replica has %v after it was killed", value)
	}

	// A master that is silent is replaced, and another one that is killed too.
	master.Pause()
	heir := awaitOther(t, sentinels, master.Port)
	master.Continue()
	for _, r := range append(replicas, master) {
		if r.Port == heir {
			r.Kill()
		}
	}
	awaitOther(t, sentinels, heir)

	// A replica starts again without its master.
	sentinels.Kill()
	for _, r := range append(replicas, master) {
		r.Kill()
	}
	replicas[0].Start()
	if pong := replicas[0].Do("PING"); pong != "PONG" {
		t.Errorf("the replica answers %v", pong)
	}
}

// awaitOther waits until the Sentinels have another master than the one on the port, and returns its port.
func awaitOther(t *testing.T, s *Sentinels, port int) int {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if other := s.Master(); other != port {
			return other
		}
		select {
		case <-deadline:
			t.Fatalf("the master on port %d has not been replaced within %v", port, patience)
		case <-tick.C:
		}
	}
}

func TestRedisFsync(t *testing.T) {
	t.Parallel()
	r := StartRedis(t, RedisOptions{Password: "secret", Settings: []string{"maxmemory 50mb"}})
	got, err := r.Client().ConfigGet(context.Background(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory": "52428800"} {
		if got[name] != want {
			t.Errorf("%s is %q and must be %q", name, got[name], want)
		}
	}
	r.Do("SET", "key", "value")
	r.Kill()
	r.Start()
	if value := r.Do("GET", "key"); value != "value" {
		t.Errorf("the server has %v after it was killed", value)
	}
}

// forwarder is a proxy that does nothing but forward, and ends with the test.
func forwarder(t *testing.T) func(address string) int {
	return func(address string) int {
		listener, err := net.Listen("tcp", net.JoinHostPort(Host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		forward := func(client net.Conn) {
			defer client.Close()
			server, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			running.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}
		running.Go(func() {
			for {
				client, err := listener.Accept()
				if err != nil {
					return
				}
				running.Go(func() { forward(client) })
			}
		})
		t.Cleanup(func() { _ = listener.Close(); running.Wait() })
		return listener.Addr().(*net.TCPAddr).Port
	}
}

// Servers behind proxies are known to everybody by those, also after a failover.
func TestRedisBehindProxies(t *testing.T) {
	t.Parallel()
	master := StartRedis(t, RedisOptions{Through: forwarder(t)})
	replica := StartRedis(t, RedisOptions{ReplicaOf: master, Through: forwarder(t)})
	sentinels := StartSentinels(t, 1, "the-master", master)
	if port := sentinels.Master(); port != master.Public || master.Public == master.Port || !strings.HasSuffix(master.URL(), fmt.Sprint(port)) {
		t.Errorf("the master is on port %d, behind one on %d, and the Sentinel names %d", master.Port, master.Public, port)
	}
	master.Kill()
	if heir := awaitOther(t, sentinels, master.Public); heir != replica.Public {
		t.Errorf("the heir is on port %d and not %d", heir, replica.Public)
	}
}

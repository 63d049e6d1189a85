package servers

import (
	"context"
	"strings"
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

	// What is set and then killed is there again, once it has arrived: Redis replicates in the background.
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

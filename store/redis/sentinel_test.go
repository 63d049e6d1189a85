package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// sentinelURL returns the URL with which a user goes through the Sentinels.
func sentinelURL(user string, s *servers.Sentinels) string {
	login := url.Values{"sentinel-user": {user}, "sentinel-password": {servers.RolePassword}}
	return servers.As(user, s.URL()) + "?" + login.Encode()
}

// byPort returns the server on a port.
func byPort(t *testing.T, all []*servers.Redis, port int) *servers.Redis {
	t.Helper()
	for _, r := range all {
		if r.Port == port {
			return r
		}
	}
	t.Fatalf("there is no server on port %d", port)
	return nil
}

func TestFailover(t *testing.T) {
	t.Parallel()
	master, replicas := startTrio(t)
	all := append(replicas, master)
	sentinels := servers.StartSentinels(t, 3, "the-master", master)
	target := sentinelURL(servers.ConsumerUser, sentinels)
	s := openStore(t, target, Options{WaitReplicas: 1})
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "min-replicas-to-write") {
		t.Errorf("the warnings are %q", w)
	}
	nodes := []string{replicas[0].Address(), replicas[1].Address()}
	slices.Sort(nodes)
	nodes = append(nodes, master.Address())
	eventually(t, fmt.Sprintf("the nodes are %q", nodes), func() bool { // a Sentinel may hold one for dead that has just been found
		found, err := Replicas(t.Context(), sentinelURL(servers.BackendUser, sentinels), Options{})
		return err == nil && slices.Equal(found, nodes)
	})
	r := openReader(t, sentinelURL(servers.BackendUser, sentinels), Options{Node: nodes[0]})
	if r.Address() != nodes[0] {
		t.Errorf("the reader reads from %s", r.Address())
	}
	signals, err := r.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	f := newFiller(t, s)
	f.must(t, f.next(10, 10))
	<-signals
	master.Kill()
	eventually(t, "a commit goes to the new master", func() bool {
		err := f.commit(within(t, 2*time.Second), f.next(1, 1))
		if errors.Is(err, store.ErrFenced) {
			_ = f.claimAgain(t, uint64(time.Now().UnixNano()))
		}
		return err == nil
	})
	if sentinels.Master() == master.Port {
		t.Error("the master is still the one that was killed")
	}
	eventually(t, "the replica shows it", func() bool {
		p, err := r.Progress(t.Context(), 0)
		return err == nil && p.Includes(f.progress.Version)
	})
	// A master that is silent and then comes back is noticed, also while it still takes commits.
	old := byPort(t, all, sentinels.Master())
	old.Pause()
	eventually(t, "it has been replaced", func() bool { return sentinels.Master() != old.Port })
	old.Continue()
	eventually(t, "the claim is with the new master", func() bool {
		return f.claimAgain(t, uint64(time.Now().UnixNano())) == nil
	})
	if address := *s.address.Load(); address != fmt.Sprintf("%s:%d", servers.Host, sentinels.Master()) {
		t.Errorf("the store is connected to %s", address)
	}

	for _, server := range all {
		server.Kill()
	}
	eventually(t, "dead replicas are not listed", func() bool {
		nodes, err := Replicas(t.Context(), sentinelURL(servers.BackendUser, sentinels), Options{})
		return err == nil && len(nodes) == 1
	})
}

// A master takes commits that reach no replica, and dies. Its successor does not have them.
func TestLostTail(t *testing.T) {
	t.Parallel()
	master := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	replica := servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master, Roles: true})
	sentinels := servers.StartSentinels(t, 3, "the-master", master)
	f := newFiller(t, openStore(t, sentinelURL(servers.ConsumerUser, sentinels), Options{}))
	f.must(t, f.next(10, 10))
	r := openReader(t, backendURL(replica), Options{})
	eventually(t, "the replica shows the first commit", func() bool {
		p, err := r.Progress(t.Context(), 0)
		return err == nil && p.Includes(f.progress.Version)
	})
	replica.Pause()
	master.Do("CLIENT", "KILL", "TYPE", "replica") // what is on the wire already would still arrive
	f.must(t, f.next(10, 10))
	f.must(t, f.next(10, 10))
	master.Kill()
	replica.Continue()
	c := f.next(10, 10)
	eventually(t, "a commit on top of what is lost is fenced", func() bool {
		return errors.Is(f.commit(within(t, 2*time.Second), c), store.ErrFenced)
	})
	eventually(t, "the claim is with the new master", func() bool { return f.claimAgain(t, 1<<63+1) == nil })
	if f.progress.Revision != 1 {
		t.Errorf("the revision is %d; the test lost nothing", f.progress.Revision)
	}
	f.must(t, f.next(20, 10))
	var page store.Page
	eventually(t, "the reader's server answers again", func() (ok bool) {
		var err error
		page, err = r.Messages(t.Context(), f.log, 0, 100)
		return err == nil
	})
	if want := f.progress.Next(f.producer) - 1; want != 30 || page.Log.Count() != want || uint64(len(page.Messages)) != want {
		t.Errorf("the log has %d messages, of them %d on a page; it must have %d", page.Log.Count(), len(page.Messages), want)
	}
}

// Heartbeats come several times a second, and do not ask the Sentinels each time.
func TestHeartbeatsAskSeldom(t *testing.T) {
	t.Parallel()
	master := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	sentinels := servers.StartSentinels(t, 1, "the-master", master)
	s := openStore(t, sentinelURL(servers.ConsumerUser, sentinels), Options{})
	newFiller(t, s)
	parsed, err := url.Parse(sentinels.URL())
	if err != nil {
		t.Fatal(err)
	}
	sentinel := goredis.NewClient(&goredis.Options{Addr: parsed.Host, Password: servers.RolePassword})
	defer sentinel.Close()
	connections := func() (n int) {
		text := sentinel.Info(t.Context(), "stats").Val()
		if _, err := fmt.Sscanf(text[strings.Index(text, "total_connections_received"):], "total_connections_received:%d", &n); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return n
	}
	const beats = 100
	before, began := connections(), time.Now()
	for range beats {
		if _, err := s.Heartbeat(t.Context(), "somebody", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	most := 2 * (1 + int(time.Since(began)/followEvery)) // twice, as the Sentinel's peers
	if n := connections() - before; n > most {
		t.Errorf("%d heartbeats made %d connections to the Sentinel, not %d at most", beats, n, most)
	}
}

func TestNoSentinel(t *testing.T) {
	t.Parallel()
	target := fmt.Sprintf("redis+sentinel://%s:%d,%s:%d/the-master", servers.Host, servers.Port(t), servers.Host, servers.Port(t))
	_, err := Open(t.Context(), target, Options{})
	fails(t, err, ErrUnreachable, "asking the Sentinels")
	_, err = Replicas(t.Context(), target, Options{})
	fails(t, err, ErrUnreachable, "asking the Sentinels")
	_, err = OpenReader(t.Context(), target, Options{})
	fails(t, err, ErrUnreachable, "asking the Sentinels")
	master := servers.StartRedis(t, servers.RedisOptions{})
	sentinels := servers.StartSentinels(t, 1, "the-master", master)
	_, err = Open(t.Context(), strings.TrimSuffix(sentinels.URL(), "the-master")+"another", Options{})
	fails(t, err, store.ErrMisconfigured, "does not know the master")
}

// A Sentinel that takes connections and says nothing costs a moment.
func TestSilentSentinel(t *testing.T) {
	t.Parallel()
	master := servers.StartRedis(t, servers.RedisOptions{})
	sentinels := servers.StartSentinels(t, 1, "the-master", master)
	silent, err := net.Listen("tcp", net.JoinHostPort(servers.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	both := strings.Replace(sentinels.URL(), "://", "://"+silent.Addr().String()+",", 1)
	eventually(t, "asking takes far less time than the silent one is given", func() bool { // at least once: a busy machine adds its own
		began := time.Now()
		nodes, err := Replicas(t.Context(), both, Options{})
		if !errors.Is(err, ErrUnreachable) && (err != nil || !slices.Equal(nodes, []string{master.Address()})) {
			t.Fatalf("the nodes are %q, %v", nodes, err)
		}
		return err == nil && time.Since(began) < sentinelTimeout/2
	})
}

// The old master of a failover still answers, and knows nothing.
func TestMasterThatWasReplaced(t *testing.T) {
	t.Parallel()
	old := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	other := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	sentinels := servers.StartSentinels(t, 1, "the-master", old)
	f := newFiller(t, openStore(t, sentinelURL(servers.ConsumerUser, sentinels), Options{}))
	f.must(t, f.next(1, 1))
	sentinel := goredis.NewSentinelClient(&goredis.Options{Addr: fmt.Sprintf("%s:%d", servers.Host, sentinels.Ports[0]), Password: servers.RolePassword, Protocol: 2})
	defer sentinel.Close()
	if err := sentinel.Remove(t.Context(), "the-master").Err(); err != nil {
		t.Fatal(err)
	}
	if err := sentinel.Monitor(t.Context(), "the-master", servers.Host, fmt.Sprint(other.Port), "1").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heartbeat goes to the new master, which is empty", func() bool {
		_, err := f.store.Heartbeat(t.Context(), "filler", time.Hour)
		return errors.Is(err, store.ErrMisconfigured)
	})
	fails(t, f.commit(t.Context(), f.next(1, 1)), store.ErrFenced, "")
}

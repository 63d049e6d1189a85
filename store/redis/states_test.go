package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

func TestFullMemory(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true, Settings: []string{"maxmemory 30mb"}})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	var err error
	for err == nil {
		err = f.commit(t.Context(), f.next(500, 2000))
	}
	fails(t, err, ErrFull, "raise maxmemory")
	r := openReader(t, backendURL(server), Options{})
	p, err := r.Progress(t.Context(), 0)
	if err != nil || p.Version != f.progress.Version {
		t.Errorf("after the refusal the progress is %v, %v; it must be %v", p.Version, err, f.progress.Version)
	}
	if _, err := f.store.Heartbeat(t.Context(), "filler", time.Hour); err != nil {
		t.Errorf("a heartbeat must go through with a full memory: %v", err)
	}

	// A clear is small, but it is a commit. The sweep of what was cleared before makes room.
	server.Do("CONFIG", "SET", "maxmemory", "100mb")
	f.must(t, f.clearing())
	server.Do("CONFIG", "SET", "maxmemory", "20mb")
	fails(t, f.commit(t.Context(), f.next(1, 1)), ErrFull, "")
	for more := true; more; {
		if more, err = f.store.Sweep(t.Context(), store.Sweep{}); err != nil {
			t.Fatalf("sweeping with a full memory: %v", err)
		}
	}
	f.must(t, f.next(1, 1))
}

func TestBecomesReplica(t *testing.T) {
	t.Parallel()
	other := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	f.must(t, f.next(10, 10))
	server.Do("REPLICAOF", servers.Host, other.Port)
	eventually(t, "commits are refused by the replica", func() bool {
		err := f.commit(within(t, patience), f.next(1, 1))
		if err == nil {
			t.Fatal("a replica took a commit")
		}
		return errors.Is(err, errReplica) && strings.Contains(err.Error(), "redis+sentinel://")
	})
	_, err := f.store.Find(t.Context(), 0, store.Want{Letters: []string{"id"}})
	fails(t, err, errReplica, "")
	client := server.Client()
	eventually(t, "the replica is as empty as its master", func() bool {
		n, err := client.DBSize(t.Context()).Result()
		return err == nil && n == 0
	})
	server.Do("REPLICAOF", "NO", "ONE")
	fails(t, f.claimAgain(t, 1<<63+1), store.ErrMisconfigured, "emptied")
}

func TestTooFewReplicas(t *testing.T) {
	t.Parallel()
	settings := []string{"min-replicas-to-write 1", "min-replicas-max-lag 60"} // one that is killed counts no more at once
	master := servers.StartRedis(t, servers.RedisOptions{Roles: true, Settings: settings})
	replica := servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master, Roles: true, Settings: settings})
	var f *filler
	eventually(t, "the master counts its replica", func() bool {
		return strings.Contains(fmt.Sprint(master.Do("INFO", "replication")), "min_slaves_good_slaves:1")
	})
	f = newFiller(t, openStore(t, urlOf(master), Options{}))
	f.must(t, f.next(1, 1))
	replica.Kill()
	eventually(t, "commits are refused without replicas", func() bool {
		err := f.commit(t.Context(), f.next(1, 1))
		return errors.Is(err, errTooFewReplicas) && strings.Contains(err.Error(), "min-replicas-to-write")
	})
	before := f.progress.Version
	replica.Start()
	eventually(t, "commits are taken again", func() bool { return f.commit(t.Context(), f.next(1, 1)) == nil })
	if f.progress.Revision != before.Revision+1 {
		t.Errorf("the revision is %d and was %d", f.progress.Revision, before.Revision)
	}
}

func TestWaitForReplicas(t *testing.T) {
	t.Parallel()
	master := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	replica := servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master, Roles: true})
	f := newFiller(t, openStore(t, urlOf(master), Options{WaitReplicas: 1}))
	f.must(t, f.next(10, 10))
	replica.Pause()
	c := f.unconfirmed(t)
	fails(t, f.commit(within(t, patience), c), store.ErrFenced, "") // at once: it was in force on the master
	eventually(t, "a claim says that it is not confirmed", func() bool {
		_, err := f.store.Claim(within(t, time.Second), store.Claim{Owner: "filler", Token: 1<<63 + 1}, time.Hour)
		if errors.Is(err, context.DeadlineExceeded) { // the answer was late
			return false
		}
		fails(t, err, errUnconfirmed, "claiming partition 0")
		return true
	})
	replica.Continue()
	if err := f.claimAgain(t, 1<<63+2); err != nil {
		t.Fatal(err)
	}
	if f.progress.Revision != c.Revision+1 {
		t.Errorf("the revision is %d; the unconfirmed commit must be in force", f.progress.Revision)
	}
	f.must(t, f.next(1, 1))
}

// unconfirmed makes a commit that waits for the replica in vain, and returns it. If the answer is late, it makes another one,
// behind what has come into force.
func (f *filler) unconfirmed(t *testing.T) (c store.Commit) {
	t.Helper()
	eventually(t, "a commit says that it is not confirmed", func() bool {
		c = f.next(10, 10)
		err := f.commit(within(t, time.Second), c)
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrFenced) {
			fails(t, err, errUnconfirmed, "only 0 of the 1 wanted replicas confirmed")
			return true
		}
		found, err := f.store.Find(t.Context(), 0, store.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if found.Version.Revision > f.progress.Revision {
			f.progress = f.progress.With(c.Producers)
			f.progress.Revision++
		}
		return false
	})
	return c
}

func TestLoading(t *testing.T) {
	t.Parallel()
	settings := []string{"key-load-delay 10000", "loading-process-events-interval-bytes 1024"}
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true, Settings: settings})
	s := openStore(t, urlOf(server), Options{})
	f := newFiller(t, s)
	for range 4 {
		f.must(t, f.next(500, 100))
	}
	server.Do("CONFIG", "SET", "aof-use-rdb-preamble", "yes")
	for i := range 500 {
		server.Do("SET", fmt.Sprint("other ", i), "value")
	}
	server.Do("BGREWRITEAOF")
	eventually(t, "the file is rewritten", func() bool {
		return strings.Contains(fmt.Sprint(server.Do("INFO", "persistence")), "aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0")
	})
	server.Kill()
	server.Launch()
	eventually(t, "the server says that it is loading", func() bool {
		err := f.commit(within(t, patience), f.next(1, 1))
		if err == nil {
			t.Fatal("the server was never seen loading")
		}
		return errors.Is(err, errLoading)
	})
	server.Await()
	eventually(t, "commits are taken again", func() bool { return f.commit(within(t, patience), f.next(1, 1)) == nil })
}

func TestEmptied(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	f.must(t, f.next(1, 1))
	server.Do("FLUSHALL")
	fails(t, f.commit(t.Context(), f.next(1, 1)), store.ErrFenced, "")
	fails(t, f.claimAgain(t, 1<<63+1), store.ErrMisconfigured, "emptied")
	_, err := f.store.Heartbeat(t.Context(), "filler", time.Hour)
	fails(t, err, store.ErrMisconfigured, "emptied")
	if n := server.Do("DBSIZE"); n != int64(0) {
		t.Errorf("the emptied store has %v keys again", n)
	}
	newFiller(t, openStore(t, urlOf(server), Options{})) // the same deployment
	server.Do("SET", "drainmark:{all}:deployment", "0900000000000000 4")
	fails(t, f.claimAgain(t, 1<<63+1), store.ErrMisconfigured, "another deployment")
}

// If any permission is taken away, the error says what is wrong, and nothing has been changed.
func TestPermissions(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	for _, command := range []string{"evalsha", "hmget", "xrevrange", "zcard", "xadd", "hset", "zadd", "sadd", "publish"} {
		server.Do("ACL", "SETUSER", servers.ConsumerUser, "-"+command)
		fails(t, f.commit(t.Context(), f.next(5, 5)), store.ErrMisconfigured, "give it the permissions")
		server.Do("ACL", "SETUSER", servers.ConsumerUser, "+"+command)
	}
	f.must(t, f.next(5, 5)) // nothing had been changed
	server.Do("ACL", "SETUSER", servers.ConsumerUser, "resetchannels")
	fails(t, f.commit(t.Context(), f.next(5, 5)), store.ErrMisconfigured, "PUBLISH")
	server.Do("ACL", "SETUSER", servers.ConsumerUser, "resetkeys", "~else")
	fails(t, f.commit(t.Context(), f.next(5, 5)), store.ErrMisconfigured, "give it the permissions")
}

func TestForeignKeys(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	for i, key := range []string{"producers", "producers:ages", "logs", "logs:names", "logs:cleared", "log:guestbook"} {
		o := Options{Prefix: fmt.Sprint("drainmark:", i)}
		f := newFiller(t, openStore(t, urlOf(server), o))
		foreign := o.Prefix + ":{p0}:" + key
		server.Do("SET", foreign, "something else")
		fails(t, f.commit(t.Context(), f.next(5, 5)), store.ErrMisconfigured, "another prefix")
		server.Do("DEL", foreign)
		if n := server.Do("EXISTS", o.Prefix+":{p0}:log:guestbook", o.Prefix+":{p0}:logs"); n != int64(0) {
			t.Errorf("with something else at %s a commit is applied in part", key)
		}
		f.must(t, f.next(5, 5))
	}
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	f.must(t, f.next(5, 5))
	server.Do("XADD", "drainmark:{p0}:log:guestbook", "7-0", "m", "not ours")
	fails(t, f.commit(t.Context(), f.next(5, 5)), store.ErrMisconfigured, "entries that Drainmark did not write")
}

var unfitServers = map[string]func(*testing.T){
	"a server that evicts keys is refused": func(t *testing.T) {
		server := servers.StartRedis(t, servers.RedisOptions{Roles: true, Settings: []string{"maxmemory 50mb", "maxmemory-policy allkeys-lru"}})
		_, err := Open(t.Context(), urlOf(server), Options{})
		fails(t, err, store.ErrMisconfigured, "noeviction")
	},
	"a server that is set to evict keys later is refused until it is set right": func(t *testing.T) {
		server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
		s := openStore(t, urlOf(server), Options{})
		beat := func() error {
			s.checked.Store(&time.Time{}) // a minute is over
			_, err := s.Heartbeat(within(t, patience), "owner", time.Minute)
			return err
		}
		if _, err := s.Init(t.Context(), drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		if err := beat(); err != nil {
			t.Fatal(err)
		}
		server.Do("CONFIG", "SET", "maxmemory", "50mb", "maxmemory-policy", "allkeys-lru")
		fails(t, beat(), store.ErrMisconfigured, "noeviction")
		server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
		if err := beat(); err != nil {
			t.Error(err)
		}
	},
	"a server that is no Sentinel is refused": func(t *testing.T) {
		server := servers.StartRedis(t, servers.RedisOptions{})
		_, err := Open(t.Context(), "redis+sentinel://"+server.Address()+"/mymaster", Options{})
		fails(t, err, store.ErrMisconfigured, "is no Sentinel")
		nobody := fmt.Sprintf("127.0.0.1:%d", servers.Port(t)) // which may be a Sentinel that is down
		_, err = Open(t.Context(), "redis+sentinel://"+server.Address()+","+nobody+"/mymaster", Options{})
		if errors.Is(err, store.ErrMisconfigured) || !strings.Contains(fmt.Sprint(err), "is no Sentinel") {
			t.Errorf("beside one that does not answer: %v", err)
		}
	},
	"a server in cluster mode is refused": func(t *testing.T) {
		server := servers.StartRedis(t, servers.RedisOptions{Roles: true, Settings: []string{"cluster-enabled yes", fmt.Sprint("cluster-port ", servers.Port(t))}})
		_, err := Open(t.Context(), urlOf(server), Options{})
		fails(t, err, store.ErrMisconfigured, "cluster mode")
	},
	"settings that can lose commits are warned of": func(t *testing.T) {
		server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "everysec", Roles: true})
		if w := openStore(t, urlOf(server), Options{}).Warnings(); len(w) != 1 || !strings.Contains(w[0], "everysec") {
			t.Errorf("the warnings are %q", w)
		}
		server.Do("CONFIG", "SET", "appendonly", "no")
		if w := openStore(t, urlOf(server), Options{}).Warnings(); len(w) != 1 || !strings.Contains(w[0], "appendonly is off") {
			t.Errorf("the warnings are %q", w)
		}
		server.Do("ACL", "SETUSER", servers.ConsumerUser, "-info", "-config|get")
		if w := openStore(t, urlOf(server), Options{}).Warnings(); len(w) != 2 || !strings.Contains(w[0], "INFO") || !strings.Contains(w[1], "CONFIG GET") {
			t.Errorf("the warnings are %q", w)
		}
	},
	"a server from before 7.0 is refused, and Valkey is not": func(t *testing.T) {
		fails(t, checkInfo(map[string]string{"redis_version": "6.2.14"}, false), store.ErrMisconfigured, "7.0 or later")
		fails(t, checkInfo(map[string]string{}, false), store.ErrMisconfigured, "7.0 or later")
		fails(t, checkInfo(map[string]string{"redis_version": "7.2.4", "server_mode": "cluster"}, false), store.ErrMisconfigured, "cluster mode")
		replica := map[string]string{"redis_version": "7.0.15", "role": "slave"}
		fails(t, checkInfo(replica, false), store.ErrMisconfigured, "the server is a replica")
		if err := checkInfo(replica, true); err != nil {
			t.Errorf("a server that Sentinels may just have replaced: %v", err)
		}
		for _, info := range []map[string]string{{"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"}, {"redis_version": "8.2.1"}} {
			if err := checkInfo(info, false); err != nil {
				t.Error(err)
			}
		}
	},
}

func TestUnfitServers(t *testing.T) {
	t.Parallel()
	for name, test := range unfitServers {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	o := Options{Timeout: 2 * patience} // nothing waits for that here
	f := newFiller(t, openStore(t, urlOf(server), o))
	other := newFiller(t, openStore(t, urlOf(server), o))
	server.Pause()
	began := time.Now()
	c := f.next(1, 1)
	fails(t, f.commit(within(t, 100*time.Millisecond), c), context.DeadlineExceeded, "committing to partition 0")
	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	fails(t, f.commit(canceled, c), context.Canceled, "")
	for _, f := range []*filler{f, other} { // one has to connect first, the other waits for an answer
		ended := make(chan error)
		go func() { ended <- f.commit(t.Context(), c) }()
		time.AfterFunc(50*time.Millisecond, func() { _ = f.store.Close() })
		fails(t, <-ended, store.ErrClosed, "")
	}
	if took := time.Since(began); took > patience {
		t.Errorf("the calls ended after %v only", took)
	}
	_, err := Open(t.Context(), urlOf(server), Options{Timeout: 100 * time.Millisecond})
	fails(t, err, ErrUnreachable, "")
	server.Continue()
	openStore(t, urlOf(server), Options{})
}

// A consumer of the version before may take a partition over: it reads three numbers of each log, and 16 bytes of digests.
func TestTheDataAreWhatTheVersionBeforeReads(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	c := f.next(3, 1)
	c.Operations[1].Record.Key = "key"
	c.Operations[2].Kind = store.Clear
	f.must(t, c)
	if info := server.Do("HGET", "drainmark:{p0}:logs", f.log); info != "2 2 0" {
		t.Errorf("the log is recorded as %q", info)
	}
	if digest := fmt.Sprint(server.Do("HGET", "drainmark:{p0}:keys", f.log+"/key")); len(digest) != store.DigestBytes {
		t.Errorf("the digest has %d bytes", len(digest))
	}
}

// Somebody may remove by hand what a sweep is about to look at.
func TestASweepGoesOnWithoutAnEntryThatIsGone(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	c := f.next(2, 1)
	c.Operations[1].Kind = store.Clear
	f.must(t, c)
	server.Do("HDEL", "drainmark:{p0}:logs", f.log)
	if more, err := f.store.Sweep(t.Context(), store.Sweep{}); err != nil || more {
		t.Errorf("there is more: %t, error %v", more, err)
	}
}

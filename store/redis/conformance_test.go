package redis

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// urlOf is where the consumers' user finds a server. The tests' users may do no more than the files in deploy/permissions say.
func urlOf(r *servers.Redis) string { return servers.As(servers.ConsumerUser, r.URL()) }

// adminURL is where somebody does who may do everything.
func adminURL(r *servers.Redis) string { return servers.As("default", r.URL()) }

// backendURL is where the backends' user does.
func backendURL(r *servers.Redis) string { return servers.As(servers.BackendUser, r.URL()) }

// database is a part of a master with two replicas. The readers read one of them.
type database struct {
	master  *servers.Redis
	replica *servers.Redis
	options Options
}

func (d database) Store(t storetest.T) store.Store {
	s, err := Open(t.Context(), urlOf(d.master), d.options)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func (d database) Reader(t storetest.T) store.Reader {
	r, err := OpenReader(t.Context(), backendURL(d.replica), d.options)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

// Restart kills the master's process and starts it again. The replica stays, and connects again.
func (d database) Restart(storetest.T) {
	d.master.Kill()
	d.master.Start()
}

// SetBack moves the ends of all leases away instead, because the server's clock cannot be set.
func (d database) SetBack(t storetest.T, by time.Duration) {
	n := newNames(d.options.Prefix)
	later := func(text string) int64 {
		end, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("the end of a lease: %v", err)
		}
		return end + by.Microseconds()
	}
	for _, p := range n.partitions {
		if end, ok := d.master.Do("HMGET", p.state, "until").([]any)[0].(string); ok {
			d.master.Do("HSET", p.state, "until", fmt.Sprint(later(end)))
		}
	}
	owners, _ := d.master.Do("HGETALL", n.owners).([]any)
	for i := 0; i+1 < len(owners); i += 2 {
		end, ttl, _ := strings.Cut(owners[i+1].(string), " ")
		d.master.Do("HSET", n.owners, owners[i].(string), fmt.Sprint(later(end), " ", ttl))
	}
}

func startTrio(t servers.T) (master *servers.Redis, replicas []*servers.Redis) {
	master = servers.StartRedis(t, servers.RedisOptions{Roles: true})
	for range 2 {
		replicas = append(replicas, servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master, Roles: true}))
	}
	return master, replicas
}

var databases atomic.Int64

// TestConformance runs the suite on a master with two replicas, which the cases share. Those that kill the master have
// one of their own.
func TestConformance(t *testing.T) {
	t.Parallel()
	master, replicas := startTrio(t)
	shared := storetest.Harness{New: func(t storetest.T) storetest.Database {
		o := Options{Prefix: fmt.Sprintf("drainmark:%d", databases.Add(1)), WaitReplicas: 1}
		return database{master: master, replica: replicas[0], options: o}
	}}
	alone := storetest.Harness{New: func(t storetest.T) storetest.Database {
		master, replicas := startTrio(t)
		return database{master: master, replica: replicas[0], options: Options{WaitReplicas: 1}}
	}}
	t.Run("suite", func(t *testing.T) {
		for _, c := range storetest.Cases() {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				h := shared
				if strings.Contains(c.Name, "restart") {
					h = alone
				}
				c.Run(t, h)
			})
		}
	})
}

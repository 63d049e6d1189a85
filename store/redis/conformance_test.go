package redis

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// appUser and readUser are who the tests are: users with just the permissions that the package's documentation asks for.
const (
	appUser     = "app"
	readUser    = "reader"
	appPassword = "p@ss/w:rd"
)

// access are the lines of redis.conf that make the users.
var access = []string{
	"user " + appUser + " on >" + appPassword + " " + strings.Join(strings.Fields(Permissions), " "),
	"user " + readUser + " on >" + appPassword + " " + strings.Join(strings.Fields(readerPermissions), " "),
}

func urlOf(r *servers.Redis) string { return urlOfUser(r, appUser) }

func urlOfUser(r *servers.Redis, user string) string {
	return fmt.Sprintf("redis://%s:%s@%s", user, url.QueryEscape(appPassword), r.Address())
}

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
	r, err := OpenReader(t.Context(), urlOfUser(d.replica, readUser), d.options)
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
	master = servers.StartRedis(t, servers.RedisOptions{Settings: access})
	for range 2 {
		replicas = append(replicas, servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master, Settings: access}))
	}
	return master, replicas
}

var databases atomic.Int64

// TestConformance runs the suite on a master with two replicas, which the cases share. Those that kill the master have
// one of their own.
func TestConformance(t *testing.T) {
	t.Parallel()
	master, replicas := startTrio(t)
	shared := storetest.Harness{Patience: time.Minute, New: func(t storetest.T) storetest.Database {
		o := Options{Prefix: fmt.Sprintf("drainmark:%d", databases.Add(1)), WaitReplicas: 1}
		return database{master: master, replica: replicas[0], options: o}
	}}
	alone := storetest.Harness{Patience: time.Minute, New: func(t storetest.T) storetest.Database {
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

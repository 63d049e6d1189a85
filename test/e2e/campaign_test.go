//go:build campaign

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

var (
	campaign       = flag.Duration("campaign", 2*time.Minute, "how long the campaign lasts")
	campaignStore  = flag.String("campaign-store", "redis", "the campaign's store: redis or postgres")
	campaignBroker = flag.String("campaign-broker", "rabbitmq", "the campaign's broker: "+brokerNames)
	campaignDir    = flag.String("campaign-dir", "", "where the campaign's report is left; a folder that goes away if not set")
	campaignRate   = flag.Float64("campaign-rate", 200, "messages a second")
	campaignPlans  = flag.String("campaign-plans", "local,harsh", "ready plans of what is broken, separated by commas")
	campaignSecure = flag.Bool("campaign-secure", true, "whether everything is over TLS, and verify may do what it needs and no more")
	campaignDisks  = flag.Bool("campaign-disks", true, "whether disks fill up, for which the campaign mounts some, as root")
)

// diskSize is that of each server's disk, in bytes of memory as far as it is used. NATS gives three quarters of its own
// away, and has to have room for the whole backlog.
const (
	diskSize    = 1 << 30
	mostBacklog = diskSize / 2
)

// TestCampaign lets verify check a whole deployment while its own plans break it.
func TestCampaign(t *testing.T) {
	processLifetime = *campaign + 10*time.Minute
	o := startTopology(t, *campaignBroker, *campaignStore, "")
	dir := *campaignDir
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "report")
	}
	plan := campaignPlan(t)
	if o.secured != nil {
		plan.Faults = append(plan.Faults, o.secured.faults(80*time.Second)...)
	}
	held(t, o.verify(verify.Config{
		Duration: *campaign, Rate: *campaignRate, Faults: plan, Dir: dir, Out: os.Stderr,
	}), 1)
}

// campaignPlan is the plan of a campaign: all of some ready plans that can be done here.
func campaignPlan(t *testing.T) fault.Plan {
	t.Helper()
	var plans []fault.Plan
	names := strings.Split(*campaignPlans, ",")
	if *campaignStore == "postgres" && !slices.Contains(names, "postgres") {
		names = append(names, "postgres")
	}
	if several := []string{"kafka3", "rabbitmq4cluster"}; slices.Contains(several, *campaignBroker) && !slices.Contains(names, "cluster") {
		names = append(names, "cluster")
	}
	for _, name := range names {
		plan, err := fault.Ready(name)
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, plan)
	}
	plan := fault.Join(plans...)
	if *campaignStore == "postgres" {
		plan.Faults = slices.DeleteFunc(plan.Faults, func(f fault.Fault) bool { return strings.Contains(f.Name, "redis") })
	}
	if !*campaignDisks {
		plan.Faults = slices.DeleteFunc(plan.Faults, func(f fault.Fault) bool { return strings.HasPrefix(f.Name, "fill-") })
	}
	return plan
}

// startTopology starts three backends and three consumers on a broker and a store: a Redis master with two replicas, and
// Sentinels, or a PostgreSQL primary with two standbys. Each program has a wire of its own to the broker, and each server of
// the store has one to everybody. A commit counts when one of the replicas has it. All may break a promise on purpose.
func startTopology(t testing.TB, broker, store, planted string) *topology {
	t.Helper()
	o := newTopology(t)
	url := o.startBroker(broker, o.disk)
	limits := []string{"--backlog-bytes", fmt.Sprint(mostBacklog)}
	s := setup{
		planted: planted, broker: url, backends: 3, consumers: 3, clocks: true,
		backendFlags: limits, consumerFlags: limits,
		brokerOf: func(program string) string { return o.wireTo(url, program) },
	}
	switch store {
	case "redis":
		s.consumerFlags = append([]string{"--store-wait-replicas", "1"}, limits...)
		s.store = o.startRedisStore()
	case "postgres":
		s.store = o.startPostgresStore(o.postgresDisk, func(name string) func(string) int { return o.wireBefore(name, "postgres") })
	default:
		t.Fatalf("there is no store %q: it must be redis or postgres", store)
	}
	s.replicas = [][]string{{s.store}}
	if *campaignSecure {
		s.secured, s.frontend = newSecured(t), true
	}
	o.deploy(s)
	return o
}

// startRedisStore starts a master with two replicas, and Sentinels, and returns their URL.
func (o *topology) startRedisStore() (url string) {
	o.t.Helper()
	redis := map[string]*servers.Redis{"redis-master": o.startRedis("redis-master", nil)}
	for i := range 2 {
		name := fmt.Sprint("redis-replica-", i)
		redis[name] = o.startRedis(name, redis["redis-master"])
	}
	sentinels := servers.StartSentinels(o.t, 3, "drainmark", redis["redis-master"])
	for i, p := range sentinels.Processes {
		o.addServer(fmt.Sprint("sentinel-", i), p)
	}
	o.master = func() string {
		port := sentinels.Master()
		for name, r := range redis {
			if r.Public == port {
				return name
			}
		}
		return "redis-master"
	}
	return sentinels.URL()
}

// postgresDisk is disk for a server that does not run as root, who could not reach a directory of the test's.
func (o *topology) postgresDisk(name string) (dir string) {
	o.t.Helper()
	if !*campaignDisks {
		return ""
	}
	above, err := os.MkdirTemp("", "drainmark-disk-")
	if err == nil {
		err = os.Chmod(above, 0o711)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = os.RemoveAll(above) })
	dir = filepath.Join(above, "disk")
	mountDisk(o.t, dir, diskSize)
	o.disks[name] = dir
	return dir
}

// startRedis starts a Redis server with a disk and a wire of its own. Its file is kept small, because the disk is.
func (o *topology) startRedis(name string, master *servers.Redis) *servers.Redis {
	o.t.Helper()
	r := servers.StartRedis(o.t, servers.RedisOptions{
		ReplicaOf: master, Dir: o.disk(name), Through: o.wireBefore(name, "redis"),
		Settings: []string{"auto-aof-rewrite-percentage 100", "auto-aof-rewrite-min-size 64mb"},
	})
	o.addServer(name, r.Process)
	return r
}

// disk makes a disk of a limited size for a server, and returns its directory: "" if no disks are to fill up.
func (o *topology) disk(name string) (dir string) {
	o.t.Helper()
	if !*campaignDisks {
		return ""
	}
	dir = filepath.Join(o.t.TempDir(), "disk")
	mountDisk(o.t, dir, diskSize)
	o.disks[name] = dir
	return dir
}

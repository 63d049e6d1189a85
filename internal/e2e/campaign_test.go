//go:build campaign

package e2e

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/servers"
)

var (
	campaign       = flag.Duration("campaign", 2*time.Minute, "how long the campaign lasts")
	campaignBroker = flag.String("campaign-broker", "rabbitmq", "the campaign's broker: rabbitmq or nats")
	campaignDir    = flag.String("campaign-dir", "", "where the campaign's report is left; a folder that goes away if not set")
	campaignRate   = flag.Int("campaign-rate", 200, "messages a second")
)

// TestCampaign lets verify check a whole deployment while its own plan breaks it.
func TestCampaign(t *testing.T) {
	processLifetime = *campaign + 10*time.Minute
	o := startTopology(t, *campaignBroker, "")
	dir := *campaignDir
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "report")
	}
	said, code := o.verify(processLifetime, "--report", dir, "--duration", campaign.String(), "--rate", fmt.Sprint(*campaignRate), "--plan", "local", "--progress")
	t.Logf("%s", said)
	if code != 0 {
		t.Errorf("verify ended with %d", code)
	}
}

// startTopology starts three backends and three consumers on a broker, a Redis master with two replicas, and Sentinels.
// A commit counts when one of the replicas has it. All may break a promise on purpose.
func startTopology(t testing.TB, broker, planted string) *topology {
	t.Helper()
	o := newTopology(t)
	s := setup{planted: planted, broker: o.startBroker(broker), backends: 3, consumers: 3, consumerFlags: []string{"--store-wait-replicas", "1"}}
	redis := map[string]*servers.Redis{"redis-master": servers.StartRedis(t, servers.RedisOptions{})}
	for i := range 2 {
		redis[fmt.Sprint("redis-replica-", i)] = servers.StartRedis(t, servers.RedisOptions{ReplicaOf: redis["redis-master"]})
	}
	sentinels := servers.StartSentinels(t, 3, "drainmark", redis["redis-master"])
	for name, r := range redis {
		o.addServer(name, r.Process)
	}
	for i, p := range sentinels.Processes {
		o.addServer(fmt.Sprint("sentinel-", i), p)
	}
	o.master = func() string {
		port := sentinels.Master()
		for name, r := range redis {
			if r.Port == port {
				return name
			}
		}
		return "redis-master"
	}
	s.store, s.replicas = sentinels.URL(), [][]string{{sentinels.URL()}}
	o.deploy(s)
	return o
}

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

// startKafka starts a node of each name, in one cluster, with a wire for each program that leads to all of them. It returns
// the URL of the nodes themselves.
func (o *topology) startKafka(disk func(server string) (dir string), names ...string) (url string) {
	o.t.Helper()
	var options []servers.KafkaOptions
	for _, name := range names {
		options = append(options, servers.KafkaOptions{Dir: disk(name), Through: o.kafkaDoors()})
	}
	nodes := servers.StartKafkaCluster(o.t, options...)
	o.nodes = nodes
	var ports []int
	for i, n := range nodes {
		o.parts[names[i]] = part{
			pid:    n.PID,
			start:  func() { n.Kill(); nodes.Restart(i) },
			launch: func() { n.Kill(); n.Launch() },
		}
		ports = append(ports, n.Port)
	}
	for program := range o.doors {
		var through []int
		for _, p := range o.wires["broker-of-"+program].ways {
			through = append(through, p.port())
		}
		o.doors[program] = kafkaURL(through)
	}
	return kafkaURL(ports)
}

// kafkaURL is that of a cluster, or of a single node.
func kafkaURL(ports []int) string {
	var hosts []string
	for _, port := range ports {
		hosts = append(hosts, fmt.Sprintf("%s:%d", servers.Host, port))
	}
	return fmt.Sprintf("kafka://%s?replicas=%d", strings.Join(hosts, ","), len(ports))
}

// kafkaDoors returns what starts a way to a node for the wire of each program. Kafka tells its clients where to connect to,
// so each wire needs a listener of its own at each node, which says the port of the way.
func (o *topology) kafkaDoors() (doors []func(address string) (port int)) {
	for i := range 3 {
		for _, role := range []string{"backend", "consumer"} {
			program := fmt.Sprintf("%s-%d", role, i)
			o.doors[program] = "" // until the ways are there
			doors = append(doors, o.wireBefore("broker-of-"+program, "kafka"))
		}
	}
	return doors
}

// TestEverythingIsKilledOnKafka: the broker is killed at the same time as everything else, and comes back. Every promise
// holds.
func TestEverythingIsKilledOnKafka(t *testing.T) {
	t.Parallel()
	o := startSmallTopology(t, "kafka", "")
	plan, err := fault.Ready("local")
	if err != nil {
		t.Fatal(err)
	}
	plan.Faults = slices.DeleteFunc(plan.Faults, func(f fault.Fault) bool { return f.Name != "kill-everything" })
	plan.Faults[0].At, plan.Faults[0].Every = 3*time.Second, 0
	held(t, o.verify(verify.Config{
		Duration: 30 * time.Second, Rate: 100, Dir: filepath.Join(t.TempDir(), "run"), Faults: fault.Plan{Settle: patience, Faults: plan.Faults},
	}), 500)
}

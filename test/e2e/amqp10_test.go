//go:build amqp10

package e2e

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

var amqp10Brokers = flag.String("amqp10-brokers", "artemis,activemq,rabbitmq4-amqp10", "the servers of AMQP 1.0 that whole deployments are tested on, separated by commas")

// TestAMQP10: on a server of AMQP 1.0 the broker, a consumer and a backend are killed one after the other. Every promise
// holds. "make amqp10" runs this: it takes longer than the default run of the tests may.
func TestAMQP10(t *testing.T) {
	t.Parallel()
	for broker := range strings.SplitSeq(*amqp10Brokers, ",") {
		t.Run(broker, func(t *testing.T) {
			t.Parallel()
			o := newTopology(t)
			o.deploy(setup{
				broker: o.startBroker(broker, nowhere), store: "sqlite:" + filepath.Join(t.TempDir(), "store.db"), backends: 2, consumers: 2,
				consumerFlags: []string{"--lease", "2s"},
			})
			var faults []fault.Fault
			for i, part := range []string{"broker", "consumer-0", "backend-0"} {
				faults = append(faults, fault.Fault{
					Name: "kill-" + part, At: time.Duration(3+7*i) * time.Second, For: 3 * time.Second,
					Run: inTopology("kill -9 $(cat " + part + ".pid)"), Heal: inTopology("./start " + part),
				})
			}
			held(t, o.verify(verify.Config{
				Duration: 30 * time.Second, Rate: 100, Timeout: 3 * time.Minute, Settle: patience, Faults: fault.Plan{Settle: patience, Faults: faults},
			}), 300)
		})
	}
}

package e2e

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

var seed = flag.Uint64("seed", 0, "seed of the faults, and of what the clients do; 0 for a random one")

// strike says how often something happens to each process whose name begins so, and for how long it is away then.
type strike struct {
	name         string
	every, lasts time.Duration
}

// storm is a plan that kills processes, or pauses them in so many of 100 cases, again and again and several at a time.
func (o *topology) storm(pauses int, strikes ...strike) fault.Plan {
	plan := fault.Plan{Overlap: true, Jitter: 30, Settle: patience}
	for _, s := range strikes {
		for _, name := range slices.Sorted(maps.Keys(o.parts)) {
			if !strings.HasPrefix(name, s.name) {
				continue
			}
			either := func(paused, killed string) string {
				return inTopology(fmt.Sprintf("if [ $((FAULT_RANDOM %% 100)) -lt %d ]; then %s; else %s; fi", pauses, paused, killed))
			}
			plan.Faults = append(plan.Faults, fault.Fault{
				Name: "strike-" + name, Every: s.every, For: s.lasts,
				Run:  either("kill -STOP $(cat "+name+".pid)", "kill -9 $(cat "+name+".pid)"),
				Heal: either("kill -CONT $(cat "+name+".pid)", "./launch "+name),
			})
		}
	}
	return plan
}

// inTopology is a command of a fault, in the topology's directory.
func inTopology(command string) string { return `cd "$DRAINMARK_TOPOLOGY" && ` + command }

// weather lets verify work during a storm, and wants every promise to be held. How many strikes there are depends on the
// machine; each process is struck at least once, or else verify does not come to that verdict.
func (o *topology) weather(plan fault.Plan, lasts time.Duration, messages int) {
	o.t.Helper()
	held(o.t, o.verify(verify.Config{Duration: lasts, Rate: 200, Seed: *seed, Faults: plan}), messages)
}

// TestEverythingAtOnce kills and pauses processes of every role, the broker, the master and the replicas, again and
// again, while clients write and read. They may do what verify has to do, and nothing else, and show certificates and
// tokens that are replaced meanwhile.
func TestEverythingAtOnce(t *testing.T) {
	s := startStack(t, 2)
	o := newTopology(t)
	o.addStack(s)
	d := s.setup(3, 3)
	d.frontend, d.secured = true, newSecured(t)
	d.consumerFlags = []string{"--lease", "2s"}
	o.deploy(d)
	storm := o.storm(33,
		strike{"backend", 9 * time.Second, time.Second}, strike{"consumer", 9 * time.Second, 1500 * time.Millisecond},
		strike{"frontend", 25 * time.Second, time.Second}, strike{"broker", 40 * time.Second, 3 * time.Second},
		strike{"redis-master", 20 * time.Second, 3 * time.Second}, strike{"redis-replica", 15 * time.Second, 2 * time.Second})
	storm.Faults = append(storm.Faults, d.secured.faults(20*time.Second)...)
	o.weather(storm, 90*time.Second, 1500)
	d.secured.rotated()
}

// TestAPausedConsumer stops a consumer where it stands for longer than its lease, and lets it go on. The batches that
// it has in hand then must not be committed.
func TestAPausedConsumer(t *testing.T) {
	t.Parallel()
	s := startStack(t, 1)
	o := s.setup(1, 2)
	o.consumerFlags = []string{"--lease", "1s", "--commit-records", "20"}
	d := deploy(t, o)
	v := d.startVerify(verify.Config{Rate: 2000})
	slow, other := d.consumers[0], d.consumers[1]
	const fenced, claims, times = "drainmark_consumer_fenced_commits_total", "drainmark_consumer_claim_held", 3
	pauses, before := 0, slow.metric(fenced)
	await(t, "commits of the consumer that was paused are fenced", 2*patience, func() bool {
		await(t, "it holds a partition", patience, func() bool { return slow.metric(claims) > 0 })
		now := slow.metric(fenced)
		slow.pause()
		pauses++
		await(t, "the other consumer holds all partitions", patience, func() bool { return other.metric(claims) == 4 })
		slow.resume()
		await(t, "it has noticed", patience, func() bool { return slow.metric(fenced) > now || other.metric(claims) < 4 })
		return slow.metric(fenced) >= before+times
	})
	t.Logf("%v commits were fenced in %d pauses", slow.metric(fenced)-before, pauses)
	const persisted, enough = "drainmark_consumer_persisted_messages_total", 1000
	await(t, "so much is persisted that it proves something", patience, func() bool {
		return slow.metric(persisted)+other.metric(persisted) >= enough
	})
	held(t, v.judge(), enough)
}

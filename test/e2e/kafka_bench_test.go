package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/drainmark/drainmark/test/servers"
)

// asItComes has as many threads as Kafka has by default, of which each that syncs a record does nothing else.
var asItComes = servers.KafkaOptions{Settings: []string{"num.io.threads=8", "num.network.threads=3"}}

// BenchmarkAppendToPersistedOnKafka has RabbitMQ and Kafka, each with a Redis, take turns at what BenchmarkAppendToPersisted
// measures.
func BenchmarkAppendToPersistedOnKafka(b *testing.B) {
	s, kafka := startStack(b, 0), servers.StartKafka(b, asItComes)
	beside := setup{broker: kafkaURL([]int{kafka.Port}), store: servers.StartRedis(b, servers.RedisOptions{}).URL(), backends: 1, consumers: 1}
	onRabbit, onKafka := deployBench(b, s, 1, 1), deploy(b, beside)
	for round := range 3 {
		b.Run(fmt.Sprint("rabbitmq ", round), func(b *testing.B) { benchmarkDrainmark(b, onRabbit) })
		b.Run(fmt.Sprint("kafka ", round), func(b *testing.B) { benchmarkDrainmark(b, onKafka) })
	}
}

// BenchmarkAcceptOnKafka appends a message 1,000 times a second, whatever the answers take. Before that, and beside it fifty
// times a second, the bare client produces one with acks=all, to a topic with the same settings.
func BenchmarkAcceptOnKafka(b *testing.B) {
	const rate, lasts = 1000, 10 * time.Second
	kafka := servers.StartKafka(b, asItComes)
	d := deploy(b, setup{
		broker: kafkaURL([]int{kafka.Port}), store: servers.StartRedis(b, servers.RedisOptions{}).URL(), backends: 1, consumers: 1,
	})
	d.appendTo(d.url, "log-0", body)
	for b.Loop() {
		alone, beside, accepted := newOutcomes(), newOutcomes(), newOutcomes()
		produce(b, kafka, alone, time.After(lasts), time.Millisecond)
		enough := make(chan time.Time)
		var producing sync.WaitGroup
		producing.Go(func() { produce(b, kafka, beside, enough, 20*time.Millisecond) })
		atRate(b, rate, lasts, func(i int, due time.Time) { accepted.add(appendOne(b, d, fmt.Sprint("log-", i%16)), due) })
		close(enough)
		producing.Wait()
		if n := accepted.statuses[http.StatusAccepted]; n != rate*int(lasts.Seconds()) {
			b.Errorf("of %d appends these were answered: %v", rate*int(lasts.Seconds()), accepted.statuses)
		}
		for name, o := range map[string]*outcomes{"accept": accepted, "raw-alone": alone, "raw-beside": beside} {
			slices.Sort(o.times)
			b.ReportMetric(float64(o.times[len(o.times)/2].Microseconds())/1000, name+"-p50-ms")
			b.ReportMetric(float64(o.times[len(o.times)*99/100].Microseconds())/1000, name+"-p99-ms")
		}
	}
}

// produce has the bare client produce to a topic that is not Drainmark's, with its settings, one after the other.
func produce(b *testing.B, kafka *servers.Kafka, into *outcomes, enough <-chan time.Time, pause time.Duration) {
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Address()), kgo.DefaultProduceTopic(kafka.Synced("raw")), kgo.ProducerLinger(0))
	if err != nil {
		b.Error(err)
		return
	}
	defer client.Close()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-enough:
			return
		case <-tick.C:
		}
		began := time.Now()
		if err := client.ProduceSync(b.Context(), kgo.StringRecord(body)).FirstErr(); err != nil {
			b.Error(err)
			return
		}
		into.add(http.StatusAccepted, began)
	}
}

// BenchmarkLeaderOfThreeIsKilled appends to a log in each partition, 50 times a second, and kills the node that leads one of
// them. It reports the longest time without an accepted append to any log of a partition that this node led, and how many
// appends were not accepted. It says of each partition whether it was one of those, and of the node whether it was the
// active controller too.
func BenchmarkLeaderOfThreeIsKilled(b *testing.B) {
	for name, session := range map[string][]string{
		"session of 3 s":                 nil,
		"Kafka's default session of 9 s": {"broker.session.timeout.ms=9000", "broker.heartbeat.interval.ms=2000"},
	} {
		b.Run(name, func(b *testing.B) { killLeaders(b, servers.KafkaOptions{Settings: session}) })
	}
}

func killLeaders(b *testing.B, options servers.KafkaOptions) {
	nodes := servers.StartKafkaCluster(b, options, options, options)
	d := deploy(b, setup{
		broker: kafkaURL([]int{nodes[0].Port, nodes[1].Port, nodes[2].Port}), store: servers.StartRedis(b, servers.RedisOptions{}).URL(),
		backends: 1, consumers: 1,
	})
	logs := d.logInEach(4)
	longest, refused, unknown := time.Duration(0), 0, 0
	for b.Loop() {
		leader, led := leads(b, nodes, len(logs))
		controller, err := nodes.Controller(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		all := make([]*outcomes, len(logs))
		for p := range logs {
			all[p] = newOutcomes()
		}
		kill := time.AfterFunc(3*time.Second, nodes[leader].Kill)
		atRate(b, 50*len(logs), 25*time.Second, func(i int, due time.Time) {
			p := i % len(logs)
			all[p].add(appendOne(b, d, logs[p]), due)
		})
		kill.Stop()
		nodes.Restart(leader)
		for p, o := range all {
			gap := o.gap()
			refused += o.statuses[http.StatusServiceUnavailable]
			unknown += o.statuses[http.StatusGatewayTimeout] + o.statuses[0]
			if slices.Contains(led, p) {
				longest = max(longest, gap)
			}
			b.Logf("partition %d, led by the node: %v, which is the controller: %v: %v without an accepted append; %v",
				p, slices.Contains(led, p), controller == leader, gap.Round(10*time.Millisecond), o.statuses)
		}
		d.barrier(d.url)
	}
	b.ReportMetric(longest.Seconds(), "longest-s")
	b.ReportMetric(float64(refused), "refused")
	b.ReportMetric(float64(unknown), "unknown")
}

// leads waits until all partitions have all their replicas again, and returns a node that leads some, and which.
func leads(b *testing.B, nodes servers.KafkaCluster, partitions int) (leader int, led []int) {
	b.Helper()
	await(b, "each partition has a leader", patience, func() bool {
		led = nil
		for p := range partitions {
			replicas, err := nodes.Replicas(b.Context(), "drainmark", p)
			if err != nil {
				return false
			}
			if p == 0 {
				leader = replicas[0]
			}
			if replicas[0] == leader {
				led = append(led, p)
			}
		}
		return nodes.InSync(b.Context())
	})
	return leader, led
}

// logInEach returns the name of a log in each of the partitions.
func (d *deployment) logInEach(partitions int) []string {
	d.t.Helper()
	logs := make([]string, partitions)
	for i, found := 0, 0; found < partitions; i++ {
		name := fmt.Sprint("log-", i)
		a, err := send(d.t.Context(), d.http, request{method: "POST", url: messagesURL(d.url, name), body: []byte(body), header: plain})
		var answer struct{ ID string }
		if err == nil {
			err = json.Unmarshal(a.body, &answer)
		}
		number, _, _ := strings.Cut(answer.ID, "-")
		p, wrong := strconv.Atoi(number)
		if err != nil || wrong != nil || p >= partitions {
			d.t.Fatalf("appending to %s: %s %v", name, a.body, err)
		}
		if logs[p] == "" {
			logs[p], found = name, found+1
		}
	}
	return logs
}

var plain = []string{"Content-Type", "text/plain"}

// appendOne returns the status of the answer, 0 if there is none.
func appendOne(b *testing.B, d *deployment, log string) int {
	a, err := send(context.WithoutCancel(b.Context()), d.http, request{method: "POST", url: messagesURL(d.url, log), body: []byte(body), header: plain})
	if err != nil {
		return 0
	}
	return a.status
}

// atRate calls do so many times a second, whatever that takes.
func atRate(b *testing.B, rate int, lasts time.Duration, do func(i int, due time.Time)) {
	var running sync.WaitGroup
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for sent := 0; sent < rate*int(lasts.Seconds()); <-tick.C {
		for ; sent < rate*int(lasts.Seconds()); sent++ {
			due := began.Add(time.Duration(sent) * time.Second / time.Duration(rate))
			if due.After(time.Now()) {
				break
			}
			i := sent
			running.Go(func() { do(i, due) })
		}
	}
	running.Wait()
}

// outcomes are how appends ended.
type outcomes struct {
	mu       sync.Mutex
	statuses map[int]int
	times    []time.Duration // from when it was due to when it was accepted
	accepted []time.Time
}

func newOutcomes() *outcomes { return &outcomes{statuses: map[int]int{}} }

func (o *outcomes) add(status int, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statuses[status]++
	if status == http.StatusAccepted {
		o.times = append(o.times, time.Since(due))
		o.accepted = append(o.accepted, time.Now())
	}
}

// gap returns the longest time between two appends that were accepted.
func (o *outcomes) gap() (longest time.Duration) {
	slices.SortFunc(o.accepted, time.Time.Compare)
	for i := 1; i < len(o.accepted); i++ {
		longest = max(longest, o.accepted[i].Sub(o.accepted[i-1]))
	}
	return longest
}

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/test/servers"
	"github.com/redis/go-redis/v9"
)

// failover is a deployment whose store loses its last commits: the replica is cut off, commits go on, the master is
// killed, and the replica becomes the master.
type failover struct {
	*deployment
	store    losing
	witness  *program            // a backend that reads from the master that dies, not among the others
	seen     string              // its URL
	want     map[string][]string // by log: the bodies that it must have in the end
	receipts []string            // of what is lost
	spans    []drainmark.Span    // and its marks
}

// losing is a store of a master and a replica, which takes its place without the last commits.
type losing interface {
	urls() (store, master string)
	cutOff() // the replica has everything until now, and gets nothing from now on
	happen() // the master is killed, and the replica is the master when it returns
}

const lostMessages = 120

// logNames are in different partitions of four, and in the same.
var logNames = []string{"guestbook", "visitors", "orders", "audit", "notes", "mail"}

// startFailover makes everything ready: the first messages are on both servers, the next ones only on the master.
func startFailover(t *testing.T, broker string, s losing) *failover {
	t.Helper()
	f := &failover{want: map[string][]string{}, store: s}
	url, master := s.urls()
	f.deployment = deploy(t, setup{
		broker: broker, store: url, replicas: [][]string{{url}, {master}},
		// The claims outlast the failover, so that each consumer gets the partitions back whose commits it remembers.
		backends: 2, consumers: 2, consumerFlags: []string{"--lease", "1m"},
	})
	f.witness, f.seen = f.backends[1], f.urls[1]
	f.backends, f.urls = f.backends[:1], f.urls[:1]
	f.write("before")
	f.barrier(f.url)
	f.await("before")
	s.cutOff()
	f.receipts = f.write("lost")
	f.await("lost")
	f.spans = f.runsOf("lost")
	return f
}

// losingRedis has Sentinels, which make the replica the master.
type losingRedis struct {
	t               testing.TB
	master, replica *servers.Redis
	sentinels       *servers.Sentinels
}

func startLosingRedis(t testing.TB) losing {
	r := &losingRedis{t: t, master: servers.StartRedis(t, servers.RedisOptions{})}
	r.replica = servers.StartRedis(t, servers.RedisOptions{ReplicaOf: r.master})
	r.sentinels = servers.StartSentinels(t, 3, "drainmark", r.master)
	return r
}

func (r *losingRedis) urls() (store, master string) { return r.sentinels.URL(), r.master.URL() }

func (r *losingRedis) cutOff() {
	r.t.Helper()
	r.letSentinelsWait(patience)
	r.master.Do("WAIT", 1, patience.Milliseconds())
	r.replica.Do("REPLICAOF", servers.Host, 1)
}

func (r *losingRedis) happen() {
	r.t.Helper()
	if info := fmt.Sprint(r.replica.Do("INFO", "replication")); !strings.Contains(info, "master_port:1\r\n") {
		r.t.Fatalf("the Sentinels have joined the replica to its master again: %s", info)
	}
	r.master.Kill()
	r.letSentinelsWait(3 * time.Second)
	await(r.t, "the replica is the master", patience, func() bool { return r.sentinels.Master() == r.replica.Port })
}

// losingPostgres has an administrator, who promotes the standby.
type losingPostgres struct{ primary, standby *servers.Postgres }

func startLosingPostgres(t testing.TB) losing {
	p := &losingPostgres{primary: servers.StartPostgres(t, servers.PostgresOptions{})}
	p.standby = servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: p.primary})
	return p
}

func (p *losingPostgres) urls() (store, master string) {
	master = p.primary.URL(servers.PostgresUser)
	return strings.Replace(master, p.primary.Address(), p.primary.Address()+","+p.standby.Address(), 1), master
}

func (p *losingPostgres) cutOff() {
	p.standby.CaughtUp()
	p.standby.CutOff()
}

func (p *losingPostgres) happen() {
	p.primary.Kill()
	p.standby.Promote()
}

// silence is how long a server must be silent to be taken for down. The Sentinels promote no replica that was without its
// master for longer than ten times that (and the time for which the master is down), so it must not be too short for a
// slow machine.
const silence = 4 * time.Second

// letSentinelsWait sets for how long the Sentinels leave a replica alone that has another master than it should.
func (r *losingRedis) letSentinelsWait(wait time.Duration) {
	r.t.Helper()
	for _, port := range r.sentinels.Ports {
		client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("%s:%d", servers.Host, port), Protocol: 2, DisableIdentity: true})
		err := client.Do(r.t.Context(), "SENTINEL", "SET", r.sentinels.Name, "failover-timeout", wait.Milliseconds(),
			"down-after-milliseconds", silence.Milliseconds()).Err()
		_ = client.Close()
		if err != nil {
			r.t.Fatalf("setting a Sentinel: %v", err)
		}
	}
}

// write appends messages to every log, one after the other, and returns their receipts.
func (f *failover) write(what string) (receipts []string) {
	f.t.Helper()
	for i := range lostMessages {
		log, body := logNames[i%len(logNames)], fmt.Sprint(what, " ", i)
		receipts = append(receipts, f.appendTo(f.url, log, body))
		f.want[log] = append(f.want[log], body)
	}
	return receipts
}

// forget says that nothing of a write must be there in the end.
func (f *failover) forget(what string) {
	for log, bodies := range f.want {
		f.want[log] = slices.DeleteFunc(bodies, func(body string) bool { return strings.HasPrefix(body, what+" ") })
	}
}

// isRepaired waits for a barrier, and checks that every log has what it must have, in order, at positions without gaps.
func (f *failover) isRepaired() {
	f.t.Helper()
	receipt := f.barrier(f.url)
	for log, want := range f.want {
		var bodies []string
		for i, m := range f.readAll(f.url, log, receipt) {
			bodies = append(bodies, m.Body)
			if m.Position != uint64(i)+1 {
				f.t.Errorf("P4: message %d of %s is at position %d", i+1, log, m.Position)
			}
		}
		if !slices.Equal(bodies, want) {
			f.t.Errorf("%s has %q, not %q", log, bodies, want)
		}
	}
}

// messages returns the messages of one write that a backend shows.
func (f *failover) messages(base, what string) (found []message) {
	f.t.Helper()
	for _, log := range logNames {
		for _, m := range f.readAll(base, log, "") {
			if strings.HasPrefix(m.Body, what+" ") {
				found = append(found, m)
			}
		}
	}
	return found
}

// await waits until the master, which is still alive, has all messages of one write.
func (f *failover) await(what string) {
	f.t.Helper()
	await(f.t, "all messages are persisted: "+what, patience, func() bool { return len(f.messages(f.seen, what)) == lostMessages })
}

// runsOf returns the runs of marks that the messages of one write have, as the master shows them.
func (f *failover) runsOf(what string) (spans []drainmark.Span) {
	f.t.Helper()
	byPartition := map[int]drainmark.Span{}
	for _, m := range f.messages(f.seen, what) {
		mark := m.mark(f.t)
		span, ok := byPartition[mark.Partition]
		if !ok {
			span = drainmark.SpanOf(mark)
		}
		span.First, span.Last = min(span.First, mark.Sequence), max(span.Last, mark.Sequence)
		byPartition[mark.Partition] = span
	}
	return slices.Collect(maps.Values(byPartition))
}

// happen kills the master and waits until the replica has taken its place.
func (f *failover) happen() {
	f.t.Helper()
	f.witness.kill()
	f.store.happen()
}

// reported waits until the consumers have reported as many records as lost, and checks that they are the right ones.
func (f *failover) reported(suppliedAgain bool) {
	f.t.Helper()
	const metric = "drainmark_consumer_lost_records_total"
	await(f.t, "the consumers report the loss", patience, func() bool { return f.metric(metric) >= lostMessages })
	if n := f.metric(metric); n != lostMessages {
		f.t.Errorf("P8: %v records are reported as lost, not %d", n, lostMessages)
	}
	pattern := regexp.MustCompile(fmt.Sprintf(`the store has lost committed records".* lost=(\S+) supplied_again=%t`, suppliedAgain))
	var logged []string
	await(f.t, "the consumers have logged as many runs", patience, func() bool { // after they have counted them
		logged = nil
		for _, c := range f.consumers {
			for _, m := range pattern.FindAllStringSubmatch(c.said(), -1) {
				logged = append(logged, m[1])
			}
		}
		return len(logged) >= len(f.spans)
	})
	f.same("the consumers log as lost", logged)
}

// same checks that the runs, as texts, are those that were lost.
func (f *failover) same(what string, runs []string) {
	f.t.Helper()
	var want []string
	for _, r := range f.spans {
		want = append(want, r.String())
	}
	slices.Sort(runs)
	slices.Sort(want)
	if !slices.Equal(runs, want) {
		f.t.Errorf("P8: %s %v, not %v", what, runs, want)
	}
}

// TestALostTailIsSuppliedAgain: a broker that keeps its log repairs the store.
func TestALostTailIsSuppliedAgain(t *testing.T) {
	t.Parallel()
	nats := func(t testing.TB) string { return servers.StartNATS(t, servers.NATSOptions{}).URL() }
	kafka := func(t testing.TB) string { return kafkaURL([]int{servers.StartKafka(t, servers.KafkaOptions{}).Port}) }
	for _, c := range []struct {
		name   string
		broker func(testing.TB) (url string)
		store  func(testing.TB) losing
	}{{"NATS, Redis", nats, startLosingRedis}, {"NATS, PostgreSQL", nats, startLosingPostgres}, {"Kafka, Redis", kafka, startLosingRedis}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := startFailover(t, c.broker(t), c.store(t))
			f.happen()
			f.write("after")
			f.reported(true)
			f.isRepaired()
		})
	}
}

var losingStores = map[string]func(testing.TB) losing{"Redis": startLosingRedis, "PostgreSQL": startLosingPostgres}

// TestALostTailIsReported: a broker that forgets what was acknowledged cannot do that. The loss is counted, logged with
// what was lost, and listed, and barriers are not reached as long as nobody has declared it lost.
func TestALostTailIsReported(t *testing.T) {
	t.Parallel()
	for name, start := range losingStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aLostTailIsReported(t, start(t))
		})
	}
}

func aLostTailIsReported(t *testing.T, s losing) {
	r := servers.StartRabbitMQ(t, servers.RabbitMQOptions{})
	f := startFailover(t, r.URL(), s)
	f.happen()
	f.write("after")
	f.reported(false)
	var list struct {
		Letters []struct{ ID, Reason string } `json:"dead_letters"`
	}
	await(t, "what is lost is listed", patience, func() bool {
		a, err := get(t.Context(), f.url+"/v1/dead-letters")
		return err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &list) == nil && len(list.Letters) >= len(f.spans)
	})
	var listed []string
	for _, l := range list.Letters {
		listed = append(listed, l.ID)
	}
	f.same("listed as missing are", listed)
	if s, err := ask(t.Context(), f.http, http.MethodPost, f.url+"/v1/barriers", 3); err != nil || s.State == "reached" {
		t.Errorf("P5: with records missing the barrier says %+v, %v", s, err)
	}
	for _, id := range listed {
		if s, err := ask(t.Context(), f.http, http.MethodDelete, f.url+"/v1/dead-letters/"+id, 30); err != nil || s.State != "persisted" {
			t.Errorf("declaring %s lost: %+v, %v", id, s, err)
		}
	}
	f.barrier(f.url)
	for i, receipt := range f.receipts {
		if s, err := ask(t.Context(), f.http, http.MethodGet, f.url+"/v1/receipts/"+receipt, 0); err != nil || s.State != "rejected" {
			t.Errorf("the receipt of message %d that is lost says %+v, %v", i, s, err)
		}
	}
	f.forget("lost") // as its sender has been told
	f.isRepaired()
}

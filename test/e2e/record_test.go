//go:build alerts

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark/test/servers"
)

// TestRecord makes failures happen in real deployments, and records their metrics for the tests of the alerts. Each is well
// for five minutes of the recording, fails, and is well again for 20 at least.
func TestRecord(t *testing.T) {
	if *recordDir == "" {
		t.Fatal("say where to, with -record")
	}
	processLifetime = 20 * time.Minute
	for name, happens := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			happens(t)
		})
	}
}

// failures are what happens in the recordings, by their names.
var failures = map[string]func(*testing.T){
	"rollout": rolledOut, "store-down": storeDown, "master-down": masterDown, "broker-down": brokerDown, "consumers-killed": consumersKilled,
	"partition-mute": partitionMute, "partition-unknown": partitionUnknown, "dead-letter": deadLetter, "limit-reached": limitReached, "broker-lost": brokerLost, "store-lost": storeLost,
	"store-broken": storeBroken, "effect-holds": effectHolds, "certificate-ends": certificateEnds, "backends-killed": backendsKilled,
	"connections-refused": connectionsRefused, "clocks-wrong": clocksWrong, "promise-broken": promiseBroken, "replica-behind": replicaBehind,
}

const recovery = 45 // ticks: longer than the alerts look back

// natsAndRedis is a deployment of two of each, and a frontend, on NATS, and Redis with replicas.
func natsAndRedis(t *testing.T, replicas int) (s setup, broker *servers.NATS, master *servers.Redis, all []*servers.Redis) {
	broker = servers.StartNATS(t, servers.NATSOptions{MaxFileStore: 20 << 30})
	master = servers.StartRedis(t, servers.RedisOptions{})
	s = setup{broker: broker.URL(), store: master.URL(), backends: 2, consumers: 2, frontend: true, consumerFlags: []string{"--lease", "3s"}}
	var urls []string
	for range replicas {
		replica := servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master})
		all, urls = append(all, replica), append(urls, replica.URL())
	}
	s.replicas = [][]string{urls}
	if replicas == 0 {
		s.replicas = nil
	}
	return s, broker, master, all
}

// onSQLite is the same on a file.
func onSQLite(t *testing.T, flags ...string) (s setup, file string) {
	broker := servers.StartNATS(t, servers.NATSOptions{MaxFileStore: 20 << 30})
	file = filepath.Join(t.TempDir(), "store.db")
	return setup{broker: broker.URL(), store: "sqlite:" + file, backends: 1, consumers: 1, consumerFlags: append([]string{"--lease", "3s"}, flags...)}, file
}

func rolledOut(t *testing.T) {
	s, _, _, _ := natsAndRedis(t, 2)
	r := record(t, s)
	for _, p := range r.programs() {
		p.stop()
		p.start()
		r.run(6)
	}
	r.run(recovery)
	r.write()
}

func storeDown(t *testing.T) {
	broker := servers.StartNATS(t, servers.NATSOptions{MaxFileStore: 20 << 30})
	store := servers.StartPostgres(t, servers.PostgresOptions{})
	r := record(t, setup{broker: broker.URL(), store: store.URL(servers.PostgresUser), backends: 2, consumers: 1, consumerFlags: []string{"--lease", "3s"}})
	store.Kill()
	r.run(50)
	store.Start()
	r.run(recovery)
	r.write()
}

// masterDown lasts long enough for what waits to be old. No time is made up: it is five minutes and more.
func masterDown(t *testing.T) {
	s, _, master, _ := natsAndRedis(t, 1)
	r := record(t, s)
	master.Kill()
	r.run(330)
	master.Start()
	r.run(recovery)
	r.write()
}

func brokerDown(t *testing.T) {
	s, broker, _, _ := natsAndRedis(t, 1)
	r := record(t, s)
	broker.Kill()
	r.run(40)
	broker.Start()
	r.run(recovery)
	r.write()
}

func consumersKilled(t *testing.T) {
	s, _, _, _ := natsAndRedis(t, 1)
	r := record(t, s)
	for _, p := range r.consumers {
		p.kill()
	}
	r.run(60)
	for _, p := range r.consumers {
		p.start()
	}
	r.run(recovery)
	r.write()
}

// partitionMute has the queue of one partition of several do nothing.
func partitionMute(t *testing.T) {
	s := startStack(t, 1)
	o := s.setup(2, 1)
	o.frontend, o.consumerFlags = true, []string{"--lease", "3s"}
	r := record(t, o)
	const member = "whereis('%2F_drainmark.p1')"
	s.broker.Eval("ok = sys:suspend(" + member + ")")
	r.run(50)
	s.broker.Eval("ok = sys:resume(" + member + ")")
	r.run(recovery)
	r.write()
}

// partitionUnknown has NATS no longer answer backends that ask about one partition's stream. They may publish to it.
func partitionUnknown(t *testing.T) {
	users := func(denied string) string {
		return `authorization { users = [ {user: consumer, password: x}, {user: backend, password: x, ` +
			`permissions: {publish: {allow: ">", deny: "` + denied + `"}}} ] }`
	}
	broker := servers.StartNATS(t, servers.NATSOptions{MaxFileStore: 20 << 30, Settings: []string{users("nothing")}})
	as := func(user string) string { return strings.Replace(broker.URL(), "//", "//"+user+":x@", 1) }
	r := record(t, setup{
		store: servers.StartRedis(t, servers.RedisOptions{}).URL(), backends: 2, consumers: 1, consumerFlags: []string{"--lease", "3s"},
		brokerOf: func(program string) string { role, _, _ := strings.Cut(program, "-"); return as(role) },
	})
	broker.Reload(users("$JS.API.STREAM.INFO.drainmark-p1"))
	r.run(30)
	broker.Reload(users("nothing"))
	r.run(recovery)
	r.write()
}

func deadLetter(t *testing.T) {
	s, _, _, _ := natsAndRedis(t, 1)
	r := record(t, s)
	for _, body := range []string{"one", "other"} { // the same key for something else
		if _, err := send(t.Context(), r.http, request{method: "POST", url: messagesURL(r.url, "guestbook"), body: []byte(body),
			header: []string{"Content-Type", "text/plain", "Idempotency-Key", `"k"`}}); err != nil {
			t.Fatal(err)
		}
	}
	r.run(recovery)
	r.write()
}

// limitReached fills the backlog while the consumers are away.
func limitReached(t *testing.T) {
	s, _, _, _ := natsAndRedis(t, 1)
	for _, flags := range []*[]string{&s.backendFlags, &s.consumerFlags} {
		*flags = append(*flags, "--backlog-bytes", "16MiB")
	}
	r := record(t, s)
	for _, p := range r.consumers {
		p.stop()
	}
	for _, size := range []int{200 << 10, 20 << 10, 2 << 10, 100} { // until nothing small fits either
		for _, log := range logNames {
			for r.accepts(log, make([]byte, size)) {
			}
		}
	}
	r.run(50)
	for _, p := range r.consumers {
		p.start()
	}
	r.run(recovery)
	r.write()
}

// accepts appends a message, and says whether it was accepted.
func (r *recording) accepts(log string, body []byte) bool {
	a, err := send(r.t.Context(), r.http, request{method: "POST", url: messagesURL(r.url, log), body: body,
		header: []string{"Content-Type", "application/octet-stream"}})
	return err == nil && a.status == http.StatusAccepted
}

// brokerLost purges NATS of what nobody has read.
func brokerLost(t *testing.T) {
	s, broker, _, _ := natsAndRedis(t, 1)
	r := record(t, s)
	for _, p := range r.consumers {
		p.stop()
	}
	r.run(3)
	purge(t, broker.URL())
	for _, p := range r.consumers {
		p.start()
	}
	r.run(recovery)
	r.write()
}

func purge(t *testing.T, url string) {
	t.Helper()
	c, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.StreamNames(t.Context()).Name() {
		if strings.HasPrefix(name, "KV_") {
			continue
		}
		stream, err := js.Stream(t.Context(), name)
		if err == nil {
			err = stream.Purge(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// storeLost fails over to a replica that lacks the last commits. For a while nobody is there to commit them again. The old
// master comes back as a replica.
func storeLost(t *testing.T) {
	broker := servers.StartNATS(t, servers.NATSOptions{MaxFileStore: 20 << 30})
	store, _ := startLosingRedis(t).(*losingRedis)
	url, master := store.urls()
	r := record(t, setup{broker: broker.URL(), store: url, replicas: [][]string{{master, store.replica.URL()}}, backends: 1, consumers: 1, consumerFlags: []string{"--lease", "1m"}})
	store.cutOff()
	r.run(6)
	r.consumers[0].pause()
	store.happen()
	r.run(20)
	r.consumers[0].resume()
	store.master.Start()
	r.run(recovery + 20)
	r.write()
}

// sqlite runs statements in a store's file.
func sqlite(t *testing.T, file, statements string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if said, err := exec.CommandContext(ctx, "sqlite3", "-cmd", ".timeout 20000", file, statements).CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v: %s", err, said)
	}
}

func storeBroken(t *testing.T) {
	s, file := onSQLite(t)
	r := record(t, s)
	sqlite(t, file, "ALTER TABLE messages RENAME TO away")
	r.run(20)
	sqlite(t, file, "ALTER TABLE away RENAME TO messages")
	r.run(recovery)
	r.write()
}

func effectHolds(t *testing.T) {
	effects := filepath.Join(t.TempDir(), "effects.yaml")
	const text = `
setup: CREATE TABLE IF NOT EXISTS written (number INTEGER PRIMARY KEY, id TEXT NOT NULL)
effects: [{logs: guestbook, sql: INSERT INTO written (id) SELECT id FROM records ORDER BY position}]
`
	if err := os.WriteFile(effects, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, file := onSQLite(t, "--effects", effects)
	r := record(t, s)
	sqlite(t, file, "ALTER TABLE written RENAME TO away")
	r.run(20)
	sqlite(t, file, "ALTER TABLE away RENAME TO written")
	r.run(recovery)
	r.write()
}

// certificateEnds has a certificate in use that is good for three days, and replaces it.
func certificateEnds(t *testing.T) {
	secure := newSecured(t)
	secure.ca.Lasts = 90 * 24 * time.Hour
	secure.newCertificate()
	s, _ := onSQLite(t)
	s.secured = secure
	secure.write("access.yaml", strings.Replace(secure.read("access.yaml"), `grants: [`, `grants: ["admin", "append:*", `, 1))
	r := record(t, s)
	for _, lasts := range []time.Duration{3 * 24 * time.Hour, 90 * 24 * time.Hour} {
		secure.ca.Lasts = lasts
		secure.newCertificate()
		r.run(150)
	}
	r.write()
}

func backendsKilled(t *testing.T) {
	s, _, _, _ := natsAndRedis(t, 1)
	r := record(t, s)
	for _, p := range r.backends {
		p.kill()
	}
	r.run(20)
	for _, p := range r.backends {
		p.start()
	}
	r.run(recovery)
	r.write()
}

// connectionsRefused opens more connections than one address may have.
func connectionsRefused(t *testing.T) {
	s, _ := onSQLite(t)
	s.backendFlags = append(s.backendFlags, "--connections", "20")
	r := record(t, s)
	address := strings.TrimPrefix(r.urls[0], "http://")
	var open []net.Conn
	for range 40 {
		if c, err := net.Dial("tcp", address); err == nil {
			open = append(open, c)
		}
	}
	r.run(5)
	for _, c := range open {
		_ = c.Close()
	}
	r.run(recovery)
	r.write()
}

// clocksWrong starts a backend whose clock is two minutes ahead.
func clocksWrong(t *testing.T) {
	s, _ := onSQLite(t)
	s.clocks = true
	r := record(t, s)
	for _, offset := range []string{"2m", ""} {
		r.backends[0].stop()
		r.run(3)
		for _, p := range r.consumers { // each remembers for ten minutes what was stamped
			p.stop()
			p.start()
			p.find("consumer is running")
		}
		r.run(6)
		r.backends[0].clock = offset
		r.backends[0].start()
		r.run(recovery + 5)
	}
	r.write()
}

// promiseBroken has a canary look at a backend that leaves messages out.
func promiseBroken(t *testing.T) {
	s, _ := onSQLite(t)
	s.planted = "short-page"
	r := record(t, s)
	canary := newProgram(t, "canary", "verify", "--canary", "--url", r.url, "--duration", "10s", "--rate", "50",
		"--admin-listen", fmt.Sprintf("%s:%d", servers.Host, servers.Port(t)))
	canary.start()
	r.add(target{"drainmark-canary", "canary", "canary", canary})
	r.run(150)
	canary.stop()
	r.run(recovery)
	r.write()
}

// replicaBehind has a replica get nothing any more, and then die.
func replicaBehind(t *testing.T) {
	s, _, master, all := natsAndRedis(t, 2)
	wire := startProxy(t, master.Address())
	all[0].Do("REPLICAOF", servers.Host, wire.port())
	r := record(t, s)
	wire.set(true, false)
	r.run(80)
	wire.set(false, false)
	r.run(recovery)
	all[0].Kill()
	r.run(20)
	all[0].Start()
	r.run(recovery)
	r.write()
}

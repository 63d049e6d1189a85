package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

// postgresStore is a primary with two standbys. A commit counts when one of them has it.
type postgresStore struct {
	topology *topology
	servers  map[string]*servers.Postgres
	primary  string          // its name
	old      map[string]bool // those that were the primary when another one took their place
}

// startPostgresStore starts the servers, as postgres-0 to postgres-2, and returns the URL of all. disk returns the
// directory of one's files ("" for one of its own), and through what starts a proxy before it (nil for none).
func (o *topology) startPostgresStore(disk func(name string) string, through func(name string) func(address string) int) (url string) {
	o.t.Helper()
	s := &postgresStore{topology: o, servers: map[string]*servers.Postgres{}, primary: "postgres-0", old: map[string]bool{}}
	var addresses []string
	for i := range 3 {
		name := fmt.Sprint("postgres-", i)
		p := servers.StartPostgres(o.t, servers.PostgresOptions{
			ReplicaOf: s.servers[s.primary], Name: name, Dir: disk(name), Through: through(name),
			Settings: []string{"wal_keep_size = 64MB", "max_wal_size = 128MB", "wal_receiver_timeout = 5s", "wal_sender_timeout = 5s"},
		})
		s.servers[name] = p
		addresses = append(addresses, p.Address())
		o.parts[name] = part{pid: p.PID, start: func() { s.start(name) }, launch: func() { s.start(name) }}
	}
	for _, p := range s.servers {
		p.Do("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"postgres-0\", \"postgres-1\", \"postgres-2\")'")
		p.Do("SELECT pg_reload_conf()")
	}
	o.master = func() string { return s.primary }
	o.failOver = s.failOver
	first := s.servers[s.primary]
	return strings.Replace(first.URL(servers.PostgresUser), first.Address(), strings.Join(addresses, ","), 1)
}

// start starts a server that is dead. One that was the primary becomes a standby of the one that is.
func (s *postgresStore) start(name string) {
	p := s.servers[name]
	p.Kill()
	if s.old[name] {
		delete(s.old, name)
		p.Rejoin(s.servers[s.primary])
		p.Do("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"postgres-0\", \"postgres-1\", \"postgres-2\")'")
		p.Do("SELECT pg_reload_conf()")
		return
	}
	p.Start()
}

// failOver makes the standby the primary that has received the most, as a tool for that would.
func (s *postgresStore) failOver() string {
	s.servers[s.primary].Kill() // it must not come back as a primary
	heir, most := "", int64(-1)
	for name, p := range s.servers {
		if name == s.primary || !p.Running() {
			continue
		}
		received, err := strconv.ParseInt(p.Do("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')")[0], 10, 64)
		if err == nil && received > most {
			heir, most = name, received
		}
	}
	if heir == "" {
		return "there is no standby"
	}
	s.old[s.primary] = true
	s.servers[heir].Promote()
	for name, p := range s.servers {
		if name != heir && name != s.primary && p.Running() {
			p.Follow(s.servers[heir])
		}
	}
	s.primary = heir
	return "ok " + heir
}

// TestThePrimaryIsReplaced: a primary is killed and comes back, and is killed again and a standby takes its place.
// Every promise holds.
func TestThePrimaryIsReplaced(t *testing.T) {
	t.Parallel()
	o := newTopology(t)
	broker := o.startBroker("rabbitmq", nowhere)
	store := o.startPostgresStore(func(string) string { return "" }, func(string) func(string) int { return nil })
	o.deploy(setup{broker: broker, store: store, replicas: [][]string{{store}}, backends: 2, consumers: 2, consumerFlags: []string{"--lease", "2s"}})
	plan, err := fault.Ready("postgres")
	if err != nil {
		t.Fatal(err)
	}
	var faults []fault.Fault
	for _, f := range plan.Faults {
		switch f.Name {
		case "kill-postgres-primary":
			f.At, f.For = 3*time.Second, 3*time.Second
		case "fail-over-postgres":
			f.At, f.For = 10*time.Second, 5*time.Second
		default:
			continue
		}
		f.Every = 0
		faults = append(faults, f)
	}
	dir := filepath.Join(t.TempDir(), "run")
	// On a busy machine the second fault comes late, for the first one has to be over, and a standby takes seconds to be
	// promoted. Messages are appended for long enough that some are while it is in force.
	held(t, o.verify(verify.Config{
		Duration: 50 * time.Second, Rate: 100, Dir: dir, Faults: fault.Plan{Settle: patience, Faults: faults},
	}), 500)
}

package servers

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinels are several Redis Sentinels that watch one master and its replicas.
type Sentinels struct {
	Name      string     // of the master
	Ports     []int      // of the Sentinels
	Processes []*Process // the Sentinels, in the order of Ports
	password  string     // theirs, empty if they want none
	t         T
}

// StartSentinels starts n Sentinels for a master that is to have the name. It returns when each knows all others, and
// all replicas that the master has by then. They hold a server for dead that has been silent for a second, and make
// another one the master when the most of them agree.
func StartSentinels(t T, n int, name string, master *Redis) *Sentinels {
	t.Helper()
	s := &Sentinels{Name: name, t: t}
	if master.options.Roles {
		s.password = RolePassword
	}
	replicas := connectedReplicas(master)
	for range n {
		port := Port(t)
		p := newProcess(t, fmt.Sprintf("redis-sentinel on port %d", port), program(t, "redis-sentinel", "redis-sentinel"))
		p.dir = t.TempDir()
		config := filepath.Join(p.dir, "sentinel.conf")
		lines := sentinelConfig(port, p.dir, name, n/2+1, master)
		if s.password != "" {
			write(t, filepath.Join(p.dir, aclFile), Permissions(t, "redis-sentinel.acl"))
			lines = append(lines, "aclfile "+filepath.Join(p.dir, aclFile), "sentinel sentinel-pass "+s.password)
		}
		write(t, config, strings.Join(lines, "\n")+"\n")
		p.args = []string{config}
		p.ready = func(ctx context.Context) error { return s.known(ctx, port, n-1, replicas) }
		s.Ports, s.Processes = append(s.Ports, port), append(s.Processes, p)
	}
	s.Start()
	return s
}

func sentinelConfig(port int, dir, name string, quorum int, master *Redis) []string {
	lines := []string{
		"bind " + Host, "port " + strconv.Itoa(port), "dir " + dir, "daemonize no",
		fmt.Sprintf("sentinel monitor %s %s %d %d", name, Host, master.Public, quorum),
		fmt.Sprintf("sentinel down-after-milliseconds %s 1000", name),
		fmt.Sprintf("sentinel failover-timeout %s 3000", name),
		fmt.Sprintf("sentinel parallel-syncs %s 8", name),
	}
	if master.options.User != "" {
		lines = append(lines, fmt.Sprintf("sentinel auth-user %s %s", name, master.options.User))
	}
	if master.options.Password != "" {
		lines = append(lines, fmt.Sprintf("sentinel auth-pass %s %s", name, master.options.Password))
	}
	return lines
}

// connectedReplicas returns how many replicas the master has.
func connectedReplicas(master *Redis) int {
	master.t.Helper()
	info, _ := master.Do("INFO", "replication").(string)
	for line := range strings.Lines(info) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "connected_slaves:"); ok {
			n, _ := strconv.Atoi(count)
			return n
		}
	}
	return 0
}

// known returns nil when a Sentinel knows so many other Sentinels, and so many replicas.
func (s *Sentinels) known(ctx context.Context, port, others, replicas int) error {
	client := s.client(port)
	defer client.Close()
	master, err := client.Master(ctx, s.Name).Result()
	if err != nil {
		return err
	}
	for field, want := range map[string]int{"num-other-sentinels": others, "num-slaves": replicas} {
		if got, _ := strconv.Atoi(master[field]); got < want {
			return fmt.Errorf("%s is %d and must be %d: %w", field, got, want, errNotYet)
		}
	}
	return nil
}

func (s *Sentinels) client(port int) *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{
		Addr: address(port), Password: s.password, Protocol: 2, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		ContextTimeoutEnabled: true, DialTimeout: time.Second,
	})
}

// URL returns redis+sentinel:// with all Sentinels and the master's name, without credentials.
func (s *Sentinels) URL() string {
	addresses := make([]string, len(s.Ports))
	for i, port := range s.Ports {
		addresses[i] = address(port)
	}
	return "redis+sentinel://" + strings.Join(addresses, ",") + "/" + s.Name
}

// Master returns the port of the server that the Sentinels hold for the master, according to the first that answers.
func (s *Sentinels) Master() (port int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		port, err := s.master(ctx)
		switch {
		case err == nil:
			return port
		case ctx.Err() != nil:
			s.t.Fatalf("no Sentinel says who the master is: %v", err)
			return 0
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// master asks each Sentinel once, until one answers.
func (s *Sentinels) master(ctx context.Context) (port int, err error) {
	for _, sentinel := range s.Ports {
		client := s.client(sentinel)
		found, failure := client.GetMasterAddrByName(ctx, s.Name).Result()
		_ = client.Close()
		if err = failure; err == nil && len(found) == 2 {
			return strconv.Atoi(found[1])
		}
	}
	return 0, cmp.Or(err, errNotYet)
}

// Start starts the Sentinels, which must not run yet, and waits until they know each other.
func (s *Sentinels) Start() {
	s.t.Helper()
	for _, p := range s.Processes {
		p.Launch()
	}
	for _, p := range s.Processes {
		p.Await()
	}
}

// Kill ends all Sentinels without warning.
func (s *Sentinels) Kill() {
	s.t.Helper()
	for _, p := range s.Processes {
		p.Kill()
	}
}

package servers

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// The client would write to the standard error about every server that does not answer yet, or has been killed.
func init() { logging.Disable() }

// RedisOptions say what kind of Redis server to start. The zero value is a master that syncs its file with every write.
type RedisOptions struct {
	// ReplicaOf is the master of a replica, which takes over its User and Password, nil for a master.
	ReplicaOf *Redis
	// AppendFsync is when the append-only file is synced: "always" if empty.
	AppendFsync string
	// User and Password are wanted from clients: none if both are empty, the default user's if User is empty.
	User, Password string
	// Roles gives it the users of deploy/permissions, and so does a replica's master. RolePassword is everybody's password.
	Roles bool
	// Dir is the directory of its files, empty for one that ends with the test.
	Dir string
	// Through starts a proxy to the server's address and returns the proxy's port, as which the server makes itself
	// known to Sentinels, replicas and clients, or nil for none.
	Through func(address string) (port int)
	// Settings are further lines of redis.conf. They stand behind the others, and so override them.
	Settings []string
}

// Redis is a Redis server, with a directory of its own. The contents of its append-only file survive a Kill.
type Redis struct {
	*Process
	Port    int // where it listens
	Public  int // where others meet it: Port, or that of the proxy before it
	options RedisOptions
	linked  atomic.Bool // a replica has been up to date once
}

// StartRedis starts a Redis server and waits until it answers, and for a replica also until it has all that its master
// has.
func StartRedis(t T, o RedisOptions) *Redis {
	t.Helper()
	r := &Redis{Port: Port(t), options: o}
	if master := o.ReplicaOf; master != nil {
		r.options.User, r.options.Password, r.options.Roles = master.options.User, master.options.Password, master.options.Roles
	}
	if r.options.Roles {
		r.options.User, r.options.Password = "", RolePassword
	}
	r.Process = newProcess(t, fmt.Sprintf("redis-server on port %d", r.Port), program(t, "redis-server", "redis-server"))
	r.Public = r.Port
	if o.Through != nil {
		r.Public = o.Through(address(r.Port))
	}
	r.dir = directory(t, o.Dir)
	if r.options.Roles {
		write(t, filepath.Join(r.dir, aclFile), Permissions(t, "redis.acl"))
	}
	config := filepath.Join(r.dir, "redis.conf")
	write(t, config, strings.Join(r.config(), "\n")+"\n")
	r.args = []string{config}
	r.ready = r.answers
	r.Start()
	return r
}

// aclFile is where a server has its users.
const aclFile = "users.acl"

// directory returns a server's directory: the one that it was given, or one that ends with the test.
func directory(t T, given string) string {
	if given != "" {
		return given
	}
	return t.TempDir()
}

// config returns the lines of redis.conf. A replica and its master have the same credentials, so that each can take the
// other's place.
func (r *Redis) config() []string {
	o := r.options
	fsync := o.AppendFsync
	if fsync == "" {
		fsync = "always"
	}
	lines := []string{
		"bind " + Host, "port " + strconv.Itoa(r.Port), "dir " + r.dir, "daemonize no", "save \"\"",
		"appendonly yes", "appendfsync " + fsync, "auto-aof-rewrite-percentage 0",
		"repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-timeout 10", "repl-ping-replica-period 1",
	}
	switch {
	case o.Roles:
		lines = append(lines, "aclfile "+filepath.Join(r.dir, aclFile), "masterauth "+o.Password)
	case o.User != "":
		lines = append(lines, "user default off", fmt.Sprintf("user %s on >%s ~* &* +@all", o.User, o.Password),
			"masteruser "+o.User, "masterauth "+o.Password)
	case o.Password != "":
		lines = append(lines, "requirepass "+o.Password, "masterauth "+o.Password)
	}
	if o.ReplicaOf != nil {
		lines = append(lines, fmt.Sprintf("replicaof %s %d", Host, o.ReplicaOf.Public))
	}
	if r.Public != r.Port {
		lines = append(lines, "replica-announce-ip "+Host, "replica-announce-port "+strconv.Itoa(r.Public))
	}
	return append(lines, o.Settings...)
}

// answers says whether the server can be used. A replica that has been up to date once need not be so again: its
// master may be down.
func (r *Redis) answers(ctx context.Context) error {
	client := r.open()
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil || r.options.ReplicaOf == nil || r.linked.Load() {
		return err
	}
	info, err := client.Info(ctx, "replication").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, "master_link_status:up") {
		return fmt.Errorf("it is not yet up to date with its master: %w", errNotYet)
	}
	r.linked.Store(true)
	return nil
}

// Address returns the host and port where others meet the server.
func (r *Redis) Address() string { return address(r.Public) }

// URL returns redis://127.0.0.1:PORT, without credentials.
func (r *Redis) URL() string { return "redis://" + r.Address() }

// Client returns a client of the server, with its credentials, which is closed with the test. It never tries twice.
func (r *Redis) Client() *redis.Client {
	client := r.open()
	r.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (r *Redis) open() *redis.Client {
	return newRedisClient(r.Port, r.options.User, r.options.Password)
}

// Do sends one command to the server, as its test, which fails if the command does, and returns the answer.
func (r *Redis) Do(args ...any) any {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := r.open()
	defer client.Close()
	answer, err := client.Do(ctx, args...).Result()
	if err != nil {
		r.t.Fatalf("%v on %s: %v", args[0], r.name, err)
	}
	return answer
}

func newRedisClient(port int, user, password string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: address(port), Username: user, Password: password, Protocol: 2, MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, ContextTimeoutEnabled: true, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
	})
}

func address(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }

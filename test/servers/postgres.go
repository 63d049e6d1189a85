package servers

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions say what kind of PostgreSQL server to start. The zero value is a primary that keeps what it commits.
type PostgresOptions struct {
	// ReplicaOf is the primary of a streaming hot standby, nil for a primary.
	ReplicaOf *Postgres
	// Name is what a standby calls itself (application_name), as synchronous_standby_names names it: "standby" if
	// empty.
	Name string
	// Dir is the directory of its files, empty for one that ends with the test.
	Dir string
	// Through starts a proxy to the server's address and returns the proxy's port, as which others know it, or nil for
	// none.
	Through func(address string) (port int)
	// Access are lines of pg_hba.conf that stand before the others. Those let everybody in who comes from the loopback
	// address.
	Access []string
	// Certificate and Key are paths of the server's certificate and key, and Authority of the one that vouches for
	// clients, all PEM files. Without them the server has no TLS.
	Certificate, Key, Authority string
	// Init are further arguments of initdb.
	Init []string
	// Settings are further lines of postgresql.conf. They stand behind the others, and so override them.
	Settings []string
}

// Postgres is a PostgreSQL server, with a directory of its own. What it has committed survives a Kill.
type Postgres struct {
	*Process
	Port    int // where it listens
	Public  int // where others meet it: Port, or that of the proxy before it
	options PostgresOptions
	data    string
	linked  atomic.Bool // a standby has streamed once
}

// PostgresUser is the superuser that Do is.
const PostgresUser = "postgres"

// StartPostgres starts a PostgreSQL server and waits until it answers, and for a standby also until it streams. The
// server does not run as root: a test that does runs it as the user postgres.
func StartPostgres(t T, o PostgresOptions) *Postgres {
	t.Helper()
	p := &Postgres{Port: Port(t), options: o}
	p.Process = newProcess(t, fmt.Sprintf("postgres on port %d", p.Port), postgresProgram(t, "postgres"))
	p.family, p.quit = true, syscall.SIGINT
	p.Public = p.Port
	if o.Through != nil {
		p.Public = o.Through(address(p.Port))
	}
	p.dir = o.Dir
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "drainmark-postgres-")
		if err != nil {
			t.Fatalf("making the server's directory: %v", err)
		}
		t.Cleanup(func() { p.Kill(); _ = os.RemoveAll(dir) })
		p.dir = dir
	}
	p.who = ownedBy(t, p.dir)
	p.data = filepath.Join(p.dir, "data")
	p.args = []string{"-D", p.data}
	p.ready = p.answers
	p.fill()
	p.Start()
	return p
}

// Start starts the server, which must not run, and waits until it answers.
func (p *Postgres) Start() {
	p.t.Helper()
	p.Launch()
	p.Await()
}

// Launch starts the server, which must not run, and does not wait until it answers. If it was killed by somebody else,
// it waits until the processes that are left have ended: they hold what it needs.
func (p *Postgres) Launch() {
	p.t.Helper()
	p.awaitChildren()
	p.Process.Launch()
}

// awaitChildren waits until no process works in the server's directory.
func (p *Postgres) awaitChildren() {
	p.t.Helper()
	p.until("its processes have ended", func() bool {
		found, _ := filepath.Glob("/proc/[0-9]*/cwd")
		return !slices.ContainsFunc(found, func(cwd string) bool { dir, _ := os.Readlink(cwd); return dir == p.data })
	})
}

// fill makes the server's files, anew if there are some.
func (p *Postgres) fill() {
	p.t.Helper()
	if err := os.RemoveAll(p.data); err != nil {
		p.t.Fatalf("removing the server's files: %v", err)
	}
	primary := p.options.ReplicaOf
	if primary == nil {
		p.tool("initdb", append([]string{
			"-D", p.data, "-U", PostgresUser, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N",
		}, p.options.Init...)...)
	} else {
		p.tool("pg_basebackup", "-D", p.data, "-h", Host, "-p", strconv.Itoa(primary.Public), "-U", PostgresUser,
			"-X", "stream", "-c", "fast", "-N")
		p.writeData("standby.signal", "")
		p.writeData("postgresql.auto.conf", "") // what was set on the primary is its own
	}
	if p.options.Certificate != "" {
		for name, path := range map[string]string{
			"server.crt": p.options.Certificate, "server.key": p.options.Key, "root.crt": p.options.Authority,
		} {
			content, err := os.ReadFile(path)
			if err != nil {
				p.t.Fatalf("reading a certificate: %v", err)
			}
			p.writeData(name, string(content))
		}
	}
	p.writeData("postgresql.conf", strings.Join(p.config(), "\n")+"\n")
	p.writeData("pg_hba.conf", strings.Join(append(slices.Clone(p.options.Access),
		"host all all "+Host+"/32 trust", "host replication all "+Host+"/32 trust"), "\n")+"\n")
}

func (p *Postgres) config() []string {
	lines := []string{
		"listen_addresses = '" + Host + "'", fmt.Sprint("port = ", p.Port), "unix_socket_directories = ''",
		"max_connections = 200", "shared_buffers = 32MB", "wal_keep_size = 256MB", "max_wal_senders = 10",
		"wal_receiver_status_interval = 1", "wal_retrieve_retry_interval = 200ms", "hot_standby = on",
		"lc_messages = 'C'", "timezone = 'UTC'", "log_line_prefix = '%m [%p] '",
	}
	if p.options.Certificate != "" {
		lines = append(lines, "ssl = on", "ssl_ca_file = 'root.crt'")
	}
	if p.options.ReplicaOf != nil {
		lines = append(lines, "primary_conninfo = '"+p.conninfo(p.options.ReplicaOf)+"'")
	}
	return append(lines, p.options.Settings...)
}

// conninfo is how the standby reaches a primary.
func (p *Postgres) conninfo(primary *Postgres) string {
	name := p.options.Name
	if name == "" {
		name = "standby"
	}
	return fmt.Sprintf("host=%s port=%d user=%s application_name=%s", Host, primary.Public, PostgresUser, name)
}

func (p *Postgres) writeData(name, content string) {
	p.t.Helper()
	path := filepath.Join(p.data, name)
	write(p.t, path, content)
	if p.who != nil {
		if err := os.Chown(path, int(p.who.Uid), int(p.who.Gid)); err != nil {
			p.t.Fatalf("giving %s to the server: %v", name, err)
		}
	}
}

// tool runs one of PostgreSQL's programs, as the user that the server runs as.
func (p *Postgres) tool(name string, args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, postgresProgram(p.t, name), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = processAttributes()
	cmd.SysProcAttr.Credential = p.who
	if output, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, output)
	}
}

// answers says whether the server can be used. A standby that has streamed once need not do so again: its primary may
// be down.
func (p *Postgres) answers(ctx context.Context) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	const question = "SELECT NOT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')"
	var streams bool
	if err := c.QueryRow(ctx, question).Scan(&streams); err != nil {
		return err
	}
	if !streams && !p.linked.Load() {
		return fmt.Errorf("it does not stream from its primary: %w", errNotYet)
	}
	p.linked.Store(true)
	return nil
}

func (p *Postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", PostgresUser, address(p.Port)))
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// Address returns the host and port where others meet the server.
func (p *Postgres) Address() string { return address(p.Public) }

// URL returns the URL of a user, who needs no password unless Access says so, and the database postgres. TLS is off.
func (p *Postgres) URL(user string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", url.PathEscape(user), p.Address())
}

// Do runs statements on the server, as its superuser, and returns the first column of the last one's rows, as text. The
// test fails if they do.
func (p *Postgres) Do(sql string) []string {
	p.t.Helper()
	values, err := p.Try(sql)
	if err != nil {
		p.t.Fatalf("%s on %s: %v", sql, p.name, err)
	}
	return values
}

// Try is Do for what may fail.
func (p *Postgres) Try(sql string) (values []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	results, err := c.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	for _, row := range results[len(results)-1].Rows {
		values = append(values, string(row[0]))
	}
	return values, nil
}

// Set changes a setting that needs no restart. It is in force, for new connections at least, when Set returns.
func (p *Postgres) Set(name, value string) {
	p.t.Helper()
	before := p.Do("SELECT pg_conf_load_time()")[0]
	p.Do(fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value))
	p.Do("SELECT pg_reload_conf()")
	p.until("its settings are loaded", func() bool { return p.Do("SELECT pg_conf_load_time()")[0] != before })
}

// CutOff ends a standby's replication: it stays at what it has.
func (p *Postgres) CutOff() {
	p.t.Helper()
	p.Set("primary_conninfo", "")
	p.until("it does not stream", func() bool { return p.Do("SELECT count(*) FROM pg_stat_wal_receiver")[0] == "0" })
}

// Promote makes a standby a primary, with what it has.
func (p *Postgres) Promote() {
	p.t.Helper()
	p.Do("SELECT pg_promote(true, 60)")
	p.until("it is a primary", func() bool { return p.Do("SELECT pg_is_in_recovery()")[0] == "f" })
}

// Follow makes a standby stream from another primary, which has at least all that it has itself.
func (p *Postgres) Follow(primary *Postgres) {
	p.t.Helper()
	p.options.ReplicaOf = primary
	p.Set("primary_conninfo", p.conninfo(primary))
}

// Rejoin makes the server, which must not run, a standby of another one, with a copy of that one's files.
func (p *Postgres) Rejoin(primary *Postgres) {
	p.t.Helper()
	p.options.ReplicaOf = primary
	p.linked.Store(false)
	p.awaitChildren()
	p.fill()
	p.Start()
}

// CaughtUp waits until a standby has replayed all that its primary has written until now.
func (p *Postgres) CaughtUp() {
	p.t.Helper()
	at := p.options.ReplicaOf.Do("SELECT pg_current_wal_lsn()")[0]
	p.until("it has caught up", func() bool { return p.Do("SELECT pg_last_wal_replay_lsn() >= '" + at + "'")[0] == "t" })
}

// until waits until ok returns true.
func (p *Postgres) until(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			p.t.Fatalf("%s: waited %v in vain until %s. It said:\n%s", p.name, patience, what, p.output)
			return
		case <-tick.C:
		}
	}
}

// PostgresVariable is the environment variable that names the directory of PostgreSQL's programs, to test with another version.
const PostgresVariable = "POSTGRES_PROGRAMS"

// postgresProgram returns the path of one of PostgreSQL's programs, which Debian keeps out of PATH: the newest
// version's, unless PostgresVariable says otherwise.
func postgresProgram(t T, name string) string {
	t.Helper()
	if dir := os.Getenv(PostgresVariable); dir != "" {
		return filepath.Join(dir, name)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) }) // 9 before 15
		return found[len(found)-1]
	}
	return program(t, name, "postgresql")
}

// ownedBy gives a directory to the user whom a server can run as, and returns who that is: nil for the test's own.
func ownedBy(t T, dir string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup(PostgresUser)
	if err != nil {
		t.Fatalf("PostgreSQL does not run as root, and there is no user %s: %v", PostgresUser, err)
		return nil
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatalf("giving the directory to the server: %v", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

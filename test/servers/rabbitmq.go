package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ is one rabbitmq-server, with a data directory and an Erlang port mapper of its own.
type RabbitMQ struct {
	*Process
	Port     int // of AMQP
	TLSPort  int // of AMQP over TLS, 0 without RabbitMQOptions.CA
	HTTPPort int // of its management, 0 without RabbitMQOptions.Management
	User     string
	Password string
	Node     string // its Erlang name
	programs rabbitPrograms
}

// RabbitMQOptions are for tests that need something special. The zero value is a broker as it comes.
type RabbitMQOptions struct {
	// Version is 4 for the RabbitMQ 4 that scripts/install-servers unpacks, and 0 for the machine's, unless RABBITMQ_VERSION
	// in the environment is 4.
	Version  int
	Settings []string // further lines of rabbitmq.conf
	Advanced string   // advanced.config
	// CA, Certificate and Key are the paths of PEM files. With them, it also listens with TLS, and wants certificates of
	// clients, which may log in by them (EXTERNAL), as the user of the common name.
	CA, Certificate, Key string
	Management           bool   // it has the management page, too
	AMQP10               bool   // it speaks AMQP 1.0, too, on the same ports: version 4 does so without
	Dir                  string // of its files, empty for one that ends with the test

	cluster *rabbitCluster // it is a member
}

// rabbitPrograms is the directory into which RabbitMQ and its Erlang are unpacked, empty for the machine's.
type rabbitPrograms string

// programsOf returns the programs of RabbitMQOptions.Version. RABBITMQ4_SUITE is the release of Debian whose RabbitMQ is
// taken for 4.
func programsOf(t T, version int) rabbitPrograms {
	t.Helper()
	if version == 0 {
		version, _ = strconv.Atoi(cmp.Or(os.Getenv("RABBITMQ_VERSION"), "0"))
	}
	if version == 0 {
		return ""
	}
	cache, err := os.UserCacheDir()
	root := filepath.Join(cache, "drainmark", "rabbitmq-"+cmp.Or(os.Getenv("RABBITMQ4_SUITE"), "trixie"))
	if _, missing := os.Stat(root); version != 4 || err != nil || missing != nil {
		t.Fatalf("RabbitMQ %d is not in %s: run scripts/install-servers (%v)", version, root, errors.Join(err, missing))
	}
	return rabbitPrograms(root)
}

// path returns where a program is, of RabbitMQ or of its Erlang.
func (p rabbitPrograms) path(t T, name, debianPackage string) string {
	t.Helper()
	for _, dir := range []string{"usr/lib/rabbitmq/bin", erlangPrograms} { // those in /usr/sbin change the user
		if path, err := exec.LookPath(filepath.Join("/", string(p), dir, name)); err == nil {
			return path
		}
	}
	if p == "" {
		return program(t, name, debianPackage)
	}
	t.Fatalf("%s is not in %s: remove that, and run scripts/install-servers", name, p)
	return ""
}

const erlangPrograms = "usr/lib/erlang/bin"

// isOld says whether they are those of RabbitMQ 3.
func (p rabbitPrograms) isOld() bool {
	found, _ := filepath.Glob(filepath.Join("/", string(p), "usr/lib/rabbitmq/lib/rabbitmq_server-3.*")) // the pattern is well-formed
	return len(found) > 0
}

// env has RabbitMQ's scripts find their own Erlang.
func (p rabbitPrograms) env() []string {
	if p == "" {
		return nil
	}
	return []string{"PATH=" + filepath.Join(string(p), erlangPrograms) + ":" + os.Getenv("PATH")}
}

// StartRabbitMQ starts a broker that ends with the test.
func StartRabbitMQ(t T, o RabbitMQOptions) *RabbitMQ {
	t.Helper()
	r := newRabbitMQ(t, o, Port(t))
	r.Start()
	return r
}

// newRabbitMQ makes a broker that does not run yet.
func newRabbitMQ(t T, o RabbitMQOptions, port int) *RabbitMQ {
	t.Helper()
	dir := directory(t, o.Dir)
	r := &RabbitMQ{Port: port, User: "guestbook", Password: "s3cret-of-the-broker", Node: nodeName(port), programs: programsOf(t, o.Version)}
	r.Process = newProcess(t, "rabbitmq-server", r.programs.path(t, "rabbitmq-server", "rabbitmq-server"))
	conf := []string{
		fmt.Sprintf("listeners.tcp.1 = %s:%d", Host, r.Port),
		"default_user = " + r.User, "default_pass = " + r.Password,
		"disk_free_limit.absolute = 50MB", "vm_memory_high_watermark.absolute = 2GB", "log.console.level = warning",
	}
	var plugins []string
	if o.CA != "" {
		plugins = append(plugins, "rabbitmq_auth_mechanism_ssl")
		r.TLSPort = Port(t)
		conf = append(conf, fmt.Sprintf("listeners.ssl.1 = %s:%d", Host, r.TLSPort), "ssl_options.cacertfile = "+o.CA,
			"ssl_options.certfile = "+o.Certificate, "ssl_options.keyfile = "+o.Key,
			"ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true",
			"auth_mechanisms.1 = PLAIN", "auth_mechanisms.2 = AMQPLAIN", "auth_mechanisms.3 = EXTERNAL", "ssl_cert_login_from = common_name")
	}
	if o.Management {
		r.HTTPPort = Port(t)
		plugins = append(plugins, "rabbitmq_management")
		conf = append(conf, "management.tcp.ip = "+Host, fmt.Sprintf("management.tcp.port = %d", r.HTTPPort))
	}
	if o.AMQP10 {
		plugins = append(plugins, "rabbitmq_amqp1_0")
	}
	write(t, filepath.Join(dir, "enabled_plugins"), "["+strings.Join(plugins, ",")+"].\n")
	write(t, filepath.Join(dir, "rabbitmq.conf"), strings.Join(append(conf, o.Settings...), "\n")+"\n")
	if o.Advanced == "" {
		o.Advanced = "[]."
	}
	write(t, filepath.Join(dir, "advanced.config"), o.Advanced)
	write(t, filepath.Join(dir, "rabbitmq-env.conf"), "")
	var mapper int
	if o.cluster == nil {
		mapper = startPortMapper(t, r.programs)
	} else {
		mapper = o.cluster.mapper
		write(t, filepath.Join(dir, ".erlang.cookie"), o.cluster.cookie)
	}
	r.dir = dir
	r.env = append(r.programs.env(),
		"HOME="+dir, fmt.Sprintf("ERL_EPMD_PORT=%d", mapper), "ERL_EPMD_ADDRESS="+Host,
		"RABBITMQ_NODENAME="+r.Node, fmt.Sprintf("RABBITMQ_DIST_PORT=%d", Port(t)),
		"RABBITMQ_CONF_ENV_FILE="+filepath.Join(dir, "rabbitmq-env.conf"),
		"RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+filepath.Join(dir, "advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "enabled_plugins"),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "data"), "RABBITMQ_LOGS=-",
		"RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
		// Its script then becomes the Erlang machine instead of waiting for it, so that signals arrive.
		"RUNNING_UNDER_SYSTEMD=true",
		// No spinning while idle, and bound to loopback. A killed node must not find its port taken.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CTL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	)
	r.group = true
	r.ready = r.answers
	return r
}

// startPortMapper starts an Erlang port mapper for one broker, so that none is left running in the background by the
// broker itself.
func startPortMapper(t T, from rabbitPrograms) int {
	t.Helper()
	port := Port(t)
	epmd := newProcess(t, "epmd", from.path(t, "epmd", "erlang-base"))
	epmd.args = []string{"-port", fmt.Sprint(port), "-address", Host, "-relaxed_command_check"}
	epmd.ready = func(ctx context.Context) error {
		return exec.CommandContext(ctx, epmd.program, "-port", fmt.Sprint(port), "-names").Run()
	}
	epmd.Start()
	return port
}

// URL is where clients connect to.
func (r *RabbitMQ) URL() string { return r.url("amqp", r.Port) }

// TLSURL is where clients connect to with TLS.
func (r *RabbitMQ) TLSURL() string { return r.url("amqps", r.TLSPort) }

// URLOf is a URL with several hosts, such as ways to the members of a cluster.
func (r *RabbitMQ) URLOf(ports ...int) string { return r.url("amqp", ports...) }

func (r *RabbitMQ) url(scheme string, ports ...int) string {
	var hosts []string
	for _, port := range ports {
		hosts = append(hosts, fmt.Sprintf("%s:%d", Host, port))
	}
	u := url.URL{Scheme: scheme, User: url.UserPassword(r.User, r.Password), Host: strings.Join(hosts, ","), Path: "/"}
	return u.String()
}

// Dial makes a plain AMQP connection, which is closed with the test.
func (r *RabbitMQ) Dial() *amqp.Connection {
	r.t.Helper()
	c, err := amqp.Dial(r.URL())
	if err != nil {
		r.t.Fatalf("connecting to RabbitMQ: %v", err)
		return nil
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Version returns the first two numbers of the version that it says it has.
func (r *RabbitMQ) Version() (major, minor int) {
	r.t.Helper()
	said, _ := r.Dial().Properties["version"].(string)
	if _, err := fmt.Sscanf(said, "%d.%d", &major, &minor); err != nil {
		r.t.Fatalf("RabbitMQ's version is %q: %v", said, err)
	}
	return major, minor
}

// Control runs rabbitmqctl, which takes a second or more, and returns what it says.
func (r *RabbitMQ) Control(arguments ...string) string {
	r.t.Helper()
	return r.run("rabbitmqctl", arguments...)
}

// Queues runs rabbitmq-queues, as Control does.
func (r *RabbitMQ) Queues(arguments ...string) string {
	r.t.Helper()
	return r.run("rabbitmq-queues", arguments...)
}

// Wipe removes all that a broker which does not run has stored, as the loss of its disk does.
func (r *RabbitMQ) Wipe() {
	r.t.Helper()
	if r.Running() {
		r.t.Fatalf("%s runs", r.name)
	}
	if err := os.RemoveAll(r.stored()); err != nil {
		r.t.Fatalf("removing what RabbitMQ has stored: %v", err)
	}
}

func (r *RabbitMQ) stored() string { return filepath.Join(r.dir, "data") }

func (r *RabbitMQ) run(program string, arguments ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.programs.path(r.t, program, "rabbitmq-server"), arguments...)
	cmd.Env = append(cmd.Environ(), r.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %v: %v: %s", program, arguments, err, out)
	}
	return string(out)
}

// callers counts the calls into brokers that this process has made.
var callers atomic.Uint64

// Eval runs Erlang expressions in the broker, and returns the last one's value as text. It takes milliseconds, and
// Control takes seconds.
func (r *RabbitMQ) Eval(expressions string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	value, err := r.eval(ctx, expressions)
	if err != nil {
		r.t.Fatalf("evaluating %s in the broker: %v", expressions, err)
	}
	return value
}

func (r *RabbitMQ) eval(ctx context.Context, expressions string) (string, error) {
	cookie, err := os.ReadFile(filepath.Join(r.dir, ".erlang.cookie"))
	if err != nil {
		return "", fmt.Errorf("reading what protects the node: %w", err)
	}
	// A node cuts off one of two callers with the same name. Theirs is the same by default, and with -r within a
	// second.
	caller := fmt.Sprintf("caller%d-%d", os.Getpid(), callers.Add(1))
	cmd := exec.CommandContext(ctx, r.programs.path(r.t, "erl_call", "erlang-base"),
		"-sname", r.Node, "-h", caller, "-c", string(cookie), "-e")
	cmd.Env = append(cmd.Environ(), r.env...)
	cmd.Stdin = strings.NewReader(`unicode:characters_to_list(io_lib:format("~0p", [begin ` + expressions + " end])).\n")
	cmd.WaitDelay = outputTime
	out, err := cmd.CombinedOutput()
	value, found := strings.CutPrefix(string(out), "{ok, ")
	if err != nil || !found {
		return "", fmt.Errorf("%w: %s", cmp.Or(err, errors.New("it failed")), out)
	}
	return strings.TrimSuffix(value, "}"), nil
}

// AddUser makes a user with the password "secret", who may not do anything.
func (r *RabbitMQ) AddUser(name string) {
	r.t.Helper()
	r.Eval(fmt.Sprintf(`ok = rabbit_auth_backend_internal:add_user(<<"%s">>, <<"secret">>, <<"test">>)`, name))
}

// Permit sets the patterns of what a user may configure, write and read on the vhost "/".
func (r *RabbitMQ) Permit(name, configure, write, read string) {
	r.t.Helper()
	binary := func(s string) string { return `<<"` + strings.ReplaceAll(s, `\`, `\\`) + `">>` }
	r.Eval(fmt.Sprintf(`ok = rabbit_auth_backend_internal:set_permissions(%s, <<"/">>, %s, %s, %s, <<"test">>)`,
		binary(name), binary(configure), binary(write), binary(read)))
}

// answers says whether a client gets a channel, and can connect to the port of TLS, which is listened on last.
func (r *RabbitMQ) answers(ctx context.Context) error {
	c, err := amqp.Dial(r.URL())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err = c.Channel(); err != nil || r.TLSPort == 0 {
		return err
	}
	over, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", Host, r.TLSPort))
	if err != nil {
		return err
	}
	return over.Close()
}

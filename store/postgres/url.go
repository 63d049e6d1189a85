package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/drainmark/drainmark/store"
)

// target is what a URL says: where the servers are and how to get in. It must never be printed.
type target struct {
	config *pgxpool.Config
	schema string
	sync   string // synchronous_commit of our transactions
}

const (
	defaultSchema  = "drainmark"
	maxSchema      = 63 // bytes in an identifier
	connectTimeout = 5 * time.Second
	queryExecMode  = "default_query_exec_mode"
)

// syncModes are the values of synchronous_commit that make a commit durable on the primary at least.
var syncModes = []string{"on", "remote_apply", "remote_write", "local"}

// misfit is an error of the URL. It never quotes anything that may be or contain a password, nor wraps an error of the
// driver's, which quotes much.
func misfit(format string, args ...any) error {
	return store.Misconfigured("the URL "+format, args...)
}

// parseURL reads postgres:// and postgresql://. The driver reads the URL but for the parameters that are ours.
func parseURL(text string) (*target, error) {
	scheme, _, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, misfit("must begin with postgres:// or postgresql://")
	}
	t := &target{schema: defaultSchema, sync: syncModes[0]}
	rest, mode, err := t.takeOwn(text)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(rest)
	if err != nil {
		return nil, misfit("is not one that libpq would take, or a file that it names cannot be read (sslcert, sslkey, sslrootcert, " +
			"passfile, service); a special character in the password must be written as %%40 and the like")
	}
	if mode == "" {
		s := &sessions{}
		config.BeforeConnect, config.AfterConnect = s.prepare, s.look
	}
	if config.ConnConfig.ConnectTimeout <= 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if _, given := config.ConnConfig.RuntimeParams["application_name"]; !given {
		config.ConnConfig.RuntimeParams["application_name"] = "drainmark"
	}
	config.ConnConfig.OnNotice = noteNotice
	readCertificateAgain(&config.ConnConfig.Config, rest)
	t.config = config
	return t, nil
}

// logIn has each connection log in with what the credentials say then, if there are some.
func logIn(config *pgxpool.Config, credentials func() (user, password string)) {
	if credentials == nil {
		return
	}
	prepare := config.BeforeConnect
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		user, password := credentials()
		if c.User = user; password != "" { // otherwise it is in a file of passwords
			c.Password = password
		}
		if prepare == nil {
			return nil
		}
		return prepare(ctx, c)
	}
}

// readCertificateAgain has each connection read our certificate anew: the driver has read it with the URL.
func readCertificateAgain(config *pgconn.Config, url string) {
	again := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if now, err := pgconn.ParseConfig(url); err == nil { // an error quotes the URL
			if configs := tlsConfigs(now); len(configs) > 0 {
				return &configs[0].Certificates[0], nil
			}
		}
		return nil, errors.New("the files of sslcert and sslkey cannot be used")
	}
	for _, t := range tlsConfigs(config) {
		t.GetClientCertificate = again
	}
}

// tlsConfigs are those of all hosts that have a certificate of ours.
func tlsConfigs(config *pgconn.Config) (configs []*tls.Config) {
	hosts := append([]*pgconn.FallbackConfig{{TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, host := range hosts {
		if host.TLSConfig != nil && len(host.TLSConfig.Certificates) > 0 {
			configs = append(configs, host.TLSConfig)
		}
	}
	return configs
}

// takeOwn takes the parameters that are ours from a URL and returns what is left, and the mode of queries if one is
// given.
func (t *target) takeOwn(text string) (rest, mode string, err error) {
	base, query, found := strings.Cut(text, "?")
	if !found {
		return text, "", nil
	}
	var left []string
	for part := range strings.SplitSeq(query, "&") {
		name, escaped, _ := strings.Cut(part, "=")
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return "", "", misfit("has malformed parameters behind the question mark")
		}
		switch name {
		case "schema":
			t.schema = value
			if value == "" || len(value) > maxSchema || strings.ContainsRune(value, 0) || strings.HasPrefix(value, "pg_") {
				return "", "", misfit("has a schema that cannot be one: it must have 1 to %d bytes and not begin with pg_", maxSchema)
			}
			continue
		case "synchronous_commit":
			if t.sync = value; !slices.Contains(syncModes, value) {
				return "", "", misfit("has a synchronous_commit that is none of %s", strings.Join(syncModes, ", "))
			}
			continue
		case queryExecMode:
			if mode = value; !slices.Contains([]string{"cache_describe", "cache_statement", "describe_exec"}, value) {
				return "", "", misfit("has a %s that is none of cache_describe, cache_statement, describe_exec", queryExecMode)
			}
		}
		left = append(left, part)
	}
	return base + "?" + strings.Join(left, "&"), mode, nil
}

// primary is the configuration of connections to the host that can be written to. Each is asked what the server is:
// after a failover it is another one, and may have other settings.
func (t *target) primary() *pgxpool.Config {
	config := t.config.Copy()
	look := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		if look != nil {
			if err := look(ctx, c); err != nil {
				return err
			}
		}
		return checkServer(ctx, c)
	}
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config
}

// nodes are the addresses of the URL's hosts, each once.
func (t *target) nodes() []string {
	nodes := []string{address(t.config.ConnConfig.Host, t.config.ConnConfig.Port)}
	for _, other := range t.config.ConnConfig.Fallbacks {
		if node := address(other.Host, other.Port); !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// node is the configuration of connections to one of the hosts, whatever it can do.
func (t *target) node(node string) (*pgxpool.Config, error) {
	config := t.config.Copy()
	c := config.ConnConfig
	c.ValidateConnect = nil
	hosts := []*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}
	hosts = slices.DeleteFunc(append(hosts, c.Fallbacks...), func(f *pgconn.FallbackConfig) bool {
		return address(f.Host, f.Port) != node
	})
	if len(hosts) == 0 {
		return nil, misfit("has no host %s", node)
	}
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = hosts[0].Host, hosts[0].Port, hosts[0].TLSConfig, hosts[1:]
	return config, nil
}

func address(host string, port uint16) string {
	if strings.HasPrefix(host, "/") { // the directory of a socket
		return host + ":" + strconv.Itoa(int(port))
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

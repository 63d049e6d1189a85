package jetstream

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// Config says where an external NATS is.
type Config struct {
	Options
	// URL is nats://[user:password@|token@]host[:port][,host…][/prefix][?option=value…], or tls:// for that over TLS.
	// The options are prefix, domain, api_prefix, creds, ca, cert, key, handshake_first, replicas and max_bytes, for
	// the fields of those names here. A field that is set goes before the URL's.
	URL string
	// Credentials is called for each connection, and says user and password in place of the URL's, or a token as the user,
	// without a password. It must not block. Nil for the URL's.
	Credentials func() (user, password string)

	Domain                    string // the JetStream domain (default: the server's own)
	APIPrefix                 string // of the subjects of JetStream's API (default "$JS.API", or the domain's)
	CredsFile                 string // a NATS credentials file
	CAFile, CertFile, KeyFile string // for TLS: who signs the server's certificate, and the client's own
	HandshakeFirst            bool   // the server speaks TLS from the first byte, as with its setting of that name
	Replicas                  int    // of each stream (default 1)

	servers string // for nats.Connect
}

// resolved returns the configuration with what the URL says filled in. Its errors never show the URL.
func (c Config) resolved() (Config, error) {
	const form = "it must look like nats://user:password@host:4222,host2:4222/prefix?option=value"
	scheme, rest, ok := strings.Cut(c.URL, "://")
	if !ok || scheme != "nats" && scheme != "tls" {
		return c, misconfigured("the broker's URL is not one of NATS: %s", form)
	}
	rest, query, _ := strings.Cut(strings.ReplaceAll(rest, ","+scheme+"://", ","), "?")
	hosts, path, _ := strings.Cut(rest, "/")
	var servers []string
	login := "" // the last one named, which holds for the hosts that follow, too
	for host := range strings.SplitSeq(hosts, ",") {
		if i := strings.LastIndex(host, "@"); i >= 0 {
			login, host = host[:i+1], host[i+1:]
		}
		if c.Credentials != nil {
			login = "" // it would count for more
		}
		server := scheme + "://" + login + host
		if u, err := url.Parse(server); err != nil || u.Hostname() == "" {
			return c, misconfigured("the broker's URL cannot be read: %s", form)
		}
		servers = append(servers, server)
	}
	c.servers = strings.Join(servers, ",")
	c.Prefix = orDefault(c.Prefix, strings.Trim(path, "/"))
	values, err := url.ParseQuery(query)
	if err != nil {
		return c, misconfigured("the options of the broker's URL cannot be read: %s", form)
	}
	for name, value := range values {
		if err := c.set(name, value[0]); err != nil {
			return c, err
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return c, misconfigured("a TLS client certificate and its key go together: set cert and key")
	}
	c.Replicas = orDefault(c.Replicas, 1)
	return c.withAPI()
}

// defaultAPI is what the subjects of JetStream's API begin with, unless there is a domain.
const defaultAPI = "$JS.API"

var (
	domainPattern    = regexp.MustCompile(`^[^\s.*>]{1,64}$`)
	apiPrefixPattern = regexp.MustCompile(`^[^\s.*>]+(\.[^\s.*>]+)*$`)
)

// withAPI fills in where JetStream's API is.
func (c Config) withAPI() (Config, error) {
	switch {
	case c.Domain != "" && c.APIPrefix != "":
		return c, misconfigured("a JetStream domain and an API prefix exclude each other: set domain or api_prefix")
	case c.Domain != "" && !domainPattern.MatchString(c.Domain):
		return c, misconfigured("domain %q: it must be a word of 1 to 64 bytes without blanks, dots, * and >", c.Domain)
	case c.Domain != "":
		c.APIPrefix = "$JS." + c.Domain + ".API"
	case c.APIPrefix == "":
		c.APIPrefix = defaultAPI
	case !apiPrefixPattern.MatchString(c.APIPrefix) || len(c.APIPrefix) > 255:
		return c, misconfigured("api_prefix %q: it must be words with dots between them, of 255 bytes at most, without blanks, * and >",
			c.APIPrefix)
	}
	return c, nil
}

// set takes one option of the URL.
func (c *Config) set(name, value string) error {
	texts := map[string]*string{
		"prefix": &c.Prefix, "domain": &c.Domain, "api_prefix": &c.APIPrefix,
		"creds": &c.CredsFile, "ca": &c.CAFile, "cert": &c.CertFile, "key": &c.KeyFile,
	}
	if text, ok := texts[name]; ok {
		*text = orDefault(*text, value)
		return nil
	}
	if name == "handshake_first" {
		first, err := strconv.ParseBool(value)
		if err != nil {
			return misconfigured("the broker's URL has the option handshake_first=%q: it must be true or false", value)
		}
		c.HandshakeFirst = c.HandshakeFirst || first
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case name != "replicas" && name != "max_bytes":
		return misconfigured("the broker's URL has the unknown option %q; there are prefix, domain, api_prefix, creds, ca, cert, key, handshake_first, replicas and max_bytes", name)
	case err != nil || n < 1:
		return misconfigured("the broker's URL has the option %s=%q: it must be a number from 1", name, value)
	case name == "replicas":
		c.Replicas = orDefault(c.Replicas, int(n))
	default:
		c.MaxBytes = orDefault(c.MaxBytes, n)
	}
	return nil
}

// natsOptions returns how to log in and how to encrypt.
func (c Config) natsOptions() []nats.Option {
	var options []nats.Option
	if c.Credentials != nil {
		options = append(options, login(c.Credentials))
	}
	if c.CredsFile != "" {
		options = append(options, credentials(c.CredsFile))
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		options = append(options, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	if c.HandshakeFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options
}

// login logs in with what is said for each connection.
func login(credentials func() (user, password string)) nats.Option {
	return func(o *nats.Options) error {
		o.UserInfo = func() (string, string) {
			user, password := credentials()
			if password == "" {
				return "", ""
			}
			return user, password
		}
		o.TokenHandler = func() string {
			user, password := credentials()
			if password != "" {
				return ""
			}
			return user
		}
		return nil
	}
}

// credentials logs in with a credentials file, which is read for each connection. One that is of no use is told as such.
func credentials(file string) nats.Option {
	return func(o *nats.Options) error {
		if err := nats.UserCredentials(file)(o); err != nil {
			return err
		}
		user, sign := o.UserJWT, o.SignatureCB
		o.UserJWT = func() (string, error) {
			jwt, err := user()
			return jwt, badCredentials(err)
		}
		o.SignatureCB = func(nonce []byte) ([]byte, error) {
			signature, err := sign(nonce)
			return signature, badCredentials(err)
		}
		return nil
	}
}

func badCredentials(err error) error {
	if err == nil {
		return nil
	}
	return misconfigured("the credentials file cannot be used: %v", err)
}

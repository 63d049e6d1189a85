package amqp10

import (
	"cmp"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// Config says where the broker is and how to use it. Zero values mean the defaults.
type Config struct {
	// URL is amqp10://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/PREFIX][?option=value…], or amqp10s:// for that over TLS.
	// Several hosts are tried in order, those last that were in trouble a moment ago: they must all lead to the same queues.
	// The port is 5672 if there is none, and 5671 over TLS. The options are sasl, vhost, ca, cert and key, for the fields of
	// those names here. User and password are percent-encoded.
	URL string
	// Credentials is called for each connection, and says user and password in place of the URL's. It must not block. Nil
	// for the URL's.
	Credentials func() (user, password string)

	Partitions int           // how many the deployment has: 1 to drainmark.MaxPartitions, required except for a registry
	Prefix     string        // of the queues' names: letters, digits, _ and . (default "drainmark", or the URL's)
	MaxBytes   int64         // how much all partitions together may store, where queues are made here (default 10 GiB)
	Timeout    time.Duration // how long to wait for an answer, except that to a batch (default 5 s)
	Logger     *slog.Logger  // nil discards

	SASL              string // how to log in: plain (default with a user), external or anonymous (default without one)
	VHost             string // RabbitMQ's virtual host (default: the server's)
	CAFile            string // who signs the servers' certificates (default: whom the system trusts)
	CertFile, KeyFile string // our own certificate

	settle         time.Duration // how long a queue rests (default 2 s)
	tls            bool
	user, password string
	hosts          []string
}

// PublishAttempt is how long one Publish should be given. A RabbitMQ that finds a new leader for a queue needs up to nine
// seconds, and an Artemis whose backup takes over needs as long.
const PublishAttempt = 15 * time.Second

const (
	defaultMaxBytes = 10 << 30
	defaultTimeout  = 5 * time.Second
	defaultSettle   = 2 * time.Second
	// maxPayload is below what every server takes as it comes: IBM MQ's MAXMSGL is 4 MiB.
	maxPayload = 1 << 20
	// maxHeaders is how much a message has besides its payload.
	maxHeaders = 4 << 10
	// prefetch is how many batches a receiver holds at most, and so bounds its memory, to 64 MiB a partition.
	prefetch = 64
	// idleTime is after how long without a sign of life a connection ends. The client asks the server for one each half.
	idleTime = 6 * time.Second
	// parting is how long the server is given to say that it has taken everything back.
	parting = time.Second
)

const form = "it must look like amqp10://user:password@host:5672,host2:5672/prefix?option=value"

// prefixPattern is what IBM MQ and RabbitMQ take in a queue's name. IBM's may have 48 characters.
var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_.]{1,32}$`)

var mechanisms = []string{"plain", "external", "anonymous"}

// resolved returns the configuration with what the URL says and the defaults filled in. Its errors never show the URL.
func (c Config) resolved() (Config, error) {
	scheme, rest, ok := strings.Cut(c.URL, "://")
	if !ok || scheme != "amqp10" && scheme != "amqp10s" {
		return c, misconfigured("the broker's URL is not one of AMQP 1.0: %s", form)
	}
	c.tls = scheme == "amqp10s"
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if err := c.setHosts(authority); err != nil {
		return c, err
	}
	c.Prefix = cmp.Or(c.Prefix, strings.Trim(path, "/"), "drainmark")
	values, err := url.ParseQuery(query)
	if err != nil {
		return c, misconfigured("the options of the broker's URL cannot be read: %s", form)
	}
	options := map[string]*string{"sasl": &c.SASL, "vhost": &c.VHost, "ca": &c.CAFile, "cert": &c.CertFile, "key": &c.KeyFile}
	for name, value := range values {
		option, known := options[name]
		if !known {
			return c, misconfigured("the broker's URL has the unknown option %.40q; there are sasl, vhost, ca, cert and key", name)
		}
		*option = cmp.Or(*option, value[0])
	}
	if c.SASL == "" {
		c.SASL = "anonymous"
		if c.user != "" || c.Credentials != nil {
			c.SASL = "plain"
		}
	}
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.settle = cmp.Or(c.settle, defaultSettle)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c, c.check()
}

// setHosts reads who logs in where.
func (c *Config) setHosts(authority string) error {
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		var err1, err2 error
		c.user, err1 = url.PathUnescape(user)
		c.password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return misconfigured("user and password of the broker's URL must be percent-encoded: %s", form)
		}
		authority = authority[i+1:]
	}
	port := "5672"
	if c.tls {
		port = "5671"
	}
	for host := range strings.SplitSeq(authority, ",") {
		u, err := url.Parse("amqp10://" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return misconfigured("the broker's URL cannot be read: %s", form)
		}
		c.hosts = append(c.hosts, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	}
	return nil
}

// check refuses what cannot work.
func (c Config) check() error {
	login := c.user != "" || c.Credentials != nil
	switch {
	case !prefixPattern.MatchString(c.Prefix):
		return misconfigured("prefix %.80q: it must have 1 to 32 letters, digits, _ or .", c.Prefix)
	case !slices.Contains(mechanisms, c.SASL):
		return misconfigured("the broker's URL has the option sasl=%.40q: it must be one of %s", c.SASL, strings.Join(mechanisms, ", "))
	case login != (c.SASL == "plain"):
		return misconfigured("a user and sasl=plain go together")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return misconfigured("a TLS client certificate and its key go together: set cert and key")
	case !c.tls && (c.CAFile != "" || c.CertFile != "" || c.SASL == "external"):
		return misconfigured("ca, cert, key and sasl=external are for TLS: use amqp10s://")
	case c.Timeout < 0:
		return misconfigured("Timeout is negative")
	}
	return nil
}

// checkPartitions is for those that need them: a registry does not.
func (c Config) checkPartitions() error {
	if c.Partitions < 1 || c.Partitions > drainmark.MaxPartitions {
		return misconfigured("%d partitions: there must be 1 to %d", c.Partitions, drainmark.MaxPartitions)
	}
	if least := 2 * int64(c.Partitions) * maxPayload; c.MaxBytes < least {
		return misconfigured("MaxBytes is %d: for %d partitions it must be at least %d", c.MaxBytes, c.Partitions, least)
	}
	return nil
}

// credentials says who logs in with the next connection.
func (c Config) credentials() (user, password string) {
	if c.Credentials != nil {
		return c.Credentials()
	}
	return c.user, c.password
}

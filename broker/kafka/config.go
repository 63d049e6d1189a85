package kafka

import (
	"cmp"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// Config says where Kafka is and how to use it. Zero values mean the defaults.
type Config struct {
	// URL is kafka://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/PREFIX][?option=value…], or kafka+tls:// for that over
	// TLS. The hosts are some of one cluster's brokers, the port is 9092 if there is none. The options are replicas, sasl,
	// ca, cert and key, for the fields of those names here. User and password are percent-encoded.
	URL string
	// Credentials is called for each connection, and says user and password in place of the URL's, or a token as the
	// user. It must not block. Nil for the URL's.
	Credentials func() (user, password string)

	Partitions    int           // how many the deployment has: 1 to drainmark.MaxPartitions, required except for a registry
	Prefix        string        // of the topics' names: letters, digits, - and _ (default "drainmark", or the URL's)
	Replicas      int           // of each topic that is made (default 3): 1 for a single node, which then syncs each record
	MaxBytes      int64         // how much all partitions together may store (default 10 GiB)
	ReplayWindow  time.Duration // how long acknowledged batches are kept, if there is room (default 1 h)
	Timeout       time.Duration // how long to wait for an answer of Kafka, except a confirmation (default 5 s)
	PurgeInterval time.Duration // how often to look for what can be purged (default 2 s)
	Logger        *slog.Logger  // nil discards

	SASL              string // how to log in: plain, scram-sha-256, scram-sha-512 or oauthbearer, which takes a token as the user
	CAFile            string // who signs the servers' certificates (default: whom the system trusts)
	CertFile, KeyFile string // our own certificate

	tls            bool
	user, password string
	hosts          []string
}

// PublishAttempt is how long one Publish should be given. A cluster takes a broker that hangs out of the replicas that
// must confirm only when its session has ended, which takes nine seconds by default. A publisher that gives up sooner
// publishes the same batch several times.
const PublishAttempt = 15 * time.Second

const (
	defaultMaxBytes   = 10 << 30
	minPartitionBytes = 64 << 10
)

const form = "it must look like kafka://user:password@host:9092,host2:9092/prefix?option=value"

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// resolved returns the configuration with what the URL says and the defaults filled in. Its errors never show the URL.
func (c Config) resolved() (Config, error) {
	scheme, rest, ok := strings.Cut(c.URL, "://")
	if !ok || scheme != "kafka" && scheme != "kafka+tls" {
		return c, misconfigured("the broker's URL is not one of Kafka: %s", form)
	}
	c.tls = scheme == "kafka+tls"
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
	for name, value := range values {
		if err := c.set(name, value[0]); err != nil {
			return c, err
		}
	}
	c.Replicas = cmp.Or(c.Replicas, 3)
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
	c.ReplayWindow = cmp.Or(c.ReplayWindow, time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.PurgeInterval = cmp.Or(c.PurgeInterval, 2*time.Second)
	c.Logger = cmp.Or(c.Logger, discard)
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
	for host := range strings.SplitSeq(authority, ",") {
		u, err := url.Parse("kafka://" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return misconfigured("the broker's URL cannot be read: %s", form)
		}
		c.hosts = append(c.hosts, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "9092")))
	}
	return nil
}

// set takes one option of the URL.
func (c *Config) set(name, value string) error {
	texts := map[string]*string{"sasl": &c.SASL, "ca": &c.CAFile, "cert": &c.CertFile, "key": &c.KeyFile}
	if text, ok := texts[name]; ok {
		*text = cmp.Or(*text, value)
		return nil
	}
	if name != "replicas" {
		return misconfigured("the broker's URL has the unknown option %.40q; there are replicas, sasl, ca, cert and key", name)
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 100 {
		return misconfigured("the broker's URL has the option replicas=%.40q: it must be a number from 1 to 100", value)
	}
	c.Replicas = cmp.Or(c.Replicas, n)
	return nil
}

// check refuses what cannot work.
func (c Config) check() error {
	login := c.user != "" || c.Credentials != nil
	switch {
	case !prefixPattern.MatchString(c.Prefix):
		return misconfigured("prefix %q: it must have 1 to 64 letters, digits, - or _", c.Prefix)
	case c.Replicas == 2:
		return misconfigured("replicas=2: with two replicas either may be the only one that has a batch, or nothing is accepted while one is away; have 3, or 1")
	case c.SASL != "" && !slices.Contains(mechanisms, c.SASL):
		return misconfigured("the broker's URL has the option sasl=%.40q: it must be one of %s", c.SASL, strings.Join(mechanisms, ", "))
	case login != (c.SASL != ""):
		return misconfigured("a user and how it logs in go together: set sasl to one of %s", strings.Join(mechanisms, ", "))
	case (c.CertFile == "") != (c.KeyFile == ""):
		return misconfigured("a TLS client certificate and its key go together: set cert and key")
	case !c.tls && (c.CAFile != "" || c.CertFile != ""):
		return misconfigured("ca, cert and key are for TLS: use kafka+tls://")
	case min(c.ReplayWindow, c.Timeout, c.PurgeInterval) < 0:
		return misconfigured("a duration is negative: ReplayWindow, Timeout or PurgeInterval")
	}
	return nil
}

// checkPartitions is for those that need them: a registry does not.
func (c Config) checkPartitions() error {
	if c.Partitions < 1 || c.Partitions > drainmark.MaxPartitions {
		return misconfigured("%d partitions: there must be 1 to %d", c.Partitions, drainmark.MaxPartitions)
	}
	if c.partitionBytes() < minPartitionBytes {
		return misconfigured("MaxBytes is %d: it must be at least %d for each of the %d partitions", c.MaxBytes, minPartitionBytes, c.Partitions)
	}
	return nil
}

// partitionBytes is how much one partition may store.
func (c Config) partitionBytes() int64 { return c.MaxBytes / int64(c.Partitions) }

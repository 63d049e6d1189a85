package redis

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/drainmark/drainmark/store"
)

// target is what a URL says: where the servers are and how to get in. It must never be printed.
type target struct {
	addresses []string // of the server, or of the Sentinels
	master    string   // its name among the Sentinels, empty without Sentinels
	db        int
	server    credentials
	sentinel  credentials
	tls       *tls.Config // nil for none

	credentials func() (user, password string) // go before the server's, nil for none
}

// Ports that are used where a URL has none.
const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
)

// maxDatabase is the highest number of a database that a URL may have.
const maxDatabase = 1 << 16

// misfit is an error of the URL. It never quotes anything that may be or contain a password, nor wraps an error of
// package net/url, which quotes everything.
func misfit(format string, args ...any) error {
	return store.Misconfigured("the URL "+format, args...)
}

// parseURL reads redis:// and redis+sentinel:// and, for TLS, rediss:// and rediss+sentinel://. Several Sentinels are
// separated by commas, which package net/url does not take.
func parseURL(text string) (*target, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	secure, sentinels := false, false
	switch scheme {
	case "redis":
	case "rediss":
		secure = true
	case "redis+sentinel":
		sentinels = true
	case "rediss+sentinel":
		secure, sentinels = true, true
	default:
		return nil, misfit("must begin with redis://, rediss://, redis+sentinel:// or rediss+sentinel://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	t := &target{}
	hosts, err := t.takeUser(rest)
	if err != nil {
		return nil, err
	}
	hosts, path, _ := strings.Cut(hosts, "/")
	if err := t.takeHosts(hosts, sentinels); err != nil {
		return nil, err
	}
	if sentinels {
		name, db, _ := strings.Cut(path, "/")
		if t.master, err = url.PathUnescape(name); err != nil || t.master == "" {
			return nil, misfit("must name the master behind the Sentinels' addresses, as in redis+sentinel://host:26379/mymaster")
		}
		path = db
	}
	if err := t.takeDatabase(path); err != nil {
		return nil, err
	}
	return t, t.takeQuery(query, secure)
}

// takeUser takes user and password from the front of the URL and returns what follows. A password may contain @.
func (t *target) takeUser(rest string) (string, error) {
	end := strings.LastIndexByte(rest, '@')
	if end < 0 {
		return rest, nil
	}
	user, password, given := strings.Cut(rest[:end], ":")
	var err error
	if t.server.user, err = url.PathUnescape(user); err == nil {
		t.server.password, err = url.PathUnescape(password)
	}
	if err != nil {
		return "", misfit("has a user or password in which a %% is not followed by two hexadecimal digits")
	}
	if !given || t.server.password == "" {
		return "", misfit("has a user without a password: it must be user:password@ or :password@")
	}
	return rest[end+1:], nil
}

func (t *target) takeHosts(hosts string, sentinels bool) error {
	port := defaultPort
	if sentinels {
		port = defaultSentinelPort
	}
	for i, host := range strings.Split(hosts, ",") {
		if i > 0 && !sentinels {
			return misfit("has several hosts: only redis+sentinel:// takes those")
		}
		address, err := hostPort(host, port)
		if err != nil {
			return misfit("has a host number %d that is not host:port", i+1)
		}
		t.addresses = append(t.addresses, address)
	}
	return nil
}

// hostPort completes an address.
func hostPort(address, port string) (string, error) {
	host, given, err := net.SplitHostPort(address)
	if err != nil {
		host, given, err = net.SplitHostPort(address + ":" + port)
	}
	if err != nil {
		return "", err
	}
	if n, err := strconv.ParseUint(given, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /@%") {
		return "", fmt.Errorf("not host:port")
	}
	return net.JoinHostPort(host, given), nil
}

func (t *target) takeDatabase(path string) error {
	if path == "" {
		return nil
	}
	n, err := strconv.ParseUint(path, 10, 32)
	if err != nil || n > maxDatabase {
		return misfit("must end with the database's number, 0 to %d, or nothing", maxDatabase)
	}
	t.db = int(n)
	return nil
}

// takeQuery reads the parameters ca, cert, key, servername, sentinel-user and sentinel-password.
func (t *target) takeQuery(query string, secure bool) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return misfit("has malformed parameters behind the question mark")
	}
	files := map[string]string{}
	for name, given := range values {
		value := given[len(given)-1]
		switch name {
		case "ca", "cert", "key", "servername":
			if !secure {
				return misfit("has the parameter %s, which is for TLS: use rediss:// or rediss+sentinel://", name)
			}
			files[name] = value
		case "sentinel-user":
			t.sentinel.user = value
		case "sentinel-password":
			t.sentinel.password = value
		default:
			return misfit("has an unknown parameter; there are ca, cert, key, servername, sentinel-user and sentinel-password")
		}
	}
	if t.sentinel.user != "" && t.sentinel.password == "" {
		return misfit("has a sentinel-user without a sentinel-password")
	}
	if secure {
		t.tls, err = tlsConfig(files)
	}
	return err
}

// tlsConfig reads the files. The server's certificate is always verified.
func tlsConfig(files map[string]string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files["servername"]}
	if path := files["ca"]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, store.Misconfigured("reading the certificates of ca=: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, store.Misconfigured("the file of ca= has no certificate in PEM format")
		}
	}
	if (files["cert"] == "") != (files["key"] == "") {
		return nil, misfit("must have both cert= and key=, or neither")
	}
	if files["cert"] != "" {
		pair, err := tls.LoadX509KeyPair(files["cert"], files["key"])
		if err != nil {
			return nil, store.Misconfigured("reading the certificate of cert= and key=: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // there may be another by now
			pair, err := tls.LoadX509KeyPair(files["cert"], files["key"])
			return &pair, err
		}
	}
	return c, nil
}

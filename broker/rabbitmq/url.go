package rabbitmq

import (
	"net/url"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// parameters are what a URL can have behind the question mark: those of the client library.
var parameters = []string{
	"heartbeat", "connection_timeout", "channel_max", "auth_mechanism", "cacertfile", "certfile", "keyfile", "server_name_indication",
}

// dialURL returns the URL to connect to now, with what the credentials say if there are some.
func (e endpoint) dialURL(credentials func() (user, password string)) string {
	u, err := url.Parse(e.url)
	if credentials == nil || err != nil { // parseURL has parsed it
		return e.url
	}
	u.User = url.UserPassword(credentials())
	return u.String()
}

// parseURL splits a URL with several hosts into URLs with one. Its errors show only parts of the URL that cannot be a
// password. net/url's own quote the whole URL.
func parseURL(from string) ([]endpoint, error) {
	scheme, rest, ok := strings.Cut(from, "://")
	if !ok || scheme != "amqp" && scheme != "amqps" {
		return nil, misconfigured("the broker's URL must begin with amqp:// or amqps://")
	}
	// The authority ends at the first /, ? or #, which cannot stand in it unencoded.
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	var endpoints []endpoint
	for host := range strings.SplitSeq(hosts, ",") {
		one := scheme + "://" + user + host + tail
		parsed, err := url.Parse(one)
		if err != nil {
			return nil, misconfigured("the broker's URL can't be read: check host and port; user, password and vhost must be percent-encoded")
		}
		if parsed.Hostname() == "" {
			return nil, misconfigured("the broker's URL has an empty host")
		}
		uri, err := amqp.ParseURI(one)
		if err != nil {
			return nil, misconfigured("the broker's URL for host %s can't be read: check port, vhost and query", parsed.Host)
		}
		for name := range parsed.Query() {
			if !slices.Contains(parameters, name) {
				return nil, misconfigured("the broker's URL has %.40q: there are only the parameters %s", name, strings.Join(parameters, ", "))
			}
		}
		if parsed.Query().Get("heartbeat") == "0" {
			return nil, misconfigured("the broker's URL has heartbeat=0: without heartbeats a dead peer is never noticed")
		}
		endpoints = append(endpoints, endpoint{url: one, host: parsed.Host, vhost: uri.Vhost})
	}
	return endpoints, nil
}

package kafka

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// secured is a server that wants a login on one port and certificates on another.
type secured struct {
	server *servers.Kafka
	ca     *servers.Authority
}

// token is one of OAuth that the server believes because it is a test's.
func token() string {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":"guestbook","exp":%d}`, time.Now().Add(time.Hour).Unix())) + "."
}

// logins opens brokers by URLs, some of which are right. No error may have the password in it.
func (s secured) logins(t *testing.T) {
	certificate, key := s.ca.Issue("client")
	stranger, strangersKey := servers.NewAuthority(t).Issue("client")
	const user = servers.KafkaUser + ":" + servers.KafkaPassword + "@"
	login, encrypted, bare := fmt.Sprintf("127.0.0.1:%d", s.server.SASLPort), fmt.Sprintf("127.0.0.1:%d", s.server.TLSPort), s.server.Address()
	both := fmt.Sprintf("127.0.0.1:%d", s.server.BothPort)
	for _, test := range []struct{ url, want string }{ // what the error has in it, "" for none
		{"kafka://" + user + login + "?sasl=plain", ""},
		{"kafka://" + user + login + "?sasl=scram-sha-256", ""},
		{"kafka://" + user + login + "?sasl=scram-sha-512", ""},
		{"kafka://" + token() + "@" + login + "?sasl=oauthbearer", ""},
		{"kafka://guestbook:wrong@" + login + "?sasl=plain", "refuses the login"},
		{"kafka://guestbook:wrong@" + login + "?sasl=scram-sha-512", "refuses the login"},
		{"kafka://wrong@" + login + "?sasl=oauthbearer", "refuses the login"},
		{"kafka+tls://" + encrypted + "?ca=" + s.ca.Path + "&cert=" + certificate + "&key=" + key, ""},
		{"kafka+tls://" + encrypted + "?ca=" + s.ca.Path + "&cert=" + stranger + "&key=" + strangersKey, "refuses our TLS"},
		{"kafka+tls://" + encrypted + "?cert=" + certificate + "&key=" + key, "check ca"},
		{"kafka+tls://" + encrypted + "?ca=/nowhere", "/nowhere"},
		{"kafka+tls://" + user + both + "?sasl=scram-sha-512&ca=" + s.ca.Path, ""},
		{"kafka+tls://" + user + both + "?sasl=scram-sha-512", "check ca"},
		{"kafka+tls://guestbook:wrong@" + both + "?sasl=scram-sha-512&ca=" + s.ca.Path, "refuses the login"},
		{"kafka+tls://" + user + both + "?sasl=scram-sha-256&ca=" + s.ca.Path, "correct sasl"},
	} {
		c := configOf(s.server, Config{})
		c.URL = test.url
		b, err := Open(t.Context(), c)
		if err == nil { // what is refused is, at once
			err = errors.Join(b.Publish(t.Context(), 0, batchOf(1, 10)), b.Close())
			if test.want != "" {
				t.Errorf("%s: it was opened", test.url)
			}
		}
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.url, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), servers.KafkaPassword) || strings.Contains(err.Error(), token())) {
			t.Errorf("the error has a password in it: %v", err)
		}
	}
	for scheme, at := range map[string]string{"kafka": encrypted, "kafka+tls": bare} {
		c := configOf(s.server, Config{})
		c.URL = scheme + "://" + at
		b := reopened(t, c)
		if err := b.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: Ping says %v", c.URL, err)
		}
	}
	s.rotated(t)
}

// rotated changes the password while a broker is open: the next connection has it.
func (s secured) rotated(t *testing.T) {
	password := atomic.Pointer[string]{}
	wrong, right := "wrong", servers.KafkaPassword
	password.Store(&right)
	c := configOf(s.server, Config{})
	c.URL = fmt.Sprintf("kafka://guestbook:old@127.0.0.1:%d?sasl=scram-sha-256", s.server.SASLPort)
	c.Credentials = func() (string, string) { return servers.KafkaUser, *password.Load() }
	b := reopened(t, c)
	password.Store(&wrong)
	if err := b.Publish(t.Context(), 0, batchOf(1, 10)); !errors.Is(err, broker.ErrMisconfigured) || !errors.Is(err, broker.ErrNotSent) {
		t.Errorf("publishing with a wrong password: %v", err)
	}
	password.Store(&right)
	publish(t, b, 1, 1)
}

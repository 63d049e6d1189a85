package redis

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]target{
		"redis://localhost":                    {addresses: []string{"localhost:6379"}},
		"redis://:a%20b@10.0.0.1:7000/3":       {addresses: []string{"10.0.0.1:7000"}, db: 3, server: credentials{"", "a b"}},
		"redis://user:p@ss:w/o%25rd@[::1]:1/0": {addresses: []string{"[::1]:1"}, server: credentials{"user", "p@ss:w/o%rd"}},
		"redis+sentinel://a,b:2,[::1]:3/name": {
			addresses: []string{"a:26379", "b:2", "[::1]:3"}, master: "name",
		},
		"redis+sentinel://u:p@a:1/name/5?sentinel-user=s&sentinel-password=q%26": {
			addresses: []string{"a:1"}, master: "name", db: 5, server: credentials{"u", "p"}, sentinel: credentials{"s", "q&"},
		},
	} {
		got, err := parseURL(url)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s is %+v, %v; it must be %+v", url, got, err, want)
		}
	}
}

const secret = "hunter2-sesame"

// silent fails the test if what is said gives the secret away.
func silent(t *testing.T, what string, said any) {
	t.Helper()
	if text := fmt.Sprintf("%v %+v", said, said); strings.Contains(text, secret) || strings.Contains(text, "hunter2") {
		t.Errorf("%s: %s", what, text)
	}
}

func TestMalformedURLsKeepTheirSecrets(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", secret, "http://u:" + secret + "@host", "redis://u:" + secret + "%zz@host", "redis://u:" + secret + "@host:port",
		"redis://u:" + secret + "@", "redis://u:" + secret + "@host:1/x", "redis://u:" + secret + "@host:1/-1", "redis://" + secret + "@host",
		"redis://host?" + secret + "=1", "redis://host?ca=" + secret, "redis://host?x=%zz" + secret, "redis://u:" + secret + "@a,b",
		"redis+sentinel://u:" + secret + "@a:1", "redis+sentinel://u:" + secret + "@a:1/", "redis+sentinel://u:" + secret + "@a:1,:x/n",
		"redis+sentinel://a:1/n?sentinel-user=" + secret, "rediss://u:" + secret + "@host?ca=/no/such/file", "redis://u:" + secret + "@host:0",
		"rediss://u:" + secret + "@host?cert=/no/such/file", "rediss://u:" + secret + "@host?cert=/none&key=/none", "redis://h:70000", "redis://h:1/99999999999",
	} {
		_, err := Open(t.Context(), url, Options{})
		if !errors.Is(err, store.ErrMisconfigured) {
			t.Errorf("%q gives %v", url, err)
		}
		silent(t, "Open", err)
		_, err = OpenReader(t.Context(), url, Options{})
		silent(t, "OpenReader", err)
		_, err = Replicas(t.Context(), url, Options{})
		silent(t, "Replicas", err)
	}
}

func TestServersKeepSecrets(t *testing.T) {
	t.Parallel()
	open := servers.StartRedis(t, servers.RedisOptions{})
	closed := servers.StartRedis(t, servers.RedisOptions{User: "somebody", Password: "another"})
	for _, c := range []struct {
		what, address string
		want          error
	}{
		{"a wrong password", closed.Address(), store.ErrMisconfigured},
		{"a password for nothing", open.Address(), store.ErrMisconfigured},
		{"nobody there", fmt.Sprintf("%s:%d", servers.Host, servers.Port(t)), ErrUnreachable},
	} {
		for _, user := range []string{"", "somebody"} {
			url := "redis://" + user + ":" + secret + "@" + c.address
			_, err := Open(t.Context(), url, Options{})
			fails(t, err, c.want, "connecting to "+c.address+": ")
			silent(t, c.what, err)
			r, err := OpenReader(t.Context(), url, Options{})
			silent(t, c.what, err)
			if err == nil {
				err = r.Ping(t.Context())
				silent(t, c.what, err)
				fails(t, err, c.want, "connecting to "+c.address+": ")
				_ = r.Close()
			}
		}
	}
	_, err := Open(t.Context(), closed.URL(), Options{})
	fails(t, err, store.ErrMisconfigured, "give user and password in the URL")
	renamed := servers.StartRedis(t, servers.RedisOptions{Settings: []string{`rename-command AUTH ""`}})
	_, err = Open(t.Context(), "redis://:"+secret+"@"+renamed.Address(), Options{})
	fails(t, err, store.ErrMisconfigured, "refuses user and password")
	silent(t, "a server that does not know AUTH", err)
}

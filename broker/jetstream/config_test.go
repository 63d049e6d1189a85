package jetstream

import (
	"cmp"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]Config{
		"nats://localhost":                         {servers: "nats://localhost"},
		"nats://localhost:4222/guests":             {servers: "nats://localhost:4222", Options: Options{Prefix: "guests"}},
		"tls://a:1,b:2/":                           {servers: "tls://a:1,tls://b:2"},
		"nats://u:p%40ss@a:1,b:2?prefix=x":         {servers: "nats://u:p%40ss@a:1,nats://u:p%40ss@b:2", Options: Options{Prefix: "x"}},
		"nats://u:p@a,nats://v:q@b/x":              {servers: "nats://u:p@a,nats://v:q@b", Options: Options{Prefix: "x"}},
		"nats://token@a":                           {servers: "nats://token@a"},
		"tls://a?ca=/ca.pem&cert=/c.pem&key=/k":    {servers: "tls://a", CAFile: "/ca.pem", CertFile: "/c.pem", KeyFile: "/k"},
		"nats://a?creds=x.creds&replicas=3":        {servers: "nats://a", CredsFile: "x.creds", Replicas: 3},
		"nats://[::1]:4222/p?max_bytes=1000":       {servers: "nats://[::1]:4222", Options: Options{Prefix: "p", MaxBytes: 1000}},
		"nats://a/path-first?prefix=option-second": {servers: "nats://a", Options: Options{Prefix: "path-first"}},
		"nats://a?domain=hub":                      {servers: "nats://a", Domain: "hub", APIPrefix: "$JS.hub.API"},
		"nats://a?api_prefix=from.hub":             {servers: "nats://a", APIPrefix: "from.hub"},
	} {
		want.URL, want.APIPrefix = url, cmp.Or(want.APIPrefix, "$JS.API")
		if want.Replicas == 0 {
			want.Replicas = 1
		}
		got, err := Config{URL: url}.resolved()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v and the error %v, want %+v", url, got, err, want)
		}
	}
}

func TestAFieldGoesBeforeTheURL(t *testing.T) {
	t.Parallel()
	c, err := Config{URL: "nats://a/x?replicas=3", Options: Options{Prefix: "mine"}, Replicas: 5}.resolved()
	if err != nil || c.Prefix != "mine" || c.Replicas != 5 {
		t.Errorf("prefix %q, %d replicas, error %v", c.Prefix, c.Replicas, err)
	}
}

func TestAConfigurationThatCannotWorkIsRefusedWithoutShowingTheURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no URL":                  {},
		"another scheme":          {URL: "http://user:s3cret@a"},
		"no host":                 {URL: "nats://user:s3cret@"},
		"a password with a slash": {URL: "nats://user:s3cret/x@a"},
		"a bad escape":            {URL: "nats://user:s3cret%zz@a"},
		"a bad port":              {URL: "nats://user:s3cret@a:port"},
		"an unknown option":       {URL: "nats://user:s3cret@a?colour=red"},
		"options that are none":   {URL: "nats://user:s3cret@a?%zz"},
		"no number":               {URL: "nats://user:s3cret@a?replicas=many"},
		"no replicas":             {URL: "nats://user:s3cret@a?replicas=0"},
		"a domain with a dot":     {URL: "nats://user:s3cret@a?domain=a.b"},
		"an API prefix for many":  {URL: "nats://user:s3cret@a?api_prefix=from.*"},
		"an API prefix of a dot":  {URL: "nats://user:s3cret@a?api_prefix=from."},
		"a domain and a prefix":   {URL: "nats://user:s3cret@a?domain=hub&api_prefix=from.hub"},
		"a certificate alone":     {URL: "nats://user:s3cret@a?cert=c.pem"},
		"a prefix with a dot":     {URL: "nats://user:s3cret@a/a.b"},
		"a prefix with a star":    {URL: "nats://user:s3cret@a?prefix=*"},
		"no such CA":              {URL: "tls://user:s3cret@a?ca=/nowhere/ca.pem"},
		"no partitions":           {URL: "nats://user:s3cret@a", Options: Options{Partitions: -1}},
		"too many partitions":     {URL: "nats://user:s3cret@a", Options: Options{Partitions: 65}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.Partitions == 0 {
				c.Partitions = 1
			}
			b, err := Open(t.Context(), c)
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, broker.ErrMisconfigured) {
				t.Fatalf("error %v, want ErrMisconfigured", err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Fatalf("the error shows the password: %v", err)
			}
		})
	}
}

func TestAPartitionHasRoomForTwoOfTheLargestBatches(t *testing.T) {
	t.Parallel()
	o, err := Options{Partitions: 4, MaxBytes: 4 << 20}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if got := o.maxPayload(8 << 20); got != 1<<19-headerRoom {
		t.Errorf("MaxPayload is %d", got)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("1:2:3")
	f.Add("-1:18446744073709551615:0")
	f.Add("+1:02:3")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseCursor(drainmark.Cursor(text))
		if ok && string(c.encode()) != text {
			t.Errorf("%q was read as %+v, which is %q", text, c, c.encode())
		}
	})
}

package amqp10

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/broker"
)

func TestURL(t *testing.T) {
	t.Parallel()
	c, err := Config{URL: "amqp10s://me:s%3Acret@a,b:1234,[::1]:9/guest?vhost=v&ca=/c"}.resolved()
	if err != nil || !c.tls || c.user != "me" || c.password != "s:cret" || c.Prefix != "guest" || c.SASL != "plain" || c.VHost != "v" || c.CAFile != "/c" {
		t.Errorf("%+v (%v)", c, err)
	}
	if want := []string{"a:5671", "b:1234", "[::1]:9"}; !slices.Equal(c.hosts, want) {
		t.Errorf("the hosts are %v, want %v", c.hosts, want)
	}
	c, err = Config{URL: "amqp10://h"}.resolved()
	if err != nil || c.Prefix != "drainmark" || c.SASL != "anonymous" || c.hosts[0] != "h:5672" {
		t.Errorf("%+v (%v)", c, err)
	}
}

// TestWrongURLs has the word s3cret in the place of every password: no error may show it.
func TestWrongURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"amqp://u:s3cret@h":                       "not one of AMQP 1.0",
		"amqp10://":                               "cannot be read",
		"amqp10://u:s3cret@":                      "cannot be read",
		"amqp10://h,":                             "cannot be read",
		"amqp10://h:port":                         "cannot be read",
		"amqp10://u:s3cret%zz@h":                  "percent-encoded",
		"amqp10://u:s3cret@h?sasl=anonymous":      "go together",
		"amqp10://h?sasl=plain":                   "go together",
		"amqp10://h?sasl=scram":                   "one of plain, external, anonymous",
		"amqp10://h?sasl=external":                "amqp10s://",
		"amqp10://h/a-b":                          "letters, digits",
		"amqp10://h/" + strings.Repeat("a", 33):   "1 to 32",
		"amqp10://h?ca=/x":                        "amqp10s://",
		"amqp10s://h?cert=/x":                     "set cert and key",
		"amqp10://u:s3cret@h?password=s3cret":     "unknown option",
		"amqp10://u:s3cret@h?sasl=plain&s3cret=%": "cannot be read",
	} {
		_, err := Config{URL: url}.resolved()
		if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

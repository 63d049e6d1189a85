package kafka

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

func TestURL(t *testing.T) {
	t.Parallel()
	c, err := Config{URL: "kafka+tls://me:s%3Acret@a,b:1234,[::1]:9/guest?replicas=5&sasl=plain&ca=/c"}.resolved()
	if err != nil || !c.tls || c.user != "me" || c.password != "s:cret" || c.Prefix != "guest" || c.Replicas != 5 || c.SASL != "plain" || c.CAFile != "/c" {
		t.Errorf("%+v (%v)", c, err)
	}
	if want := []string{"a:9092", "b:1234", "[::1]:9"}; !slices.Equal(c.hosts, want) {
		t.Errorf("the hosts are %v, want %v", c.hosts, want)
	}
	if c, err := (Config{URL: "kafka://h"}).resolved(); err != nil || c.Prefix != "drainmark" || c.Replicas != 3 {
		t.Errorf("%+v (%v)", c, err)
	}
}

// TestWrongURLs has the word s3cret in the place of every password: no error may show it.
func TestWrongURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"amqp://u:s3cret@h":                      "not one of Kafka",
		"kafka://":                               "cannot be read",
		"kafka://u:s3cret@":                      "cannot be read",
		"kafka://h,":                             "cannot be read",
		"kafka://h:port":                         "cannot be read",
		"kafka://u:s3cret%zz@h":                  "percent-encoded",
		"kafka://u:s3cret@h":                     "set sasl",
		"kafka://h?sasl=plain":                   "go together",
		"kafka://u:s3cret@h?sasl=digest":         "one of plain, scram-sha-256",
		"kafka://h/a.b":                          "letters, digits",
		"kafka://h?replicas=2":                   "have 3, or 1",
		"kafka://h?replicas=many":                "a number",
		"kafka://h?acks=1":                       "unknown option",
		"kafka://h?ca=/x":                        "kafka+tls://",
		"kafka+tls://h?cert=/x":                  "set cert and key",
		"kafka://u:s3cret@h?sasl=plain&tls=true": "unknown option",
	} {
		_, err := Config{URL: url}.resolved()
		if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	c := cursor{topic: topicID{1, 2, 15: 3}, epoch: 7, next: 1 << 40}
	if got, ok := parseCursor(c.encode()); !ok || got != c {
		t.Errorf("%q is read as %+v, %v", c.encode(), got, ok)
	}
	if beginning := (cursor{epoch: -1}); beginning.encode() != "00000000000000000000000000000000:-1:0" {
		t.Errorf("the beginning is %q", beginning.encode())
	}
	for _, text := range []string{"", "a:b:c", string(c.encode()) + " ", strings.ToUpper(string(cursor{topic: topicID{0xab}}.encode())), "00:1:2"} {
		if got, ok := parseCursor(drainmark.Cursor(text)); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

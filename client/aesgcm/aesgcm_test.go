package aesgcm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/client"
)

// keyOf is a key for tests.
func keyOf(id string) Key { return Key{ID: id, Secret: bytes.Repeat([]byte(id[:1]), 32)} }

func newCodec(t testing.TB, current Key, older ...Key) *Codec {
	t.Helper()
	c, err := New(current, older...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(t testing.TB, c *Codec, log string, m client.Message) []byte {
	t.Helper()
	body, err := c.Encode(t.Context(), log, &m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestWhatIsEncryptedIsDecrypted(t *testing.T) {
	t.Parallel()
	c := newCodec(t, keyOf("a"))
	for _, body := range []string{"", "secret", "\x00\xff", strings.Repeat("long", 1<<16), magic} {
		for _, key := range []string{"", "k"} {
			sealed := encode(t, c, "log", client.Message{Body: []byte(body), ContentType: "a/b", Key: key})
			if len(sealed) != len(body)+33+1 || len(body) > 4 && bytes.Contains(sealed, []byte(body)) {
				t.Errorf("%d bytes of %d", len(sealed), len(body))
			}
			got, err := c.Decode(t.Context(), "log", &client.Message{Body: sealed, ContentType: "a/b"})
			if err != nil || string(got) != body || got == nil {
				t.Errorf("%.10q: %.10q, %v", body, got, err)
			}
		}
	}
}

// Bodies that were written by an earlier version are read by every later one.
func TestBodiesFromBefore(t *testing.T) {
	t.Parallel()
	const before = "ff646d010161e53bb0f9bb985737f6600ac3c151e189b3cf9590a1f67cf259300a8426dc664610fe"
	c := newCodec(t, keyOf("a"))
	sealed := encode(t, c, "orders.eu", client.Message{Body: []byte("secret"), ContentType: "text/plain", Key: "k1"})
	if got := hex.EncodeToString(sealed); got != before {
		t.Errorf("it is %s", got)
	}
}

func TestWhatIsNotDecrypted(t *testing.T) {
	t.Parallel()
	c := newCodec(t, keyOf("a"))
	sealed := encode(t, c, "log", client.Message{Body: []byte("secret"), ContentType: "a/b"})
	foreign := encode(t, newCodec(t, Key{ID: "a", Secret: bytes.Repeat([]byte("x"), 32)}), "log", client.Message{Body: []byte("secret"), ContentType: "a/b"})
	long := append([]byte(magic+"\xff"), bytes.Repeat([]byte("x"), 400)...)
	for name, test := range map[string]struct {
		log, contentType string
		body             []byte
		want             error
	}{
		"a body of another log":                   {"log2", "a/b", sealed, ErrForged},
		"a body of another content type":          {"log", "a/bc", sealed, ErrForged},
		"a log that takes from the content type":  {"loga", "/b", sealed, ErrForged},
		"a key of the same ID, of another secret": {"log", "a/b", foreign, ErrForged},
		"a key that is not known":                 {"log", "a/b", encode(t, newCodec(t, keyOf("b")), "log", client.Message{ContentType: "a/b"}), ErrUnknownKey},
		"a body that is text":                     {"log", "a/b", []byte("secret"), ErrPlain},
		"no body":                                 {"log", "a/b", nil, ErrPlain},
		"a body that is cut off":                  {"log", "a/b", sealed[:20], ErrPlain},
		"an ID that is too long":                  {"log", "a/b", long, ErrPlain},
	} {
		body, err := c.Decode(t.Context(), test.log, &client.Message{Body: test.body, ContentType: test.contentType})
		if body != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if body, err := c.Decode(t.Context(), "log", &client.Message{Body: changed, ContentType: "a/b"}); err == nil {
			t.Errorf("byte %d is changed, and it is %q", i, body)
		}
	}
}

// Another process that sends the same message with the same key again sends the same bytes, and nothing else does.
func TestTheSameBytesAgain(t *testing.T) {
	t.Parallel()
	m := client.Message{Body: []byte("secret"), ContentType: "a/b", Key: "k"}
	first := encode(t, newCodec(t, keyOf("a"), keyOf("b")), "log", m)
	if again := encode(t, newCodec(t, keyOf("a")), "log", m); !bytes.Equal(first, again) {
		t.Error("the same message with the same key has other bytes")
	}
	nonce := func(sealed []byte) string { return string(sealed[6:18]) }
	seen := map[string]string{nonce(first): "the first"}
	for name, test := range map[string]struct {
		secret string
		log    string
		m      client.Message
	}{
		"another key":          {"a", "log", client.Message{Body: m.Body, ContentType: "a/b", Key: "k2"}},
		"another body":         {"a", "log", client.Message{Body: []byte("other"), ContentType: "a/b", Key: "k"}},
		"another content type": {"a", "log", client.Message{Body: m.Body, ContentType: "a/c", Key: "k"}},
		"another log":          {"a", "log2", m},
		"the key in the body":  {"a", "log", client.Message{Body: []byte("ksecret"), ContentType: "a/b"}},
		"a key cut elsewhere":  {"a", "log", client.Message{Body: []byte("ecret"), ContentType: "a/b", Key: "ks"}},
		"another secret":       {"b", "log", m},
		"no key":               {"a", "log", client.Message{Body: m.Body, ContentType: "a/b"}},
		"no key, again":        {"a", "log", client.Message{Body: m.Body, ContentType: "a/b"}},
	} {
		got := nonce(encode(t, newCodec(t, keyOf(test.secret)), test.log, test.m))
		if other := seen[got]; other != "" {
			t.Errorf("%s has the nonce of %s", name, other)
		}
		seen[got] = name
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before := encode(t, newCodec(t, keyOf("a")), "log", client.Message{Body: []byte("before")})
	c := newCodec(t, keyOf("b"), keyOf("a"))
	after := encode(t, c, "log", client.Message{Body: []byte("after")})
	for want, body := range map[string][]byte{"before": before, "after": after} {
		if got, err := c.Decode(t.Context(), "log", &client.Message{Body: body}); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
	_, err := newCodec(t, keyOf("a")).Decode(t.Context(), "log", &client.Message{Body: after})
	if !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("who does not have the new key: %v", err)
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][]Key{
		"no ID":           {{Secret: make([]byte, 32)}},
		"a long ID":       {{ID: strings.Repeat("a", 65), Secret: make([]byte, 32)}},
		"an ID in UTF-8":  {{ID: "ä", Secret: make([]byte, 32)}},
		"a short secret":  {{ID: "a", Secret: []byte("topsecret")}},
		"an ID twice":     {keyOf("a"), keyOf("a")},
		"one of an older": {keyOf("a"), {ID: "b", Secret: []byte("topsecret")}},
	} {
		c, err := New(keys[0], keys[1:]...)
		if err == nil || c != nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if said := fmt.Sprintf("%v %+v %#v %s", keyOf("x"), keyOf("x"), keyOf("x"), []Key{keyOf("x")}); said != "x x x [x]" {
		t.Errorf("a key is shown as %s", said)
	}
}

// FuzzDecode checks that a body that anybody may have written does no harm.
func FuzzDecode(f *testing.F) {
	c := newCodec(f, keyOf("a"))
	f.Add([]byte("text"))
	f.Add([]byte(magic + "\xff" + strings.Repeat("x", 300)))
	f.Add(encode(f, c, "log", client.Message{Body: []byte("secret")}))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := c.Decode(t.Context(), "log", &client.Message{Body: body})
		if err == nil && string(got) != "secret" {
			t.Errorf("%q is taken for %q", body, got)
		}
	})
}

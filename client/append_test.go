package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"
	"unicode/utf8"
)

func TestAppendRequests(t *testing.T) {
	t.Parallel()
	none := Retry{}
	cases := []struct {
		name        string
		retry       Retry
		messages    []Message
		many        bool
		contentType string
		key         string // "*" for one that the client makes
		body        string
	}{
		{"one message is the body", none, []Message{{Body: []byte("a\x00"), ContentType: "text/plain"}}, false, "text/plain", "", "a\x00"},
		{"an empty message without a type", none, []Message{{}}, false, "", "", ""},
		{"a key is a quoted string", none, []Message{{Key: `a "b"\c`}}, false, "", `"a \"b\"\\c"`, ""},
		{"with retries there is a key", quick(2), []Message{{}}, false, "", "*", ""},
		{"its own key is not replaced", quick(2), []Message{{Key: "k"}}, false, "", `"k"`, ""},
		{"one that has the type of many", none, []Message{{Body: []byte("{}"), ContentType: "Application/X-NDJSON; a=b", Key: "k"}}, false,
			manyType, "", `{"body":"{}","content_type":"Application/X-NDJSON; a=b","key":"k"}` + "\n"},
		{"many are lines", none, []Message{{Body: []byte("a")}, {Body: []byte{0xff}, ContentType: "x/y", Key: `"k"`}}, true, manyType, "",
			`{"body":"a","content_type":"application/octet-stream"}` + "\n" + `{"body_base64":"/w==","content_type":"x/y","key":"\"k\""}` + "\n"},
		{"headers are headers of the request", none, []Message{{Body: []byte("a"), Headers: map[string]string{"Tenant": "7", "x_y": ""}}}, false, "", "", "a"},
		{"headers that HTTP does not carry make it a line", none, []Message{{Body: []byte("a"), ContentType: "x/y", Headers: map[string]string{"b": "ä\"", "a": ""}}},
			false, manyType, "", `{"body":"a","content_type":"x/y","headers":{"a":"","b":"ä\""}}` + "\n"},
		{"so do names that are none", none, []Message{{Headers: map[string]string{"a b": ""}}},
			false, manyType, "", `{"body":"","content_type":"application/octet-stream","headers":{"a b":""}}` + "\n"},
		{"many with retries have a key", quick(2), []Message{{Key: "k"}, {}}, true, manyType, "*",
			`{"body":"","content_type":"application/octet-stream","key":"k"}` + "\n" + `{"body":"","content_type":"application/octet-stream"}` + "\n"},
		{"many with keys need no other", quick(2), []Message{{Key: "k"}}, true, manyType, "",
			`{"body":"","content_type":"application/octet-stream","key":"k"}` + "\n"},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, accepts("R1", len(test.messages)))
			c := newClient(t, Config{URL: s.URL, Retry: test.retry})
			var status Status
			var err error
			if test.many {
				status, err = c.AppendMany(t.Context(), "a.log", test.messages, 0)
			} else {
				status, err = c.Append(t.Context(), "a.log", test.messages[0], 0)
			}
			if err != nil || !reflect.DeepEqual(status, Status{Receipt: "R1", State: Accepted, Count: uint64(len(test.messages))}) {
				t.Fatalf("%+v: %v", status, err)
			}
			r := s.got()[0]
			key := r.Header.Get("Idempotency-Key")
			if test.key == "*" && len(key) > 20 {
				key = "*"
			}
			if headers := test.messages[0].Headers; test.contentType != manyType {
				for name, value := range headers {
					if got := r.Header.Values("Drainmark-Header-" + name); !slices.Equal(got, []string{value}) {
						t.Errorf("header %s is %q", name, got)
					}
				}
			}
			if r.Method != "POST" || r.URL.Path != "/v1/logs/a.log/messages" || r.Header.Get("Content-Type") != test.contentType ||
				key != test.key || r.body != test.body || r.Header.Get("Prefer") != "" {
				t.Errorf("it sent %s %s %v %q", r.Method, r.URL, r.Header, r.body)
			}
		})
	}
}

func TestKeysOfTheClientDiffer(t *testing.T) {
	t.Parallel()
	s := startScript(t, accepts("R1", 1))
	c := newClient(t, Config{URL: s.URL, Retry: DefaultRetry})
	for range 2 {
		if _, err := c.Append(t.Context(), "log", Message{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.got(); got[0].Header.Get("Idempotency-Key") == got[1].Header.Get("Idempotency-Key") {
		t.Error("two appends have the same key")
	}
}

// FuzzLine checks that what a line says is the message, whatever its body is.
func FuzzLine(f *testing.F) {
	f.Add([]byte("hello"), "text/plain", "key", "", "")
	f.Add([]byte("\x00\x1f\"\\\n\r\t/<>&\u2028\U0001F600\x7f"), "", "", "tenant", "\x00\"ä")
	f.Add([]byte{0xff, 0xfe}, `a"b\c`, " ", "a", "\xff")
	f.Fuzz(func(t *testing.T, body []byte, contentType, key, name, value string) {
		headers := map[string]string{name: value, "other": "\\"}
		line, err := appendLine(nil, &Message{Body: body, ContentType: contentType, Key: key, Headers: headers})
		if err != nil {
			if isPrintable(contentType) && isPrintable(key) && utf8.ValidString(name) && utf8.ValidString(value) {
				t.Fatal(err)
			}
			return
		}
		var got struct {
			Body        *string `json:"body"`
			BodyBase64  *string `json:"body_base64"`
			ContentType string  `json:"content_type"`
			Key         string  `json:"key"`
			Headers     map[string]string
		}
		if err := json.Unmarshal(line, &got); err != nil || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("%q: %v", line, err)
		}
		var read []byte
		if got.Body != nil {
			read = []byte(*got.Body)
		} else if read, err = base64.StdEncoding.DecodeString(*got.BodyBase64); err != nil {
			t.Fatal(err)
		}
		if contentType == "" {
			contentType = "application/octet-stream"
		}
		if !bytes.Equal(read, body) || (got.Body != nil) != utf8.Valid(body) || got.ContentType != contentType || got.Key != key ||
			!maps.Equal(got.Headers, headers) {
			t.Errorf("%q %q %q is %s", body, contentType, key, line)
		}
	})
}

func TestWaits(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(201, `{"receipt":"R1","count":1,"state":"persisted"}`))
	c := newClient(t, Config{URL: s.URL})
	status, err := c.Append(t.Context(), "log", Message{}, 1500e6)
	if err != nil || status.State != Persisted || s.got()[0].Header.Get("Prefer") != "wait=2" {
		t.Errorf("%+v with %q: %v", status, s.got()[0].Header, err)
	}
}

func TestPathsAreEscaped(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(200, `{"receipt":"R1","count":1,"state":"persisted","log":"a/b?c","last_position":1}`))
	c := newClient(t, Config{URL: s.URL})
	odd := "a/b?c"
	calls := map[string]func() error{
		"/v1/logs/a%2Fb%3Fc/messages":         func() error { _, err := c.Clear(t.Context(), odd, 0); return err },
		"/v1/logs/a%2Fb%3Fc/trim?through=7":   func() error { _, err := c.Trim(t.Context(), odd, 7, 0); return err },
		"/v1/logs/a%2Fb%3Fc/messages/8":       func() error { _, err := c.Erase(t.Context(), odd, 8, 0); return err },
		"/v1/logs/a%2Fb%3Fc":                  func() error { _, err := c.Delete(t.Context(), odd, 0); return err },
		"/v1/logs/a%2Fb%3Fc/messages?after=0": func() error { _, err := c.Messages(t.Context(), odd, ReadOptions{}); return err },
		"/v1/receipts/a%2Fb%3Fc":              func() error { _, err := c.Status(t.Context(), Receipt(odd), 0); return err },
		"/v1/receipts/a%2Cb":                  func() error { _, err := c.Status(t.Context(), Merge("", "a", "", "b"), 0); return err },
		"/v1/barriers?receipt=a%2Fb%3Fc":      func() error { _, err := c.BarrierAgain(t.Context(), Receipt(odd), 0); return err },
		"/v1/barriers?log=a&log=a%2Fb%3Fc":    func() error { _, err := c.Barrier(t.Context(), 0, "a", odd); return err },
		"/v1/dead-letters/a%2Fb%3Fc/retry":    func() error { _, err := c.RetryDeadLetter(t.Context(), odd, 0); return err },
		"/v1/dead-letters/a%2Fb%3Fc":          func() error { _, err := c.DiscardDeadLetter(t.Context(), odd, 0); return err },
	}
	for path, call := range calls {
		before := len(s.got())
		if err := call(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if got := s.got()[before].RequestURI; got != path {
			t.Errorf("%s instead of %s", got, path)
		}
	}
}

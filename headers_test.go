package drainmark_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
)

// malformedHeaders is what no headers are on the wire.
var malformedHeaders = []string{
	"a", "a:b", "\n", ":b\n", "a b:c\n", "A:b\n", "a\x00:b\n", "ä:b\n", "a: b\n", "a:b \n", "a:b\t\n", "a:\x00\n", "a:b\rc\n", "a:\u0085\n",
	"a:\x7f\n", "a:\xff\n", "a:b\na:c\n", "b:c\na:b\n", "\u212a:v\n",
	strings.Repeat("a", drainmark.MaxHeaderBytes) + ":b\n",
	"traceparent:" + strings.Repeat("t", drainmark.MaxTraceBytes) + "\n",
	"tracestate:" + strings.Repeat("t", 6<<10) + "\n",
	"a:b\nb:c\nc:d\nd:e\ne:f\nf:g\ng:h\nh:i\ni:j\nj:k\nk:l\nl:m\nm:n\nn:o\no:p\np:q\nq:r\n", // 17
}

func TestMalformedHeadersAreNotParsed(t *testing.T) {
	t.Parallel()
	for _, text := range malformedHeaders {
		if h, err := drainmark.ParseHeaders(text); err == nil || !h.IsZero() {
			t.Errorf("%.60q gave %q, %v", text, h, err)
		}
	}
	if h, err := drainmark.ParseHeaders("a:\nb:c:d \u00a0\n"); err != nil || h.String() != "a:\nb:c:d \u00a0\n" {
		t.Errorf("their twin gave %q, %v", h, err)
	}
}

func TestHeadersAreNamedInLowerCaseTrimmedAndSorted(t *testing.T) {
	t.Parallel()
	list := []drainmark.Header{{Name: "X-Tenant", Value: "\t a\u00a0b "}, {Name: "Empty"}, {Name: "a!#$%&'*+-.^_`|~9", Value: "Grüße, 世界: 🎉"}}
	h, err := drainmark.NewHeaders(list...)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"x-tenant": "a\u00a0b", "empty": "", "a!#$%&'*+-.^_`|~9": "Grüße, 世界: 🎉"}
	if got := maps.Collect(h.All()); !reflect.DeepEqual(got, want) {
		t.Errorf("they are %q, want %q", got, want)
	}
	if value, ok := h.Get("empty"); value != "" || !ok {
		t.Errorf("the empty one is %q, %v", value, ok)
	}
	if value, ok := h.Get("X-Tenant"); value != "" || ok {
		t.Errorf("one that there is not is %q, %v", value, ok)
	}
	again, err := drainmark.NewHeaders(list[2], list[0], list[1])
	if err != nil || again != h {
		t.Errorf("in another order they are %q (%v), want %q", again, err, h)
	}
	if list[0].Name != "X-Tenant" {
		t.Errorf("the caller's list was changed to %q", list)
	}
	for range h.All() {
		break // ends the loop, and nothing else
	}
}

func TestHeadersThatCannotBeAreRefusedByKind(t *testing.T) {
	t.Parallel()
	many := func(n, size int) (list []drainmark.Header) {
		for i := range n {
			list = append(list, drainmark.Header{Name: fmt.Sprintf("n%02d", i), Value: strings.Repeat("v", size-3)})
		}
		return list
	}
	trace := drainmark.Header{Name: "traceparent", Value: strings.Repeat("t", drainmark.MaxTraceBytes-len("traceparent"))}
	cases := map[string]struct {
		list  []drainmark.Header
		kind  drainmark.Kind
		names string
	}{
		"no name":                           {[]drainmark.Header{{Value: "v"}}, drainmark.KindInvalid, "without a name"},
		"a name with a space":               {[]drainmark.Header{{Name: "a b"}}, drainmark.KindInvalid, `"a b"`},
		"a name with a colon":               {[]drainmark.Header{{Name: "a:b"}}, drainmark.KindInvalid, `"a:b"`},
		"a name beyond ASCII":               {[]drainmark.Header{{Name: "größe"}}, drainmark.KindInvalid, `"größe"`},
		"a name whose lower case is ASCII":  {[]drainmark.Header{{Name: "\u212a"}}, drainmark.KindInvalid, "a name has"},
		"a line end in a value":             {[]drainmark.Header{{Name: "a", Value: "x\r\ny"}}, drainmark.KindInvalid, "control character (at byte 2)"},
		"a control character beyond ASCII":  {[]drainmark.Header{{Name: "a", Value: "x\u009f"}}, drainmark.KindInvalid, "control character"},
		"NUL":                               {[]drainmark.Header{{Name: "a", Value: "\x00"}}, drainmark.KindInvalid, "control character"},
		"a value that is not UTF-8":         {[]drainmark.Header{{Name: "a", Value: "\xff"}}, drainmark.KindInvalid, "UTF-8"},
		"a name twice":                      {[]drainmark.Header{{Name: "a", Value: "x"}, {Name: "A", Value: "x"}}, drainmark.KindInvalid, `"a" is there twice`},
		"one too many":                      {many(17, 10), drainmark.KindTooLarge, "17 headers; the limit is 16"},
		"one byte too many":                 {append(many(15, 256), drainmark.Header{Name: "a", Value: strings.Repeat("v", 256)}), drainmark.KindTooLarge, "4097 bytes (names and values); the limit is 4096"},
		"as many as can be":                 {many(16, 256), "", ""},
		"as many, and the trace context":    {append(many(16, 256), trace), "", ""},
		"a trace context that is too large": {[]drainmark.Header{trace, {Name: "tracestate"}}, drainmark.KindTooLarge, "1034 bytes; the limit is 1024"},
	}
	for name, c := range cases {
		h, err := drainmark.NewHeaders(c.list...)
		if drainmark.KindOf(err) != c.kind || c.kind != "" && (!h.IsZero() || !strings.Contains(err.Error(), c.names)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeadersSurviveJSONAndTheirOwnText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := genHeaders().Draw(t, "headers")
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var plain map[string]string
		if err := json.Unmarshal(text, &plain); err != nil || !maps.Equal(plain, maps.Collect(h.All())) {
			t.Fatalf("%s is %q (%v), want %q", text, plain, err, h)
		}
		var again drainmark.Headers
		if err := json.Unmarshal(text, &again); err != nil || again != h {
			t.Fatalf("%s came back as %q (%v), want %q", text, again, err, h)
		}
		if again, err = drainmark.ParseHeaders(h.String()); err != nil || again != h {
			t.Fatalf("%q came back as %q (%v)", h, again, err)
		}
	})
	for text, want := range map[string]string{
		`{}`: "", ` { } `: "", `null`: "", `{"a":"b"}`: "a:b\n", `{"b": "\u0063", "a": ""}`: "a:\nb:c\n", `{ "b" : "c" , "a" : "" }`: "a:\nb:c\n",
		"{\"a\":\"b\",\n\"B\":\"c\"}": "a:b\nb:c\n", `{"b": "c", "a": "ä, \"x\": {}"}`: "a:ä, \"x\": {}\nb:c\n",
	} {
		var h drainmark.Headers
		if err := json.Unmarshal([]byte(text), &h); err != nil || h.String() != want {
			t.Errorf("%s gave %q, %v", text, h, err)
		}
	}
	for _, wrong := range []string{`{"a":"b","a":"c"}`, `{"a":"b","A":"b"}`, "{\"a\":\"\xff\"}", `{"a":"b"`, `{"a":"b",}`, `{"a":"b"}}`, `{"a":"b"}x`, `{"a"}`, `{"a:"b"}`, `[]`, `{"a":1}`, `{"a b":""}`, `{"a":"\n"}`, `"a"`} {
		var h drainmark.Headers
		if err := h.UnmarshalJSON([]byte(wrong)); err == nil {
			t.Errorf("%s gave %q", wrong, h)
		}
	}
}

func TestHeadersWithoutTheTraceContextAreTheOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ have, want string }{
		{"", ""}, {"a:b\n", "a:b\n"}, {"traceparent:x\n", ""}, {"tracestate:x\n", ""}, {"traceparent:x\ntracestate:y\n", ""},
		{"a:b\ntraceparent:x\ntracestate:y\nz:\n", "a:b\nz:\n"}, {"a:traceparent:x\nz-traceparent:x\n", "a:traceparent:x\nz-traceparent:x\n"},
		{"traceparen:x\ntraceparent:z\ntraceparent-:y\n", "traceparen:x\ntraceparent-:y\n"}, {"traceparent:\ntracestatf:tracestate:x\n", "tracestatf:tracestate:x\n"},
	} {
		h, err := drainmark.ParseHeaders(c.have)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.WithoutTrace(); got.String() != c.want {
			t.Errorf("%q without it are %q, want %q", h, got, c.want)
		}
	}
}

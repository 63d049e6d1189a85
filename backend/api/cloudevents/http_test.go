package cloudevents

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
)

// headersWith are the headers of an event in binary mode, with others besides or in their place.
func headersWith(pairs ...string) http.Header {
	h := http.Header{}
	for _, pair := range append([]string{"ce-specversion: 1.0", "ce-id: 1", "ce-source: /a", "ce-type: t"}, pairs...) {
		name, value, _ := strings.Cut(pair, ": ")
		h.Set(name, value)
	}
	return h
}

func TestBinary(t *testing.T) {
	t.Parallel()
	h := headersWith("ce-time: 2018-04-05T03:56:24Z", "CE-comExampleExtension1: value", "ce-drainmarkposition: 7", "Content-Type: application/json; charset=utf-8", "Other: x")
	e, err := FromHeaders(h)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(e.Attributes, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	want := []Attribute{{Name: "comexampleextension1", Value: "value"}, {Name: "id", Value: "1"}, {Name: "source", Value: "/a"},
		{Name: "specversion", Value: "1.0"}, {Name: "time", Value: "2018-04-05T03:56:24Z"}, {Name: "type", Value: "t"}}
	if !slices.Equal(e.Attributes, want) || e.ContentType != "application/json; charset=utf-8" {
		t.Errorf("the event is %+v", e)
	}
	if InHeaders(http.Header{"Cex": {"1"}, "Content-Type": {"text/plain"}}) || !InHeaders(http.Header{"Ce-X": {"1"}}) {
		t.Error("it is not the prefix ce- that says what is an event")
	}
}

func TestHeaderValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ header, want string }{
		"plain":                                {"a-b/c;d=e", "a-b/c;d=e"},
		"the specification's example":          {"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"},
		"escapes in lower case":                {"%e2%82%ac", "€"},
		"escapes that nobody needs":            {"%41b", "Ab"},
		"one round of escapes":                 {"100%2525", "100%25"},
		"spaces as they are":                   {"a b", "a b"},
		"UTF-8 as it is, as some SDKs send it": {"Zoë 😀", "Zoë 😀"},
		"a quoted string":                      {`"a \"b\" \\c"`, `a "b" \c`},
		"escapes in a quoted string":           {`"a%20b"`, "a b"},
		"a quote within":                       {`a"b`, `a"b`},
		"nothing":                              {"", ""},
		"an empty quoted string":               {`""`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := FromHeaders(headersWith("ce-x: " + test.header))
			if err != nil || e.Get("x") != test.want {
				t.Errorf("%q is %q, %v; want %q", test.header, e.Get("x"), err, test.want)
			}
		})
	}
}

func TestBinaryRefuses(t *testing.T) {
	t.Parallel()
	without := func(name string) http.Header {
		h := headersWith()
		h.Del(name)
		return h
	}
	for name, test := range map[string]struct {
		header http.Header
		words  string
	}{
		"no id":                             {without("ce-id"), "no id"},
		"no source":                         {without("ce-source"), "no source"},
		"no type":                           {without("ce-type"), "no type"},
		"no specversion":                    {without("ce-specversion"), "no specversion"},
		"an empty id":                       {headersWith("ce-id: "), "no id"},
		"another version":                   {headersWith("ce-specversion: 0.3"), "only 1.0"},
		"a name with a hyphen":              {headersWith("ce-my-ext: x"), "lower-case letters and digits"},
		"no name":                           {headersWith("ce-: x"), "without a name"},
		"the content type as an attribute":  {headersWith("ce-datacontenttype: text/plain"), "Content-Type"},
		"data as an attribute":              {headersWith("ce-data: x"), "the body is the data"},
		"a source that is no URI":           {headersWith("ce-source: a%20b"), "URI reference"},
		"a schema without a scheme":         {headersWith("ce-dataschema: /a"), "absolute URI"},
		"a time that is none":               {headersWith("ce-time: yesterday"), "RFC 3339"},
		"an empty subject":                  {headersWith("ce-subject: "), "subject is empty"},
		"a control character":               {headersWith("ce-x: a%0Ab"), "control character"},
		"a noncharacter":                    {headersWith("ce-x: %EF%BF%BF"), "at byte 1"},
		"an overlong escape":                {headersWith("ce-x: %C0%A0"), "not valid UTF-8"},
		"an escape that is none":            {headersWith("ce-x: 100%"), "%25"},
		"another escape that is none":       {headersWith("ce-x: %zz"), "character 1 begins no escape"},
		"bytes that are no UTF-8":           {headersWith("ce-x: \xff"), "not valid UTF-8"},
		"a quoted string that does not end": {headersWith(`ce-x: "a\"`), "quoted string"},
		"a quoted string and more":          {headersWith(`ce-x: "a" b`), "quoted string"},
		"a content type that is none":       {headersWith("Content-Type: whatever, really"), "media type"},
		"a content type too long":           {headersWith("Content-Type: text/" + strings.Repeat("x", 251)), "255"},
		"a header twice":                    {http.Header{"Ce-Id": {"1", "2"}}, "2 Ce-Id headers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := FromHeaders(test.header)
			if drainmark.KindOf(err) != drainmark.KindInvalid || !strings.Contains(err.Error(), test.words) {
				t.Errorf("it is %+v, %v", e, err)
			}
		})
	}
}

func TestURIs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // reference, or absolute, or none
		"https://github.com/cloudevents": "absolute", "mailto:cncf-wg-serverless@lists.cncf.io": "absolute",
		"urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66": "absolute", "/cloudevents/spec/pull/123": "reference",
		"1-555-123-4567": "reference", "a/b:c": "reference", "?q": "reference", "#f": "reference", "//host/a": "reference",
		"http://u:p@[::1]:80/a?b#c": "absolute", "http://a%20b/": "absolute", "http://host:/": "absolute", "x:": "absolute",
		"a:b:c": "absolute", "/a%2Fb?[": "none", "a b": "none", "/ä": "none", "/%zz": "none", "/%4": "none", "a#b#c": "none",
		"1:b": "none", ":a": "none", "http://host:x/": "none", "http://[::1/": "none", "http://a@b@c/": "none", "/a[b]": "none",
		"http://::1/": "none", `/"`: "none", "/a\\b": "none", "/<a>": "none",
	} {
		got := "none"
		if isReference(text) {
			got = "reference"
		}
		if isAbsolute(text) {
			got = "absolute"
		}
		if got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"2018-04-05T17:31:00Z": true, "2018-04-05t17:31:00.123456789012z": true, "2018-04-05T17:31:00+05:30": true,
		"2016-12-31T23:59:60Z": true, "1990-12-31T15:59:60.5-08:00": true, "0000-01-01T00:00:00Z": true,
		"2018-04-05": false, "2018-04-05 17:31:00Z": false, "2018-02-30T00:00:00Z": false,
		"2018-04-05T7:31:00Z": false, "2018-04-05T17:31:00,5Z": false, "2018-04-05T17:31:61Z": false, "2018-04-05T24:00:00Z": false,
		"2018-04-05T17:31:00+25:00": false, "2018-04-05T17:31:00+24:00": false, "2018-04-05T17:31:00+00:60": false,
		"2018-04-05T17:31:00+0100": false, "2018-04-05T17:31:00": false, "": false,
		"ıııııı0:000:00": false, // of 20 bytes, and of 14 in upper case
	} {
		if isTimestamp(text) != want {
			t.Errorf("%q is a timestamp: %v", text, !want)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]Form{
		"application/json": InJSON, "Application/Vnd.X+JSON; charset=utf-8": InJSON, "text/json": InJSON,
		"text/plain": InString, "text/html; charset=UTF-8": InString, "application/xml": InString, "image/svg+xml": InString,
		"application/yaml; charset=utf-8": InString, `text/plain; a=b; Charset="utf-8"`: InString, "text/plain;charset=us-ascii": InString,
		"text/plain; charset=iso-8859-1": InBase64, "application/yaml": InBase64, "application/octet-stream": InBase64, "": InBase64,
	} {
		e := Event{ContentType: contentType, Data: []byte("1")}
		if got := e.Form(); got != want {
			t.Errorf("%q is written in form %d, want %d", contentType, got, want)
		}
	}
	for contentType, data := range map[string]string{"application/json": "{", "text/plain": "\xff", "text/xml": "a\x00", "text/json": "\"\xff\""} {
		if e := (Event{ContentType: contentType, Data: []byte(data)}); e.Form() != InBase64 {
			t.Errorf("%q as %s is written in form %d", data, contentType, e.Form())
		}
	}
}

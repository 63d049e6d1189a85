package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
)

// decodeBoth decodes with and without the short cut, and fails the test if that makes a difference.
func decodeBoth(t *testing.T, data, key string) ([]drainmark.Record, error) {
	t.Helper()
	make := func(careful bool) many {
		return many{record: drainmark.Record{Kind: drainmark.Append, Log: "a"}, key: key, message: 64, lines: 5, careful: careful}
	}
	quick, slow := make(false), make(true)
	records, err := quick.decode([]byte(data))
	same, sameErr := slow.decode([]byte(data))
	if fmt.Sprint(err) != fmt.Sprint(sameErr) || drainmark.KindOf(err) != drainmark.KindOf(sameErr) {
		t.Fatalf("%q: the short cut says %v, the long way %v", data, err, sameErr)
	}
	if !reflect.DeepEqual(records, same) {
		t.Fatalf("%q: the short cut reads %+v, the long way %+v", data, records, same)
	}
	return records, err
}

// goodLines are requests that are taken, and what is read of them.
var goodLines = map[string]struct {
	data string
	want []drainmark.Record
}{
	"a body is text":                   {`{"body":"hello"}`, []drainmark.Record{{Body: []byte("hello"), ContentType: textType}}},
	"a byte order mark may come first": {"\xef\xbb\xbf" + `{"body":"hello"}`, []drainmark.Record{{Body: []byte("hello"), ContentType: textType}}},
	"a body may be empty":              {`{"body":""}`, []drainmark.Record{{Body: []byte{}, ContentType: textType}}},
	"a base64 body is bytes": {
		`{"body_base64":"AAH/"}`,
		[]drainmark.Record{{Body: []byte{0, 1, 255}, ContentType: drainmark.DefaultContentType}},
	},
	"a base64 body may be empty": {
		`{"body_base64":""}`, []drainmark.Record{{Body: []byte{}, ContentType: drainmark.DefaultContentType}},
	},
	"the content type and the key are the line's": {
		`{"key":"k 1","content_type":"image/png","body_base64":"AA=="}`,
		[]drainmark.Record{{Body: []byte{0}, ContentType: "image/png", Key: "k 1"}},
	},
	"each line has its own content type": {
		`{"body":"a","content_type":"a/a"}` + "\n" + `{"body":"b","content_type":"b/b"}` + "\n" + `{"body":"c","content_type":"b/b"}`,
		[]drainmark.Record{
			{Body: []byte("a"), ContentType: "a/a"}, {Body: []byte("b"), ContentType: "b/b"}, {Body: []byte("c"), ContentType: "b/b"},
		},
	},
	"the end of the last line may be missing, and lines may end with CR LF": {
		"{\"body\":\"a\"}\r\n{\"body\":\"b\"}",
		[]drainmark.Record{{Body: []byte("a"), ContentType: textType}, {Body: []byte("b"), ContentType: textType}},
	},
	"blank lines are passed over": {
		"\n \t\r\n{\"body\":\"a\"}\n\n{\"body\":\"b\"}\n\n",
		[]drainmark.Record{{Body: []byte("a"), ContentType: textType}, {Body: []byte("b"), ContentType: textType}},
	},
	"white space is allowed wherever JSON allows it": {
		" \t{ \"body\" :\t\"a\" , \"key\": \"k\" } \r\n", []drainmark.Record{{Body: []byte("a"), ContentType: textType, Key: "k"}},
	},
	"escapes are what they stand for": {
		`{"body":"\"\\\/\b\f\n\r\t\u0041\u00e4\u20ac\ud83d\ude00\u0000"}`,
		[]drainmark.Record{{Body: []byte("\"\\/\b\f\n\r\tAä€😀\x00"), ContentType: textType}},
	},
	"names may be escaped too": {`{"b\u006fdy":"a"}`, []drainmark.Record{{Body: []byte("a"), ContentType: textType}}},
	"text beyond ASCII stays as it is": {
		`{"body":"grüße, 世界 ` + "\u2028" + `"}`, []drainmark.Record{{Body: []byte("grüße, 世界 \u2028"), ContentType: textType}},
	},
	"a line may have headers": {
		`{"headers":{"Tenant":" 7\t","b":""},"body":"a"}` + "\n" + `{"body":"b"}` + "\n" + `{"body":"c", "headers" : { "\u0061" : "\"\u00e4\ud83d\ude00\\" , "x":"ä" } }`,
		[]drainmark.Record{
			{Body: []byte("a"), ContentType: textType, Headers: madeHeaders("tenant", "7", "b", "")}, {Body: []byte("b"), ContentType: textType},
			{Body: []byte("c"), ContentType: textType, Headers: madeHeaders("a", "\"ä😀\\", "x", "ä")},
		},
	},
	"headers may be none": {`{"body":"a","headers":{ }}`, []drainmark.Record{{Body: []byte("a"), ContentType: textType}}},
	"a message may be as long as the limit": {
		`{"body":"` + strings.Repeat("x", 64) + `"}`,
		[]drainmark.Record{{Body: bytes.Repeat([]byte("x"), 64), ContentType: textType}},
	},
}

func TestDecodeMany(t *testing.T) {
	t.Parallel()
	for name, test := range goodLines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeBoth(t, test.data, "")
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(test.want)
			for i := range want {
				want[i].Kind, want[i].Log = drainmark.Append, "a"
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

const goodLine = `{"body":"a"}` + "\n"

// wrongLines are requests that are refused.
var wrongLines = map[string]struct {
	data string
	kind drainmark.Kind
	want string // in the error
}{
	"no message":                       {"", drainmark.KindInvalid, "no messages"},
	"only blank lines":                 {"\n \n\r\n", drainmark.KindInvalid, "no messages"},
	"a line that is no JSON":           {goodLine + "\nhello\n" + goodLine, drainmark.KindInvalid, "line 3: invalid JSON"},
	"a line that is cut off":           {goodLine + `{"body":"a`, drainmark.KindInvalid, "line 2: invalid JSON: unexpected end"},
	"a line that is no object":         {`["body"]`, drainmark.KindInvalid, "line 1: it is not a JSON object"},
	"a line that is null":              {`null`, drainmark.KindInvalid, "line 1: it is not a JSON object"},
	"two objects in a line":            {`{"body":"a"}{"body":"b"}`, drainmark.KindInvalid, "line 1: invalid JSON"},
	"a comma too many":                 {`{"body":"a",}`, drainmark.KindInvalid, "line 1: invalid JSON"},
	"an object over two lines":         {"{\"body\":\n\"a\"}", drainmark.KindInvalid, "line 1: invalid JSON"},
	"a control character in a string":  {"{\"body\":\"a\tb\"}", drainmark.KindInvalid, "line 1: invalid JSON"},
	"headers that are no object":       {`{"body":"a","headers":"b"}`, drainmark.KindInvalid, `line 1: "headers" must be an object of strings`},
	"headers that are null":            {`{"body":"a","headers":null}`, drainmark.KindInvalid, `"headers" must be an object of strings`},
	"headers that are a list":          {`{"body":"a","headers":[]}`, drainmark.KindInvalid, `"headers" must be an object of strings`},
	"a header that is no string":       {`{"body":"a","headers":{"b":1}}`, drainmark.KindInvalid, `"headers" must be an object of strings`},
	"a header with two values":         {`{"body":"a","headers":{"b":["c"]}}`, drainmark.KindInvalid, `"headers" must be an object of strings`},
	"headers that are cut off":         {`{"body":"a","headers":{"b":"c"`, drainmark.KindInvalid, "line 1: invalid JSON"},
	"a comma too many in headers":      {`{"body":"a","headers":{"b":"c",}}`, drainmark.KindInvalid, "line 1: invalid JSON"},
	"headers twice":                    {`{"body":"a","headers":{},"headers":{}}`, drainmark.KindInvalid, `it has "headers" twice`},
	"a header twice":                   {`{"body":"a","headers":{"b":"c","B":"c"}}`, drainmark.KindInvalid, `line 1: header "b" is there twice`},
	"a header twice, in escapes":       {`{"body":"a","headers":{"b":"c","\u0062":"d"}}`, drainmark.KindInvalid, `header "b" is there twice`},
	"a header that no name is":         {`{"body":"a","headers":{"b c":""}}`, drainmark.KindInvalid, `header "b c": a name has`},
	"a line end in a header":           {`{"body":"a","headers":{"b":"x\ny"}}`, drainmark.KindInvalid, `header "b": its value has a control character`},
	"half a surrogate pair in headers": {`{"body":"a","headers":{"b":"\ud83d"}}`, drainmark.KindInvalid, `"headers" has half of a surrogate pair`},
	"a trace context that is none":     {`{"body":"a","headers":{"traceparent":"b"}}`, drainmark.KindInvalid, `header "traceparent"`},
	"an escape that there is not":      {`{"body":"\x"}`, drainmark.KindInvalid, "line 1: invalid JSON"},
	"half of a surrogate pair":         {`{"body":"\ud83d"}`, drainmark.KindInvalid, `line 1: "body" has half of a surrogate pair`},
	"a pair the wrong way round":       {`{"body":"\ude00\ud83d"}`, drainmark.KindInvalid, "half of a surrogate pair"},
	"invalid UTF-8":                    {"{\"body\":\"a\xff\"}", drainmark.KindInvalid, "line 1: it is not valid UTF-8"},
	"invalid UTF-8 in a name":          {"{\"body\xff\":\"a\"}", drainmark.KindInvalid, "not valid UTF-8"},
	"an unknown field":                 {`{"body":"a","colour":"red"}`, drainmark.KindInvalid, `line 1: unknown field "colour"`},
	"a field in other letters":         {`{"Body":"a"}`, drainmark.KindInvalid, `unknown field "Body"`},
	"a field twice":                    {`{"body":"a","body":"b"}`, drainmark.KindInvalid, `line 1: it has "body" twice`},
	"both bodies":                      {`{"body":"a","body_base64":"AA=="}`, drainmark.KindInvalid, "both"},
	"no body":                          {`{"key":"a"}`, drainmark.KindInvalid, "line 1: it has neither"},
	"an empty object":                  {`{}`, drainmark.KindInvalid, "neither"},
	"a body that is no string":         {`{"body":1}`, drainmark.KindInvalid, `line 1: "body" must be a string`},
	"a body that is null":              {`{"body":null}`, drainmark.KindInvalid, `"body" must be a string`},
	"a body that is an object":         {`{"body":{"a":1}}`, drainmark.KindInvalid, `"body" must be a string`},
	"bad base64":                       {`{"body_base64":"A*=="}`, drainmark.KindInvalid, `line 1: "body_base64": illegal base64`},
	"base64 without its padding":       {`{"body_base64":"AA"}`, drainmark.KindInvalid, `"body_base64"`},
	"base64 with bits left over":       {`{"body_base64":"AB=="}`, drainmark.KindInvalid, `"body_base64"`},
	"base64 in lines":                  {`{"body_base64":"AAAA\nAAAA"}`, drainmark.KindInvalid, "illegal base64 data at input byte 4"},
	"an empty key":                     {`{"body":"a","key":""}`, drainmark.KindInvalid, `line 1: "key" of 0 characters: it must have 1 to 255`},
	"a long key":                       {`{"body":"a","key":"` + strings.Repeat("k", 256) + `"}`, drainmark.KindInvalid, "256 characters"},
	"a key that is not printable":      {`{"body":"a","key":"a\nb"}`, drainmark.KindInvalid, `"key": character 2`},
	"an empty content type":            {`{"body":"a","content_type":""}`, drainmark.KindInvalid, `"content_type" of 0`},
	"a content type beyond ASCII":      {`{"body":"a","content_type":"ä"}`, drainmark.KindInvalid, `"content_type": character 1`},
	"a message over the limit":         {goodLine + `{"body":"` + strings.Repeat("x", 65) + `"}`, drainmark.KindTooLarge, "line 2: a message of 65 bytes; the limit is 64"},
	"a base64 message over the limit":  {`{"body_base64":"` + strings.Repeat("AAAA", 22) + `"}`, drainmark.KindTooLarge, "line 1: a message of 66 bytes; the limit is 64"},
	"more messages than the limit":     {strings.Repeat(goodLine+"\n", 6), drainmark.KindTooLarge, "line 11: the request has more than 5 messages, the limit"},
	"a fault behind many good lines":   {strings.Repeat(goodLine, 4) + "x", drainmark.KindInvalid, "line 5: invalid JSON"},
	"JSON deeper than anybody needs":   {strings.Repeat("[", 20000) + strings.Repeat("]", 20000), drainmark.KindInvalid, "exceeded max depth"},
	"a value that is a very long name": {`{"` + strings.Repeat("n", 1000) + `":1}`, drainmark.KindInvalid, `unknown field "nnnnnnnnnnnnnnnnnnnn`},
}

func TestDecodeManyRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range wrongLines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			records, err := decodeBoth(t, test.data, "")
			if err == nil || records != nil {
				t.Fatalf("it was taken: %+v", records)
			}
			if drainmark.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 300 {
				t.Errorf("%s: %v; want %s: …%s…", drainmark.KindOf(err), err, test.kind, test.want)
			}
		})
	}
}

func TestDecodeManyKeys(t *testing.T) {
	t.Parallel()
	records, err := decodeBoth(t, `{"body":"a"}`+"\n\n"+`{"body":"b","key":"own"}`+"\n"+`{"body":"c"}`, "request")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"request/1", "own", "request/3"} {
		if records[i].Key != want {
			t.Errorf("message %d has the key %q, want %q", i+1, records[i].Key, want)
		}
	}
}

func TestBodiesCannotGrowIntoEachOther(t *testing.T) {
	t.Parallel()
	records, err := decodeBoth(t, `{"body":"a"}`+"\n"+`{"body_base64":"AAAA"}`+"\n"+`{"body_base64":"AQEB"}`, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = append(records[0].Body, "xxxxxxxxxxxxxxxxxxxxxxxxx"...)
	_ = append(records[1].Body, "xxxxxxxxxxxxxxxxxxxxxxxxx"...)
	if !bytes.Equal(records[1].Body, []byte{0, 0, 0}) || !bytes.Equal(records[2].Body, []byte{1, 1, 1}) {
		t.Errorf("bodies are now %q and %q", records[1].Body, records[2].Body)
	}
}

// FuzzDecodeMany checks that the short cut and the long way agree on everything, and that they read the same as
// encoding/json.
func FuzzDecodeMany(f *testing.F) {
	for _, seed := range []string{
		"", "\n", `{"body":"hello"}`, `{"body":"a\nb","key":"k"}` + "\r\n" + `{"body_base64":"AAE=","content_type":"a/b"}`,
		`{"body":"\ud83d\ude00\u00e4ä"}`, `{"body":"\ud83d"}`, `{"body":"a","body":"b"}`, `{"Body":"a"}`, `{"body":"a",}`,
		`{"body":null}`, `{"bo\u0064y":"x"}`, "{\"body\":\"\xff\"}", `{"body":"a"} x`, ` { "body" : "12345678\"\\" } `,
		`{"body":"0123456789abcdef\u000a0123456789"}`, `[]`, `{}`, `{"key":"a"}`, `{"body_base64":"A\u0041=="}`,
		`{"body":"","headers":{"a":"b","c":"\u0041\""}}`, `{"headers":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},"body":""}`,
	} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), "k")
	}
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		records, err := decodeBoth(t, string(data), key)
		if err != nil {
			return
		}
		i := 0
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			if len(bytes.Trim(line, " \t\r")) == 0 {
				continue
			}
			var want struct {
				Body       *string
				BodyBase64 []byte `json:"body_base64"`
				Headers    drainmark.Headers
			}
			if err := json.Unmarshal(line, &want); err != nil {
				t.Fatalf("%q was taken, and is no JSON: %v", line, err)
			}
			body := want.BodyBase64
			if want.Body != nil {
				body = []byte(*want.Body)
			}
			if !bytes.Equal(records[i].Body, body) || records[i].Headers.WithoutTrace() != want.Headers.WithoutTrace() {
				t.Fatalf("%q was read as %q with %q, want %q with %q", line, records[i].Body, records[i].Headers, body, want.Headers)
			}
			i++
		}
		if i != len(records) {
			t.Fatalf("%d records of %d lines", len(records), i)
		}
	})
}

func BenchmarkDecodeMany(b *testing.B) {
	words := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 5)[:200]
	for name, body := range map[string]string{
		"plain":   words,
		"escapes": strings.ReplaceAll(words, "fox ", "fox\n"),
		"unicode": strings.ReplaceAll(words, "quick", "schnülle"),
	} {
		line, err := json.Marshal(map[string]string{"body": body})
		if err != nil {
			b.Fatal(err)
		}
		data := bytes.Repeat(append(line, '\n'), 1000)
		for _, careful := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/careful=%v", name, careful), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				scratch := make([]byte, len(data))
				for b.Loop() {
					copy(scratch, data) // decode changes what it reads
					m := many{key: "request", message: 256 << 10, lines: 10_000, careful: careful}
					if _, err := m.decode(scratch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "lines/s")
			})
		}
	}
}

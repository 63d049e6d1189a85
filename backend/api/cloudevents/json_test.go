package cloudevents

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
)

// head begins an event in JSON.
const head = `{"specversion":"1.0","id":"1","source":"/a","type":"t"`

// kept returns what a message would keep of an event, and has the message be an event again.
func kept(t *testing.T, e *Event) (Event, drainmark.Message) {
	t.Helper()
	headers, err := drainmark.NewHeaders(e.Headers()...)
	if err != nil {
		t.Fatalf("%+v cannot be kept: %v", e, err)
	}
	m := drainmark.Message{Position: 7, Body: e.Data, ContentType: e.ContentType, Headers: headers, AcceptedAt: time.Unix(0, 0)}
	var again Event
	again.SetMessage("guestbook", &m)
	return again, m
}

// text writes an event, without what was added to it when it was read.
func text(e *Event) string {
	var lines []string
	for _, a := range e.Attributes {
		if !strings.HasPrefix(a.Name, ReservedPrefix) {
			lines = append(lines, fmt.Sprintf("%s=%q %s", a.Name, a.Value, typeNames[a.Type]))
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s\n%s %q", strings.Join(lines, "\n"), e.ContentType, e.Data)
}

func TestStructured(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ json, contentType, data, extension string }{
		"JSON is kept as it stands":                      {`,"datacontenttype":"application/json","data": { "a" : [1, "}"] } }`, "application/json", `{ "a" : [1, "}"] }`, ""},
		"without a content type data is JSON":            {`,"data":"I'm just a string"}`, "application/json", `"I'm just a string"`, ""},
		"a null of JSON is data":                         {`,"data":null}`, "application/json", `null`, ""},
		"a null of another type is none":                 {`,"datacontenttype":"text/plain","data":null}`, "text/plain", ``, ""},
		"a string of another type is its text":           {`,"datacontenttype":"application/xml","data":"<much wow=\"xml\"\/>\u00e4"}`, "application/xml", `<much wow="xml"/>ä`, ""},
		"what comes first does not matter":               {`,"data":"a\\b","datacontenttype":"text/plain"}`, "text/plain", `a\b`, ""},
		"base64 is bytes":                                {`,"datacontenttype":"image/png","data_base64":"AAEC/w=="}`, "image/png", "\x00\x01\x02\xff", ""},
		"base64 says nothing of a content type":          {`,"data_base64":"e30="}`, "", "{}", ""},
		"JSON in base64":                                 {`,"datacontenttype":"application/json","data_base64":"eyA="}`, "application/json", "{ ", ""},
		"no data":                                        {`}`, "", "", ""},
		"a content type without data":                    {`,"datacontenttype":"text/plain"}`, "text/plain", "", ""},
		"nulls are as good as none":                      {`,"datacontenttype":null,"subject":null,"data_base64":null,"x":null}`, "", "", ""},
		"data that is null beside base64":                {`,"data":null,"data_base64":"AA=="}`, "", "\x00", ""},
		"an integer":                                     {`,"x":-2147483648}`, "", "", "-2147483648 integer"},
		"a boolean":                                      {`,"x":false}`, "", "", "false boolean"},
		"a string that looks like an integer":            {`,"x":"5"}`, "", "", "5 string"},
		"a string that looks like a boolean":             {`,"x":"true"}`, "", "", "true string"},
		"a string in spaces":                             {`,"x":"  a "}`, "", "", "  a  string"},
		"a string in quotes":                             {`,"x":"\"a\""}`, "", "", `"a" string`},
		"a quote":                                        {`,"x":"\""}`, "", "", `" string`},
		"nothing at all":                                 {`,"x":""}`, "", "", " string"},
		"any text":                                       {`,"x":"Zo\u00eb \ud83d\ude00 100%"}`, "", "", "Zoë 😀 100% string"},
		"white space between":                            {"\n ,\t\"x\" :\r\n 1 } \n", "", "", "1 integer"},
		"attributes of ours are not kept":                {`,"drainmarkposition":"9","x":1}`, "", "", "1 integer"},
		"a trace context that none is":                   {`,"traceparent":"?","x":1}`, "", "", "1 integer"},
		"a name that an attribute of the message has":    {`,"types":"a","headers":"b","x":true}`, "", "", "true boolean"},
		"a string of another charset in base64 is bytes": {`,"datacontenttype":"text/plain; charset=iso-8859-1","data_base64":"5A=="}`, "text/plain; charset=iso-8859-1", "\xe4", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := Parse([]byte(head + test.json))
			if err != nil {
				t.Fatal(err)
			}
			extension := ""
			if i := e.index("x"); i >= 0 {
				extension = e.Attributes[i].Value + " " + typeNames[e.Attributes[i].Type]
			}
			if e.ContentType != test.contentType || string(e.Data) != test.data || extension != test.extension {
				t.Errorf("it is %q %q %q", e.ContentType, e.Data, extension)
			}
			if again, _ := kept(t, e); text(&again) != text(e) {
				t.Errorf("it was\n%s\nand comes back as\n%s", text(e), text(&again))
			}
		})
	}
}

func TestStructuredRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ json, words string }{
		"no JSON":                        {`x`, "invalid JSON: invalid character 'x'"},
		"nothing":                        {``, "invalid JSON"},
		"two events":                     {head + `}` + head + `}`, "invalid JSON"},
		"an array":                       {`[]`, "JSON object"},
		"invalid UTF-8":                  {head + ",\"x\":\"\xff\"}", "not valid UTF-8"},
		"no id":                          {`{"specversion":"1.0","source":"/a","type":"t"}`, "no id"},
		"an id that is null":             {`{"specversion":"1.0","source":"/a","type":"t","id":null}`, "no id"},
		"an id that is a number":         {`{"specversion":"1.0","source":"/a","type":"t","id":1}`, `"id" must be a string`},
		"another version":                {`{"specversion":"1.1","source":"/a","type":"t","id":"1"}`, "only 1.0"},
		"a member twice":                 {head + `,"type":"u"}`, `"type" twice`},
		"data twice":                     {head + `,"data":1,"data":2}`, `"data" twice`},
		"a name in capitals":             {head + `,"X":"u"}`, "lower-case letters and digits"},
		"a name that is empty":           {head + `,"":"u"}`, "without a name"},
		"an attribute that is an object": {head + `,"x":{}}`, "a string, an integer or a boolean"},
		"an attribute that is an array":  {head + `,"x":[1]}`, "a string, an integer or a boolean"},
		"a fraction":                     {head + `,"x":1.5}`, "integer of 32 bits"},
		"an exponent":                    {head + `,"x":1e3}`, "integer of 32 bits"},
		"a large number":                 {head + `,"x":2147483648}`, "integer of 32 bits"},
		"half of a surrogate pair":       {head + `,"x":"\ud800"}`, "surrogate"},
		"half of a pair in data":         {head + `,"datacontenttype":"text/plain","data":"\ud800"}`, "surrogate"},
		"a control character":            {head + `,"x":"\u0085"}`, "control character"},
		"data and base64":                {head + `,"data":1,"data_base64":"AA=="}`, "both"},
		"base64 that is none":            {head + `,"data_base64":"A"}`, "data_base64"},
		"base64 with line ends":          {head + `,"data_base64":"AA\n=="}`, "data_base64: character 3"},
		"base64 that is a number":        {head + `,"data_base64":1}`, "data_base64"},
		"an object as text":              {head + `,"datacontenttype":"text/plain","data":{}}`, "data must be a string"},
		"a string of another charset":    {head + `,"datacontenttype":"text/plain; charset=ISO-8859-1","data":"a"}`, "iso-8859-1"},
		"a content type that is none":    {head + `,"datacontenttype":"text"}`, "media type"},
		"a content type that is empty":   {head + `,"datacontenttype":""}`, "media type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := Parse([]byte(test.json))
			if drainmark.KindOf(err) != drainmark.KindInvalid || !strings.Contains(err.Error(), test.words) {
				t.Errorf("it is %+v, %v", e, err)
			}
		})
	}
}

// Reading an event takes many times the memory of its text, so the number of its members is limited, also of those that are
// not kept.
func TestMembersHaveALimit(t *testing.T) {
	t.Parallel()
	event := func(members int) []byte {
		text := head // which has four
		for i := 4; i < members; i++ {
			text += fmt.Sprintf(`,"x%d":null`, i)
		}
		return []byte(text + "}")
	}
	if _, err := Parse(event(maxMembers)); err != nil {
		t.Errorf("with %d members: %v", maxMembers, err)
	}
	if _, err := Parse(event(maxMembers + 1)); drainmark.KindOf(err) != drainmark.KindTooLarge || !strings.Contains(err.Error(), "64 members, the limit") {
		t.Errorf("with one more: %v", err)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	other := strings.Replace(head, `"id":"1"`, `"id":"2"`, 1) + `,"data":[1]} `
	for name, test := range map[string]struct {
		json string
		most int
		ids  string
		err  string
	}{
		"none":                    {" [ ] ", 2, "", ""},
		"two":                     {"[" + head + "} ,\n" + other + "]", 2, "1 2 ", ""},
		"more than there may be":  {"[" + head + "}," + other + "]", 1, "1 ", "more than 1 events, the limit"},
		"a fault in the second":   {"[" + head + "},{}]", 2, "1 ", "event 2: the event has no id"},
		"an element that is none": {"[" + head + "},1]", 2, "1 ", "event 2: an event is a JSON object"},
		"no array":                {head + "}", 2, "", "a batch is a JSON array"},
		"a refusal":               {"[" + other + "," + head + "}]", 2, "2 ", "event 2: refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ids := ""
			err := ParseBatch([]byte(test.json), test.most, func(e *Event) error {
				if name == "a refusal" && e.Get("id") == "1" {
					return drainmark.Errorf(drainmark.KindTooLarge, "refused")
				}
				ids += e.Get("id") + " "
				return nil
			})
			if said := fmt.Sprint(cmp.Or(err, fmt.Errorf(""))); ids != test.ids || (err != nil) != (test.err != "") || !strings.Contains(said, test.err) {
				t.Errorf("the events are %s, %v", ids, err)
			}
			if name == "a refusal" && drainmark.KindOf(err) != drainmark.KindTooLarge {
				t.Errorf("the kind is %s", drainmark.KindOf(err))
			}
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	event := func(source, id, kind string) *Event {
		return &Event{Attributes: []Attribute{{Name: "source", Value: source}, {Name: "id", Value: id}, {Name: "type", Value: kind}}}
	}
	first := event("/a", "1", "t").Key()
	if first != event("/a", "1", "u").Key() || len(first) != 46 {
		t.Errorf("the key is %s", first)
	}
	for _, other := range []*Event{event("/a", "2", "t"), event("/a1", "", "t"), event("/b", "1", "t")} {
		if other.Key() == first {
			t.Errorf("%+v has the same key", other)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"}", `,"data":{"a":[1]}}`, `,"datacontenttype":"text/plain","data":"a\nb"}`, `,"data_base64":"AA==","x":5,"y":true}`,
		`,"x":" a","y":"\"","z":null}`, `,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`} {
		f.Add([]byte(head + seed))
		f.Add([]byte("[" + head + seed + "," + head + seed + "]"))
	}
	f.Fuzz(func(t *testing.T, given []byte) {
		e, err := Parse(bytes.Clone(given))
		batch := fmt.Sprintf("[%s]", given)
		again := ParseBatch([]byte(batch), 1, func(*Event) error { return nil })
		if err != nil {
			if kind := drainmark.KindOf(err); kind != drainmark.KindInvalid && kind != drainmark.KindTooLarge {
				t.Fatalf("%q is refused with %v", given, err)
			}
			return
		}
		if again != nil {
			t.Fatalf("%q is an event, and in a batch %v", given, again)
		}
		if _, err := drainmark.NewHeaders(e.Headers()...); err != nil && drainmark.KindOf(err) == drainmark.KindTooLarge {
			return
		}
		if back, _ := kept(t, e); text(&back) != text(e) {
			t.Fatalf("it was\n%s\nand comes back as\n%s", text(e), text(&back))
		}
	})
}

func FuzzHeaderValue(f *testing.F) {
	for _, seed := range []string{"a", "%20", `"a\"b"`, "%", "%C0%A0", "Zoë", `"`, "%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		e, err := FromHeaders(headersWith("ce-x: " + value))
		if err != nil {
			if drainmark.KindOf(err) != drainmark.KindInvalid {
				t.Fatalf("%q is refused with %v", value, err)
			}
			return
		}
		if back, _ := kept(t, e); text(&back) != text(e) {
			t.Fatalf("it was\n%s\nand comes back as\n%s", text(e), text(&back))
		}
	})
}

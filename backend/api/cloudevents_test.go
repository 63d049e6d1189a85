package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api/cloudevents"
	"github.com/drainmark/drainmark/store"
)

// shelf is a fake whose log has what was appended last.
type shelf struct {
	fake
	mu       sync.Mutex
	messages []drainmark.Message
	records  []drainmark.Record
}

func newShelf() *shelf {
	s := &shelf{}
	s.append = func(_ context.Context, _ string, records []drainmark.Record) (drainmark.Receipt, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.messages, s.records = nil, nil
		for i, r := range records {
			m := message(uint64(i+1), string(r.Body))
			m.ContentType, m.Headers = r.ContentType, r.Headers
			r.Body = m.Body // the request's own memory is given back
			s.messages, s.records = append(s.messages, m), append(s.records, r)
		}
		return receiptOne, nil
	}
	s.fake.messages = func(_ context.Context, log string, _ uint64, _ int, _ *drainmark.Receipt, _ time.Duration) (store.Page, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return store.Page{Log: drainmark.LogInfo{Name: log, LastPosition: uint64(len(s.messages))}, Messages: s.messages}, nil
	}
	return s
}

// appended returns the only record that was appended last.
func (s *shelf) appended(t *testing.T) drainmark.Record {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) != 1 {
		t.Fatalf("%d records were appended", len(s.records))
	}
	return s.records[0]
}

const (
	eventHead   = `{"specversion":"1.0","id":"1","source":"/a","type":"t"`
	parentOne   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	parentTwo   = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	asBatch     = "Accept: application/cloudevents-batch+json"
	structured  = "Content-Type: application/cloudevents+json; charset=UTF-8"
	batchedType = "Content-Type: application/cloudevents-batch+json"
)

// binaryHead are the headers of an event in binary mode, and others.
func binaryHead(more ...string) []string {
	return append([]string{"ce-specversion: 1.0", "ce-id: 1", "ce-source: /a", "ce-type: t"}, more...)
}

func TestCloudEventsAreAppended(t *testing.T) {
	t.Parallel()
	const key = "ce:Ns6zWaD8qWzDNxWXXJaNKFtAFhhxmSLO_ZY6sEBumcw"
	core := []string{"ce-id", "1", "ce-source", "/a", "ce-specversion", "1.0", "ce-type", "t"}
	with := func(more ...string) drainmark.Headers { return madeHeaders(append(slices.Clone(core), more...)...) }
	for name, test := range map[string]struct {
		body    string
		headers []string
		want    drainmark.Record
	}{
		"in binary mode, with any content type": {"a\nb", binaryHead("Content-Type: application/x-ndjson", "ce-subject: Euro%20%E2%82%AC"),
			drainmark.Record{Body: []byte("a\nb"), ContentType: "application/x-ndjson", Headers: with("ce-subject", "Euro €")}},
		"in binary mode, with none": {"\x00", binaryHead(), drainmark.Record{Body: []byte{0}, Headers: with()}},
		"in structured mode": {eventHead + `,"n":5,"data":{"a": 1}}`, []string{structured},
			drainmark.Record{Body: []byte(`{"a": 1}`), ContentType: "application/json", Headers: with("ce-n", "5", "cloudevents-types", "n=integer")}},
		"in structured mode, with the same attributes as headers": {eventHead + `}`, binaryHead(structured, "ce-id: 2"), drainmark.Record{Headers: with()}},
		"in batched mode": {"[" + eventHead + `,"datacontenttype":"text/plain","data":"x"}]`, []string{batchedType},
			drainmark.Record{Body: []byte("x"), ContentType: "text/plain", Headers: with()}},
		"with other headers of the message": {"", binaryHead("Drainmark-Header-Tenant: 7"), drainmark.Record{Headers: with("tenant", "7")}},
		"with an idempotency key":           {"", binaryHead("Idempotency-Key: k"), drainmark.Record{Headers: with(), Key: "k"}},
		"in a batch with an idempotency key": {"[" + eventHead + "}]", []string{batchedType, "Idempotency-Key: k"},
			drainmark.Record{Headers: with(), Key: "k/1"}},
		"in the trace of the request": {"", binaryHead("Traceparent: " + parentOne), drainmark.Record{Headers: with("traceparent", parentOne)}},
		"with a trace of its own": {"", binaryHead("Traceparent: "+parentOne, "Tracestate: a=1", "ce-traceparent: "+parentTwo, "ce-tracestate: b=2"),
			drainmark.Record{Headers: with("traceparent", parentTwo, "tracestate", "b=2")}},
		"with a trace of its own that a message cannot have": {"", binaryHead("Traceparent: "+parentOne, "ce-traceparent: "+parentTwo, "ce-tracestate: b"),
			drainmark.Record{Headers: with("traceparent", parentOne, "ce-traceparent", parentTwo, "ce-tracestate", "b")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newShelf()
			serve(t, at).do("POST", messagesPath, test.body, test.headers...).want(t, 202)
			got := at.appended(t)
			if test.want.Key == "" {
				test.want.Key = key
			}
			if !bytes.Equal(got.Body, test.want.Body) || got.ContentType != test.want.ContentType || got.Headers != test.want.Headers || got.Key != test.want.Key {
				t.Errorf("appended %q %q %q %q", got.Body, got.ContentType, got.Headers, got.Key)
			}
		})
	}
}

func TestCloudEventsAreRefused(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 256<<10+1)
	attributes := func(n, size int) (list string) {
		for i := range n {
			list += fmt.Sprintf(`,"x%02d":"%s"`, i, strings.Repeat("v", size))
		}
		return list
	}
	for name, test := range map[string]struct {
		body    string
		headers []string
		kind    drainmark.Kind
		words   []string
	}{
		"some of the headers":       {"", []string{"ce-id: 1"}, drainmark.KindInvalid, []string{"no source"}},
		"another version":           {"", binaryHead("ce-specversion: 0.3")[1:], drainmark.KindInvalid, []string{"0.3", "only 1.0"}},
		"another format":            {"", []string{"Content-Type: application/cloudevents+avro"}, drainmark.KindMediaType, []string{"avro", cloudevents.Structured}},
		"another format of a batch": {"", binaryHead("Content-Type: Application/CloudEvents-batch+protobuf"), drainmark.KindMediaType, []string{"protobuf"}},
		"no format":                 {"", []string{"Content-Type: application/cloudevents"}, drainmark.KindMediaType, []string{cloudevents.Batch}},
		"what is no event":          {`{"a":1}`, []string{structured}, drainmark.KindInvalid, []string{"no id"}},
		"data over the limit":       {large, binaryHead(), drainmark.KindTooLarge, []string{"the event's data", "262144 bytes"}},
		"data over the limit in JSON": {eventHead + `,"data":"` + large[2:] + `"}`, []string{structured},
			drainmark.KindTooLarge, []string{"262145 bytes", "limit is 262144"}},
		"an event over the limit":           {strings.Repeat(" ", 8<<20+1), []string{structured}, drainmark.KindTooLarge, []string{"with an event", "8388608"}},
		"a batch over the limit":            {strings.Repeat(" ", 8<<20+1), []string{batchedType}, drainmark.KindTooLarge, []string{"batch", "8388608"}},
		"too many events":                   {"[" + strings.Repeat(eventHead+"},", 10_000) + eventHead + "}]", []string{batchedType}, drainmark.KindTooLarge, []string{"10000 events"}},
		"too many attributes":               {eventHead + attributes(13, 1) + "}", []string{structured}, drainmark.KindTooLarge, []string{"attributes", "17 headers", "limit is 16"}},
		"too large attributes":              {eventHead + attributes(12, 340) + "}", []string{structured}, drainmark.KindTooLarge, []string{"attributes", "limit is 4096"}},
		"a fault in a batch":                {"[" + eventHead + "}," + eventHead + `,"X":1}]`, []string{batchedType}, drainmark.KindInvalid, []string{"event 2", `"X"`}},
		"a limit in a batch":                {"[" + eventHead + "}," + eventHead + attributes(13, 1) + "}]", []string{batchedType}, drainmark.KindTooLarge, []string{"event 2", "limit is 16"}},
		"a header that keeps an attribute":  {"", binaryHead("Drainmark-Header-Ce-X: 1"), drainmark.KindInvalid, []string{"Ce-X", "attributes"}},
		"a header that keeps their types":   {"", binaryHead("Drainmark-Header-CloudEvents-Types: 1"), drainmark.KindInvalid, []string{"attributes"}},
		"headers of a message with a batch": {"[]", []string{batchedType, "Drainmark-Header-A: 1"}, drainmark.KindInvalid, []string{"Drainmark-Header-A", "batch"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, accepts(func(string, []drainmark.Record) { t.Error("it was appended") }))
			s.do("POST", messagesPath, test.body, test.headers...).wantProblem(t, test.kind, test.words...)
		})
	}
}

func TestAnEmptyBatchIsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, accepts(func(string, []drainmark.Record) { t.Error("it was appended") }))
	if a := s.do("POST", messagesPath, "[]", batchedType); a.StatusCode != 204 || len(a.body) != 0 {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
}

// shown reads a page as a batch of events.
func shown(t *testing.T, s *server) []map[string]any {
	t.Helper()
	a := s.do("GET", messagesPath, "", asBatch)
	a.wantHeader(t, "Content-Type", cloudevents.Batch)
	var events []map[string]any
	if err := json.Unmarshal(a.body, &events); err != nil || a.StatusCode != 200 {
		t.Fatalf("status %d: %v: %s", a.StatusCode, err, a.body)
	}
	return events
}

func TestMessagesAreShownAsCloudEvents(t *testing.T) {
	t.Parallel()
	event := message(1, "hello")
	event.Headers = madeHeaders("ce-id", "1", "ce-source", "/a", "ce-specversion", "1.0", "ce-type", "t", "tenant", "7", "traceparent", parentOne)
	plain, erased, odd := message(2, "\x00"), message(3, ""), message(4, "x")
	plain.Headers = madeHeaders("ce-id", "1", "b", `"`, "traceparent", parentOne)
	erased.ContentType, erased.Erased, erased.Body = "", true, nil
	odd.ContentType = "whatever"
	at := newShelf()
	at.messages = []drainmark.Message{event, plain, erased, odd}
	const place = `"drainmarkaccepted":"2026-03-01T10:00:00.000004Z","drainmarkid":"1-4bf90000000000000000000000000036-%d",` +
		`"drainmarkpersisted":"2026-03-01T10:00:00.002004Z","drainmarkposition":"%[1]d"`
	const tells = `"id":"1-4bf90000000000000000000000000036-%[1]d","source":"/v1/logs/guestbook","specversion":"1.0","time":"2026-03-01T10:00:00.000004Z","type":"io.github.drainmark.`
	want := []string{
		`{"data":"hello","datacontenttype":"text/plain",` + place + `,"drainmarkheaders":"{\"tenant\":\"7\"}","id":"1","source":"/a","specversion":"1.0","traceparent":"` + parentOne + `","type":"t"}`,
		`{"data_base64":"AA==","datacontenttype":"text/plain",` + place + `,"drainmarkheaders":"{\"b\":\"\\\"\",\"ce-id\":\"1\"}",` + tells + `message","traceparent":"` + parentOne + `"}`,
		`{` + place + `,"drainmarkerased":true,` + tells + `erased"}`,
		`{"data_base64":"eA==",` + place + `,` + tells + `message"}`,
	}
	all := shown(t, serve(t, at))
	if len(all) != len(want) {
		t.Fatalf("%d messages are shown as %d events", len(want), len(all))
	}
	for i, got := range all {
		line, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var same any
		if err := json.Unmarshal(fmt.Appendf(nil, want[i], i+1), &same); err != nil {
			t.Fatalf("%v: %s", err, want[i])
		}
		if wanted, _ := json.Marshal(same); string(wanted) != string(line) {
			t.Errorf("message %d is shown as\n%s, want\n%s", i+1, line, wanted)
		}
	}
}

func TestAPageIsABatchIfAcceptPrefersIt(t *testing.T) {
	t.Parallel()
	for accept, batch := range map[string]bool{
		"application/cloudevents-batch+json": true, "Application/CloudEvents-Batch+JSON; charset=utf-8": true,
		"text/html, application/cloudevents-batch+json;q=0.5, */*;q=0.1":          true,
		"application/cloudevents-batch+json, application/json":                    true,
		"application/json;q=0.4, application/cloudevents-batch+json; a=b; Q=0.50": true,
		"application/json, application/cloudevents-batch+json;q=0.9":              false,
		"application/cloudevents-batch+json;q=0":                                  false,
		"application/cloudevents+json":                                            false, "*/*": false, "application/*": false, "": false,
	} {
		t.Run(accept, func(t *testing.T) {
			t.Parallel()
			a := serve(t, holds(10, 250)).do("GET", messagesPath+"?limit=2", "", "Accept: "+accept)
			a.wantHeader(t, "Vary", "Accept")
			a.wantHeader(t, "Link", `</v1/logs/guestbook/messages?after=12&limit=2>; rel="next"`)
			if !batch {
				a.wantHeader(t, "Content-Type", "application/json")
				a.wantHeader(t, firstHeader, "")
				return
			}
			a.wantHeader(t, "Content-Type", cloudevents.Batch)
			a.wantHeader(t, firstHeader, "11")
			a.wantHeader(t, lastHeader, "250")
		})
	}
}

func TestABatchHasATagOfItsOwn(t *testing.T) {
	t.Parallel()
	s := serve(t, holds(0, 3))
	page, batch := s.do("GET", messagesPath, ""), s.do("GET", messagesPath, "", asBatch)
	if page.Header.Get("ETag") == batch.Header.Get("ETag") {
		t.Errorf("both have the tag %s", page.Header.Get("ETag"))
	}
	if a := s.do("GET", messagesPath, "", asBatch, "If-None-Match: "+batch.Header.Get("ETag")); a.StatusCode != 304 {
		t.Errorf("with its own tag: status %d", a.StatusCode)
	}
	if a := s.do("GET", messagesPath, "", asBatch, "If-None-Match: "+page.Header.Get("ETag")); a.StatusCode != 200 {
		t.Errorf("with the other's tag: status %d", a.StatusCode)
	}
}

func TestAStreamOfCloudEvents(t *testing.T) {
	t.Parallel()
	f := newFeed()
	l := serve(t, f.service()).listen(eventsPath + "?after=0&format=cloudevents")
	<-f.asked
	m := message(1, "{\"a\":\r\n1}\n")
	m.ContentType = "application/json"
	f.steps <- step{messages: []drainmark.Message{m}}
	lines := strings.Split(l.block(), "\n")
	if len(lines) != 3 || lines[0] != "id: 1" || lines[1] != "event: message" {
		t.Fatalf("the event is %q", lines)
	}
	var event map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &event); err != nil {
		t.Fatalf("%v: %s", err, lines[2])
	}
	if event["source"] != "/v1/logs/guestbook" || fmt.Sprint(event["data"]) != "map[a:1]" || event["drainmarkposition"] != "1" {
		t.Errorf("the event is %v", event)
	}
	l.response.Body.Close()
	<-f.closed
	serve(t, f.service()).do("GET", eventsPath+"?format=json", "", "Accept: text/event-stream").
		wantProblem(t, drainmark.KindInvalid, "format", "cloudevents")
}

// anyRune is a character that an attribute may have.
var anyRune = rapid.OneOf(rapid.RuneFrom([]rune(` "%\aä€😀=;,0-`)), rapid.Rune()).Filter(func(r rune) bool {
	return !unicode.IsControl(r) && r&0xfffe != 0xfffe && (r < 0xfdd0 || r > 0xfdef)
})

// anyEvent is a valid event whose attributes a message can keep.
var anyEvent = rapid.Custom(func(t *rapid.T) *cloudevents.Event {
	some := rapid.StringOfN(anyRune, 1, 20, 60)
	e := &cloudevents.Event{}
	add := func(name, value string, kind cloudevents.Type) {
		e.Attributes = append(e.Attributes, cloudevents.Attribute{Name: name, Value: value, Type: kind})
	}
	add("specversion", "1.0", cloudevents.String)
	add("id", some.Draw(t, "id"), cloudevents.String)
	add("type", some.Draw(t, "type"), cloudevents.String)
	add("source", rapid.SampledFrom([]string{"/a%20b?c#d", "urn:x:1", "https://example.com/%C3%A4", "1-555"}).Draw(t, "source"), cloudevents.String)
	optional := map[string][]string{
		"time": {"", "2018-04-05t17:31:60.123456789123-23:59"}, "dataschema": {"", "x:%25"}, "subject": {"", some.Draw(t, "subject")},
		"traceparent": {"", parentOne, "?"}, "tracestate": {"", "a=1", "a=1, b=2"},
	}
	for _, name := range slices.Sorted(maps.Keys(optional)) {
		if value := rapid.SampledFrom(optional[name]).Draw(t, name); value != "" {
			add(name, value, cloudevents.String)
		}
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`x[a-z0-9]{0,12}`), 0, 6, rapid.ID).Draw(t, "names") {
		switch kind := rapid.SampledFrom([]cloudevents.Type{cloudevents.String, cloudevents.Integer, cloudevents.Boolean}).Draw(t, "kind"); kind {
		case cloudevents.String:
			add(name, rapid.OneOf(rapid.StringOfN(anyRune, 0, 20, 60), rapid.SampledFrom([]string{"5", "true", " ", `"`, `""`})).Draw(t, "value"), kind)
		case cloudevents.Integer:
			add(name, strconv.Itoa(int(rapid.Int32().Draw(t, "integer"))), kind)
		case cloudevents.Boolean:
			add(name, strconv.FormatBool(rapid.Bool().Draw(t, "boolean")), kind)
		}
	}
	e.ContentType, e.Data = anyData(t)
	return e
})

// anyData is data, and the type that it is declared as.
func anyData(t *rapid.T) (contentType string, data []byte) {
	raw := rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, "bytes")
	text := rapid.String().Draw(t, "text")
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"{ \"a\" :\r\n [1.50, null]}", "null", "0", string(quoted)} {
		if rapid.Bool().Draw(t, "JSON") {
			return rapid.SampledFrom([]string{"application/json", "Text/X+JSON; charset=utf-8"}).Draw(t, "type"), []byte(value)
		}
	}
	contentType = rapid.SampledFrom([]string{"", "text/plain", "image/svg+xml", "application/json", "image/png", "text/plain; charset=iso-8859-1"}).Draw(t, "type")
	if rapid.Bool().Draw(t, "as text") {
		return contentType, []byte(text)
	}
	return contentType, raw
}

// headersOfEvent writes an event's attributes as the binding for HTTP says.
func headersOfEvent(e *cloudevents.Event) (headers []string) {
	for _, a := range e.Attributes {
		value := ""
		for _, c := range []byte(a.Value) {
			if c <= ' ' || c > '~' || c == '"' || c == '%' {
				value += fmt.Sprintf("%%%02X", c)
			} else {
				value += string(rune(c))
			}
		}
		headers = append(headers, "ce-"+a.Name+": "+value)
	}
	if e.ContentType != "" {
		headers = append(headers, "Content-Type: "+e.ContentType)
	}
	return headers
}

// jsonOfEvent writes an event in the JSON format, with encoding/json.
func jsonOfEvent(t *rapid.T, e *cloudevents.Event) string {
	members := map[string]any{}
	for _, a := range e.Attributes {
		members[a.Name] = a.Value
		if a.Type != cloudevents.String {
			members[a.Name] = json.RawMessage(a.Value)
		}
	}
	if e.ContentType != "" {
		members["datacontenttype"] = e.ContentType
	}
	if len(e.Data) > 0 {
		members["data_base64"] = e.Data
	}
	written, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Data) > 0 && e.Form() == cloudevents.InJSON && rapid.Bool().Draw(t, "as a value") { // encoding/json would compact it
		delete(members, "data_base64")
		if written, err = json.Marshal(members); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`%s,"data":%s}`, written[:len(written)-1], e.Data)
	}
	return string(written)
}

// readEvent reads an event of an answer, with encoding/json, without what was added to it.
func readEvent(t *rapid.T, text json.RawMessage) *cloudevents.Event {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	asString := func(value json.RawMessage) (s string) {
		if err := json.Unmarshal(value, &s); err != nil {
			t.Fatalf("%v: %s", err, value)
		}
		return s
	}
	e := &cloudevents.Event{}
	if named, ok := members["datacontenttype"]; ok {
		e.ContentType = asString(named)
	}
	for name, value := range members {
		switch {
		case name == "datacontenttype" || strings.HasPrefix(name, cloudevents.ReservedPrefix):
		case name == "data_base64":
			e.Data, _ = base64.StdEncoding.DecodeString(asString(value))
		case name == "data" && cloudevents.IsJSON(e.ContentType):
			e.Data = value
		case name == "data":
			e.Data = []byte(asString(value))
		case value[0] == '"':
			e.Attributes = append(e.Attributes, cloudevents.Attribute{Name: name, Value: asString(value)})
		case value[0] == 't' || value[0] == 'f':
			e.Attributes = append(e.Attributes, cloudevents.Attribute{Name: name, Value: string(value), Type: cloudevents.Boolean})
		default:
			e.Attributes = append(e.Attributes, cloudevents.Attribute{Name: name, Value: string(value), Type: cloudevents.Integer})
		}
	}
	return e
}

// eventText writes an event for a comparison. In HTTP no attribute has a type, and where there is no type all are strings.
func eventText(e *cloudevents.Event, typed bool) string {
	var lines []string
	for _, a := range e.Attributes {
		if !typed {
			a.Type = cloudevents.String
		}
		lines = append(lines, fmt.Sprintf("%s=%q (%d)", a.Name, a.Value, a.Type))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s\n%q %q", strings.Join(lines, "\n"), e.ContentType, e.Data)
}

// Any valid event comes back as it was, whichever way it came, on pages and in streams.
func TestCloudEventsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	at := newShelf()
	s := serve(t, at)
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent.Draw(t, "event")
		mode := rapid.SampledFrom([]string{"binary", "structured", "batched"}).Draw(t, "mode")
		body, headers := jsonOfEvent(t, e), []string{structured}
		switch mode {
		case "binary":
			body, headers = string(e.Data), headersOfEvent(e)
		case "batched":
			body, headers = "["+body+","+body+"]", []string{batchedType}
		}
		if a := s.do("POST", messagesPath, body, headers...); a.StatusCode != 202 {
			t.Fatalf("%s: %d: %s\n%s\n%q", mode, a.StatusCode, a.body, body, headers)
		}
		var all []json.RawMessage
		if a := s.do("GET", messagesPath, "", asBatch); json.Unmarshal(a.body, &all) != nil {
			t.Fatalf("the page is %s", a.body)
		}
		want := eventText(e, mode != "binary")
		for _, text := range all {
			if got := eventText(readEvent(t, text), true); got != want {
				t.Fatalf("%s: it was\n%s\nand comes back as\n%s\n%s", mode, want, got, text)
			}
		}
		var event cloudevents.Event
		event.SetMessage("guestbook", &at.messages[0])
		line := (&encoder{oneLine: true}).cloudEvent(nil, &event)
		if bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
			t.Fatalf("a stream has %q", line)
		}
	})
}

func TestALargeEventIsWrittenInPieces(t *testing.T) {
	t.Parallel()
	for contentType, data := range map[string]string{
		"application/json": `{"a":"` + strings.Repeat("é\u2028x", 40_000) + `"}`, "text/plain": strings.Repeat("é\n", 80_000), "image/png": strings.Repeat("\xff\x00", 100_000),
	} {
		at := newShelf()
		s := serve(t, at)
		s.do("POST", messagesPath, data, binaryHead("Content-Type: "+contentType)...).want(t, 202)
		got := shown(t, s)[0]
		value, _ := got["data"].(string)
		if object, ok := got["data"].(map[string]any); ok {
			value = fmt.Sprintf(`{"a":"%s"}`, object["a"])
		}
		if encoded, ok := got["data_base64"].(string); ok {
			decoded, _ := base64.StdEncoding.DecodeString(encoded)
			value = string(decoded)
		}
		if value != data {
			t.Errorf("%s comes back as %d bytes, want %d", contentType, len(value), len(data))
		}
	}
}

func BenchmarkAppendCloudEvents(b *testing.B) {
	body := strings.Repeat("x", 200)
	event := eventHead + `,"datacontenttype":"text/plain","data":"` + body + `"}`
	for _, mode := range []struct {
		name, body string
		headers    []string
	}{
		{"binary", body, binaryHead("Content-Type: text/plain")}, {"structured", event, []string{structured}},
		{"batch of 1,000", "[" + strings.Repeat(event+",", 999) + event + "]", []string{batchedType}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			h, err := New(Config{Service: accepts(func(string, []drainmark.Record) {})})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), "POST", messagesPath, strings.NewReader(mode.body))
				if err != nil {
					b.Fatal(err)
				}
				for _, header := range mode.headers {
					name, value, _ := strings.Cut(header, ": ")
					r.Header.Set(name, value)
				}
				w := sink{header: http.Header{}}
				if h.ServeHTTP(&w, r); w.status != 202 {
					b.Fatal("status", w.status)
				}
			}
		})
	}
}

func BenchmarkEncodeCloudEvents(b *testing.B) {
	page := benchmarkPage(100)
	for i := range page.Messages {
		page.Messages[i].Headers = madeHeaders("ce-id", strconv.Itoa(i), "ce-source", "/a", "ce-specversion", "1.0", "ce-type", "t")
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		var e encoder
		dst = e.cloudEvents(dst[:0], &page)
	}
	b.SetBytes(int64(len(dst)))
}

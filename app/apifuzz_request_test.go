package app

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/drainmark/drainmark"
)

// odd is a request as it is sent. One that is plain is well-formed as HTTP, whatever it asks for: so it has an answer of
// the API, and the answer says truly whether it may be made.
type odd struct {
	method, target string
	headers        []string // names and values
	body           []byte
	chunked        bool
	plain          bool
	cut            int // bytes after which nothing more is sent, 0 for all
	mutations      int
	waits          bool // its answer may take long
}

// oddities makes requests by chance, of one seed.
type oddities struct {
	*rand.Rand
	*apiFuzz
}

// of returns one of some things.
func of[T any](o *oddities, some ...T) T { return some[o.IntN(len(some))] }

// chance is true once in n times.
func (o *oddities) chance(n int) bool { return o.IntN(n) == 0 }

// request makes one.
func (o *oddities) request() *odd {
	q := &odd{plain: true}
	makes := []struct {
		weight int
		make   func(*odd)
	}{
		{30, o.append}, {14, o.page}, {4, o.events}, {2, o.clear}, {6, o.logs}, {12, o.receipt}, {7, o.barrier}, {6, o.letters},
		{3, o.settleMany}, {8, o.settle}, {5, o.simple}, {2, o.pause}, {3, o.elsewhere},
	}
	n := o.IntN(102)
	for _, m := range makes {
		if n -= m.weight; n < 0 {
			m.make(q)
			break
		}
	}
	if q.method == "GET" && o.chance(20) {
		q.method = "HEAD"
	}
	o.login(q)
	o.dress(q)
	head := q.bytes("localhost", nil)
	if len(q.target) > 32_000 || len(head)-len(q.body) > 60_000 || bytes.Count(head, []byte("\r\nExpect: ")) > 1 { // whoever reads it refuses it
		q.plain = false
	}
	o.spoil(q)
	return q
}

func (q *odd) add(name, value string) { q.headers = append(q.headers, name, value) }

// login shows who makes the request, rightly or not.
func (o *oddities) login(q *odd) {
	who := o.someoneFor(q)
	token := ""
	switch n := o.IntN(40); {
	case n == 0:
	case n == 1:
		token = "Bearer " + of(o, o.useless...)
	case n == 2:
		token = of(o, "Basic ", "Token ", "", "Bearer\t", "Bearer,") + of(o, who.tokens...)
	case n == 3:
		q.add("Authorization", "Bearer "+of(o, who.tokens...))
		token = "Bearer " + of(o, of(o, o.people...).tokens...)
	case n == 4:
		token = of(o, "bearer ", "BEARER  ", "Bearer   ") + of(o, who.tokens...) + of(o, "", " ", "x", "\t")
	case n == 5:
		token = "Bearer " + o.flipped(of(o, who.tokens...))
	default:
		token = "Bearer " + of(o, who.tokens...)
	}
	if token != "" {
		q.add(of(o, "Authorization", "Authorization", "authorization", "AUTHORIZATION"), token)
	}
}

// someoneFor returns somebody, mostly one who may make a request: most may not.
func (o *oddities) someoneFor(q *odd) *someone {
	who := of(o, o.people...)
	for range o.IntN(8) {
		as := *q
		as.headers = append(slices.Clone(q.headers), "Authorization", "Bearer "+who.tokens[0])
		if r, body, err := read(as.bytes("localhost", nil)); err != nil || o.model.judge(r, body).refusals == nil {
			break
		}
		who = of(o, o.people...)
	}
	return who
}

// flipped changes one character.
func (o *oddities) flipped(text string) string {
	at := o.IntN(len(text))
	return text[:at] + string(rune('0'+o.IntN(60))) + text[at+1:]
}

// log returns a log's name as it stands in a path: mostly one of those that there are.
func (o *oddities) log() string {
	name := of(o, o.names...)
	switch n := o.IntN(60); n {
	case 0:
		return of(o, "A", "a%2Fb", "..%2f", "%00", "a%20b", strings.Repeat("a", 128), strings.Repeat("a", 129), "%e2%82%ac", "a;b", "*", name+"*", name+"%0d%0a")
	case 1:
		return "%" + strconv.FormatInt(int64(name[0]), 16) + name[1:] // the same name
	case 2:
		return name + of(o, ".", "-x", "x", "_")
	}
	return name
}

// content returns a text of which it is known who sent it to which log.
func (o *oddities) content(log string) string {
	text := o.canary(log)
	if o.chance(25) {
		text += " refuse"
	}
	return text
}

// append appends one message or many.
func (o *oddities) append(q *odd) {
	log := o.log()
	q.method, q.target = "POST", "/v1/logs/"+log+"/messages"
	switch o.IntN(8) {
	case 0, 1:
		o.lines(q, log)
	case 2:
		o.cloudEvents(q, log)
	default:
		o.single(q, log)
	}
	q.chunked = o.chance(6)
	if o.chance(4) {
		key := of(o, "k1", "k2", "k3", o.canary(log), strings.Repeat("k", 256), "a b", "\xff", "")
		q.add("Idempotency-Key", of(o, key, `"`+key+`"`, `"`+key, key+`, "b"`))
	}
	if o.chance(8) {
		q.add("Drainmark-Header-"+of(o, "A", "Tenant", "Traceparent", "()", "Ü"), of(o, o.canary(log), "7", "\xff", strings.Repeat("v", 5000), ""))
	}
	if o.chance(8) {
		q.add("Traceparent", of(o, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-0", strings.Repeat("0", 300)))
		q.add("Tracestate", of(o, "a=b", strings.Repeat("a=b,", 300), "=,=,"))
	}
}

func (o *oddities) single(q *odd, log string) {
	text := o.content(log)
	q.body = []byte(of(o, text, text, text, "", text+"\xff\x00", text+strings.Repeat("x", of(o, 10, 5000, 262144-len(text), 262145-len(text), 300_000))))
	q.add("Content-Type", of(o, "text/plain", "text/plain; charset=utf-8", "application/octet-stream", "application/json", strings.Repeat("t", 300), "\xff"))
}

// lines makes NDJSON, of which one line may be wrong.
func (o *oddities) lines(q *odd, log string) {
	var lines []string
	for range o.IntN(of(o, 3, 10, 10, 40)) {
		text := o.content(log)
		lines = append(lines, of(o, `{"body":"`+text+`"}`, `{"body":"`+text+`","key":"k`+strconv.Itoa(o.IntN(5))+`"}`,
			`{"body_base64":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"}`, `{"body":"`+text+`","content_type":"text/x","headers":{"a":"`+text+`"}}`, "", `{"body":"\u0000`+text+`"}`))
	}
	if o.chance(4) {
		lines = append(lines, of(o, `{"body":1}`, `{`, `{"body":"a","body":"b"}`, strings.Repeat(`[`, 100_000), `{"body":"\ud800"}`, `{"body":1e999999}`, `{"body_base64":"A"}`,
			`null`, `{"body":"a"} {}`, `{"body":"`+strings.Repeat("x", 300_000)+`"}`, "\xef\xbb\xbf{}", `{"log":"x","body":"y"}`, `{"__proto__":1,"body":""}`, strings.Repeat("\n", 20_000), strings.Repeat("{\"body\":\"\"}\n", 10_001)))
	}
	q.body = []byte(strings.Join(lines, of(o, "\n", "\n", "\r\n")))
	q.add("Content-Type", of(o, "application/x-ndjson", "application/x-ndjson", "application/jsonl; a=b", "Application/NDJSON"))
}

// cloudEvents makes an event in any mode, or many, of which one may be wrong.
func (o *oddities) cloudEvents(q *odd, log string) {
	text := o.content(log)
	if o.chance(2) {
		q.body = []byte(text)
		for _, header := range []string{"ce-specversion: 1.0", "ce-type: t", "ce-source: " + of(o, "/a", "/a%20b", "a b"), "ce-id: " + of(o, "1", "2", text)} {
			name, value, _ := strings.Cut(header, ": ")
			q.add(name, of(o, value, value, value, value, value, "", "%", "%C0%A0", "\xff"))
		}
		q.add("ce-"+of(o, "x", "subject", "time", "traceparent", "data", "x-y", ""), of(o, "x", text, "", `"x`))
		return
	}
	var events []string
	for range of(o, 0, 1, 1, 2, 10) {
		events = append(events, `{"specversion":"1.0","type":"t","source":"/`+of(o, "a", "b")+`","id":"`+strconv.Itoa(o.IntN(20))+`"`+
			of(o, "", `,"data":"`+text+`"`, `,"datacontenttype":"text/plain","data":"`+text+`"`, `,"x":"`+text+`","y":1`, `,"data_base64":"AAE="`, `,"data_base64":1`, `,"X":1`,
				`,"x":"\ud800"`, `,"x":`+strings.Repeat(`[`, 100_000), `,"data":"`+strings.Repeat("x", 300_000)+`"`)+"}")
	}
	kind := of(o, "application/cloudevents+json", "application/cloudevents-batch+json", "application/cloudevents-batch+json", "application/cloudevents+xml")
	q.body = []byte(strings.Join(events, ","))
	if strings.Contains(kind, "batch") {
		q.body = []byte("[" + string(q.body) + of(o, "]", "]", "]", "]", "", "]]"))
	}
	q.add("Content-Type", kind)
}

// number returns one that may be out of every range.
func (o *oddities) number() string {
	return of(o, "0", "1", "2", "10", "100", "1000", "1001", "-1", "9223372036854775807", "18446744073709551616", "1e3", "", "abc", "%zz", "0x10", "１")
}

// query makes a query of some parameters, each of which is there or not, once or twice.
func (o *oddities) query(q *odd, parameters map[string]func() string) {
	var pairs []string
	for _, name := range sorted(parameters) {
		for range of(o, 0, 0, 1, 1, 1, 2) {
			pairs = append(pairs, name+"="+parameters[name]())
		}
	}
	if o.chance(40) {
		pairs = append(pairs, of(o, "a;b", "%", "=", "x="+strings.Repeat("y", 30_000), "limit[]=1"))
	}
	if len(pairs) > 0 {
		q.target += "?" + strings.Join(pairs, "&")
	}
}

// good returns what is right more often than not.
func (o *oddities) good(right ...string) func() string {
	return func() string {
		if o.chance(12) {
			return o.number()
		}
		return of(o, right...)
	}
}

func (o *oddities) page(q *odd) {
	q.method, q.target = "GET", "/v1/logs/"+o.log()+"/messages"
	o.query(q, map[string]func() string{"after": o.good("0", "5"), "limit": o.good("3", "20", "1000"), "receipt": func() string {
		return of(o, "", o.anyReceipt())
	}})
	if o.chance(6) {
		q.add("Drainmark-Receipt", of(o, o.anyReceipt(), o.anyReceipt()+", "+o.anyReceipt()))
	}
	if o.chance(4) {
		q.add("Accept", of(o, "application/cloudevents-batch+json", "application/cloudevents-batch+json;q=0.1, application/json", ";;=q,"))
	}
	if o.chance(10) {
		q.add("If-None-Match", of(o, "*", `W/"x"`, strings.Repeat(`"a",`, 100)))
	}
}

func (o *oddities) events(q *odd) {
	q.method, q.target = "GET", "/v1/logs/"+o.log()+"/events"
	o.query(q, map[string]func() string{"after": o.good("0", "1"), "format": func() string { return of(o, "cloudevents", "cloudevents", "json") }})
	if o.chance(4) {
		q.add("Last-Event-ID", o.number())
	}
	if o.chance(2) {
		q.add("Accept", of(o, "text/event-stream", "*/*", "text/event-stream;q=0"))
	}
}

func (o *oddities) clear(q *odd) {
	q.method, q.target = "DELETE", "/v1/logs/"+o.log()+"/messages"
}

func (o *oddities) logs(q *odd) {
	q.method, q.target = "GET", "/v1/logs"
	o.query(q, map[string]func() string{"after": o.good(o.names...), "limit": o.good("1", "2", "100")})
}

// anyReceipt returns one that somebody was given, or one that nobody was.
func (o *oddities) anyReceipt() string {
	text := o.someReceipt(o)
	switch o.IntN(12) {
	case 0:
		return o.flipped(text)
	case 1:
		return of(o, "x", "AhEz2FGL", "..", strings.Repeat("A", 6000), text+text)
	case 2, 3:
		return o.forged(text)
	}
	return text
}

// forged returns a receipt of other records of the same deployment.
func (o *oddities) forged(text string) string {
	receipt, err := drainmark.ParseReceipt(text)
	if err != nil || len(receipt.Spans) == 0 {
		return text
	}
	span := &receipt.Spans[o.IntN(len(receipt.Spans))]
	switch o.IntN(4) {
	case 0:
		span.First = max(1, span.First-min(span.First-1, uint64(o.IntN(200))))
	case 1:
		span.First, span.Last = 1, span.Last+uint64(o.IntN(50))
	case 2:
		span.First, span.Last = 1<<40, 1<<40+uint64(o.IntN(3))
	case 3:
		span.Partition = o.IntN(5)
	}
	return receipt.String()
}

func (o *oddities) receipt(q *odd) {
	texts := []string{o.anyReceipt()}
	for range of(o, 0, 0, 0, 1, 3, 10) {
		texts = append(texts, o.anyReceipt())
	}
	q.method, q.target = "GET", "/v1/receipts/"+strings.Join(texts, of(o, ",", "%2C", ",,"))
	o.query(q, map[string]func() string{"log": o.log})
}

func (o *oddities) barrier(q *odd) {
	q.method, q.target = "POST", "/v1/barriers"
	switch o.IntN(5) {
	case 0:
		o.query(q, map[string]func() string{"log": o.log})
	case 1:
		o.query(q, map[string]func() string{"receipt": o.anyReceipt})
	case 2:
		o.query(q, map[string]func() string{"receipt": o.anyReceipt, "log": o.log})
	case 3:
		q.body = []byte(of(o, `{"logs":["`+o.log()+`"]}`, `{"logs":["`+o.log()+`","`+o.log()+`"]}`, `{}`, `[]`, `{"logs":1}`, `{"x":1}`, `{`, `{"logs":[`+strings.Repeat(`"a",`, 1001)+`"b"]}`, strings.Repeat(" ", 70_000)))
		q.add("Content-Type", of(o, "application/json", "application/json", "text/plain"))
		q.chunked = o.chance(4)
	}
}

func (o *oddities) letters(q *odd) {
	q.method, q.target = "GET", "/v1/dead-letters"
	o.query(q, map[string]func() string{"log": o.log, "limit": o.good("1", "5", "1000"), "after": o.good("", "1.1", "2.1000", "0.0"),
		"reason": o.good("idempotency-key-reused", "cannot", ""), "before": o.good("2999-01-01T00:00:00Z", ""), "body": o.good("true", "false")})
}

func (o *oddities) settleMany(q *odd) {
	o.letters(q)
	q.method = of(o, "POST", "DELETE")
	if o.chance(2) {
		q.target += of(o, "?", "&") + "dry_run=" + of(o, "true", "true", "false", "maybe")
	}
}

func (o *oddities) settle(q *odd) {
	id := o.someLetter(o)
	if o.chance(12) {
		id = of(o, "1-a", "0-"+strings.Repeat("0", 32)+"-1", url.PathEscape(id+"\n"), strings.Repeat("1", 300), "x%2Fy")
	}
	q.method, q.target = "DELETE", "/v1/dead-letters/"+id
	if o.chance(2) {
		q.method, q.target = "POST", q.target+"/retry"
	}
}

func (o *oddities) simple(q *odd) {
	q.method, q.target = "GET", of(o, "/v1/status", "/v1/backlog", "/v1/consumers", "/v1/status?x=y", "/v1", "/v1/openapi.json")
}

func (o *oddities) pause(q *odd) {
	q.method, q.target = of(o, "GET", "PUT"), "/admin/consumer"
	if q.method == "PUT" {
		q.body = []byte(of(o, `{"paused":false}`, `{"paused":true}`, `{}`, `{"paused":1}`, strings.Repeat(" ", 2000)))
		q.add("Content-Type", of(o, "application/json", "application/json", "text/plain"))
	}
}

// elsewhere is what there is not, or not in that way.
func (o *oddities) elsewhere(q *odd) {
	q.method = of(o, "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
	q.target = of(o, "/", "/flow", "/v1/", "/v1/nosuch", "/v1/logs/", "/v1/logs/"+o.log(), "/v1/../v1/logs", "/v1/logs/%2e%2e/logs", "/v1//logs", "/v1/logs/"+o.log()+"/messages/", "/V1/logs",
		"/v1/dead-letters/"+o.log()+"/messages", "/v1/receipts", "/metrics", "/debug/pprof/", "/admin/consumer/", "/v1/logs/"+o.log()+"/messages", "/v1/status")
}

// dress adds what any request can have.
func (o *oddities) dress(q *odd) {
	if o.chance(6) {
		wait := of(o, "0", "1", "1", "1", "1", "2", "-1", "abc", "61", "99999999999999999999", "1;x", `"1"`)
		q.add("Prefer", of(o, "wait=", "respond-async, wait=", "WAIT=")+wait)
		q.waits = true
	}
	for range of(o, 0, 0, 0, 0, 0, 1, 2) {
		header := of(o, "Range: bytes=0-1", "Accept-Encoding: gzip, br;q=0", "Content-Encoding: gzip", "Content-Encoding: identity", "Expect: 100-continue", "X-Forwarded-For: 203.0.113.9",
			"Forwarded: for=203.0.113.9", "Cookie: Authorization=x", "Accept: */*", "If-Match: *", "X-HTTP-Method-Override: DELETE", "Content-Type: text/plain", "X-Drainmark-Principal: admin", "Drainmark-Principal: admin",
			"Cache-Control: no-cache", "Drainmark-Backend: x", "Te: trailers", "X: "+strings.Repeat("y", 20_000))
		name, value, _ := strings.Cut(header, ": ")
		q.add(name, value)
	}
	if o.chance(30) { // these are other people's to refuse
		q.plain = false
		header := of(o, "Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Connection: Authorization", "Connection: close, Idempotency-Key", "Upgrade: h2c", "Content-Length: 3", "X: "+strings.Repeat("y", 70_000))
		name, value, _ := strings.Cut(header, ": ")
		q.add(name, value)
	}
	if len(q.body) == 0 && o.chance(30) {
		q.body = []byte(of(o, "x", strings.Repeat("y", 65_536), strings.Repeat("z", 65_537)))
		q.plain = q.plain && len(q.body) <= 65_536
	}
}

// spoil cuts some requests off, and changes some as bytes.
func (o *oddities) spoil(q *odd) {
	switch o.IntN(14) {
	case 0:
		q.plain, q.cut = false, 1+o.IntN(len(q.bytes("x", nil)))
	case 1:
		q.plain, q.mutations = false, 1+o.IntN(4)
	}
}

// bytes returns the request as it is sent to a host. random mutates it, nil for not at all.
func (q *odd) bytes(host string, random *rand.Rand) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, q.target, host)
	for i := 0; i < len(q.headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", q.headers[i], q.headers[i+1])
	}
	switch {
	case q.chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for rest := q.body; len(rest) > 0; {
			n := min(len(rest), 1+len(q.body)/3)
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n\r\n")
	case len(q.body) > 0:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(q.body), q.body)
	default:
		b.WriteString("\r\n")
	}
	text := b.Bytes()
	if random != nil {
		for range q.mutations {
			text = mutated(random, text)
		}
	}
	if q.cut > 0 {
		text = text[:min(q.cut, len(text))]
	}
	return text
}

// mutated changes a few bytes: mostly of the header, which is in front.
func mutated(random *rand.Rand, text []byte) []byte {
	at := random.IntN(min(len(text), 1+random.IntN(2000)))
	end := min(len(text), at+1+random.IntN(8))
	tokens := []string{"\r\n", "\x00", "\xff", " ", ":", "%00", "%2f", "../", "*", "\r\nAuthorization: x\r\n", "\r\nTransfer-Encoding: chunked\r\n", "\r\nContent-Length: 0\r\n", "99999999999999999999"}
	with := []byte(tokens[random.IntN(len(tokens))])
	switch random.IntN(4) {
	case 0:
		with = append(bytes.Clone(text[at:end]), text[at:end]...)
	case 1:
		with = nil
	case 2:
		with = []byte{byte(random.IntN(256))}
	}
	return bytes.Join([][]byte{text[:at], with, text[end:]}, nil)
}

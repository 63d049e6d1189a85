package protocol

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Case is a statement with a case of its own.
type Case struct {
	Number, Title string
	play          func(*play)
}

// Cases are played in this order.
var Cases = slices.Concat(modelCases, generalCases, appendCases, manyCases, keyCases, receiptCases, readCases, eventCases, cloudEventCases, clearCases, barrierCases, listCases, letterCases, openCases)

var (
	receiptText = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	idText      = regexp.MustCompile(`^[0-9]+-[0-9a-f]{32}-[1-9][0-9]*$`)
)

var modelCases = []Case{
	{"M-1", "a log's name is of [a-z0-9._-]", func(p *play) {
		for _, name := range []string{"A", "-a", ".a", "%C3%A9", strings.Repeat("a", 129)} {
			p.refuse(400, "invalid", "GET", messages(name), "")
		}
		p.refuse(404, "not-found", "GET", messages(p.prefix+"."+strings.Repeat("a", 127-len(p.prefix))), "")
	}},
	{"M-2", "a log is there from its first write on", func(p *play) {
		log := p.log()
		p.refuse(404, "not-found", "GET", messages(log), "")
		p.persist(log, "x")
		p.page(log)
	}},
	{"M-3", "a message is shown as it was sent", func(p *play) {
		log := p.log()
		p.persist(log, "a\tb\"\\é\u2028\x7f", "Content-Type", "Text/X; q=\"1\"")
		page := p.page(log)
		p.want(page.at("messages", 0, "body") == "a\tb\"\\é\u2028\x7f" && page.at("messages", 0, "content_type") == "Text/X; q=\"1\"", "%v", page)
	}},
	{"M-4", "positions are 1, 2, 3, …", func(p *play) {
		log := p.log()
		for i := range 3 {
			p.persist(log, fmt.Sprint(i))
		}
		page := p.page(log)
		for i := range 3 {
			p.want(page.at("messages", i, "position") == fmt.Sprint(i+1), "position %d: %v", i+1, page)
		}
		p.want(page.len("messages") == 3 && page.at("last_position") == "3", "%v", page)
	}},
	{"M-5", "a message has an id, and nobody else has it", func(p *play) {
		log := p.log()
		first, second := p.persist(log, "1").at("id"), p.persist(log, "2").at("id")
		p.want(idText.MatchString(first) && first != second, "ids %q and %q", first, second)
		page := p.page(log)
		p.want(page.at("messages", 0, "id") == first && page.at("messages", 1, "id") == second, "%q and %q were answered, and the log has %v", first, second, page)
	}},
	{"M-6", "a receipt is a text that is safe in URLs", func(p *play) {
		receipt := p.append(p.log(), "x").at("receipt")
		p.want(receiptText.MatchString(receipt) && len(receipt) <= 6200, "%q", receipt)
	}},
	{"M-7", "a receipt that is persisted stays so, at the same backend", func(p *play) {
		receipt := p.persist(p.log(), "x").at("receipt")
		first := p.await(receipt)
		for range 5 {
			a := p.expect(200, "GET", "/v1/receipts/"+receipt, "")
			same := a.header.Get("Drainmark-Backend") == first.header.Get("Drainmark-Backend")
			p.want(!same || a.at("state") == "persisted", "%v, and then %v", first, a)
		}
	}},
}

var generalCases = []Case{
	{"G-1", "an unknown path is 404 not-found", func(p *play) {
		p.refuse(404, "not-found", "GET", "/v1/nosuch", "")
		a := p.send("GET /v1//logs", "Connection: close\r\n", "")
		p.want(a.status == 404, "a path that is not clean: %v", a)
	}},
	{"G-2", "a wrong method is 405 with Allow", func(p *play) {
		a := p.refuse(405, "method", "PATCH", "/v1/logs", "")
		p.want(strings.Contains(a.header.Get("Allow"), "GET"), "Allow %q", a.header.Get("Allow"))
	}},
	{"G-3", "HEAD is there where GET is", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		page, head := p.page(log), p.expect(200, "HEAD", messages(log), "")
		p.want(len(head.body) == 0 && head.header.Get("ETag") == page.header.Get("ETag"), "HEAD has %v and %v, GET %v", head, head.header, page.header)
	}},
	{"G-6", "Prefer: wait is honoured, and said", func(p *play) {
		log := p.log()
		a := p.do("POST", messages(log), "x", "Prefer", "wait=1")
		p.want(a.header.Get("Preference-Applied") == "wait=1" && (a.status == 201 || a.status == 202), "Preference-Applied %q with %v", a.header.Get("Preference-Applied"), a)
		a = p.append(log, "x", "Prefer", "wait=soon")
		p.want(a.header.Get("Preference-Applied") == "", "of a malformed one: Preference-Applied %q", a.header.Get("Preference-Applied"))
	}},
	{"G-8", "an OpenAPI 3.1 document says what there is", func(p *play) {
		a := p.expect(200, "GET", "/v1/openapi.json", "")
		p.want(strings.HasPrefix(a.at("openapi"), "3.1") && a.has("paths", "/v1/logs/{log}/messages"), "%v", a)
		p.expect(200, "GET", "/v1", "")
	}},
	{"G-9", "two lengths of one body are refused", func(p *play) {
		a := p.send("POST "+messages(p.log()), "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")
		p.want(a.status == 400, "%v", a)
	}},
	{"G-10", "a body over the limit is refused, whenever it arrives", func(p *play) {
		a := p.do("POST", messages(p.log()), strings.Repeat("x", 4<<20), "Content-Type", "text/plain")
		if !p.over() && a.status == 202 {
			p.absent = "the server takes a message of 4 MiB"
		}
		p.want(a.status == 413 && a.at("type") == problemPrefix+"too-large" && strings.ContainsAny(a.at("detail"), "0123456789"), "%v", a)
	}},
	{"G-11", "no body of a request is encoded", func(p *play) {
		a := p.refuse(415, "media-type", "POST", messages(p.log()), "x", "Content-Encoding", "gzip")
		p.want(a.header.Get("Accept-Encoding") == "identity", "Accept-Encoding %q", a.header.Get("Accept-Encoding"))
	}},
}

var appendCases = []Case{
	{"A-1", "202 has a receipt, twice, and the message's id", func(p *play) {
		a := p.append(p.log(), "x")
		p.want(a.at("receipt") != "" && a.at("receipt") == a.header.Get("Drainmark-Receipt"), "Drainmark-Receipt %q with %v", a.header.Get("Drainmark-Receipt"), a)
		p.want(a.at("state") == "accepted" && a.at("count") == "1" && idText.MatchString(a.at("id")), "%v", a)
	}},
	{"A-2", "201 is of what is persisted and shown", func(p *play) {
		log := p.log()
		a := p.do("POST", messages(log), "x", "Prefer", "wait=20")
		if a.status == 202 && a.at("state") == "accepted" {
			p.trouble = "a message is not persisted within 20 s"
		}
		p.want(a.status == 201 && a.at("state") == "persisted" && a.at("receipt") == a.header.Get("Drainmark-Receipt"), "%v", a)
		page := p.page(log, "Drainmark-Receipt", a.at("receipt"), "Prefer", "wait=20")
		p.want(page.at("messages", 0, "body") == "x", "%v", page)
	}},
	{"A-3", "without a Content-Type a message is application/octet-stream", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		page := p.page(log)
		p.want(page.at("messages", 0, "content_type") == "application/octet-stream", "%v", page)
	}},
	{"A-4", "a message may be empty", func(p *play) {
		log := p.log()
		p.persist(log, "")
		page := p.page(log)
		p.want(page.has("messages", 0, "body") && page.at("messages", 0, "body") == "", "%v", page)
	}},
	{"A-5", "Drainmark-Header-… is a header of the message", func(p *play) {
		log := p.log()
		p.persist(log, "x", "Drainmark-Header-TENANT", " 7 ", "Drainmark-Header-Empty", "")
		page := p.page(log)
		p.want(page.at("messages", 0, "headers", "tenant") == "7" && page.has("messages", 0, "headers", "empty"), "%v", page)
		p.refuse(400, "invalid", "POST", messages(log), "x", "Drainmark-Header-Tenant", "é")
	}},
	{"A-6", "the trace context of the request is among the headers", func(p *play) {
		const trace = "00-0af7651916cd43dd8448eb211c80319c-" // and the span, which may be the server's
		log := p.log()
		p.persist(log, "x", "Traceparent", trace+"b7ad6b7169203331-01")
		p.persist(log, "x", "Traceparent", "00-malformed")
		page := p.page(log)
		good, malformed := page.at("messages", 0, "headers", "traceparent"), page.at("messages", 1, "headers", "traceparent")
		p.want(strings.HasPrefix(good, trace) && malformed != "00-malformed", "%v", page)
	}},
	{"A-7", "one Content-Type, of printable ASCII", func(p *play) {
		log := p.log()
		a := p.send("POST "+messages(log), "Content-Type: a/b\r\nContent-Type: a/c\r\nContent-Length: 1\r\n", "x")
		p.want(a.status == 400 && a.at("type") == problemPrefix+"invalid", "two: %v", a)
		p.refuse(400, "invalid", "POST", messages(log), "x", "Content-Type", strings.Repeat("a", 256))
	}},
}

var manyCases = []Case{
	{"A-8", "many messages have marks, and the order of their lines", func(p *play) {
		log := p.log()
		a := p.persist(log, "{\"body\":\"1\"}\n\n{\"body\":\"2\"}\r\n{\"body_base64\":\"AAEC\"}", "Content-Type", ndjson)
		p.want(a.at("count") == "3" && !a.has("id"), "%v", a)
		page := p.page(log)
		ids := marked(a)
		p.want(page.len("messages") == 3 && len(ids) == 3, "%v; the log has %v", a, page)
		for i, body := range []string{"1", "2"} {
			p.want(page.at("messages", i, "body") == body, "%v", page)
		}
		for i, id := range ids {
			p.want(page.at("messages", i, "id") == id, "marks %v; the log has %v", ids, page)
		}
	}},
	{"A-9", "one malformed line, and nothing is accepted", func(p *play) {
		log := p.log()
		a := p.refuse(400, "invalid", "POST", messages(log), "{\"body\":\"1\"}\n{\"body\":2}\n", "Content-Type", ndjson)
		p.want(strings.Contains(a.at("detail"), "line 2"), "%v", a)
		p.refuse(404, "not-found", "GET", messages(log), "")
	}},
	{"A-10", "a line has exactly one body, and no members but the known ones", func(p *play) {
		log := p.log()
		for _, line := range []string{`{}`, `{"body":"1","body_base64":"AA=="}`, `{"body":"1","body":"2"}`, `{"body":"1","nosuch":"x"}`, `["1"]`, `{"body_base64":"AA"}`, "\n"} {
			p.refuse(400, "invalid", "POST", messages(log), line, "Content-Type", ndjson)
		}
	}},
	{"A-11", "many messages have one of eight types", func(p *play) {
		for _, name := range []string{"x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-lines", "x-json-lines"} {
			p.refuse(400, "invalid", "POST", messages(p.prefix), "x", "Content-Type", "application/"+name+"; charset=utf-8")
		}
	}},
	{"A-12", "a line has a type, a key and headers of its own", func(p *play) {
		log := p.log()
		p.persist(log, `{"body":"1","content_type":"text/x","headers":{"Tenant":"é"}}`+"\n"+`{"body":"2"}`+"\n"+`{"body_base64":"AAEC"}`, "Content-Type", ndjson)
		page := p.page(log)
		p.want(page.at("messages", 0, "content_type") == "text/x" && page.at("messages", 0, "headers", "tenant") == "é", "%v", page)
		p.want(page.at("messages", 1, "content_type") == "text/plain; charset=utf-8" && page.at("messages", 2, "content_type") == "application/octet-stream", "%v", page)
		p.refuse(400, "invalid", "POST", messages(log), `{"body":"1"}`, "Content-Type", ndjson, "Drainmark-Header-A", "b")
	}},
}

// marked returns the ids that the marks of an answer stand for.
func marked(a answer) (ids []string) {
	for i := range a.len("marks") {
		var last int
		run, end, _ := strings.Cut(a.at("marks", i), "..")
		at := strings.LastIndex(run, "-") + 1
		var first int
		if _, err := fmt.Sscan(run[at:]+" "+end, &first, &last); err != nil {
			return nil
		}
		for n := first; n <= last; n++ {
			ids = append(ids, fmt.Sprint(run[:at], n))
		}
	}
	return ids
}

var keyCases = []Case{
	{"K-1", "the same key and message again is one message", func(p *play) {
		log := p.log()
		first := p.persist(log, "x", "Idempotency-Key", "k")
		again := p.persist(log, "x", "Idempotency-Key", `"k"`)
		page := p.page(log)
		p.want(page.len("messages") == 1 && page.at("messages", 0, "id") == first.at("id"), "%v and %v; the log has %v", first, again, page)
	}},
	{"K-2", "the same key and another message is rejected", func(p *play) {
		log := p.log()
		p.persist(log, "x", "Idempotency-Key", "k")
		receipt := p.append(log, "y", "Idempotency-Key", "k").at("receipt")
		a := p.await(receipt)
		p.want(a.at("state") == "rejected" && a.at("reason") != "" && p.page(log).len("messages") == 1, "%v", a)
	}},
	{"K-3", "a key is 1 to 255 printable ASCII characters, one in a request", func(p *play) {
		log := p.log()
		for _, key := range []string{"", `""`, "a b", `"a`, "é", strings.Repeat("a", 256)} {
			p.refuse(400, "invalid", "POST", messages(log), "x", "Idempotency-Key", key)
		}
		p.refuse(400, "invalid", "POST", messages(log), "x", "Idempotency-Key", "a", "Idempotency-Key", "b")
	}},
	{"K-4", "the messages of many have the key with /1, /2, …", func(p *play) {
		log := p.log()
		p.persist(log, "{\"body\":\"1\"}\n{\"body\":\"2\"}\n", "Content-Type", ndjson, "Idempotency-Key", "k")
		p.persist(log, "2", "Content-Type", "text/plain; charset=utf-8", "Idempotency-Key", "k/2")
		page := p.page(log)
		p.want(page.len("messages") == 2, "%v", page)
	}},
	{"K-5", "keys belong to a log", func(p *play) {
		one, other := p.log(), p.log()
		p.persist(one, "x", "Idempotency-Key", "k")
		p.persist(other, "y", "Idempotency-Key", "k")
		page := p.page(other)
		p.want(page.at("messages", 0, "body") == "y", "%v", page)
	}},
	{"K-6", "the trace context may differ with the same key", func(p *play) {
		log := p.log()
		for _, span := range []string{"b7ad6b7169203331", "b7ad6b7169203332"} {
			p.persist(log, "x", "Idempotency-Key", "k", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-"+span+"-01")
		}
		page := p.page(log)
		p.want(page.len("messages") == 1, "%v", page)
	}},
}

package protocol

import (
	"fmt"
	"regexp"
	"strings"
)

var receiptCases = []Case{
	{"R-1", "a receipt is answered with its state, count and marks", func(p *play) {
		written := p.append(p.log(), "x")
		a := p.await(written.at("receipt"))
		p.want(a.at("state") == "persisted" && a.at("count") == "1" && fmt.Sprint(marked(a)) == fmt.Sprint([]string{written.at("id")}), "%v of %v", a, written)
	}},
	{"R-2", "several receipts are answered as one", func(p *play) {
		log := p.log()
		one, other := p.append(log, "1"), p.append(log, "2")
		a := p.await(one.at("receipt") + "," + other.at("receipt"))
		p.want(a.at("state") == "persisted" && a.at("count") == "2", "%v", a)
		again := p.await(a.at("receipt"))
		p.want(fmt.Sprint(marked(again)) == fmt.Sprint(marked(a)), "%v, and its own receipt %v", a, again)
	}},
	{"R-3", "?log= says where the messages stand", func(p *play) {
		log := p.log()
		p.persist(log, "1")
		second := p.persist(log, "2")
		a := p.expect(200, "GET", "/v1/receipts/"+second.at("receipt")+"?log="+log, "", "Prefer", "wait=20")
		p.want(a.len("messages") == 1 && a.at("messages", 0, "position") == "2" && a.at("messages", 0, "id") == second.at("id") && a.at("messages", 0, "log") == log, "%v", a)
	}},
	{"R-4", "a damaged receipt is invalid-receipt", func(p *play) {
		good := p.append(p.log(), "x").at("receipt")
		for _, bad := range []string{"x", strings.ToUpper(good), good + "A", good[:len(good)/2]} {
			p.refuse(400, "invalid-receipt", "GET", "/v1/receipts/"+bad, "")
		}
	}},
	{"R-5", "rejected says which records and why", func(p *play) {
		log := p.log()
		p.persist(log, "x", "Idempotency-Key", "k")
		a := p.do("POST", messages(log), "y", "Idempotency-Key", "k", "Prefer", "wait=20")
		p.want(a.status == 202 && a.at("state") == "rejected" && a.at("reason") != "", "the append that waits: %v", a)
		a = p.await(a.at("receipt"))
		p.want(a.at("rejected", "count") == "1" && a.at("rejected", "exact") == "true" && a.len("rejected", "dead_letters") == 1 && a.len("rejected", "reasons") == 1, "%v", a)
	}},
	{"R-6", "a request names 1,000 receipts at most", func(p *play) {
		p.refuse(413, "too-large", "GET", "/v1/receipts/"+strings.Repeat("x,", 1001), "")
	}},
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)

// visibleAttempts is how often a write is read before a server is taken for one that always shows it at once.
const visibleAttempts = 100

var readCases = []Case{
	{"S-1", "a page has the log, its messages, last position and count", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		page := p.page(log)
		p.want(page.at("log") == log && page.len("messages") == 1 && page.at("last_position") == "1" && page.at("count") == "1" && page.at("first_position") == "1", "%v", page)
		p.want(rfc3339.MatchString(page.at("messages", 0, "accepted_at")) && rfc3339.MatchString(page.at("messages", 0, "persisted_at")), "%v", page)
	}},
	{"S-2", "after and limit choose, and Link says where to go on", func(p *play) {
		log := p.log()
		p.persist(log, strings.Repeat("{\"body\":\"x\"}\n", 3), "Content-Type", ndjson)
		page := p.expect(200, "GET", messages(log)+"?after=1&limit=1", "")
		p.want(page.len("messages") == 1 && page.at("messages", 0, "position") == "2", "%v", page)
		p.want(page.header.Get("Link") == "<"+messages(log)+`?after=2&limit=1>; rel="next"`, "Link %q", page.header.Get("Link"))
		last := p.expect(200, "GET", messages(log)+"?after=2&limit=1", "")
		p.want(last.at("messages", 0, "position") == "3" && last.header.Get("Link") == "", "Link %q with %v", last.header.Get("Link"), last)
	}},
	{"S-3", "after and limit out of range are refused", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		for _, query := range []string{"limit=0", "limit=-1", "limit=x", "limit=18446744073709551616", "after=-1", "after=9007199254740992", "after=x"} {
			name, _, _ := strings.Cut(query, "=")
			a := p.refuse(400, "invalid", "GET", messages(log)+"?"+query, "")
			p.want(strings.Contains(a.at("detail"), name), "%s: %v", query, a)
		}
	}},
	{"S-4", "UTF-8 without NUL is body, anything else body_base64", func(p *play) {
		log := p.log()
		for _, body := range []string{"\u00e9", "a\x00", "\xff"} {
			p.persist(log, body, "Content-Type", "text/plain")
		}
		page := p.page(log)
		p.want(page.at("messages", 0, "body") == "\u00e9" && page.at("messages", 1, "body_base64") == "YQA=" && page.at("messages", 2, "body_base64") == "/w==", "%v", page)
	}},
	{"S-5", "an ETag is good until the page changes", func(p *play) {
		log := p.log()
		p.persist(log, "1")
		page := p.page(log)
		same := p.do("GET", messages(log), "", "If-None-Match", page.header.Get("ETag"))
		p.want(same.status == 304 && len(same.body) == 0, "the same page: %v", same)
		p.persist(log, "2")
		changed := p.do("GET", messages(log), "", "If-None-Match", page.header.Get("ETag"))
		p.want(changed.status == 200 && changed.header.Get("ETag") != page.header.Get("ETag"), "a page with a message more: %v, ETag %q", changed, changed.header.Get("ETag"))
	}},
	{"S-6", "a page with receipts has their writes", func(p *play) {
		log := p.log()
		for range 20 {
			written := p.append(log, "x")
			page := p.page(log, "Drainmark-Receipt", written.at("receipt"), "Prefer", "wait=20")
			n := page.len("messages")
			p.want(n > 0 && page.at("messages", n-1, "id") == written.at("id"), "the receipt is of %v, and the page has %v", written, page)
		}
	}},
	{"S-7", "a page whose writes are not there yet is refused, with Retry-After", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		for range visibleAttempts {
			written := p.append(log, strings.Repeat("{\"body\":\"x\"}\n", 100), "Content-Type", ndjson)
			a := p.do("GET", messages(log)+"?limit=1", "", "Drainmark-Receipt", written.at("receipt"))
			if a.status == 200 {
				continue
			}
			p.want(a.status == 412 && a.at("type") == problemPrefix+"not-reached" && a.header.Get("Retry-After") != "", "Retry-After %q with %v", a.header.Get("Retry-After"), a)
			return
		}
		p.absent = "everything was shown at once"
	}},
	{"S-8", "receipts may be several, in the header and the query", func(p *play) {
		log := p.log()
		one, other := p.append(log, "1").at("receipt"), p.append(log, "2").at("receipt")
		for _, header := range [][]string{{"Drainmark-Receipt", one + ", " + other}, {"Drainmark-Receipt", one, "Drainmark-Receipt", other}} {
			page := p.page(log, append(header, "Prefer", "wait=20")...)
			p.want(page.len("messages") == 2, "%v: %v", header, page)
		}
		page := p.expect(200, "GET", messages(log)+"?limit=1&receipt="+one+"&receipt="+other, "", "Prefer", "wait=20")
		p.want(strings.Contains(page.header.Get("Link"), "receipt="), "Link %q", page.header.Get("Link"))
		p.refuse(400, "invalid-receipt", "GET", messages(log), "", "Drainmark-Receipt", "x")
	}},
	{"S-9", "a page behind the end is empty", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		page := p.expect(200, "GET", messages(log)+"?after=9007199254740991", "")
		p.want(page.has("messages") && page.len("messages") == 0 && page.at("last_position") == "1" && page.header.Get("Link") == "", "%v", page)
	}},
}

var clearCases = []Case{
	{"C-1", "a clear is accepted as an append is, and then 200", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		a := p.expect(202, "DELETE", messages(log), "")
		p.want(a.at("state") == "accepted" && a.at("receipt") != "" && a.header.Get("Drainmark-Receipt") == a.at("receipt"), "%v", a)
		a = p.await(a.at("receipt"))
		p.want(a.at("state") == "persisted", "%v", a)
		a = p.do("DELETE", messages(log), "", "Prefer", "wait=20")
		p.want(a.status == 200 && a.at("state") == "persisted", "with a wait: %v", a)
	}},
	{"C-2", "a clear removes what was accepted before, and positions go on", func(p *play) {
		log := p.log()
		p.append(log, "1")
		p.append(log, "2")
		p.expect(202, "DELETE", messages(log), "")
		p.persist(log, "3")
		page := p.page(log)
		p.want(page.len("messages") == 1 && page.at("messages", 0, "body") == "3" && page.at("messages", 0, "position") == "3", "%v", page)
		p.want(page.at("count") == "1" && page.at("last_position") == "3", "%v", page)
	}},
	{"C-3", "clearing again changes nothing", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		for range 2 {
			a := p.do("DELETE", messages(log), "", "Prefer", "wait=20", "Idempotency-Key", "?")
			p.want(a.status == 200, "%v", a)
		}
		page := p.page(log)
		p.want(page.len("messages") == 0 && page.at("last_position") == "1", "%v", page)
	}},
	{"C-4", "a trim removes what is up to a position", func(p *play) {
		log := p.log()
		p.persist(log, strings.Repeat("{\"body\":\"x\"}\n", 3), "Content-Type", ndjson)
		p.remove("POST", "/v1/logs/"+log+"/trim?through=2")
		page := p.page(log)
		p.want(page.len("messages") == 1 && page.at("messages", 0, "position") == "3" && page.at("first_position") == "3" && page.at("last_position") == "3", "%v", page)
		for _, query := range []string{"", "?through=0", "?through=x"} {
			p.refuse(400, "invalid", "POST", "/v1/logs/"+log+"/trim"+query, "")
		}
	}},
	{"C-5", "an erased message keeps its place and nothing else", func(p *play) {
		log := p.log()
		p.persist(log, "{\"body\":\"1\",\"headers\":{\"a\":\"b\"}}\n{\"body\":\"2\"}", "Content-Type", ndjson)
		before := p.page(log)
		p.remove("DELETE", messages(log)+"/1")
		page := p.page(log)
		p.want(page.len("messages") == 2 && page.at("messages", 0, "id") == before.at("messages", 0, "id") && page.at("messages", 1, "body") == "2", "%v", page)
		p.want(page.at("messages", 0, "erased") == "true" && page.has("messages", 0, "body") && page.at("messages", 0, "body") == "" &&
			page.at("messages", 0, "content_type") == "" && !page.has("messages", 0, "headers"), "%v", page)
	}},
	{"C-6", "a deleted log is not there, and its positions go on", func(p *play) {
		log := p.log()
		p.persist(log, "1")
		p.remove("DELETE", "/v1/logs/"+log)
		p.refuse(404, "not-found", "GET", messages(log), "")
		p.persist(log, "2")
		page := p.page(log)
		p.want(page.len("messages") == 1 && page.at("messages", 0, "position") == "2", "%v", page)
	}},
	{"C-7", "a clear is not taken for a trim", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		p.refuse(400, "invalid", "DELETE", messages(log)+"?through=1", "")
	}},
}

var barrierCases = []Case{
	{"B-1", "reached is 200 with set_aside, anything else 202", func(p *play) {
		a := p.barrier("")
		p.want(a.has("set_aside") && a.at("receipt") == a.header.Get("Drainmark-Receipt"), "%v", a)
		a = p.do("POST", "/v1/barriers", "")
		p.want(a.status == 200 == (a.at("state") == "reached") && (a.status == 200 || a.status == 202), "%v", a)
	}},
	{"B-2", "what was accepted before a barrier that is reached is shown behind it", func(p *play) {
		log := p.log()
		for round := range 5 {
			for range 10 {
				p.append(log, strings.Repeat("{\"body\":\"x\"}\n", 10), "Content-Type", ndjson)
			}
			barrier := p.barrier("")
			page := p.do("GET", messages(log)+"?limit=1", "", "Drainmark-Receipt", barrier.at("receipt"))
			if page.status == 412 && page.header.Get("Drainmark-Backend") != barrier.header.Get("Drainmark-Backend") {
				page = p.page(log, "Drainmark-Receipt", barrier.at("receipt"), "Prefer", "wait=20")
			}
			p.want(page.status == 200 && page.at("last_position") == fmt.Sprint(100*(round+1)), "the barrier %v, and then %v", barrier, page)
		}
	}},
	{"B-3", "a barrier's receipt asks for it again", func(p *play) {
		receipt := p.barrier("").at("receipt")
		a := p.expect(200, "POST", "/v1/barriers?receipt="+receipt, "", "Prefer", "wait=20")
		p.want(a.at("state") == "reached" && a.has("set_aside"), "%v", a)
	}},
	{"B-4", "a receipt of writes asks for no barrier", func(p *play) {
		p.refuse(400, "invalid", "POST", "/v1/barriers?receipt="+p.append(p.log(), "x").at("receipt"), "")
	}},
	{"B-5", "a barrier may be for some logs, by the query or the body", func(p *play) {
		log := p.log()
		p.append(log, "x")
		p.barrier("?log=" + log)
		a := p.do("POST", "/v1/barriers", `{"logs":["`+log+`"]}`, "Content-Type", "application/json", "Prefer", "wait=20")
		p.want(a.status == 200 || a.status == 202, "%v", a)
		p.refuse(400, "invalid", "POST", "/v1/barriers", `{"logs":[],"nosuch":1}`, "Content-Type", "application/json")
		p.refuse(415, "media-type", "POST", "/v1/barriers", `{"logs":[]}`, "Content-Type", "text/plain")
		p.refuse(400, "invalid", "POST", "/v1/barriers?log=A", "")
		p.refuse(400, "invalid", "POST", "/v1/barriers?log="+log+"&receipt="+p.barrier("").at("receipt"), "")
	}},
	{"B-6", "set_aside counts dead letters", func(p *play) {
		log := p.log()
		p.letter(log)
		a := p.barrier("?log=" + log)
		p.want(a.at("set_aside") != "0" && a.at("reason") != "", "%v", a)
	}},
}

// remove makes a request that removes something, and waits until that is done.
func (p *play) remove(method, path string) {
	a := p.do(method, path, "", "Prefer", "wait=20")
	if !p.over() && a.status == 202 {
		a = p.await(a.at("receipt"))
	}
	p.want(a.status == 200 && a.at("state") == "persisted", "%s %s: %v", method, path, a)
}

// barrier asks until a barrier is reached.
func (p *play) barrier(query string) answer {
	a := p.do("POST", "/v1/barriers"+query, "", "Prefer", "wait=20")
	if !p.over() && a.status == 202 {
		p.trouble = fmt.Sprintf("a barrier is not reached within 20 s: %v", a)
	}
	p.want(a.status == 200 && a.at("state") == "reached", "a barrier: %v", a)
	return a
}

// letter makes a dead letter in a new log, and returns its id.
func (p *play) letter(log string) string {
	p.persist(log, "x", "Idempotency-Key", "k")
	a := p.await(p.append(log, "y", "Idempotency-Key", "k").at("receipt"))
	p.want(a.at("state") == "rejected", "a message with a key that is taken: %v", a)
	return a.at("rejected", "dead_letters", 0)
}

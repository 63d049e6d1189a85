package protocol

import (
	"fmt"
	"strings"
)

const (
	structuredEvent = "application/cloudevents+json"
	batchOfEvents   = "application/cloudevents-batch+json"
)

// cloudEvent is an event in JSON, without data.
func cloudEvent(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/a","type":"t"}`, id)
}

// inHeaders are the attributes of cloudEvent in binary mode.
func inHeaders(id string) []string {
	return []string{"Ce-Specversion", "1.0", "Ce-Id", id, "Ce-Source", "/a", "Ce-Type", "t"}
}

// pageOfEvents reads the beginning of a log as events. The list is the answer's only member.
func (p *play) pageOfEvents(log string) answer {
	a := p.page(log, "Accept", batchOfEvents)
	p.want(a.header.Get("Content-Type") == batchOfEvents, "Content-Type %q of %v", a.header.Get("Content-Type"), a)
	return a
}

var cloudEventCases = []Case{
	{"X-1", "CloudEvents are appended in three modes", func(p *play) {
		log := p.log()
		p.persist(log, "1", inHeaders("1")...)
		p.persist(log, cloudEvent("2"), "Content-Type", structuredEvent)
		many := p.persist(log, "["+cloudEvent("3")+","+cloudEvent("4")+"]", "Content-Type", batchOfEvents+"; charset=utf-8")
		p.want(many.at("count") == "2" && len(marked(many)) == 2, "%v", many)
		p.expect(204, "POST", messages(log), "[]", "Content-Type", batchOfEvents)
		page := p.page(log)
		p.want(page.len("messages") == 4 && page.at("messages", 0, "body") == "1", "%v", page)
	}},
	{"X-2", "a malformed event is refused, and so is another format", func(p *play) {
		log := p.log()
		p.refuse(400, "invalid", "POST", messages(log), "x", "Ce-Id", "1")
		p.refuse(400, "invalid", "POST", messages(log), strings.Replace(cloudEvent("1"), "1.0", "2.0", 1), "Content-Type", structuredEvent)
		a := p.refuse(400, "invalid", "POST", messages(log), "["+cloudEvent("1")+",{}]", "Content-Type", batchOfEvents)
		p.want(strings.Contains(a.at("detail"), "event 2"), "%v", a)
		p.refuse(415, "media-type", "POST", messages(log), "x", "Content-Type", "application/cloudevents+avro")
		p.refuse(404, "not-found", "GET", messages(log), "")
	}},
	{"X-3", "a page may be a batch of events", func(p *play) {
		log := p.log()
		written := p.persist(log, `{"a":1}`, append(inHeaders("1"), "Ce-More", "%C3%A9", "Content-Type", "application/json")...)
		a := p.pageOfEvents(log)
		p.want(a.at(0, "id") == "1" && a.at(0, "source") == "/a" && a.at(0, "type") == "t" && a.at(0, "more") == "é" && a.at(0, "data", "a") == "1", "%v", a)
		p.want(a.at(0, "drainmarkposition") == "1" && a.at(0, "drainmarkid") == written.at("id"), "%v of %v", a, written)
		first, last := a.header.Get("Drainmark-First-Position"), a.header.Get("Drainmark-Last-Position")
		p.want(first == "1" && last == "1", "the log is from %q to %q", first, last)
	}},
	{"X-4", "an event's source and id are its key", func(p *play) {
		log := p.log()
		for range 2 {
			p.persist(log, cloudEvent("1"), "Content-Type", structuredEvent)
		}
		p.persist(log, cloudEvent("1"), "Content-Type", structuredEvent, "Idempotency-Key", "k")
		page := p.page(log)
		p.want(page.len("messages") == 2, "%v", page)
	}},
	{"X-5", "a stream may have events as data", func(p *play) {
		log := p.log()
		p.persist(log, cloudEvent("1"), "Content-Type", structuredEvent)
		s := p.follow(events(log) + "?after=0&format=cloudevents")
		defer s.end()
		s.next()
		one := s.next()
		shown := answer{body: []byte(one["data"])}
		p.want(one["id"] == "1" && shown.at("id") == "1" && shown.at("specversion") == "1.0" && shown.at("drainmarkposition") == "1", "%v", one)
		p.refuse(400, "invalid", "GET", events(log)+"?format=x", "", "Accept", "text/event-stream")
	}},
	{"X-6", "a message that is no event is shown as one of its log", func(p *play) {
		log := p.log()
		written := p.persist(log, "x", "Content-Type", "text/plain")
		a := p.pageOfEvents(log)
		p.want(a.at(0, "id") == written.at("id") && a.at(0, "source") == "/v1/logs/"+log && a.at(0, "data") == "x", "%v of %v", a, written)
	}},
}

package protocol

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// event is one server-sent event, or a block of lines without one.
type event map[string]string

// stream is an event stream that is being read.
type stream struct {
	play     *play
	path     string
	response *http.Response
	lines    *bufio.Scanner
	cancel   context.CancelFunc
}

// follow opens an event stream, which the caller ends.
func (p *play) follow(path string, header ...string) *stream {
	ctx, cancel := context.WithTimeout(p.ctx, eventTimeout)
	s := &stream{play: p, path: path, cancel: cancel}
	if p.over() {
		return s
	}
	var err error
	if s.response, err = p.begin(ctx, "GET", path, "", append(header, "Accept", "text/event-stream")...); err != nil {
		p.trouble = err.Error()
		return s
	}
	p.passed(path, answer{status: s.response.StatusCode})
	kind := s.response.Header.Get("Content-Type")
	p.want(s.response.StatusCode == 200 && kind == "text/event-stream", "%s: %s, %q", path, s.response.Status, kind)
	s.lines = bufio.NewScanner(s.response.Body)
	s.lines.Buffer(nil, maxAnswer)
	return s
}

// next returns the next block of lines that says something. A comment alone is a sign of life, which may come at any time.
func (s *stream) next() event {
	block := event{}
	if s.play.over() {
		return block
	}
	for s.lines.Scan() && s.lines.Text() != "" {
		name, value, _ := strings.Cut(s.lines.Text(), ":")
		block[name] = strings.TrimPrefix(value, " ")
	}
	comment, commented := block[""]
	switch {
	case commented && len(block) == 1:
		return s.next()
	case commented, len(block) == 0: // beside something else, a comment says why the server does not go on
		s.play.trouble = fmt.Sprintf("%s: the stream ended: %q, %v", s.path, comment, s.lines.Err())
	}
	return block
}

// followNew opens a stream of what is new, again and again until it begins behind a position: another backend may show
// that a little later.
func (p *play) followNew(log, position string) (s *stream, begin event) {
	for end := time.Now().Add(laterTimeout); ; time.Sleep(20 * time.Millisecond) {
		s = p.follow(events(log))
		begin = s.next()
		if begin["id"] == position || p.over() || time.Now().After(end) {
			return s, begin
		}
		s.end()
	}
}

func (s *stream) end() {
	s.cancel()
	if s.response != nil {
		_ = s.response.Body.Close()
	}
}

func events(log string) string { return "/v1/logs/" + log + "/events" }

var eventCases = []Case{
	{"E-1", "a stream begins with retry, and the id of where it begins", func(p *play) {
		log := p.log()
		p.persist(log, "x")
		s := p.follow(events(log) + "?after=1")
		defer s.end()
		first := s.next()
		p.want(first["retry"] != "" && first["id"] == "1" && first["event"] == "" && first["data"] == "", "%v", first)
	}},
	{"E-2", "an event has the position as id, and the message as a page has it", func(p *play) {
		log := p.log()
		p.persist(log, "a\nb", "Drainmark-Header-A", "b")
		s := p.follow(events(log) + "?after=0")
		defer s.end()
		s.next()
		one, page := s.next(), p.page(log)
		shown := answer{body: []byte(one["data"])}
		p.want(one["id"] == "1" && one["event"] == "message" && shown.at() == page.at("messages", 0), "%v, and the page has %v", one, page)
	}},
	{"E-3", "Last-Event-ID comes before after", func(p *play) {
		log := p.log()
		p.persist(log, "{\"body\":\"1\"}\n{\"body\":\"2\"}", "Content-Type", ndjson)
		s := p.follow(events(log)+"?after=0", "Last-Event-ID", "1")
		defer s.end()
		begin, one := s.next(), s.next()
		p.want(begin["id"] == "1" && one["id"] == "2", "%v, then %v", begin, one)
	}},
	{"E-4", "without a place a stream begins with what is new", func(p *play) {
		log := p.log()
		p.persist(log, "1")
		s, begin := p.followNew(log, "1")
		defer s.end()
		p.append(log, "2")
		one := s.next()
		p.want(begin["id"] == "1" && one["id"] == "2", "%v, then %v", begin, one)
	}},
	{"E-5", "a log that nobody has written to may be followed", func(p *play) {
		log := p.log()
		s := p.follow(events(log))
		defer s.end()
		begin := s.next()
		p.append(log, "1")
		one := s.next()
		p.want(begin["id"] == "0" && one["id"] == "1", "%v, then %v", begin, one)
	}},
	{"E-6", "a malformed place is refused", func(p *play) {
		p.refuse(400, "invalid", "GET", events(p.log())+"?after=x", "", "Accept", "text/event-stream")
		p.refuse(400, "invalid", "GET", events(p.log()), "", "Last-Event-ID", "-1")
	}},
}

var listCases = []Case{
	{"O-1", "logs are listed in order of their names", func(p *play) {
		one, two := p.log(), p.log()
		p.persist(one, "x")
		p.persist(two, "x")
		p.barrier("")
		before := one[:len(one)-1] + "0" // behind which both stand
		a := p.until(func(a answer) bool { return a.at("logs", 0, "name") == one }, func() answer {
			return p.expect(200, "GET", "/v1/logs?limit=1&after="+before, "")
		})
		p.want(a.at("logs", 0, "name") == one && a.at("logs", 0, "last_position") == "1" && a.at("logs", 0, "count") == "1", "%v", a)
		p.want(a.header.Get("Link") == "</v1/logs?after="+one+`&limit=1>; rel="next"`, "Link %q", a.header.Get("Link"))
		a = p.until(func(a answer) bool { return a.at("logs", 0, "name") == two }, func() answer {
			return p.expect(200, "GET", "/v1/logs?limit=1&after="+one, "")
		})
		p.want(a.at("logs", 0, "name") == two, "%v", a)
	}},
	{"O-2", "the backlog says what is pending, and whether that is exact", func(p *play) {
		a := p.expect(200, "GET", "/v1/backlog", "")
		p.want(a.at("pending", "records") != "" && a.at("pending", "exact") != "" && a.len("partitions") > 0 && a.has("partitions", 0, "missing"), "%v", a)
		for _, name := range []string{"ready", "in_flight", "oldest_pending_seconds", "backend"} {
			p.want(a.has(name), "no %s: %v", name, a)
		}
	}},
	{"O-3", "the status says what works", func(p *play) {
		a := p.expect(200, "GET", "/v1/status", "")
		for _, name := range []string{"appends", "reads", "persisting"} {
			p.want(a.has(name, "working") && a.has(name, "reason") && (a.at(name, "working") == "true") == (a.at(name, "reason") == "null"), "%s: %v", name, a)
		}
	}},
	{"O-4", "the consumers that are wanted are a number, and known or not", func(p *play) {
		a := p.expect(200, "GET", "/v1/consumers", "")
		p.want(a.at("wanted") != "" && a.at("known") != "" && a.at("reason") != "" && (a.at("known") == "true" || a.at("wanted") != "0"), "%v", a)
	}},
}

// letters lists the dead letters of a log, when there are as many as there should be and the first has been tried so often.
func (p *play) letters(log string, count, attempts int) answer {
	wanted := func(a answer) bool {
		return a.len("dead_letters") == count && (count == 0 || a.at("dead_letters", 0, "attempts") == strconv.Itoa(attempts))
	}
	a := p.until(wanted, func() answer { return p.expect(200, "GET", "/v1/dead-letters?log="+log, "") })
	p.want(wanted(a), "not %d letters of %d attempts, but %v", count, attempts, a)
	return a
}

var letterCases = []Case{
	{"D-1", "a dead letter is listed with its reason", func(p *play) {
		log := p.log()
		id, a := p.letter(log), p.letters(log, 1, 1)
		p.want(a.at("dead_letters", 0, "id") == id && a.at("dead_letters", 0, "log") == log && a.at("dead_letters", 0, "body") == "y", "%v", a)
		p.want(a.at("dead_letters", 0, "reason") != "", "%v", a)
		a = p.expect(200, "GET", "/v1/dead-letters?body=false&log="+log, "")
		p.want(!a.has("dead_letters", 0, "body"), "with body=false: %v", a)
	}},
	{"D-2", "a retry that is refused again is rejected, and counts", func(p *play) {
		log := p.log()
		id := p.letter(log)
		p.letters(log, 1, 1)
		a := p.until(accepted, func() answer { return p.do("POST", "/v1/dead-letters/"+id+"/retry", "") })
		p.want(a.status == 202, "%v", a)
		a = p.await(a.at("receipt"))
		p.want(a.at("state") == "rejected" && a.at("rejected", "dead_letters", 0) == id, "%v", a)
		p.letters(log, 1, 2)
	}},
	{"D-3", "a discarded letter is gone, and its receipt still says rejected", func(p *play) {
		log := p.log()
		id := p.letter(log)
		rejected := p.seen
		p.letters(log, 1, 1)
		a := p.until(accepted, func() answer { return p.do("DELETE", "/v1/dead-letters/"+id, "", "Prefer", "wait=20") })
		p.want(a.status == 200 && a.at("state") == "persisted", "%v", a)
		p.letters(log, 0, 0)
		a = p.await(rejected)
		p.want(a.at("state") == "rejected", "%v", a)
		a = p.until(func(a answer) bool { return a.status == 409 }, func() answer { return p.do("DELETE", "/v1/dead-letters/"+id, "") })
		p.want(a.status == 409 && a.at("type") == problemPrefix+"conflict", "once more: %v", a)
	}},
	{"D-4", "an unknown letter is 404 not-found", func(p *play) {
		p.refuse(404, "not-found", "DELETE", "/v1/dead-letters/0-00000000000000000000000000000000-1", "")
		p.refuse(404, "not-found", "POST", "/v1/dead-letters/nosuch/retry", "")
	}},
	{"D-5", "many are named, and can be counted first", func(p *play) {
		log := p.log()
		p.letter(log)
		p.letters(log, 1, 1)
		p.refuse(400, "invalid", "DELETE", "/v1/dead-letters", "")
		some := func(a answer) bool { return a.at("dead_letters") == "1" }
		a := p.until(some, func() answer { return p.expect(200, "DELETE", "/v1/dead-letters?dry_run=true&log="+log, "") })
		p.want(some(a) && a.at("records") == "1" && a.at("state") == "counted" && a.at("receipt") == "null", "%v", a)
		a = p.until(some, func() answer { return p.do("DELETE", "/v1/dead-letters?log="+log, "", "Prefer", "wait=20") })
		p.want(some(a) && a.status == 200 && a.at("state") == "persisted" && a.has("next"), "%v", a)
		p.letters(log, 0, 0)
		none := func(a answer) bool { return a.at("state") == "nothing" }
		a = p.until(none, func() answer { return p.do("DELETE", "/v1/dead-letters?log="+log, "") })
		p.want(none(a) && a.status == 200 && a.at("receipt") == "null", "with none left: %v", a)
	}},
}

func accepted(a answer) bool { return a.status == 200 || a.status == 202 }

var openCases = []Case{
	{"W-1", "without a good token: 401, and what to show", func(p *play) {
		a := p.with("nosuch", "GET", "/v1/backlog")
		if !p.over() && a.status == 200 {
			p.absent = "the server asks nobody who they are"
		}
		if a.status == 429 {
			p.passed("too many have failed to say who they are", a)
		}
		p.want(a.status == 401 && a.at("type") == problemPrefix+"unauthenticated", "%v", a)
		p.want(strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer "), "WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
	}},
	{"W-2", "what is public needs no token", func(p *play) {
		for _, path := range []string{"/v1", "/v1/openapi.json", "/v1/nosuch"} {
			a := p.with("", "GET", path)
			p.want(a.status == 200 || a.status == 404, "%s: %v", path, a)
		}
	}},
	{"V-1", "unknown parameters and headers of requests are passed over", func(p *play) {
		log := p.log()
		p.persist(log, "x", "Drainmark-Nosuch", "1")
		p.expect(200, "GET", messages(log)+"?nosuch=1", "", "Prefer", "nosuch, respond-async")
	}},
}

// with makes a request that shows a token, "" for none, whatever the run shows.
func (p *play) with(token, method, path string) answer {
	own := p.session.token
	defer func() { p.session.token = own }()
	p.session.token = nil
	if token == "" {
		return p.ask(method, path, "")
	}
	return p.ask(method, path, "", "Authorization", "Bearer "+token)
}

package protocol

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	requestTimeout = 30 * time.Second
	eventTimeout   = 10 * time.Second // for what a stream shall say
	laterTimeout   = 5 * time.Second  // for what another backend shall show
	maxAnswer      = 16 << 20
)

// answer is what a request was answered with, read whole.
type answer struct {
	method string // of the request
	path   string // of the request, without its parameters
	status int
	header http.Header
	body   []byte
}

// String is what a finding shows of an answer.
func (a answer) String() string {
	return fmt.Sprintf("%d %.200s", a.status, bytes.TrimSpace(a.body))
}

// at returns what stands in the JSON of the body, by names and indices, as text. "" if there is no such thing.
func (a answer) at(path ...any) string {
	value, ok := a.find(path...)
	if !ok {
		return ""
	}
	if text, ok := value.(string); ok {
		return text
	}
	text, _ := json.Marshal(value) // it comes from JSON
	return string(text)
}

// has says whether the JSON of the body has something, be it null.
func (a answer) has(path ...any) bool {
	_, ok := a.find(path...)
	return ok
}

func (a answer) find(path ...any) (value any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return nil, false
	}
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := value.(map[string]any)
			if value, ok = object[step]; !ok {
				return nil, false
			}
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil, false
			}
			value = list[step]
		}
	}
	return value, true
}

// len is how long a list in the JSON of the body is.
func (a answer) len(path ...any) int {
	value, _ := a.find(path...)
	list, _ := value.([]any)
	return len(list)
}

// do makes one request, with headers as names and values in turn.
func (s *session) do(ctx context.Context, method, path, body string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := s.begin(ctx, method, path, body, header...)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer to %s %.80s: %w", method, path, err)
	}
	path, _, _ = strings.Cut(path, "?")
	a := answer{method, path, response.StatusCode, response.Header, text}
	s.rule(a)
	return a, nil
}

// begin makes a request whose answer the caller reads. A token that is refused is asked for anew, once.
func (s *session) begin(ctx context.Context, method, path, body string, header ...string) (*http.Response, error) {
	for again := false; ; again = true {
		request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.base.String(), "/")+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		if err := s.authorize(request.Header, again); err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(header); i += 2 {
			request.Header.Add(header[i], header[i+1])
		}
		response, err := s.http.Do(request)
		if err != nil || response.StatusCode != http.StatusUnauthorized || s.token == nil || again {
			return response, err
		}
		_ = response.Body.Close()
	}
}

func (s *session) authorize(header http.Header, refused bool) (err error) {
	if s.token == nil {
		return nil
	}
	if s.shown == "" || refused {
		if s.shown, err = s.token(s.shown); err != nil {
			return fmt.Errorf("reading the token: %w", err)
		}
	}
	header.Set("Authorization", "Bearer "+s.shown)
	return nil
}

// raw sends exact bytes on a connection of its own, and reads one answer.
func (s *session) raw(ctx context.Context, text string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	host := s.base.Host
	if s.base.Port() == "" {
		host = net.JoinHostPort(host, map[string]string{"http": "80", "https": "443"}[s.base.Scheme])
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return answer{}, err
	}
	defer connection.Close()
	if s.base.Scheme == "https" {
		of := &tls.Config{}
		if s.tls != nil {
			of = s.tls.Clone()
		}
		of.ServerName, of.NextProtos = s.base.Hostname(), []string{"http/1.1"}
		connection = tls.Client(connection, of)
	}
	deadline, _ := ctx.Deadline()
	_ = connection.SetDeadline(deadline)
	if _, err := io.WriteString(connection, text); err != nil {
		return answer{}, fmt.Errorf("sending bytes: %w", err)
	}
	method, _, _ := strings.Cut(text, " ")
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer to bytes: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return answer{method: method, status: response.StatusCode, header: response.Header, body: body}, err
}

// play is one case on its way. Once something is wrong, nothing more is asked or noted, so cases need no branches.
type play struct {
	*session
	ctx     context.Context
	name    string
	made    int    // logs
	seen    string // the receipt of the last write
	broken  string // what was seen that the statement forbids
	trouble string // why the case could not be played to its end
	absent  string // why the server has nothing to play the case with
}

func (p *play) over() bool { return p.broken != "" || p.trouble != "" || p.absent != "" }

// want notes what was seen, unless it is as it should be.
func (p *play) want(ok bool, seen string, args ...any) {
	if !ok && !p.over() {
		p.broken = fmt.Sprintf(seen, args...)
	}
}

// passing are the statuses that say that a server, or this run's principal, cannot do now what was asked.
var passing = []int{401, 403, 408, 429, 503, 504}

// do makes a request that this server should be able to answer.
func (p *play) do(method, path, body string, header ...string) answer {
	return p.passed(method+" "+path, p.ask(method, path, body, header...))
}

// passed notes an answer that says nothing about the statement.
func (p *play) passed(what string, a answer) answer {
	if !p.over() && slices.Contains(passing, a.status) {
		p.trouble = fmt.Sprintf("%.80s: %v", what, a)
	}
	return a
}

// ask makes a request that may be refused for any reason. Pages carry the case's last receipt, unless they name others:
// behind a frontend, another backend may answer than the one that took the write.
func (p *play) ask(method, path, body string, header ...string) answer {
	if p.over() {
		return answer{}
	}
	reads := method != "POST" && method != "DELETE" && strings.Contains(path, "/messages")
	carries := p.seen != "" && reads && !slices.Contains(header, "Drainmark-Receipt") && !strings.Contains(path, "receipt=")
	if carries {
		header = append(slices.Clone(header), "Drainmark-Receipt", p.seen, "Prefer", "wait=20")
	}
	a, err := p.session.do(p.ctx, method, path, body, header...)
	switch {
	case err != nil:
		p.trouble = err.Error()
	case carries && a.status == http.StatusPreconditionFailed:
		p.trouble = fmt.Sprintf("a write is not shown within 20 s: %v", a)
	case !reads:
		p.seen = cmp.Or(a.header.Get("Drainmark-Receipt"), p.seen)
	}
	return a
}

// until asks again and again until the answer is as wanted, for what another backend may show a little later. The answer
// is the last one.
func (p *play) until(wanted func(answer) bool, ask func() answer) (a answer) {
	for end := time.Now().Add(laterTimeout); !p.over(); {
		if a = ask(); wanted(a) || time.Now().After(end) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return a
}

// expect makes a request that must have a status.
func (p *play) expect(status int, method, path, body string, header ...string) answer {
	a := p.do(method, path, body, header...)
	p.want(a.status == status, "%s %.80s: not %d, but %v", method, path, status, a)
	return a
}

// refuse makes a request that must be refused with a problem of a type.
func (p *play) refuse(status int, kind, method, path, body string, header ...string) answer {
	a := p.expect(status, method, path, body, header...)
	p.want(a.at("type") == problemPrefix+kind, "%s %.80s: the problem is not %s, but %v", method, path, kind, a)
	return a
}

// send makes a request of exact bytes.
func (p *play) send(line, header, body string) answer {
	if p.over() {
		return answer{}
	}
	authorization := http.Header{}
	if err := p.authorize(authorization, false); err != nil {
		p.trouble = err.Error()
		return answer{}
	}
	if authorization.Get("Authorization") != "" {
		header += "Authorization: " + authorization.Get("Authorization") + "\r\n"
	}
	a, err := p.raw(p.ctx, line+" HTTP/1.1\r\nHost: "+p.base.Host+"\r\n"+header+"\r\n"+body)
	if err != nil {
		p.trouble = err.Error()
	}
	return p.passed(line, a)
}

// log returns the name of a log that nobody has written to.
func (p *play) log() string {
	p.made++
	name := fmt.Sprintf("%s-%s-%d", p.prefix, p.name, p.made)
	p.logs = append(p.logs, name)
	return name
}

func messages(log string) string { return "/v1/logs/" + log + "/messages" }

// append appends a message, which must be accepted.
func (p *play) append(log, body string, header ...string) answer {
	return p.expect(202, "POST", messages(log), body, header...)
}

// persist appends a message, or many, and waits until it is persisted.
func (p *play) persist(log, body string, header ...string) answer {
	a := p.do("POST", messages(log), body, append(header, "Prefer", "wait=20")...)
	if !p.over() && a.status == 202 && a.at("state") == "accepted" {
		p.await(a.at("receipt"))
		return a
	}
	p.want(a.status == 201, "an append that waits: not 201, but %v", a)
	return a
}

// await asks a receipt until its writes are not pending any more.
func (p *play) await(receipt string) answer {
	a := p.expect(200, "GET", "/v1/receipts/"+receipt, "", "Prefer", "wait=20")
	if state := a.at("state"); !p.over() && (state == "pending" || state == "stalled") {
		p.trouble = fmt.Sprintf("writes are not persisted within 20 s: %v", a)
	}
	return a
}

// page reads the beginning of a log.
func (p *play) page(log string, header ...string) answer {
	return p.expect(200, "GET", messages(log), "", header...)
}

const ndjson = "application/x-ndjson"

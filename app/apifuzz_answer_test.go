package app

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// fuzzWorker sends one request after another.
type fuzzWorker struct {
	*apiFuzz
	number int
	made   int
	chance oddities
	conns  [2]*fuzzConn // to the process and to the frontend, nil where there is none
}

type fuzzConn struct {
	net.Conn
	read *bufio.Reader
}

func (w *fuzzWorker) close() {
	for i := range w.conns {
		w.drop(i)
	}
}

func (w *fuzzWorker) drop(at int) {
	if w.conns[at] != nil {
		_ = w.conns[at].Close()
		w.conns[at] = nil
	}
}

// one sends a request, and judges its answer.
func (w *fuzzWorker) one() {
	w.made++
	o := &w.chance
	q := o.request()
	at := of(o, 0, 0, 1)
	text := q.bytes("localhost", rand.New(rand.NewPCG(o.Uint64(), 0)))
	v := w.judge(text, at)
	got, err := w.exchange(at, q, text)
	switch {
	case err != nil && q.plain && !(q.waits && errors.Is(err, os.ErrDeadlineExceeded)):
		w.found(q, text, v, got, "there is no answer: "+err.Error())
	case err != nil:
		w.count("no answer was waited for")
	default:
		w.count(strconv.Itoa(got.status))
		w.learn(text, v, got)
		for _, why := range w.faults(q, v, got) {
			w.found(q, text, v, got, why)
		}
	}
}

// judge asks the model of a request as an HTTP server reads it, and notes where its canaries may be from now on. A frontend
// takes away what Connection names.
func (f *apiFuzz) judge(text []byte, at int) judgment {
	own := legible(text)
	if plain, err := url.QueryUnescape(string(text)); err == nil {
		own = append(own, plain...)
	}
	r, body, err := read(text)
	if err != nil {
		return judgment{route: "none", shows: nothing, own: own}
	}
	own = append(own, legible(body)...) // without what chunks have between them
	if at == 1 && strings.Contains(strings.ToLower(strings.Join(r.Header["Connection"], ",")), "authorization") {
		r.Header.Del("Authorization")
	}
	v := f.model.judge(r, body)
	args, ok := fits("/v1/logs/*/messages", r.URL.EscapedPath())
	f.mu.Lock()
	defer f.mu.Unlock()
	v.own = own
	for _, n := range canaries(own) {
		f.sent[n].refused = v.refusals != nil
		if ok {
			f.sent[n].log = args[0]
		}
	}
	return v
}

// canaryText is the text of a canary: with a sum, so that no mutation makes one of another.
func canaryText(n int) string { return fmt.Sprintf("KN%07d%04dE", n, n*7919%9973) }

var canaryPattern = regexp.MustCompile(`KN(\d{7})\d{4}E`)

var base64Pattern = regexp.MustCompile(`"body_base64":"([^"]*)"`)

// legible adds to a text what it has in base64.
func legible(text []byte) []byte {
	all := slices.Clone(text)
	for _, m := range base64Pattern.FindAllSubmatch(text, -1) {
		decoded, _ := base64.StdEncoding.DecodeString(string(m[1]))
		all = append(all, decoded...)
	}
	return all
}

// canaries returns the numbers of those that a text has.
func canaries(text []byte) (numbers []int) {
	for _, m := range canaryPattern.FindAllSubmatch(text, -1) {
		if n, _ := strconv.Atoi(string(m[1])); canaryText(n) == string(m[0]) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// exchange sends a request, and reads the answer.
func (w *fuzzWorker) exchange(at int, q *odd, text []byte) (got answer, err error) {
	fresh := !q.plain || w.conns[at] == nil
	if fresh {
		w.drop(at)
		conn, err := net.Dial("tcp", strings.TrimPrefix([]string{w.up.api, w.front.api}[at], "http://"))
		if err != nil {
			return got, err
		}
		w.conns[at] = &fuzzConn{conn, bufio.NewReader(conn)}
	}
	c := w.conns[at]
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, sending := c.Write(text)
	if q.cut > 0 {
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}
	if !q.plain || q.waits {
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	}
	got, err = c.answer(q.method)
	if err != nil || got.closes || !q.plain || w.chance.chance(50) {
		w.drop(at)
	}
	if err != nil && !fresh && !errors.Is(err, os.ErrDeadlineExceeded) {
		return w.exchange(at, q, text) // the server has closed the connection meanwhile
	}
	if err != nil {
		err = errors.Join(err, sending)
	}
	return got, err
}

// answer reads an answer, and of an event stream its beginning.
func (c *fuzzConn) answer(method string) (answer, error) {
	for {
		response, err := http.ReadResponse(c.read, &http.Request{Method: method})
		if err != nil {
			return answer{}, err
		}
		if response.StatusCode == http.StatusContinue {
			continue
		}
		got := answer{status: response.StatusCode, header: response.Header, closes: response.Close}
		if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
			_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
			got.body, _ = io.ReadAll(io.LimitReader(response.Body, 1<<20))
			got.closes = true
			return got, nil
		}
		got.body, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
		return got, err
	}
}

// ownFaults are the problems with which a server may refuse something that is none of its own failures.
var ownFaults = regexp.MustCompile(`urn:drainmark:problem:(too-many|backlog-full)"`)

// faults says what is wrong with an answer.
func (w *fuzzWorker) faults(q *odd, v judgment, got answer) (why []string) {
	missing := got.status == http.StatusUnauthorized || got.status == http.StatusForbidden
	switch {
	case got.status >= 500 && !ownFaults.Match(got.body) && (q.plain || got.status != 501 && got.status != 505):
		why = append(why, "the server has failed")
	case v.refusals != nil && (got.status < 400 || q.plain && !slices.Contains(v.refusals, got.status)):
		why = append(why, fmt.Sprintf("it is not granted: it must be one of %v", v.refusals))
	case q.plain && v.refusals == nil && v.may && missing:
		why = append(why, "it is granted")
	}
	for _, hidden := range v.hides {
		if bytes.Contains(got.body, []byte(hidden)) {
			why = append(why, "the answer has "+hidden)
		}
	}
	return append(why, w.shown(v, got)...)
}

// These find what an answer shows.
var (
	namePattern  = regexp.MustCompile(`[a-z0-9][a-z0-9._-]*(kn[0-9a-f]{6}z)[a-z0-9._-]*`)
	tokenPattern = regexp.MustCompile(`dmk_[A-Za-z0-9_-]{43}`)
)

// shown says what an answer shows that is not for those who ask. They may see what they have sent themselves.
func (f *apiFuzz) shown(v judgment, got answer) (why []string) {
	said := legible(fmt.Appendf(nil, "%v\n%s", got.header, got.body))
	own := string(v.own)
	if tokenPattern.Match(said) {
		why = append(why, "the answer has a token")
	}
	for _, m := range namePattern.FindAllStringSubmatch(string(said), -1) {
		if !strings.Contains(own, m[1]) && !v.shows(m[0]) && !v.shows(strings.TrimRight(m[0], ".")) {
			return append(why, "the answer names the log "+m[0])
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range canaries(said) {
		switch mine := strings.Contains(own, canaryText(n)); {
		case !mine && !v.shows(f.sent[n].log):
			return append(why, fmt.Sprintf("the answer has %s, which is of the log %s", canaryText(n), f.sent[n].log))
		case !mine && f.sent[n].refused:
			return append(why, canaryText(n)+" is of a request that was not to be carried out")
		}
	}
	return why
}

// found reports what is wrong.
func (w *fuzzWorker) found(q *odd, text []byte, v judgment, got answer, why string) {
	if len(text) > 4000 {
		text = text[:4000]
	}
	w.t.Errorf("%s\nseed %d, request %d of worker %d (plain: %v, cut at %d), %s by %+v:\n%q\n\nis answered %d %v\n%.4000q",
		why, *apiFuzzSeed, w.made, w.number, q.plain, q.cut, v.route, v.who, text, got.status, got.header, got.body)
}

func (f *apiFuzz) count(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[what]++
	f.counts["requests"]++
}

// kept is how many receipts and letters are remembered to be asked for again.
const kept = 300

// learn remembers receipts, and which messages and dead letters are of which log.
func (w *fuzzWorker) learn(text []byte, v judgment, got answer) {
	if got.status >= 300 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if v.refusals == nil {
		w.counts["carried out: "+v.route]++
	}
	if receipt := got.header.Get("Drainmark-Receipt"); receipt != "" {
		w.keep(&w.receipts, receipt)
	}
	var said struct {
		ID      string
		Marks   []string
		Letters []struct{ ID, Log string } `json:"dead_letters"`
	}
	_ = json.Unmarshal(got.body, &said) // where dead_letters is a number, there is nothing to learn
	for _, letter := range said.Letters {
		w.logs[letter.ID] = letter.Log
		w.keep(&w.letters, letter.ID)
	}
	r, _, err := read(text)
	if err != nil {
		return
	}
	args, ok := fits("/v1/logs/*/messages", r.URL.EscapedPath())
	if !ok {
		return
	}
	for _, mark := range said.Marks {
		if span, err := drainmark.ParseSpan(mark); err == nil {
			said.ID = drainmark.Mark{Producer: span.Producer, Partition: span.Partition, Sequence: span.Last}.String()
		}
	}
	if said.ID != "" {
		w.logs[said.ID] = args[0]
		w.keep(&w.letters, said.ID)
	}
}

// read reads a request as an HTTP server does, and as much as there is of its body.
func read(text []byte) (*http.Request, []byte, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	if err != nil {
		return nil, nil, err
	}
	body, _ := io.ReadAll(r.Body)
	return r, body, nil
}

// keep remembers one more, in place of one that chance chooses. Called with mu held.
func (w *fuzzWorker) keep(in *[]string, one string) {
	if len(*in) < kept {
		*in = append(*in, one)
		return
	}
	(*in)[w.chance.IntN(kept)] = one
}

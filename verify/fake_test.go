package verify

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// fake is a deployment in memory that keeps its promises, unless its faults say otherwise. Accepted requests become
// operations in a queue. A read applies as much of the queue as it must show, and leaves the rest for later, so that
// accepted and visible really differ.
type fake struct {
	lag     int           // operations that a plain read leaves in the queue
	takes   time.Duration // how long an append takes
	faults  faults
	mu      sync.Mutex
	queue   []operation
	applied int
	logs    map[string]*fakeLog
	posts   int // requests to append
	pending int // answers that were "pending" since the last other one
	stuck   *operation
	letters []letter
}

// faults are the ways in which a fake can be wrong, or merely difficult. at names a message, "client/number".
type faults struct {
	// Wrong.
	lose           string         // a message never gets into the log
	skip           string         // it does not, and its position is used up
	hold           string         // it is appended late: behind the message until
	until          string         //
	double         string         // it is appended again behind the message until
	change         string         // it is changed by
	changeBy       func(*stored)  //
	reverseLines   bool           // the lines of a request stand in reverse order
	ignoreKeys     bool           // idempotency keys mean nothing
	doubleUnkeyed  bool           // a message without a key is appended twice
	keepOnClear    int            // a clear leaves so many messages
	resetOnClear   bool           // positions begin again at 1 after a clear
	early          int            // a barrier is reached when so many operations are still in the queue
	earlyReceipts  int            // a receipt is persisted when so many are
	lateClear      int            // the first clear is answered with 504, and comes so many appends later, or before a barrier
	noEvents       bool           // streams of events are opened, and nothing comes
	stale          bool           // a read with a receipt does not wait for it
	countBy        int            // the count is so much too high
	pageFault      func(*pageFor) // changes a page before it is answered
	lastPositionBy int            // the last position is so much too high

	// Difficult.
	failBefore  int    // every so many-th append is answered with 503 and not stored
	failAfter   int    // every so many-th append is stored and answered with this
	failAs      string // "503" (which is wrong), "504", or "cut": the connection is closed instead
	doubt       string // whatever is done about this message, the answer is that the outcome is unknown
	doubtStores bool   // it is stored all the same
	pendings    int    // a barrier or receipt is pending so many times before it is reached
	neverReach  bool   // a barrier of a log with messages stays pending
	refuseReads int    // every so many-th read with a receipt is answered with 412
	stranger    string // somebody else appends a message behind this one
	clearBehind string // somebody else clears the log behind this one
	reads       int

	posted         func(n int) // is told of every request to append
	strangerOnRead bool        // somebody else appends a message whenever a second page is read
}

type operation struct {
	log    string
	clears bool
	line   stored
	key    string
}

type stored struct {
	Position    uint64  `json:"position"`
	ID          string  `json:"id"`
	Text        *string `json:"body,omitempty"`
	Bytes       []byte  `json:"body_base64,omitempty"`
	ContentType string  `json:"content_type"`

	Headers map[string]string `json:"headers,omitempty"`

	AcceptedAt  string `json:"accepted_at"`
	PersistedAt string `json:"persisted_at"`
	body        string
	name        string // "client/number", or ""
}

// letter is a rejected record: the operation in the queue, and its dead letter.
type letter struct {
	operation int
	ID        string `json:"id"`
	Log       string `json:"log"`
	Reason    string `json:"reason"`
	Bytes     []byte `json:"body_base64"`
	Type      string `json:"content_type"`
}

type fakeLog struct {
	messages []stored
	last     uint64
	keys     map[string]string // the body that each went with
	held     *stored
	again    *stored
}

// pageFor is a page on its way out.
type pageFor struct {
	limit    int
	messages []stored
}

// startFake serves a fake at a URL.
func startFake(t testing.TB, f *fake) string {
	t.Helper()
	server := httptest.NewServer(f.handler())
	t.Cleanup(server.Close)
	return server.URL
}

func (f *fake) handler() http.Handler {
	f.logs = map[string]*fakeLog{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/logs/{log}/messages", f.post)
	mux.HandleFunc("GET /v1/logs/{log}/messages", f.get)
	mux.HandleFunc("GET /v1/logs/{log}/events", f.events)
	mux.HandleFunc("DELETE /v1/logs/{log}/messages", f.clear)
	mux.HandleFunc("GET /v1/receipts/{receipt}", f.receipt)
	mux.HandleFunc("POST /v1/barriers", f.barrier)
	mux.HandleFunc("GET /v1/dead-letters", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"dead_letters": append([]letter{}, f.letters...)})
	})
	mux.HandleFunc("DELETE /v1/dead-letters/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.letters = slices.DeleteFunc(f.letters, func(l letter) bool { return l.ID == r.PathValue("id") })
		f.mu.Unlock()
		answer(w, http.StatusAccepted, map[string]any{"receipt": receiptFor(0), "state": "accepted"})
	})
	return mux
}

func (f *fake) log(name string) *fakeLog {
	l := f.logs[name]
	if l == nil {
		l = &fakeLog{keys: map[string]string{}}
		f.logs[name] = l
	}
	return l
}

// apply applies the queue up to an operation.
func (f *fake) apply(through int) {
	for ; f.applied < through; f.applied++ {
		op := f.queue[f.applied]
		l := f.log(op.log)
		if op.clears {
			l.messages = l.messages[max(0, len(l.messages)-f.faults.keepOnClear):]
			if f.faults.resetOnClear {
				l.last = 0
			}
			if f.faults.stranger == "clear" {
				l.add(stored{body: "hello, I am somebody else"})
			}
			continue
		}
		if body, known := l.keys[op.key]; known && !f.faults.ignoreKeys {
			if body != op.line.body {
				f.letters = append(f.letters, letter{
					f.applied, strconv.Itoa(f.applied), op.log, "idempotency-key-reused", []byte(op.line.body), op.line.ContentType,
				})
			}
			continue
		}
		if op.key != "" {
			l.keys[op.key] = op.line.body
		}
		f.place(l, op.line)
		if op.key == "" && f.faults.doubleUnkeyed {
			f.place(l, op.line)
		}
	}
}

// place gives a message its place in the log.
func (f *fake) place(l *fakeLog, m stored) {
	switch {
	case m.name == "":
	case m.name == f.faults.lose:
		return
	case m.name == f.faults.skip:
		l.last++
		return
	case m.name == f.faults.hold:
		l.held = &m
		return
	case m.name == f.faults.double:
		again := m
		l.again = &again
	case m.name == f.faults.change:
		f.faults.changeBy(&m)
	}
	l.add(m)
	if m.name != "" && m.name == f.faults.until {
		for _, late := range []*stored{l.held, l.again} {
			if late != nil {
				l.add(*late)
			}
		}
	}
	if m.name != "" && m.name == f.faults.stranger {
		l.add(stored{body: "hello, I am somebody else"})
	}
	if m.name != "" && m.name == f.faults.clearBehind {
		l.messages = nil
	}
}

func (l *fakeLog) add(m stored) {
	l.last++
	m.Position = l.last
	m.ID = fmt.Sprintf("0-00000000000000000000000000000000-%d", l.last)
	m.PersistedAt = time.Now().UTC().Format(time.RFC3339Nano)
	m.AcceptedAt = cmp.Or(m.AcceptedAt, m.PersistedAt)
	if utf8.ValidString(m.body) && !strings.Contains(m.body, "\x00") {
		m.Text = &m.body
	} else {
		m.Bytes = []byte(m.body)
	}
	l.messages = append(l.messages, m)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Drainmark-Backend", "the-fake")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:drainmark:problem:" + kind, "title": kind, "status": status})
}

// nameOf takes "client/number" from a key of a run.
func nameOf(key string) string {
	_, name, _ := strings.Cut(strings.Trim(key, `"`), "/")
	return name
}

func (f *fake) post(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(f.takes):
	case <-r.Context().Done():
		return
	}
	at := time.Now().UTC().Format(time.RFC3339Nano)
	lines, err := operationsIn(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posts++
	if f.faults.posted != nil {
		f.faults.posted(f.posts)
	}
	if f.faults.failBefore > 0 && f.posts%f.faults.failBefore == 0 {
		refuse(w, http.StatusServiceUnavailable, "unavailable")
		return
	}
	doubtful := f.faults.doubt != "" && nameOf(lines[0].key) == f.faults.doubt
	if doubtful && !f.faults.doubtStores {
		refuse(w, http.StatusGatewayTimeout, "outcome-unknown")
		return
	}
	if f.posts == f.faults.lateClear {
		f.unstick()
	}
	f.enqueue(r.PathValue("log"), at, lines)
	if doubtful {
		refuse(w, http.StatusGatewayTimeout, "outcome-unknown")
		return
	}
	if f.faults.failAfter > 0 && f.posts%f.faults.failAfter == 0 {
		f.fail(w)
		return
	}
	token := receiptFor(len(f.queue))
	w.Header().Set("Drainmark-Receipt", token)
	answer(w, http.StatusAccepted, map[string]any{"receipt": token, "count": len(lines), "state": "accepted"})
}

// operationsIn reads the appends of a request.
func operationsIn(r *http.Request) ([]operation, error) {
	if r.Header.Get("Content-Type") != "application/x-ndjson" {
		return []operation{wholeBody(r)}, nil
	}
	var lines []operation
	for decoder := json.NewDecoder(bufio.NewReader(r.Body)); decoder.More(); {
		var l struct {
			Body        string `json:"body"`
			BodyBase64  []byte `json:"body_base64"`
			ContentType string `json:"content_type"`
			Key         string `json:"key"`
			Headers     map[string]string
		}
		if err := decoder.Decode(&l); err != nil {
			return nil, err
		}
		op := operation{key: l.Key, line: stored{body: l.Body, ContentType: l.ContentType, Headers: l.Headers}}
		if l.BodyBase64 != nil {
			op.line.body = string(l.BodyBase64)
		}
		lines = append(lines, op)
	}
	return lines, nil
}

// wholeBody is the append of a request with one message.
func wholeBody(r *http.Request) operation {
	var all strings.Builder
	_, _ = bufio.NewReader(r.Body).WriteTo(&all)
	m := stored{body: all.String(), ContentType: r.Header.Get("Content-Type"), Headers: map[string]string{}}
	for field, values := range r.Header {
		if name, ok := strings.CutPrefix(field, "Drainmark-Header-"); ok {
			m.Headers[strings.ToLower(name)] = values[0]
		}
	}
	return operation{key: strings.Trim(r.Header.Get("Idempotency-Key"), `"`), line: m}
}

// enqueue takes the appends of a request.
func (f *fake) enqueue(log, at string, lines []operation) {
	for i := range lines {
		op := lines[i]
		if f.faults.reverseLines {
			op = lines[len(lines)-1-i]
		}
		op.log, op.line.name, op.line.AcceptedAt = log, nameOf(op.key), at
		f.queue = append(f.queue, op)
	}
}

// unstick lets a clear that comes late come.
func (f *fake) unstick() {
	if f.stuck != nil && f.faults.lateClear > 0 {
		f.queue = append(f.queue, *f.stuck)
		f.faults.lateClear = 0
	}
}

// fail answers for an append that was stored.
func (f *fake) fail(w http.ResponseWriter) {
	switch f.faults.failAs {
	case "503":
		refuse(w, http.StatusServiceUnavailable, "unavailable")
	case "504":
		refuse(w, http.StatusGatewayTimeout, "outcome-unknown")
	default:
		panic(http.ErrAbortHandler)
	}
}

func receiptFor(n int) string { return "through-" + strconv.Itoa(n) }

// through returns the operation up to which a receipt wants to see.
func through(receipt string) int {
	last := 0
	for one := range strings.SplitSeq(receipt, ",") {
		n, _ := strconv.Atoi(strings.TrimPrefix(one, "through-"))
		last = max(last, n)
	}
	return last
}

func (f *fake) clear(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	op := operation{log: r.PathValue("log"), clears: true}
	if f.faults.lateClear > 0 && f.stuck == nil {
		f.stuck = &op
		f.faults.lateClear += f.posts
		refuse(w, http.StatusGatewayTimeout, "outcome-unknown")
		return
	}
	f.queue = append(f.queue, op)
	answer(w, http.StatusAccepted, map[string]any{"receipt": receiptFor(len(f.queue)), "state": "accepted"})
}

func (f *fake) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply(len(f.queue) - f.lag)
	if receipt := r.Header.Get("Drainmark-Receipt"); receipt != "" && !f.faults.stale {
		f.faults.reads++
		if f.faults.refuseReads > 0 && f.faults.reads%f.faults.refuseReads == 0 {
			refuse(w, http.StatusPreconditionFailed, "not-reached")
			return
		}
		f.apply(through(receipt))
	}
	l := f.logs[r.PathValue("log")]
	if l == nil {
		refuse(w, http.StatusNotFound, "not-found")
		return
	}
	after, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	p := pageFor{limit: limit, messages: []stored{}}
	if f.faults.strangerOnRead && limit == firstPages && after > 0 {
		l.add(stored{body: "hello, I am somebody else"})
	}
	from := sort.Search(len(l.messages), func(i int) bool { return l.messages[i].Position > after })
	p.messages = append(p.messages, l.messages[from:min(from+limit, len(l.messages))]...)
	if f.faults.pageFault != nil {
		f.faults.pageFault(&p)
	}
	answer(w, http.StatusOK, map[string]any{
		"log": r.PathValue("log"), "messages": p.messages, "last_position": int(l.last) + f.faults.lastPositionBy,
		"count": max(0, len(l.messages)+min(f.faults.countBy, len(l.messages)*1000)),
	})
}

// events shows what is in a log, as often as there is something new, until the client goes.
func (f *fake) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Drainmark-Backend", "the-fake")
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64)
	for ticker := time.NewTicker(5 * time.Millisecond); ; {
		for _, m := range f.behind(r.PathValue("log"), after) {
			data, _ := json.Marshal(m)
			fmt.Fprintf(w, "id: %d\ndata: %s\n\n", m.Position, data)
			after = m.Position
		}
		w.(http.Flusher).Flush()
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			ticker.Stop()
			return
		}
	}
}

// behind returns the messages that are shown of a log behind a position.
func (f *fake) behind(log string, position uint64) []stored {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.logs[log]
	if l == nil || f.faults.noEvents {
		return nil
	}
	from := sort.Search(len(l.messages), func(i int) bool { return l.messages[i].Position > position })
	return slices.Clone(l.messages[from:])
}

// reached says whether a barrier or receipt is to be answered as reached this time.
func (f *fake) reached() bool {
	if f.faults.neverReach && len(f.queue) > 3 {
		return false
	}
	if f.pending < f.faults.pendings {
		f.pending++
		return false
	}
	f.pending = 0
	return true
}

func (f *fake) barrier(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unstick()
	n := len(f.queue)
	state := "pending"
	if f.reached() {
		f.apply(n - f.faults.early)
		state = "reached"
	}
	answer(w, http.StatusOK, map[string]any{"receipt": receiptFor(n), "state": state})
}

func (f *fake) receipt(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	token := r.PathValue("receipt")
	if !f.reached() {
		answer(w, http.StatusOK, map[string]any{"receipt": token, "state": "stalled", "reason": "no consumer holds the partition"})
		return
	}
	f.apply(through(token) - f.faults.earlyReceipts)
	state := "persisted"
	if slices.ContainsFunc(f.letters, func(l letter) bool { return l.operation == through(token)-1 }) {
		state = "rejected"
	}
	answer(w, http.StatusOK, map[string]any{"receipt": token, "state": state})
}

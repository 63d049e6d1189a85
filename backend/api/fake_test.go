package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/internal/httpserve"
	"github.com/drainmark/drainmark/store"
)

// fake is a Service that does what a test says. Calls that the test does not set up fail.
type fake struct {
	append      func(ctx context.Context, log string, records []drainmark.Record) (drainmark.Receipt, error)
	publish     func(ctx context.Context, r drainmark.Record) (drainmark.Receipt, error)
	barrier     func(ctx context.Context, logs []string) (drainmark.Receipt, error)
	status      func(ctx context.Context, r drainmark.Receipt, wait time.Duration) (backend.Status, error)
	messages    func(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (store.Page, error)
	logs        func(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error)
	backlog     func(ctx context.Context) ([]backend.PartitionBacklog, error)
	working     func(ctx context.Context) backend.Working
	consumers   func(ctx context.Context) backend.Wanted
	deadLetters func(ctx context.Context, f backend.LetterFilter, after string, limit int) (backend.DeadLetters, error)
	places      func(log string, r drainmark.Receipt) ([]backend.Place, error)
	letterLog   func(id string) (string, error)
	settle      func(kind drainmark.RecordKind, f backend.LetterFilter, after string, limit int) (backend.Settled, error)
	count       func(f backend.LetterFilter) (backend.Settled, error)
	openLetters func(principal string, most int64) (int64, time.Duration)
	subscribe   func(ctx context.Context, log string, after uint64) (backend.Subscription, error)
}

var errNotScripted = errors.New("secret: the test has not said what happens")

func (f *fake) Append(ctx context.Context, log string, records []drainmark.Record) (drainmark.Receipt, error) {
	if f.append == nil {
		return drainmark.Receipt{}, errNotScripted
	}
	return f.append(ctx, log, records)
}

func (f *fake) Publish(ctx context.Context, r drainmark.Record) (drainmark.Receipt, error) {
	if f.publish == nil {
		return drainmark.Receipt{}, errNotScripted
	}
	return f.publish(ctx, r)
}

func (f *fake) Barrier(ctx context.Context, logs []string) (drainmark.Receipt, error) {
	if f.barrier == nil {
		return drainmark.Receipt{}, errNotScripted
	}
	return f.barrier(ctx, logs)
}

func (f *fake) ParseReceipt(texts ...string) (drainmark.Receipt, error) {
	var merged drainmark.Receipt
	for i, text := range texts {
		r, err := drainmark.ParseReceipt(text)
		if err == nil && i > 0 {
			r, err = merged.Merge(r)
		}
		if err != nil {
			return drainmark.Receipt{}, err
		}
		merged = r
	}
	return merged, nil
}

func (f *fake) Status(ctx context.Context, r drainmark.Receipt, wait time.Duration) (backend.Status, error) {
	if f.status == nil {
		return backend.Status{}, errNotScripted
	}
	return f.status(ctx, r, wait)
}

func (f *fake) Messages(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (backend.Page, error) {
	if f.messages == nil {
		return backend.Page{}, errNotScripted
	}
	page, err := f.messages(ctx, log, after, limit, need, wait)
	return backend.Page{Page: page}, err
}

func (f *fake) Logs(ctx context.Context, after string, limit int) (backend.Logs, error) {
	if f.logs == nil {
		return backend.Logs{}, errNotScripted
	}
	infos, err := f.logs(ctx, after, limit)
	return backend.Logs{Infos: infos}, err
}

func (f *fake) Backlog(ctx context.Context) ([]backend.PartitionBacklog, error) {
	if f.backlog == nil {
		return nil, errNotScripted
	}
	return f.backlog(ctx)
}

func (f *fake) Working(ctx context.Context) backend.Working {
	if f.working == nil {
		return backend.Working{Appends: errNotScripted, Reads: errNotScripted, Persisting: errNotScripted}
	}
	return f.working(ctx)
}

func (f *fake) Consumers(ctx context.Context) backend.Wanted {
	if f.consumers == nil {
		return backend.Wanted{Consumers: 1, Unknown: errNotScripted}
	}
	return f.consumers(ctx)
}

func (f *fake) DeadLetters(ctx context.Context, letters backend.LetterFilter, after string, limit int) (backend.DeadLetters, error) {
	if f.deadLetters == nil {
		return backend.DeadLetters{}, errNotScripted
	}
	return f.deadLetters(ctx, letters, after, limit)
}

func (f *fake) OpenLetters(_ context.Context, principal string, most int64) (int64, time.Duration) {
	if f.openLetters == nil {
		panic("the test has not said how many dead letters there are")
	}
	return f.openLetters(principal, most)
}

func (f *fake) LetterLog(_ context.Context, id string) (string, error) {
	if f.letterLog == nil {
		return "", errNotScripted
	}
	return f.letterLog(id)
}

func (f *fake) Places(_ context.Context, log string, r drainmark.Receipt) ([]backend.Place, error) {
	if f.places == nil {
		return nil, errNotScripted
	}
	return f.places(log, r)
}

func (f *fake) Settle(_ context.Context, kind drainmark.RecordKind, _ string, letters backend.LetterFilter, after string, limit int) (backend.Settled, error) {
	if f.settle == nil {
		return backend.Settled{}, errNotScripted
	}
	return f.settle(kind, letters, after, limit)
}

func (f *fake) CountLetters(_ context.Context, letters backend.LetterFilter) (backend.Settled, error) {
	if f.count == nil {
		return backend.Settled{}, errNotScripted
	}
	return f.count(letters)
}

func (f *fake) Subscribe(ctx context.Context, log string, after uint64) (backend.Subscription, error) {
	if f.subscribe == nil {
		return nil, errNotScripted
	}
	return f.subscribe(ctx, log, after)
}

// Tests use these as a producer and as receipts.
var (
	producer    = drainmark.ProducerID{0x4b, 0xf9, 15: 0x36}
	receiptOne  = receiptOf(1, 1)
	receiptTwo  = receiptOf(2, 2)
	receiptBoth = receiptOf(1, 2)
)

func receiptOf(first, last uint64) drainmark.Receipt {
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	return drainmark.NewReceipt(drainmark.DeploymentID{7}, at, drainmark.Span{Partition: 1, Producer: producer, First: first, Last: last})
}

// accepts is a fake whose appends and other publishing succeed, and are handed to got.
func accepts(got func(log string, records []drainmark.Record)) *fake {
	return &fake{
		append: func(_ context.Context, log string, records []drainmark.Record) (drainmark.Receipt, error) {
			got(log, records)
			return receiptOne, nil
		},
		publish: func(_ context.Context, r drainmark.Record) (drainmark.Receipt, error) {
			got(r.Log, []drainmark.Record{r})
			return receiptOne, nil
		},
	}
}

// says makes a status function that answers the same to all.
func says(state backend.State, reason string) func(context.Context, drainmark.Receipt, time.Duration) (backend.Status, error) {
	return func(_ context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
		return backend.Status{Receipt: r, State: state, Reason: reason}, nil
	}
}

// message returns the message at a position.
func message(position uint64, body string) drainmark.Message {
	at := time.Date(2026, 3, 1, 10, 0, 0, 4_000, time.UTC)
	return drainmark.Message{
		Position: position, Mark: drainmark.Mark{Partition: 1, Producer: producer, Sequence: position}, Body: []byte(body),
		ContentType: "text/plain", AcceptedAt: at, PersistedAt: at.Add(2 * time.Millisecond),
	}
}

// server is the API over a fake, behind a real HTTP server.
type server struct {
	t    *testing.T
	http *httptest.Server
	api  *handler
}

// serve starts an API with the configuration as changed.
func serve(t *testing.T, service backend.Service, change ...func(*Config)) *server {
	t.Helper()
	c := Config{Service: service, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatalf("making the API: %v", err)
	}
	api := h.(*handler)
	s := &server{t, httptest.NewServer(httpserve.Handler(api, api.limits.Request)), api}
	t.Cleanup(s.http.Close)
	return s
}

// answer is a whole response.
type answer struct {
	*http.Response
	body []byte
}

// do sends a request with headers "Name: value" and returns the answer, after checking it against the OpenAPI document.
func (s *server) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	return s.send(s.request(method, path, from, headers...))
}

func (s *server) request(method, path string, body io.Reader, headers ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, body)
	if err != nil {
		s.t.Fatalf("making a request: %v", err)
	}
	for _, header := range headers {
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Add(name, value)
		}
	}
	return r
}

func (s *server) send(r *http.Request) answer {
	s.t.Helper()
	response, err := s.http.Client().Transport.RoundTrip(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: reading the answer: %v", r.Method, r.URL.Path, err)
	}
	a := answer{response, body}
	checkDocumented(s.t, r, a)
	return a
}

// want fails the test unless the answer has the status, and returns its JSON.
func (a answer) want(t *testing.T, status int) map[string]any {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("the answer is no JSON object: %v: %s", err, a.body)
	}
	return v
}

// wantProblem fails the test unless the answer is a problem of the kind, whose detail has all the words.
func (a answer) wantProblem(t *testing.T, kind drainmark.Kind, words ...string) Problem {
	t.Helper()
	var p Problem
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("status %d is no problem: %s", a.StatusCode, a.body)
	}
	if p.Type != ProblemPrefix+string(kind) || p.Status != a.StatusCode || p.Err().Kind != kind {
		t.Fatalf("status %d, problem %+v; want one of kind %s", a.StatusCode, p, kind)
	}
	for _, word := range words {
		if !strings.Contains(p.Detail, word) {
			t.Errorf("detail %q; want it to name %q", p.Detail, word)
		}
	}
	return p
}

// wantHeader fails the test unless the answer has the header.
func (a answer) wantHeader(t *testing.T, name, value string) {
	t.Helper()
	if got := a.Header.Get(name); got != value {
		t.Errorf("%s: %q, want %q", name, got, value)
	}
}

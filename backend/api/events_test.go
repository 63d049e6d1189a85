package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// beginning is what a stream begins with.
var beginning = regexp.MustCompile(`^retry: 2000\nid: [0-9]+$`)

const eventsPath = "/v1/logs/guestbook/events"

func failSubscribe(err error) func(context.Context, string, uint64) (backend.Subscription, error) {
	return func(context.Context, string, uint64) (backend.Subscription, error) { return nil, err }
}

// feed is a subscription that returns what a test puts into steps.
type feed struct {
	steps  chan step
	asked  chan uint64 // the position behind which it was asked for
	closed chan struct{}
}

type step struct {
	messages []drainmark.Message
	err      error
}

func newFeed() *feed {
	return &feed{steps: make(chan step), asked: make(chan uint64, 1), closed: make(chan struct{})}
}

func (f *feed) Next(ctx context.Context) ([]drainmark.Message, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case s := <-f.steps:
		return s.messages, s.err
	}
}

// Share holds 1,000 bytes until the stream ends.
func (f *feed) Share(hold func(context.Context, int64) error) { _ = hold(context.Background(), 1000) }

func (f *feed) Close() { close(f.closed) }

// service is a fake whose only log's feed is f.
func (f *feed) service() *fake {
	s := holds(2, 10)
	s.subscribe = func(_ context.Context, _ string, after uint64) (backend.Subscription, error) {
		f.asked <- after
		return f, nil
	}
	return s
}

// listener reads an event stream.
type listener struct {
	t        *testing.T
	response *http.Response
	reader   *bufio.Reader
}

// listen opens an event stream and reads its beginning.
func (s *server) listen(path string, headers ...string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	r := s.request("GET", path, nil, headers...).WithContext(ctx)
	response, err := s.http.Client().Transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { response.Body.Close() })
	checkDocumented(s.t, r, answer{response, nil})
	l := &listener{s.t, response, bufio.NewReader(response.Body)}
	if begin := l.block(); !beginning.MatchString(begin) {
		s.t.Fatalf("the stream begins with %q", begin)
	}
	return l
}

// block returns the lines up to the next blank one, or what there is before the stream ends.
func (l *listener) block() string {
	l.t.Helper()
	var lines []string
	for {
		line, err := l.reader.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			l.t.Fatalf("reading events: %v", err)
		}
		if line == "\n" || err != nil {
			return strings.Join(append(lines, line[:max(0, len(line)-1)])[:len(lines)], "\n")
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
}

func (l *listener) want(block string) {
	l.t.Helper()
	if got := l.block(); got != block {
		l.t.Fatalf("got %q, want %q", got, block)
	}
}

// wantLast fails the test unless the stream ends with a comment and when to come back.
func (l *listener) wantLast(comment string) {
	l.t.Helper()
	said, retry, _ := strings.Cut(l.block(), "\nretry: ")
	if after, err := strconv.Atoi(retry); said != comment || err != nil || after < reconnectAfter || after >= 3*reconnectAfter {
		l.t.Fatalf("the stream ends with %q, and to come back after %q", said, retry)
	}
	l.wantEnd()
}

func (l *listener) wantEnd() {
	l.t.Helper()
	if rest, err := io.ReadAll(l.reader); len(rest) > 0 || err != nil {
		l.t.Fatalf("the stream goes on: %q, %v", rest, err)
	}
}

// event returns how a message looks as an event.
func event(m drainmark.Message) string {
	var e encoder
	data := string(e.message(nil, &m))
	return "id: " + m.Mark.String()[strings.LastIndex(m.Mark.String(), "-")+1:] + "\nevent: message\ndata: " + data
}

func TestEvents(t *testing.T) {
	t.Parallel()
	f := newFeed()
	s := serve(t, f.service())
	l := s.listen(eventsPath)
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
	} {
		if got := l.response.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	batch := []drainmark.Message{message(11, "hello"), message(12, "two\nlines\r\n\r\nid: 99"), message(13, "\x00\xff")}
	f.steps <- step{messages: batch}
	for _, m := range batch {
		l.want(event(m))
	}
	later := message(14, "later")
	later.Headers = madeHeaders("tenant", "7\u2028")
	f.steps <- step{messages: []drainmark.Message{later}}
	block := l.block()
	if block != event(later) {
		t.Fatalf("got %q", block)
	}
	var data map[string]any
	if err := json.Unmarshal([]byte(block[strings.Index(block, "data: ")+6:]), &data); err != nil || data["body"] != "later" || data["position"] != 14.0 ||
		!reflect.DeepEqual(data["headers"], map[string]any{"tenant": "7\u2028"}) {
		t.Errorf("the data is %v, %v", data, err)
	}
	l.response.Body.Close()
	wait(t, f.closed, "the subscription of a client that has gone is closed")
}

func wait(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("waited too long until %s", what)
	}
}

func TestEventsBegin(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path    string
		headers []string
		want    uint64
	}{
		"behind the log's last position":          {eventsPath, nil, 10},
		"at the start of a log that is not there": {"/v1/logs/nobody/events", nil, 0},
		"behind after":                               {eventsPath + "?after=5", nil, 5},
		"at the start with after=0":                  {eventsPath + "?after=0", nil, 0},
		"behind the last event of a client":          {eventsPath, []string{"Last-Event-ID: 7"}, 7},
		"behind the last event, rather than after":   {eventsPath + "?after=5", []string{"Last-Event-ID: 7"}, 7},
		"in the future if that is asked for":         {eventsPath + "?after=1000", nil, 1000},
		"as without one when Last-Event-ID is empty": {eventsPath + "?after=5", []string{"Last-Event-ID: "}, 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeed()
			serve(t, f.service()).listen(test.path, test.headers...).response.Body.Close()
			if got := <-f.asked; got != test.want {
				t.Errorf("they begin behind %d, want %d", got, test.want)
			}
			wait(t, f.closed, "the subscription is closed")
		})
	}
	refused := map[string]struct {
		path, header string
		word         string
	}{
		"a log that cannot be":                         {"/v1/logs/A/events", "", "log name"},
		"an after that is none":                        {eventsPath + "?after=x", "", "after"},
		"an after that is none beside a Last-Event-ID": {eventsPath + "?after=x", "Last-Event-ID: 7", "after"},
		"a Last-Event-ID likewise":                     {eventsPath, "Last-Event-ID: x", "Last-Event-ID"},
		"a query that is none":                         {eventsPath + "?%zz", "", "query"},
	}
	for name, test := range refused {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			serve(t, newFeed().service()).do("GET", test.path, "", test.header).wantProblem(t, drainmark.KindInvalid, test.word)
		})
	}
	t.Run("one subscriber too many is refused", func(t *testing.T) {
		t.Parallel()
		a := serve(t, failing(drainmark.Errorf(drainmark.KindTooMany, "10000 subscribers"))).do("GET", eventsPath+"?after=0", "")
		a.wantProblem(t, drainmark.KindTooMany, "10000")
		a.wantHeader(t, "Retry-After", "1")
	})
	t.Run("HEAD has the headers, and follows nothing", func(t *testing.T) {
		t.Parallel()
		a := serve(t, holds(0, 1)).do("HEAD", eventsPath, "") // whose Subscribe fails
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("status %d, %v", a.StatusCode, a.Header)
		}
	})
}

// An EventSource gives up for ever when it is answered with an error. So it is answered with the end of a stream where the
// reason passes by itself, and comes back.
func TestEventsPutOff(t *testing.T) {
	t.Parallel()
	const accept = "Accept: text/event-stream"
	tooMany := drainmark.Errorf(drainmark.KindTooMany, "10000\nsubscribers")
	down := drainmark.Errorf(drainmark.KindUnavailable, "the store is down")
	for _, test := range []struct {
		name, path string
		err        error
		want       string
	}{
		{"when there are too many streams, behind where it begins", eventsPath + "?after=5", tooMany, `^: 10000 subscribers\nretry: [2-5][0-9]{3}\nid: 5\n\n$`},
		{"when the store does not answer where the log ends", eventsPath, down, `^: the store is down\nretry: [2-5][0-9]{3}\n\n$`},
		{"when nothing answers in time", eventsPath + "?after=5", context.DeadlineExceeded, `^: no answer within .*\nretry: [2-5][0-9]{3}\nid: 5\n\n$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, failing(test.err))
			a := s.do("GET", test.path, "", accept)
			if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" || !regexp.MustCompile(test.want).Match(a.body) {
				t.Errorf("status %d, %q; want %s", a.StatusCode, a.body, test.want)
			}
			for _, other := range []string{"Accept: */*", "Accept: text/html", ""} {
				if a := s.do("GET", test.path, "", other); a.StatusCode != 503 {
					t.Errorf("with %q the status is %d", other, a.StatusCode)
				}
			}
			if a := s.do("HEAD", eventsPath, "", accept); a.StatusCode == 200 && strings.Contains(test.path, "events?") == false {
				t.Errorf("HEAD has status %d", a.StatusCode)
			}
		})
	}
	t.Run("but not when the reason stays", func(t *testing.T) {
		t.Parallel()
		for path, kind := range map[string]drainmark.Kind{
			eventsPath + "?after=x": drainmark.KindInvalid, eventsPath: drainmark.KindMisconfigured,
		} {
			s := serve(t, failing(drainmark.Errorf(drainmark.KindMisconfigured, "no such table")))
			s.do("GET", path, "", accept).wantProblem(t, kind)
		}
	})
}

func TestEventsHeartbeat(t *testing.T) {
	t.Parallel()
	f := newFeed()
	s := serve(t, f.service(), func(c *Config) { c.Limits.Heartbeat = 20 * time.Millisecond })
	l := s.listen(eventsPath)
	l.want(": heartbeat")
	l.want(": heartbeat")
	go func() { f.steps <- step{messages: []drainmark.Message{message(11, "x")}} }()
	for block := l.block(); block != event(message(11, "x")); block = l.block() {
		if block != ": heartbeat" {
			t.Fatalf("got %q", block)
		}
	}
}

func TestEventsOverHTTP2(t *testing.T) {
	t.Parallel()
	f := newFeed()
	limits := Limits{Heartbeat: 1500 * time.Millisecond, Write: time.Second}
	http2 := httptest.NewUnstartedServer(mustNew(t, Config{Service: f.service(), Limits: limits}))
	http2.EnableHTTP2 = true
	http2.StartTLS()
	t.Cleanup(http2.Close)
	l := (&server{t: t, http: http2}).listen(eventsPath)
	if l.response.ProtoMajor != 2 {
		t.Fatalf("it is %s", l.response.Proto)
	}
	l.want(": heartbeat") // though the stream was silent for longer than a write may take
	l.want(": heartbeat")
}

func TestEventsEnd(t *testing.T) {
	t.Parallel()
	t.Run("when the subscriber is too slow", func(t *testing.T) {
		t.Parallel()
		f := newFeed()
		l := serve(t, f.service()).listen(eventsPath)
		f.steps <- step{err: backend.ErrTooSlow}
		l.wantLast(": dropped, too slow; resume with Last-Event-ID")
		wait(t, f.closed, "the subscription is closed")
	})
	t.Run("when the server stops", func(t *testing.T) {
		t.Parallel()
		stopping, stop := context.WithCancel(t.Context())
		f := newFeed()
		l := serve(t, f.service(), func(c *Config) { c.Stopping = stopping }).listen(eventsPath)
		stop()
		l.wantLast(": the server is stopping; resume with Last-Event-ID")
		wait(t, f.closed, "the subscription is closed")
	})
	t.Run("when the context of all requests ends", func(t *testing.T) {
		t.Parallel()
		base, stop := context.WithCancel(t.Context())
		f := newFeed()
		h, err := New(Config{Service: f.service()})
		if err != nil {
			t.Fatal(err)
		}
		s := &server{t: t, http: startWith(t, h, base)}
		l := s.listen(eventsPath)
		stop()
		l.wantLast(": the server is stopping; resume with Last-Event-ID")
	})
	t.Run("when the service fails", func(t *testing.T) {
		t.Parallel()
		f := newFeed()
		l := serve(t, f.service()).listen(eventsPath)
		f.steps <- step{err: errNotScripted}
		l.wantLast(": the server cannot go on; resume with Last-Event-ID")
	})
	t.Run("when the client does not read", func(t *testing.T) {
		t.Parallel()
		f := newFeed()
		s := serve(t, f.service(), func(c *Config) { c.Limits.Write = 50 * time.Millisecond })
		var d net.Dialer
		connection, err := d.DialContext(t.Context(), "tcp", s.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		if _, err := io.WriteString(connection, "GET "+eventsPath+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		large := []drainmark.Message{message(11, strings.Repeat("x", 256<<10)), message(12, strings.Repeat("x", 256<<10))}
		for ended := false; !ended; {
			select {
			case f.steps <- step{messages: large}:
			case <-f.closed:
				ended = true
			case <-time.After(time.Minute):
				t.Fatal("the stream goes on")
			}
		}
	})
}

func TestEventsStartAtTheLastPositionWithoutReadingMuch(t *testing.T) {
	t.Parallel()
	f := newFeed()
	service := f.service()
	service.messages = func(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (store.Page, error) {
		if !reflect.DeepEqual([]any{after, limit, wait}, []any{uint64(maxPosition), 1, time.Duration(0)}) || need != nil {
			t.Errorf("asked for %d messages behind %d within %v", limit, after, wait)
		}
		return holds(0, 10).messages(ctx, log, after, limit, nil, 0)
	}
	serve(t, service).listen(eventsPath).response.Body.Close()
	wait(t, f.closed, "the subscription is closed")
}

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/backend/api"
)

// stage is a consumer that notes when it runs, behind a pause switch.
type stage struct {
	*pauseSwitch
	runs, now atomic.Int64
	leaving   time.Duration // how long it takes to end
}

func (s *stage) consume(ctx context.Context) {
	if s.now.Add(1) != 1 {
		panic("it runs twice at the same time")
	}
	s.runs.Add(1)
	<-ctx.Done()
	time.Sleep(s.leaving)
	s.now.Add(-1)
}

// start runs the stage in a bubble, and returns what ends it and waits.
func (s *stage) start(t *testing.T) (end func()) {
	s.pauseSwitch = newPauseSwitch(slog.New(slog.DiscardHandler), api.NewGate(api.Config{Access: auth.Open}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.run(ctx, s.consume) }()
	synctest.Wait()
	return func() { cancel(); <-ended }
}

// expect waits until nothing moves, and checks what there is then.
func (s *stage) expect(t *testing.T, runs, now int64, want pauseJSON) {
	t.Helper()
	synctest.Wait()
	if s.runs.Load() != runs || s.now.Load() != now || s.state() != want {
		t.Errorf("after %d runs %d run now, and it says %+v; want %d, %d, %+v", s.runs.Load(), s.now.Load(), s.state(), runs, now, want)
	}
}

var pauseCases = map[string]func(*testing.T, *stage){
	"it is not paused at first, and ends with its context": func(t *testing.T, s *stage) {
		end := s.start(t)
		s.expect(t, 1, 1, pauseJSON{Running: true})
		end()
		s.expect(t, 1, 0, pauseJSON{})
	},
	"it can be paused and resumed any number of times": func(t *testing.T, s *stage) {
		end := s.start(t)
		defer end()
		for i := range int64(5) {
			s.set(true, "")
			s.expect(t, i+1, 0, pauseJSON{Paused: true})
			s.set(true, "")
			s.set(false, "")
			s.expect(t, i+2, 1, pauseJSON{Running: true})
			s.set(false, "")
		}
	},
	"a consumer that is paused and has not ended yet is said to run": func(t *testing.T, s *stage) {
		s.leaving = time.Second
		end := s.start(t)
		defer end()
		s.set(true, "")
		s.expect(t, 1, 1, pauseJSON{Paused: true, Running: true})
		time.Sleep(s.leaving)
		s.expect(t, 1, 0, pauseJSON{Paused: true})
	},
	"one that is resumed before it has ended begins again, and never runs twice at once": func(t *testing.T, s *stage) {
		s.leaving = time.Second
		end := s.start(t)
		defer end()
		s.set(true, "")
		s.set(false, "")
		s.expect(t, 1, 1, pauseJSON{Running: true})
		time.Sleep(s.leaving)
		s.expect(t, 2, 1, pauseJSON{Running: true})
	},
	"it ends while it is paused": func(t *testing.T, s *stage) {
		end := s.start(t)
		s.set(true, "")
		s.expect(t, 1, 0, pauseJSON{Paused: true})
		end()
	},
	"it ends while it is being switched, by many at once": func(t *testing.T, s *stage) {
		s.leaving = time.Millisecond
		end := s.start(t)
		var switching sync.WaitGroup
		for i := range 8 {
			switching.Go(func() {
				for n := range 100 {
					s.set((i+n)%2 == 0, "")
					time.Sleep(time.Duration(i) * time.Microsecond)
				}
			})
		}
		time.Sleep(time.Millisecond)
		end()
		switching.Wait()
		if s.now.Load() != 0 || s.state().Running || s.runs.Load() == 0 {
			t.Errorf("at the end %d run, after %d runs, and it says %+v", s.now.Load(), s.runs.Load(), s.state())
		}
	},
}

func TestPauseSwitch(t *testing.T) {
	t.Parallel()
	for name, test := range pauseCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, &stage{}) })
		})
	}
}

func TestWhenThereIsAPauseSwitch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		flag, listen string
		want         bool
	}{
		{"auto", "127.0.0.1:8080", true}, {"auto", "localhost:8080", true}, {"auto", "[::1]:8080", true}, {"auto", "127.9.9.9:0", true},
		{"auto", ":8080", false}, {"auto", "0.0.0.0:8080", false}, {"auto", "[::]:8080", false}, {"auto", "localhost.example.com:1", false},
		{"on", "0.0.0.0:8080", true}, {"off", "127.0.0.1:8080", false},
	} {
		if got := (pausing{test.flag}).enabled(test.listen); got != test.want {
			t.Errorf("--pause-switch %s --listen %s: %v, want %v", test.flag, test.listen, got, test.want)
		}
	}
}

const pause, jsonType = `{"paused":true}`, "application/json"

// pauseRequest is a request to the pause switch, and what it is answered.
type pauseRequest struct {
	method, path, host, body string
	header                   []string // names and values
	listen                   string   // 127.0.0.1:8080 if empty
	status                   int
	says                     string // in the answer
	paused                   bool   // afterwards
}

var pauseRequests = map[string]pauseRequest{
	"it says what it is":                       {status: 200, says: `{"paused":false,"running":false}`},
	"it is paused":                             {method: "PUT", body: pause, status: 200, says: `"paused":true`, paused: true},
	"a page of the same origin may":            {method: "PUT", body: pause, header: []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8080"}, status: 200, paused: true},
	"another path is not its business":         {path: "/admin", status: 418},
	"a page of another site may not":           {method: "PUT", body: pause, header: []string{"Sec-Fetch-Site", "cross-site"}, status: 403, says: "another site"},
	"another origin may not":                   {method: "PUT", body: pause, header: []string{"Origin", "http://localhost:9999"}, status: 403, says: "another site"},
	"a name that somebody else owns may not":   {method: "PUT", body: pause, host: "evil.example:8080", header: []string{"Origin", "http://evil.example:8080", "Sec-Fetch-Site", "same-origin"}, status: 403, says: "another host"},
	"such a name may not read either":          {host: "evil.example", status: 403, says: "another host"},
	"loopback addresses may":                   {method: "PUT", body: pause, host: "[::1]:8080", status: 200, paused: true},
	"listening on more, any name may":          {method: "PUT", body: pause, host: "drainmark.example", listen: ":8080", status: 200, paused: true},
	"a form's content type is not taken":       {method: "PUT", body: pause, header: []string{"Content-Type", "text/plain"}, status: 415, says: "text/plain"},
	"no content type is not taken":             {method: "PUT", body: pause, header: []string{"Content-Type", ""}, status: 415, says: "media-type"},
	"two content types are not taken":          {method: "PUT", body: pause, header: []string{"Content-Type", jsonType, "Content-Type", "text/plain"}, status: 400, says: "2 Content-Type headers"},
	"a charset is taken":                       {method: "PUT", body: pause, header: []string{"Content-Type", "application/json; charset=utf-8"}, status: 200, paused: true},
	"a body that says nothing is not taken":    {method: "PUT", body: `{}`, status: 400, says: "the body must be"},
	"a body that says more is not taken":       {method: "PUT", body: `{"paused":true,"for":1}`, status: 400},
	"a second body is not taken":               {method: "PUT", body: pause + pause, status: 400},
	"a body that is too large is not taken":    {method: "PUT", body: strings.Repeat(" ", maxPauseBody+1), status: 413, says: "1024 bytes"},
	"another method is not taken":              {method: "POST", body: pause, status: 405, says: "GET, HEAD, PUT"},
	"a preflight of another site is not taken": {method: "OPTIONS", header: []string{"Origin", "http://evil.example", "Access-Control-Request-Method", "PUT"}, status: 405},
}

func TestPauseSwitchOverHTTP(t *testing.T) {
	t.Parallel()
	other := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for name, test := range pauseRequests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := func(v, otherwise string) string {
				if v == "" {
					return otherwise
				}
				return v
			}
			s := newPauseSwitch(slog.New(slog.DiscardHandler), api.NewGate(api.Config{Access: auth.Open}))
			r := httptest.NewRequestWithContext(t.Context(), value(test.method, "GET"), value(test.path, pausePath), strings.NewReader(test.body))
			r.Host = value(test.host, "localhost:8080")
			r.Header.Set("Content-Type", jsonType)
			for i := 0; i < len(test.header); i += 2 {
				if name := test.header[i]; slices.Contains(test.header[:i], name) {
					r.Header.Add(name, test.header[i+1])
				} else {
					r.Header.Set(name, test.header[i+1])
				}
			}
			w := httptest.NewRecorder()
			at, err := net.ResolveTCPAddr("tcp", value(test.listen, "127.0.0.1:8080"))
			if err != nil {
				t.Fatal(err)
			}
			newGuard(s.beside(other), at, nil, nil, false).ServeHTTP(w, r)
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.says) || s.state().Paused != test.paused {
				t.Errorf("%d %s, paused %v", w.Code, w.Body, s.state().Paused)
			}
			if w.Code == http.StatusTeapot {
				return
			}
			if !json.Valid(w.Body.Bytes()) || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
			if problem := w.Header().Get("Content-Type") == "application/problem+json"; problem != (w.Code != 200) {
				t.Errorf("%d with %v", w.Code, w.Header())
			}
		})
	}
}

func TestABadPauseSwitchIsRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	code := run(ctx, append([]string{"up", "--data", t.TempDir(), "--pause-switch", "maybe"}, free...), io.Discard, &stderr)
	if said := stderr.String(); code != exitUsage || !strings.Contains(said, "--pause-switch (DRAINMARK_PAUSE_SWITCH): maybe: it must be auto, on or off") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// pauseConsumer has the consumer pause, and waits until it has ended: the switch alone lets it commit what it has in hand.
func (p *program) pauseConsumer() {
	p.t.Helper()
	p.want(200, "PUT", pausePath, pause, "Content-Type", jsonType)
	p.await("the consumer has ended", func() bool {
		return strings.Contains(string(p.want(200, "GET", pausePath, "").body), `"running":false`)
	})
}

// A real consumer is paused and resumed, and the process ends in order while it is paused.
func TestUpIsPausedAndResumed(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data, "--lease", "1h") // so that claims that were not given up would be missed
	set := func(paused string) {
		t.Helper()
		p.want(200, "PUT", pausePath, `{"paused":`+paused+`}`, "Content-Type", "application/json")
	}
	for round := range 3 {
		set("true")
		p.await("has paused", func() bool {
			a, err := p.call("GET", pausePath, "")
			return err == nil && string(a.body) == "{\"paused\":true,\"running\":false}\n"
		})
		if backlog := string(p.want(200, "GET", "/v1/backlog", "").body); strings.Count(backlog, `"owner":null`) != 4 {
			t.Errorf("paused, it holds claims: %s", backlog)
		}
		p.want(202, "POST", "/v1/logs/guestbook/messages", "x", "Content-Type", "text/plain", "Prefer", "wait=1")
		if round == 2 {
			break
		}
		set("false")
		p.barrier()
	}
	p.stop()
	if said := p.said(); strings.Contains(said, "level=ERROR") || !strings.Contains(said, "stopped") {
		t.Errorf("it has not ended in order: %s", said)
	}
	again := up(t, data, "--pause-switch", "off")
	again.barrier()
	for _, method := range []string{"GET", "PUT"} {
		if got, want := again.want(404, method, pausePath, "{}", "Content-Type", "application/json"), again.want(404, method, "/nothing", ""); string(got.body) != string(want.body) {
			t.Errorf("turned off, %s is answered %s, and another path %s", method, got.body, want.body)
		}
	}
	if page := string(again.want(200, "GET", "/v1/logs/guestbook/messages", "").body); !strings.Contains(page, `"count":3`) {
		t.Errorf("the log is %s", page)
	}
}

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/drainmark/drainmark/test/patient"
)

func TestTail(t *testing.T) {
	t.Parallel()
	m1, m2, m3 := eventOf(1), eventOf(2), eventOf(3)
	cases := []struct {
		name      string
		steps     []http.HandlerFunc
		positions []int
		is        error    // nil if the loop has had enough
		asked     []string // Last-Event-ID of each stream
	}{
		{"it goes on where the connection broke", []http.HandlerFunc{streams(m1), streams(m2 + m3)}, []int{1, 2, 3}, nil, []string{"0", "1"}},
		{"half an event is not given, and comes again", []http.HandlerFunc{streams(m1, m2[:20]), streams(m2[:20], m2[20:], m3)}, []int{1, 2, 3}, nil, []string{"0", "1"}},
		{"an event without its blank line is not given", []http.HandlerFunc{streams(m1, m2[:len(m2)-1]), streams(m2, m3)}, []int{1, 2, 3}, nil, []string{"0", "1"}},
		{"refused and cut off, it comes back", []http.HandlerFunc{problem(503, TooMany), cut(""), says(502, ""), streams(m1 + m2 + m3)}, []int{1, 2, 3}, nil,
			[]string{"0", "0", "0", "0"}},
		{"put off by a stream that is over at once, it comes back", []http.HandlerFunc{streams(": 10000 event streams are open\nretry: 7\nid: 0\n\n"),
			streams("retry: 7\nid: 0\n\n" + m1 + m2 + m3)}, []int{1, 2, 3}, nil, []string{"0", "0"}},
		{"comments, retry, a mark at the beginning and other events are passed over", []http.HandlerFunc{streams("\ufeffretry: 7\n\n: heartbeat\n\n",
			"event: other\ndata: {}\n\n", m1, ":\n\nid: 77\n\nnonsense\n", m2, "event: x\n\n", m3)}, []int{1, 2, 3}, nil, []string{"0"}},
		{"an event of another name keeps its place", []http.HandlerFunc{streams(m1, "id: 2\nevent: other\ndata: {}\n\n"), streams(m3 + eventOf(4))}, []int{1, 3, 4}, nil, []string{"0", "2"}},
		{"lines may end with CR LF", []http.HandlerFunc{streams(strings.ReplaceAll(m1+m2+": comment\n\n"+m3, "\n", "\r\n"))}, []int{1, 2, 3}, nil, []string{"0"}},
		{"data may have many lines, and need no id, name or space", []http.HandlerFunc{streams(m1, "data:{\"position\":2,\ndata: \"body\":\ndata:\"m\"}\n\n", m3)},
			[]int{1, 2, 3}, nil, []string{"0"}},
		{"a long event comes whole", []http.HandlerFunc{streams(m1, strings.Replace(m2, "m2", strings.Repeat("x", 100_000), 1), m3)}, []int{1, 2, 3}, nil, []string{"0"}},
		{"a step back is an error", []http.HandlerFunc{streams(m1 + m2 + m1)}, []int{1, 2}, ErrPositions, []string{"0"}},
		{"the same position again is an error", []http.HandlerFunc{streams(m1 + m1)}, []int{1}, ErrPositions, []string{"0"}},
		{"a gap where nothing was cleared is an error", []http.HandlerFunc{streams(m1 + m3), pageOf("log", 3, 3, 3)}, []int{1}, ErrPositions, []string{"0", ""}},
		{"a gap where not all of it was cleared is an error", []http.HandlerFunc{streams(m3), pageOf("log", 3, 2, 3)}, nil, ErrPositions, []string{"0", ""}},
		{"what was cleared is passed over", []http.HandlerFunc{streams(m1 + m3 + eventOf(4)), pageOf("log", 3, 1, 3)}, []int{1, 3, 4}, nil, []string{"0", ""}},
		{"what has been cleared since is passed over", []http.HandlerFunc{streams(m1 + m3 + eventOf(4)), pageOf("log", 9, 0)}, []int{1, 3, 4}, nil, []string{"0", ""}},
		{"a gap is asked about until somebody knows", []http.HandlerFunc{streams(m1 + m3), pageOf("log", 2, 2), streams(m3), problem(404, NotFound), streams(m3),
			problem(503, Unavailable), streams(m3 + eventOf(4)), pageOf("log", 3, 1, 3)}, []int{1, 3, 4}, nil, []string{"0", "", "1", "", "1", "", "1", ""}},
		{"an id that is not the position is not understood", []http.HandlerFunc{streams(strings.Replace(m1, "id: 1", "id: 2", 1))}, nil, ErrProtocol, []string{"0"}},
		{"data that is no message is not understood", []http.HandlerFunc{streams("data: hello\n\n")}, nil, ErrProtocol, []string{"0"}},
		{"a line over the limit is not taken", []http.HandlerFunc{streams("data: " + strings.Repeat("x", 300_000))}, nil, ErrProtocol, []string{"0"}},
		{"an event over the limit is not taken", []http.HandlerFunc{streams(strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 201))}, nil, ErrProtocol, []string{"0"}},
		{"a page instead of events is not understood", []http.HandlerFunc{says(200, "<html>", "Content-Type: text/html")}, nil, ErrProtocol, []string{"0"}},
		{"no content is not understood", []http.HandlerFunc{says(204, "")}, nil, ErrProtocol, []string{"0"}},
		{"a redirection is not followed", []http.HandlerFunc{says(307, "", "Location: /elsewhere")}, nil, ErrProtocol, []string{"0"}},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, append(test.steps, hangs)...)
			c := newClient(t, Config{URL: s.URL, Retry: quick(1)})
			c.limit = 200_000
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			positions, err := gather(c.Tail(ctx, "log", 0), 3)
			if !slices.Equal(positions, test.positions) || !errors.Is(err, test.is) || (err == nil) != (test.is == nil) {
				t.Errorf("%v: %v", positions, err)
			}
			if strings.Contains(test.name, "over the limit") && !strings.Contains(err.Error(), "200000 bytes, the limit") {
				t.Errorf("the limit is not named: %v", err)
			}
			var asked []string
			for _, r := range s.got() {
				asked = append(asked, r.Header.Get("Last-Event-ID"))
				if streaming := strings.HasSuffix(r.URL.Path, "/events"); streaming && r.Header.Get("Accept") != "text/event-stream" {
					t.Errorf("it asked %s %v", r.RequestURI, r.Header)
				}
			}
			if !slices.Equal(asked, test.asked) {
				t.Errorf("it asked behind %q instead of %q", asked, test.asked)
			}
		})
	}
}

func TestEventReader(t *testing.T) {
	t.Parallel()
	r := newEventReader(strings.NewReader("\ufeffdata: a\ndata:b\ndata\nid: 7\nevent: x\n\ndata: c\n\nretry: 7\nretry: -1\nretry: 99999999\n\n"), 100)
	first, err := r.next()
	if err != nil || string(first.data) != "a\nb\n" || first.name != "x" || first.id != "7" {
		t.Errorf("%+v %q: %v", first, first.data, err)
	}
	second, err := r.next()
	if err != nil || string(second.data) != "c" || second.name != "message" || second.id != "" {
		t.Errorf("%+v %q: %v", second, second.data, err)
	}
	if _, err := r.next(); err != io.EOF || r.retry != 7*time.Millisecond {
		t.Errorf("%v, %v", err, r.retry)
	}
}

func TestBodiesAreTheCallers(t *testing.T) {
	t.Parallel()
	s := startScript(t, streams(eventOf(1)+eventOf(2)), pageOf("log", 2, 2, 1, 2))
	c := newClient(t, Config{URL: s.URL})
	var messages []Message
	for m, err := range c.Tail(t.Context(), "log", 0) {
		if messages = append(messages, m); err != nil || m.Position == 2 {
			break
		}
	}
	page, err := c.Messages(t.Context(), "log", ReadOptions{})
	if messages = append(messages, page.Messages...); err != nil || len(messages) != 4 {
		t.Fatalf("%+v: %v", messages, err)
	}
	for i, want := range []string{"m1", "m2", "m1", "m2"} {
		if string(messages[i].Body) != want {
			t.Errorf("body %d is %q", i, messages[i].Body)
		}
		_ = append(messages[i].Body, "overwrites what is behind it"...)
	}
}

func TestTailEnds(t *testing.T) {
	t.Parallel()
	t.Run("with an answer that stays the same", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(400, Invalid))
		_, err := gather(newClient(t, Config{URL: s.URL}).Tail(t.Context(), "LOG", 0), 1)
		if KindOf(err) != Invalid || len(s.got()) != 1 {
			t.Errorf("after %d requests: %v", len(s.got()), err)
		}
	})
	t.Run("with the loop, and then the stream is closed", func(t *testing.T) {
		t.Parallel()
		closed := make(chan struct{})
		s := startScript(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, eventOf(1)+eventOf(2))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(closed)
		})
		positions, err := gather(newClient(t, Config{URL: s.URL}).Tail(t.Context(), "log", 0), 1)
		if err != nil || len(positions) != 1 {
			t.Errorf("%v: %v", positions, err)
		}
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Error("the stream is still open")
		}
	})
	t.Run("with the context, at once", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, streams(eventOf(1)+eventOf(2)))
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		reason := errors.New("a reason")
		var last error
		n := 0
		for _, err := range newClient(t, Config{URL: s.URL}).Tail(ctx, "log", 0) {
			if last = err; err == nil {
				n++
				cancel(reason)
			}
		}
		if n != 1 || !errors.Is(last, reason) {
			t.Errorf("%d messages: %v", n, last)
		}
	})
	t.Run("with the context while it waits to come back", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(503, TooMany, "Retry-After: 3600"))
		ctx, observe := endsAfterAnAnswer(t)
		_, err := gather(newClient(t, Config{URL: s.URL, Observe: observe}).Tail(ctx, "log", 0), 1)
		if !errors.Is(err, context.Canceled) || KindOf(err) != TooMany {
			t.Errorf("%v", err)
		}
	})
}

// endsAfterAnAnswer returns a context that ends soon after a client that has the observer was answered.
func endsAfterAnAnswer(t *testing.T) (context.Context, func(Attempt)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, func(Attempt) { time.AfterFunc(100*time.Millisecond, cancel) }
}

func TestTailOfASilentStream(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]http.HandlerFunc{
		"one that is silent after an event is given up": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, eventOf(1))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"one that does not begin is given up": hangs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := []http.HandlerFunc{first, streams(eventOf(1) + eventOf(2)), streams(eventOf(2))}
			if strings.Contains(name, "after") {
				steps = []http.HandlerFunc{first, streams(eventOf(2))}
			}
			patient.Within(t, time.Second, func(limit time.Duration) error { return givesOneUp(t, limit, steps) })
		})
	}
	t.Run("a slow loop is not a silent stream, and comments are no silence", func(t *testing.T) {
		t.Parallel()
		patient.Within(t, time.Second, func(limit time.Duration) error { return waitsForASlowLoop(t, limit) })
	})
}

// givesOneUp follows a stream of two messages that is silent once, and says what is wrong.
func givesOneUp(t *testing.T, silence time.Duration, steps []http.HandlerFunc) error {
	t.Helper()
	s := startScript(t, steps...)
	var silent atomic.Int64
	c := newClient(t, Config{URL: s.URL, Retry: quick(1), Observe: func(a Attempt) {
		if errors.Is(a.Err, errSilent) {
			silent.Add(1)
		}
	}})
	c.timeout, c.silence = silence, silence
	positions, err := gather(c.Tail(t.Context(), "log", 0), 2)
	if err != nil || !slices.Equal(positions, []int{1, 2}) || silent.Load() != 1 {
		return fmt.Errorf("%v after %d silent streams: %v", positions, silent.Load(), err)
	}
	return nil
}

// waitsForASlowLoop follows a stream that has nothing but comments for longer than the limit, in a loop that takes longer, and
// says what is wrong.
func waitsForASlowLoop(t *testing.T, silence time.Duration) error {
	t.Helper()
	s := startScript(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, eventOf(1)+eventOf(2))
		for range 10 {
			_ = http.NewResponseController(w).Flush()
			<-time.After(silence * 15 / 100)
			_, _ = io.WriteString(w, ": heartbeat\n\n")
		}
		_, _ = io.WriteString(w, eventOf(3))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := newClient(t, Config{URL: s.URL, Retry: quick(1)})
	c.silence = silence
	for m, err := range c.Tail(t.Context(), "log", 0) {
		if err != nil {
			return err
		}
		if m.Position == 3 {
			break
		}
		<-time.After(silence * 12 / 10)
	}
	if n := len(s.got()); n != 1 {
		return fmt.Errorf("%d streams", n)
	}
	return nil
}

// FuzzEvents checks that events do not depend on the pieces in which they come, and that nothing is over the limit.
func FuzzEvents(f *testing.F) {
	f.Add("\ufeffid: 1\nevent: message\ndata: {}\n\n: comment\r\n\r\ndata:a\ndata: b\r\n\nretry: 5\n\n")
	f.Add("data\ndata\n\ndata: " + strings.Repeat("x", 200) + "\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		read := func(from io.Reader) (all []string) {
			r := newEventReader(from, 100)
			for {
				e, err := r.next()
				if err != nil {
					return append(all, err.Error(), r.retry.String())
				}
				if len(e.data) > 100 {
					t.Errorf("%d bytes of data", len(e.data))
				}
				all = append(all, strconv.Quote(e.name)+strconv.Quote(e.id)+strconv.Quote(string(e.data)))
			}
		}
		whole, pieces := read(strings.NewReader(text)), read(iotest.OneByteReader(strings.NewReader(text)))
		if !slices.Equal(whole, pieces) {
			t.Errorf("%q, and in pieces %q", whole, pieces)
		}
	})
}

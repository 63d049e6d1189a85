package client

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	t.Run("a page has what was asked for", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, pageOf("log", 9, 7, 4, 5))
		page, err := newClient(t, Config{URL: s.URL}).Messages(t.Context(), "log",
			ReadOptions{After: 3, Limit: 2, Receipts: Merge("R1", "R2"), Wait: time.Second, IfNoneMatch: "tag"})
		if err != nil || page.LastPosition != 9 || page.Count != 7 || page.ETag != `W/"tag"` || page.NotModified || len(page.Messages) != 2 {
			t.Fatalf("%+v: %v", page, err)
		}
		m := page.Messages[1]
		at := time.Date(2026, 3, 1, 10, 0, 0, 1000, time.UTC)
		if string(m.Body) != "m5" || m.Position != 5 || m.ID != "0-ab-5" || m.ContentType != "text/plain" || !m.AcceptedAt.Equal(at) ||
			!m.PersistedAt.Equal(at.Add(3999*time.Microsecond)) {
			t.Errorf("%+v", m)
		}
		r := s.got()[0]
		if r.RequestURI != "/v1/logs/log/messages?after=3&limit=2" || r.Header.Get("Drainmark-Receipt") != "R1,R2" ||
			r.Header.Get("Prefer") != "wait=1" || r.Header.Get("If-None-Match") != "tag" {
			t.Errorf("it asked %s %v", r.RequestURI, r.Header)
		}
	})
	t.Run("a page that is still the same is not sent", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, says(304, "", `ETag: W/"tag"`, "Drainmark-Backend: ab"))
		page, err := newClient(t, Config{URL: s.URL}).Messages(t.Context(), "log", ReadOptions{IfNoneMatch: `W/"tag"`})
		if err != nil || !page.NotModified || page.ETag != `W/"tag"` || page.Backend != "ab" {
			t.Errorf("%+v: %v", page, err)
		}
	})
	t.Run("not-reached is an answer, and not asked for again", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(412, NotReached, "Retry-After: 1"))
		_, err := newClient(t, Config{URL: s.URL, Retry: quick(9)}).Messages(t.Context(), "log", ReadOptions{})
		if KindOf(err) != NotReached || len(s.got()) != 1 {
			t.Errorf("after %d requests: %v", len(s.got()), err)
		}
	})
	for name, body := range map[string]string{
		"the page of another log is not understood":       `{"log":"other","messages":[]}`,
		"a message without a body is not understood":      `{"log":"log","messages":[{"position":1}],"last_position":1,"count":1}`,
		"more messages than positions are not understood": `{"log":"log","messages":[],"last_position":1,"count":2}`,
		"a time that is none is not understood":           `{"log":"log","messages":[{"position":1,"body":"","accepted_at":"noon"}],"last_position":1,"count":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, says(200, body))
			page, err := newClient(t, Config{URL: s.URL}).Messages(t.Context(), "log", ReadOptions{})
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%+v: %v", page, err)
			}
		})
	}
}

// gather takes positions until an error, or until it has enough.
func gather(messages func(func(Message, error) bool), enough int) (positions []int, err error) {
	for m, failure := range messages {
		if failure != nil {
			err = failure
			continue // nothing must follow it
		}
		if positions = append(positions, int(m.Position)); len(positions) == enough {
			break
		}
	}
	return positions, err
}

func TestAll(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name      string
		steps     []http.HandlerFunc
		positions []int
		is        error
		asked     string // last
	}{
		{"it follows the pages", []http.HandlerFunc{pageOf("log", 3, 3, 1, 2), pageOf("log", 3, 3, 3)}, []int{1, 2, 3}, nil, "after=2"},
		{"it goes on to where the end is then", []http.HandlerFunc{pageOf("log", 2, 2, 1), pageOf("log", 3, 3, 2, 3)}, []int{1, 2, 3}, nil, "after=1"},
		{"what was cleared is not missing", []http.HandlerFunc{pageOf("log", 9, 2, 8, 9)}, []int{8, 9}, nil, "after=0"},
		{"what was cleared meanwhile is not missing", []http.HandlerFunc{pageOf("log", 9, 9, 1), pageOf("log", 9, 1, 9)}, []int{1, 9}, nil, "after=1"},
		{"all that was left is cleared", []http.HandlerFunc{pageOf("log", 9, 9, 1), pageOf("log", 9, 0)}, []int{1}, nil, "after=1"},
		{"an older state is asked again", []http.HandlerFunc{pageOf("log", 3, 3, 1), pageOf("log", 1, 1), problem(404, NotFound), pageOf("log", 3, 3, 2, 3)},
			[]int{1, 2, 3}, nil, "after=1"},
		{"a message that is missing is told", []http.HandlerFunc{pageOf("log", 3, 3, 1, 3)}, nil, ErrPositions, "after=0"},
		{"a first message that is missing is told", []http.HandlerFunc{pageOf("log", 3, 2, 3)}, nil, ErrPositions, "after=0"},
		{"an empty page in the middle is told", []http.HandlerFunc{pageOf("log", 3, 3, 1), pageOf("log", 3, 3)}, []int{1}, ErrPositions, "after=1"},
		{"a message that comes twice is told", []http.HandlerFunc{pageOf("log", 3, 3, 1), pageOf("log", 3, 3, 1, 2)}, []int{1}, ErrPositions, "after=1"},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, test.steps...)
			c := newClient(t, Config{URL: s.URL, Retry: quick(1)})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			positions, err := gather(c.All(ctx, "log", ReadOptions{}), 99)
			if !slices.Equal(positions, test.positions) || !errors.Is(err, test.is) || (err == nil) != (test.is == nil) {
				t.Errorf("%v: %v", positions, err)
			}
			if got := s.got(); len(got) != len(test.steps) || got[len(got)-1].URL.RawQuery != test.asked {
				t.Errorf("%d requests, the last one %s", len(got), got[len(got)-1].RequestURI)
			}
		})
	}
	t.Run("a loop that has enough is the end", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, pageOf("log", 3, 3, 1, 2))
		positions, err := gather(newClient(t, Config{URL: s.URL}).All(t.Context(), "log", ReadOptions{}), 1)
		if err != nil || len(positions) != 1 || len(s.got()) != 1 {
			t.Errorf("%v: %v", positions, err)
		}
	})
	t.Run("a context that ends while it waits for a newer state ends it", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, pageOf("log", 3, 3, 1), pageOf("log", 1, 1))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := gather(newClient(t, Config{URL: s.URL}).All(ctx, "log", ReadOptions{}), 99)
		var e *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) {
			t.Errorf("%T %v", err, err)
		}
	})
}

func TestPatienceWithOldStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := stale{pace: pace{least: time.Second, most: time.Second}}
		if err := wait.pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(stalePatience) // a page that was good, and a loop's body that took its time
		wait.reset()
		start := time.Now()
		for {
			err := wait.pause(t.Context())
			if err == nil {
				continue
			}
			if took := time.Since(start); took < stalePatience || took > stalePatience+2*time.Second || !errors.Is(err, errStale) ||
				!strings.Contains(err.Error(), "30s, the limit") {
				t.Errorf("after %v: %v", took, err)
			}
			break
		}
	})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	next := `Link: </v1/logs?after=b>; rel="next"`
	s := startScript(t, says(200, `{"logs":[{"name":"a","last_position":3,"count":2,"first_position":2},{"name":"b","last_position":1,"count":1,"first_position":1}]}`, next),
		says(200, `{"logs":[{"name":"c","last_position":0,"count":0,"first_position":1}]}`), problem(503, Unavailable))
	c := newClient(t, Config{URL: s.URL})
	var logs []LogInfo
	for log, err := range c.Logs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, log)
	}
	if !slices.Equal(logs, []LogInfo{{"a", 3, 2, 2}, {"b", 1, 1, 1}, {"c", 0, 0, 1}}) || s.got()[1].RequestURI != "/v1/logs?after=b" {
		t.Errorf("%+v, %s", logs, s.got()[1].RequestURI)
	}
	for _, err := range c.Logs(t.Context()) {
		if KindOf(err) != Unavailable {
			t.Errorf("%v", err)
		}
	}
}

package api

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

func failDeadLetters(err error) func(context.Context, backend.LetterFilter, string, int) (backend.DeadLetters, error) {
	return func(context.Context, backend.LetterFilter, string, int) (backend.DeadLetters, error) {
		return backend.DeadLetters{}, err
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	service := &fake{logs: func(_ context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
		var infos []drainmark.LogInfo
		for i := range 150 {
			if name := fmt.Sprintf("log-%03d", i); name > after && len(infos) < limit {
				infos = append(infos, drainmark.LogInfo{Name: name, LastPosition: uint64(i), ClearedThrough: uint64(i / 2)})
			}
		}
		return infos, nil
	}}
	tests := map[string]struct {
		query string
		first string
		n     int
		next  string
	}{
		"the list begins with the first": {"", "log-000", 100, "after=log-099&limit=100"},
		"after is where it begins":       {"?after=log-140", "log-141", 9, ""},
		"limit is how many":              {"?after=log-140&limit=4", "log-141", 4, "after=log-144&limit=4"},
		"a part that ends with the list": {"?after=log-140&limit=9", "log-141", 9, ""},
		"a part behind the list":         {"?after=z", "", 0, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, service).do("GET", "/v1/logs"+test.query, "")
			logs := a.want(t, 200)["logs"].([]any)
			if len(logs) != test.n || test.n > 0 && logs[0].(map[string]any)["name"] != test.first {
				t.Errorf("%d logs: %.300s", len(logs), a.body)
			}
			want := ""
			if test.next != "" {
				want = "</v1/logs?" + test.next + `>; rel="next"`
			}
			a.wantHeader(t, "Link", want)
		})
	}
	t.Run("a log has its name, its last position and how many messages it holds", func(t *testing.T) {
		t.Parallel()
		v := serve(t, service).do("GET", "/v1/logs?after=log-008&limit=1", "").want(t, 200)
		want := []any{map[string]any{"name": "log-009", "last_position": 9.0, "count": 5.0, "first_position": 5.0}}
		if !reflect.DeepEqual(v["logs"], want) {
			t.Errorf("it is %v, want %v", v["logs"], want)
		}
	})
	for name, query := range map[string]string{
		"a name that cannot be": "?after=A", "an empty name": "?after=", "a limit of 0": "?limit=0", "a limit too high": "?limit=1001",
		"a query that is none": "?%zz",
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			serve(t, service).do("GET", "/v1/logs"+query, "").wantProblem(t, drainmark.KindInvalid)
		})
	}
}

// setAside returns the letter as one of the record, with a mark.
func setAside(l drainmark.DeadLetter, r drainmark.Record) drainmark.DeadLetter {
	l.Span = drainmark.Span{Partition: 1, Producer: producer, First: 3, Last: 3}
	r.Kind, l.AcceptedAt = drainmark.Append, r.AcceptedAt
	l.Payload = drainmark.EncodeBatch(nil, &drainmark.Batch{Partition: 1, Producer: producer, First: 3, Records: []drainmark.Record{r}})
	return l
}

// letters are dead letters of every sort.
func letters() []drainmark.DeadLetter {
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	letter := func(id string, r drainmark.Record) drainmark.DeadLetter {
		r.Log, r.AcceptedAt = "guestbook", at
		return setAside(drainmark.DeadLetter{ID: id, Log: "guestbook", Reason: "refused", SetAsideAt: at}, r)
	}
	text := letter("text", drainmark.Record{Body: []byte("hello"), ContentType: "text/plain", Key: "k", Headers: madeHeaders("tenant", "7", "traceparent", "t"), Principal: "Zoë"})
	text.Attempts = 2
	return []drainmark.DeadLetter{
		text, letter("bytes", drainmark.Record{Body: []byte{0, 255}}), letter("empty", drainmark.Record{}),
		{ID: "unread", Span: drainmark.Span{Partition: 2}, Reason: "damaged", SetAsideAt: at, Payload: []byte("DMB\x01")},
		{ID: "missing", Span: drainmark.Span{Partition: 2, Producer: producer, First: 4, Last: 9}, Reason: "not delivered"},
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	t.Run("each has what is known of it", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{deadLetters: func(_ context.Context, _ backend.LetterFilter, after string, limit int) (backend.DeadLetters, error) {
			if after != "" || limit != 100 {
				t.Errorf("asked for %d behind %q", limit, after)
			}
			return backend.DeadLetters{Letters: letters()}, nil
		}})
		a := s.do("GET", "/v1/dead-letters", "")
		const at = "2026-03-01T10:00:00.000000Z"
		common := func(id string, more map[string]any) map[string]any {
			v := map[string]any{
				"id": id, "partition": 1.0, "log": "guestbook", "reason": "refused", "set_aside_at": at, "attempts": 0.0,
				"producer": producer.String(), "first": 3.0, "last": 3.0, "accepted_at": at, "undecoded": false,
			}
			for name, value := range more {
				v[name] = value
			}
			return v
		}
		want := map[string]any{"dead_letters": []any{
			common("text", map[string]any{"attempts": 2.0, "body": "hello", "content_type": "text/plain", "key": "k", "principal": "Zoë", "headers": map[string]any{"tenant": "7", "traceparent": "t"}}),
			common("bytes", map[string]any{"body_base64": "AP8="}),
			common("empty", map[string]any{"body": ""}),
			map[string]any{
				"id": "unread", "partition": 2.0, "log": "", "reason": "damaged", "set_aside_at": at, "attempts": 0.0,
				"producer": nil, "first": nil, "last": nil, "body": "DMB\x01", "undecoded": true,
			},
			map[string]any{
				"id": "missing", "partition": 2.0, "log": "", "reason": "not delivered", "set_aside_at": nil, "attempts": 0.0,
				"producer": producer.String(), "first": 4.0, "last": 9.0, "undecoded": false,
			},
		}}
		if got := a.want(t, 200); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		a.wantHeader(t, "Link", "")
	})
	t.Run("a list that goes on says where", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{deadLetters: func(_ context.Context, _ backend.LetterFilter, after string, limit int) (backend.DeadLetters, error) {
			if after != "1 & 2" || limit != 7 {
				t.Errorf("asked for %d behind %q", limit, after)
			}
			return backend.DeadLetters{Letters: letters(), Next: "3 & 4"}, nil
		}})
		a := s.do("GET", "/v1/dead-letters?after=1+%26+2&limit=7", "")
		if v := a.want(t, 200); v["next"] != "3 & 4" {
			t.Errorf("next is %v", v["next"])
		}
		a.wantHeader(t, "Link", `</v1/dead-letters?after=3+%26+4&limit=7>; rel="next"`)
	})
	t.Run("an empty list is a list", func(t *testing.T) {
		t.Parallel()
		v := serve(t, &fake{deadLetters: failDeadLetters(nil)}).do("GET", "/v1/dead-letters", "").want(t, 200)
		if list, ok := v["dead_letters"].([]any); !ok || len(list) != 0 || len(v) != 1 {
			t.Errorf("it is %v", v)
		}
	})
	for name, query := range map[string]string{
		"a limit of 0": "?limit=0", "a place too long": "?after=" + fmt.Sprintf("%0256d", 0), "a query that is none": "?%zz",
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			serve(t, &fake{}).do("GET", "/v1/dead-letters"+query, "").wantProblem(t, drainmark.KindInvalid)
		})
	}
}

func TestDeadLettersAreSettled(t *testing.T) {
	t.Parallel()
	for kind, call := range map[drainmark.RecordKind][2]string{
		drainmark.Retry: {"POST", "/v1/dead-letters/1-ab-3/retry"}, drainmark.Discard: {"DELETE", "/v1/dead-letters/1-ab-3"},
	} {
		t.Run(fmt.Sprintf("a %s is published", kind), func(t *testing.T) {
			t.Parallel()
			s := serve(t, accepts(func(_ string, records []drainmark.Record) {
				if r := records[0]; r.Kind != kind || r.Target != "1-ab-3" || r.Log != "" || r.Headers.IsZero() {
					t.Errorf("published %+v", r)
				}
			}))
			a := s.do(call[0], call[1], "", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			if v := a.want(t, 202); v["receipt"] != receiptOne.String() || v["state"] != "accepted" || len(v) != 2 {
				t.Errorf("the answer is %s", a.body)
			}
		})
		t.Run(fmt.Sprintf("a %s that is persisted within the wait is done", kind), func(t *testing.T) {
			t.Parallel()
			service := accepts(func(string, []drainmark.Record) {})
			service.status = says(backend.Persisted, "")
			if v := serve(t, service).do(call[0], call[1], "", "Prefer: wait=1").want(t, 200); v["state"] != "persisted" {
				t.Errorf("the answer is %v", v)
			}
		})
	}
	t.Run("an id that cannot be is refused", func(t *testing.T) {
		t.Parallel()
		serve(t, &fake{}).do("DELETE", "/v1/dead-letters/"+fmt.Sprintf("%0256d", 0), "").wantProblem(t, drainmark.KindInvalid, "255")
		serve(t, &fake{}).do("POST", "/v1/dead-letters/a%00b/retry", "").wantProblem(t, drainmark.KindInvalid, "printable")
	})
}

func TestIndex(t *testing.T) {
	t.Parallel()
	v := serve(t, &fake{}).do("GET", "/v1", "").want(t, 200)
	known := map[string]bool{}
	for _, rt := range routes() {
		known[rt.path] = true
	}
	for name, link := range v["links"].(map[string]any) {
		if !known[link.(string)] {
			t.Errorf("the link %s leads to %s, where there is nothing", name, link)
		}
	}
}

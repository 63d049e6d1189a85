package api

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

func failStatus(err error) func(context.Context, drainmark.Receipt, time.Duration) (backend.Status, error) {
	return func(context.Context, drainmark.Receipt, time.Duration) (backend.Status, error) {
		return backend.Status{}, err
	}
}

// fencesOf is the text of a receipt as of a barrier's.
func markersOf(r drainmark.Receipt) string {
	r.Tokens = map[int]uint64{}
	for _, span := range r.Spans {
		r.Tokens[span.Partition] = 7
	}
	return r.String()
}

func TestReceiptSaysWhereMessagesStand(t *testing.T) {
	t.Parallel()
	asked := ""
	s := serve(t, &fake{status: says(backend.Persisted, ""), places: func(log string, r drainmark.Receipt) ([]backend.Place, error) {
		asked = log + " " + r.String()
		return []backend.Place{{Position: 7, Mark: drainmark.Mark{Partition: 1, Producer: producer, Sequence: 1}}}, nil
	}})
	v := s.do("GET", "/v1/receipts/"+receiptOne.String()+"?log=guestbook", "").want(t, 200)
	want := []any{map[string]any{"log": "guestbook", "position": 7.0, "id": "1-4bf90000000000000000000000000036-1"}}
	if got := v["messages"]; !reflect.DeepEqual(got, want) || asked != "guestbook "+receiptOne.String() {
		t.Errorf("asked for %q, the answer is %v", asked, v)
	}
	v = s.do("GET", "/v1/receipts/"+receiptOne.String(), "").want(t, 200)
	if fmt.Sprint(v["marks"]) != fmt.Sprint(drainmark.SpanTexts(receiptOne.Spans)) {
		t.Errorf("the marks are %v", v["marks"])
	}
	if v["messages"] != nil {
		t.Errorf("nobody has asked, the answer is %v", v)
	}
	s.do("GET", "/v1/receipts/"+receiptOne.String()+"?log=A", "").wantProblem(t, drainmark.KindInvalid, "log name")
}

func TestReceiptSaysWhatIsRejected(t *testing.T) {
	t.Parallel()
	status := backend.Status{Receipt: receiptBoth, State: backend.Rejected, Reason: "why", Rejected: backend.Rejections{
		Records: 1, Exact: true, Letters: []string{"0-4bf90000000000000000000000000036-2"},
	}}
	s := serve(t, &fake{
		status: func(context.Context, drainmark.Receipt, time.Duration) (backend.Status, error) { return status, nil },
		append: func(context.Context, string, []drainmark.Record) (drainmark.Receipt, error) { return receiptBoth, nil },
	})
	for what, a := range map[string]answer{
		"a receipt": s.do("GET", "/v1/receipts/"+receiptBoth.String(), ""),
		"an append": s.do("POST", "/v1/logs/a/messages", "{\"body\":\"a\"}\n{\"body\":\"b\"}", "Content-Type: application/x-ndjson", "Prefer: wait=1"),
	} {
		var v struct {
			Count    int
			Reason   string
			Rejected struct {
				Count       int
				Exact       bool
				DeadLetters []string `json:"dead_letters"`
			}
		}
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Fatal(err)
		}
		if v.Count != 2 || v.Reason != "why" || v.Rejected.Count != 1 || !v.Rejected.Exact || !slices.Equal(v.Rejected.DeadLetters, status.Rejected.Letters) {
			t.Errorf("%s: %s", what, a.body)
		}
		checkDocumented(t, a.Request, a)
	}
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	for state, reason := range map[backend.State]string{
		backend.Pending: "", backend.Persisted: "", backend.Rejected: "the store refused it", backend.Stalled: "nobody holds partition 1",
	} {
		t.Run("a receipt is "+string(state), func(t *testing.T) {
			t.Parallel()
			a := serve(t, &fake{status: says(state, reason)}).do("GET", "/v1/receipts/"+receiptOne.String(), "")
			v := a.want(t, 200)
			if got, ok := v["reason"]; ok != (reason != "") || ok && got != reason {
				t.Errorf("the reason is %v", got)
			}
			if v["receipt"] != receiptOne.String() || v["state"] != string(state) {
				t.Errorf("the answer is %s", a.body)
			}
			a.wantHeader(t, "Cache-Control", "no-store")
		})
	}
	t.Run("several receipts are answered as one", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{status: says(backend.Pending, "")})
		v := s.do("GET", "/v1/receipts/"+receiptOne.String()+","+receiptTwo.String(), "").want(t, 200)
		if v["receipt"] != receiptBoth.String() {
			t.Errorf("the answer is for %v", v["receipt"])
		}
	})
	t.Run("the receipt to ask again with is the service's", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{status: func(context.Context, drainmark.Receipt, time.Duration) (backend.Status, error) {
			return backend.Status{Receipt: receiptTwo, State: backend.Pending}, nil
		}})
		if v := s.do("GET", "/v1/receipts/"+receiptOne.String(), "").want(t, 200); v["receipt"] != receiptTwo.String() {
			t.Errorf("it is %v", v["receipt"])
		}
	})
	t.Run("a wait is handed on", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		s := serve(t, &fake{status: func(ctx context.Context, r drainmark.Receipt, wait time.Duration) (backend.Status, error) {
			if wait != 60*time.Second {
				t.Errorf("the wait is %v", wait)
			}
			wantDeadline(t, ctx, began, 70*time.Second)
			return backend.Status{Receipt: r, State: backend.Pending}, nil
		}})
		s.do("GET", "/v1/receipts/"+receiptOne.String(), "", "Prefer: wait=90").wantHeader(t, "Preference-Applied", "wait=60")
	})
	t.Run("what is no receipt is refused", func(t *testing.T) {
		t.Parallel()
		for _, text := range []string{"x", ",", "%20", receiptOne.String() + "x", strings.Repeat("A", 5601)} {
			serve(t, &fake{}).do("GET", "/v1/receipts/"+text, "").wantProblem(t, drainmark.KindInvalidReceipt)
		}
	})
	t.Run("too many receipts are refused", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{}, func(c *Config) { c.Limits.Named = 2 })
		s.do("GET", "/v1/receipts/a,b,c", "").wantProblem(t, drainmark.KindTooLarge, "3 receipts", "limit is 2")
	})
}

func TestBarrier(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		state  backend.State
		status int
		want   string
		reason string
	}{
		"everything is persisted":           {backend.Persisted, 200, "reached", ""},
		"something is not persisted yet":    {backend.Pending, 202, "pending", ""},
		"nothing moves":                     {backend.Stalled, 202, "stalled", "why"},
		"a fence that was lost never comes": {backend.Rejected, 202, "stalled", "it will never be reached: why"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &fake{barrier: func(_ context.Context, logs []string) (drainmark.Receipt, error) {
				if len(logs) > 0 {
					t.Errorf("the logs are %q", logs)
				}
				return receiptOne, nil
			}}
			service.status = func(_ context.Context, r drainmark.Receipt, wait time.Duration) (backend.Status, error) {
				if r.String() != receiptOne.String() || wait != 5*time.Second {
					t.Errorf("asks for %v within %v", r, wait)
				}
				status := backend.Status{Receipt: receiptTwo, State: test.state}
				if test.reason != "" {
					status.Reason = "why"
				}
				return status, nil
			}
			a := serve(t, service).do("POST", "/v1/barriers", "", "Prefer: wait=5")
			v := a.want(t, test.status)
			if reason, _ := v["reason"].(string); v["state"] != test.want || reason != test.reason || v["receipt"] != receiptTwo.String() {
				t.Errorf("the answer is %s", a.body)
			}
			a.wantHeader(t, receiptHeader, receiptTwo.String())
			a.wantHeader(t, "Preference-Applied", "wait=5")
		})
	}
}

func TestBarrierThatIsNotSimple(t *testing.T) {
	t.Parallel()
	t.Run("fences that are published can be asked for again, even if waiting for them fails", func(t *testing.T) {
		t.Parallel()
		service := failing(drainmark.Errorf(drainmark.KindTooMany, "waiters"))
		service.barrier = func(context.Context, []string) (drainmark.Receipt, error) { return receiptOne, nil }
		v := serve(t, service).do("POST", "/v1/barriers", "").want(t, 202)
		if v["state"] != "pending" || v["receipt"] != receiptOne.String() {
			t.Errorf("the answer is %v", v)
		}
	})
	t.Run("an earlier barrier is asked for without a new one", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{status: says(backend.Persisted, "")}) // whose Barrier fails
		one, two := markersOf(receiptOne), markersOf(receiptTwo)
		v := s.do("POST", "/v1/barriers?receipt="+one+"&receipt="+two, "").want(t, 200)
		if v["state"] != "reached" || v["receipt"] != markersOf(receiptBoth) {
			t.Errorf("the answer is %v", v)
		}
	})
	t.Run("the receipt of writes asks for no barrier", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{status: says(backend.Persisted, "")})
		s.do("POST", "/v1/barriers?receipt="+receiptOne.String(), "").wantProblem(t, drainmark.KindInvalid, "one of writes")
		elsewhere := receiptOne
		elsewhere.Spans = append(slices.Clone(elsewhere.Spans), drainmark.Span{Partition: 9, Producer: elsewhere.Spans[0].Producer, First: 1, Last: 1})
		elsewhere.Tokens = map[int]uint64{receiptOne.Spans[0].Partition: 5}
		s.do("POST", "/v1/barriers?receipt="+elsewhere.String(), "").wantProblem(t, drainmark.KindInvalid, "one of writes")
	})
	t.Run("a barrier says what is set aside, and where nothing is", func(t *testing.T) {
		t.Parallel()
		for _, test := range []struct {
			status backend.Status
			want   any
		}{
			{backend.Status{State: backend.Persisted, SetAside: 3, Reason: "why"}, 3.0},
			{backend.Status{State: backend.Persisted}, 0.0},
			{backend.Status{State: backend.Stalled, Missing: 2, SetAside: 1}, 1.0},
			{backend.Status{State: backend.Stalled}, nil},
			{backend.Status{State: backend.Pending}, nil},
		} {
			s := serve(t, &fake{status: func(_ context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
				test.status.Receipt = r
				return test.status, nil
			}})
			a := s.do("POST", "/v1/barriers?receipt="+markersOf(receiptOne), "")
			checkDocumented(t, a.Request, a)
			var v map[string]any
			if err := json.Unmarshal(a.body, &v); err != nil || v["set_aside"] != test.want {
				t.Errorf("of %+v the answer is %s", test.status, a.body)
			}
		}
	})
	t.Run("an earlier barrier that cannot be asked for is an error", func(t *testing.T) {
		t.Parallel()
		s := serve(t, failing(drainmark.Errorf(drainmark.KindReceiptExpired, "old")))
		s.do("POST", "/v1/barriers?receipt="+markersOf(receiptOne), "").wantProblem(t, drainmark.KindReceiptExpired)
	})
	t.Run("an unknown outcome has its receipt", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{barrier: func(context.Context, []string) (drainmark.Receipt, error) {
			return receiptOne, drainmark.Errorf(drainmark.KindOutcomeUnknown, "unknown")
		}})
		a := s.do("POST", "/v1/barriers", "")
		if p := a.wantProblem(t, drainmark.KindOutcomeUnknown); p.Receipt != receiptOne.String() {
			t.Errorf("the receipt is %q", p.Receipt)
		}
		a.wantHeader(t, receiptHeader, receiptOne.String())
	})
}

func TestBarrierOfLogs(t *testing.T) {
	t.Parallel()
	const asJSON = "Content-Type: application/json"
	tests := map[string]struct {
		query, body string
		headers     []string
		want        []string
	}{
		"of all":                         {"", "", nil, nil},
		"of all, by an empty object":     {"", " {} ", []string{asJSON}, nil},
		"of one by the query":            {"?log=a", "", nil, []string{"a"}},
		"of several by the query":        {"?log=a&log=b", "", nil, []string{"a", "b"}},
		"of several by the body":         {"", `{"logs":["a","b"]}`, []string{asJSON + "; charset=utf-8"}, []string{"a", "b"}},
		"by query and body":              {"?log=c", `{"logs":["a","b"]}`, []string{asJSON}, []string{"c", "a", "b"}},
		"by a body without content type": {"", `{"logs":["a"]}`, nil, []string{"a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &fake{status: says(backend.Pending, ""), barrier: func(_ context.Context, logs []string) (drainmark.Receipt, error) {
				if !slices.Equal(logs, test.want) {
					t.Errorf("the logs are %q, want %q", logs, test.want)
				}
				return receiptOne, nil
			}}
			serve(t, service).do("POST", "/v1/barriers"+test.query, test.body, test.headers...).want(t, 202)
		})
	}
	refused := map[string]struct {
		query, body string
		header      string
		kind        drainmark.Kind
		word        string
	}{
		"a log that cannot be":         {"?log=A", "", asJSON, drainmark.KindInvalid, "log name"},
		"a log in the body, likewise":  {"", `{"logs":[""]}`, asJSON, drainmark.KindInvalid, "log name"},
		"a body that is no JSON":       {"", `logs`, asJSON, drainmark.KindInvalid, `{"logs": […]}`},
		"a body that is cut off":       {"", `{"logs":["a"]`, asJSON, drainmark.KindInvalid, `{"logs": […]}`},
		"a body that is null":          {"", `null`, asJSON, drainmark.KindInvalid, "one object"},
		"a body with two objects":      {"", `{}{}`, asJSON, drainmark.KindInvalid, "after top-level value"},
		"an unknown field":             {"", `{"log":"a"}`, asJSON, drainmark.KindInvalid, "log"},
		"logs twice":                   {"", `{"logs":["a"],"logs":["b"]}`, asJSON, drainmark.KindInvalid, "duplicate"},
		"half of a surrogate pair":     {"", `{"logs":["a\ud800"]}`, asJSON, drainmark.KindInvalid, "surrogate"},
		"logs that are null":           {"", `{"logs":null}`, asJSON, drainmark.KindInvalid, "an array"},
		"a log that is null":           {"", `{"logs":[null]}`, asJSON, drainmark.KindInvalid, "log name"},
		"a field in other letters":     {"", `{"Logs":["a"]}`, asJSON, drainmark.KindInvalid, `unknown object member name "Logs"`},
		"logs that are numbers":        {"", `{"logs":[1]}`, asJSON, drainmark.KindInvalid, `{"logs": […]}`},
		"a body of another type":       {"", `logs=a`, "Content-Type: application/x-www-form-urlencoded", drainmark.KindMediaType, "application/json"},
		"a body in a content coding":   {"", `{}`, "Content-Encoding: gzip", drainmark.KindMediaType, "gzip"},
		"a body over the limit":        {"", strings.Repeat(" ", 64<<10+1), asJSON, drainmark.KindTooLarge, "65536"},
		"more logs than the limit":     {"?log=a" + strings.Repeat("&log=a", 1000), "", asJSON, drainmark.KindTooLarge, "1001 logs"},
		"a receipt together with logs": {"?log=a&receipt=" + receiptOne.String(), "", asJSON, drainmark.KindInvalid, "receipt"},
		"what is no receipt":           {"?receipt=x", "", asJSON, drainmark.KindInvalidReceipt, "receipt"},
		"a query that is none":         {"?log=%zz", "", asJSON, drainmark.KindInvalid, "query"},
	}
	for name, test := range refused {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			a := serve(t, &fake{}).do("POST", "/v1/barriers"+test.query, test.body, test.header)
			a.wantProblem(t, test.kind, test.word)
		})
	}
	a := serve(t, &fake{}).do("POST", "/v1/barriers", `{"logs":["a"]}`, asJSON, "Content-Type: text/plain")
	a.wantProblem(t, drainmark.KindInvalid, "2 Content-Type headers")
}

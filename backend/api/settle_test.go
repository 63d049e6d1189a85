package api

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

// settles is a fake that settles 2 letters of 3 records, and counts 20.
func settles(t *testing.T, kind drainmark.RecordKind, want backend.LetterFilter, after string, limit int) *fake {
	return &fake{
		settle: func(got drainmark.RecordKind, f backend.LetterFilter, place string, n int) (backend.Settled, error) {
			if got != kind || !reflect.DeepEqual(f, want) || place != after || n != limit {
				t.Errorf("settles %s %+v behind %q, %d at most", got, f, place, n)
			}
			return backend.Settled{Letters: 2, Records: 3, Receipt: receiptOne, Next: "1.7"}, nil
		},
		count: func(f backend.LetterFilter) (backend.Settled, error) {
			if !reflect.DeepEqual(f, want) {
				t.Errorf("counts %+v", f)
			}
			return backend.Settled{Letters: 20, Records: 21}, nil
		},
		status: says(backend.Persisted, ""),
	}
}

// settledFilter is what settledQuery says.
var settledFilter = backend.LetterFilter{Log: "guestbook", Reason: "idempotency", Before: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}

const settledQuery = "?log=guestbook&reason=idempotency&before=2026-03-01T10:00:00Z"

func TestDeadLettersAreSettledInBulk(t *testing.T) {
	t.Parallel()
	for call, kind := range map[string]drainmark.RecordKind{
		"DELETE /v1/dead-letters": drainmark.Discard, "POST /v1/dead-letters": drainmark.Retry,
	} {
		method, path, _ := strings.Cut(call, " ")
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			s := serve(t, settles(t, kind, settledFilter, "1.2", 7), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
			a := s.do(method, path+settledQuery+"&after=1.2&limit=7", "", "X-Forwarded-For: 192.0.2.7")
			want := map[string]any{"dead_letters": 2.0, "records": 3.0, "state": "accepted", "receipt": receiptOne.String(), "next": "1.7"}
			if got := a.want(t, 202); !reflect.DeepEqual(got, want) {
				t.Errorf("the answer is %v", got)
			}
			a.wantHeader(t, receiptHeader, receiptOne.String())
			if line := out.String(); !strings.Contains(line, "from=\"127.0.0.1:") || !strings.Contains(line, ", for 192.0.2.7\"") || !strings.Contains(line, "dead_letters=2") {
				t.Errorf("the log says %q", line)
			}
			if v := s.do(method, path+settledQuery+"&after=1.2&limit=7", "", "Prefer: wait=1").want(t, 200); v["state"] != "persisted" {
				t.Errorf("after a wait the answer is %v", v)
			}
			want = map[string]any{"dead_letters": 20.0, "records": 21.0, "state": "counted", "receipt": nil, "next": nil}
			if got := s.do(method, path+settledQuery+"&dry_run=true", "").want(t, 200); !reflect.DeepEqual(got, want) {
				t.Errorf("counted: %v", got)
			}
			refusesToSettle(t, s, method, path)
		})
	}
}

// refusesToSettle fails the test unless what cannot be settled is refused.
func refusesToSettle(t *testing.T, s *server, method, path string) {
	t.Helper()
	for what, query := range map[string]string{
		"nothing is named": "", "a log that cannot be": "?log=A", "a time that is none": "?before=yesterday", "a flag that is none": "?log=a&dry_run=1",
		"a long reason": "?reason=" + strings.Repeat("x", 256), "a long place": "?log=a&after=" + strings.Repeat("x", 256), "a limit over it": "?log=a&limit=1001",
	} {
		if p := s.do(method, path+query, "").wantProblem(t, drainmark.KindInvalid); what == "nothing is named" && !strings.Contains(p.Detail, "log, reason or before") {
			t.Errorf("%s: %q", what, p.Detail)
		}
	}
}

func TestRetriesThatAreRefusedAgainAreTold(t *testing.T) {
	t.Parallel()
	service := settles(t, drainmark.Retry, settledFilter, "1.2", 7)
	service.status = func(_ context.Context, r drainmark.Receipt, _ time.Duration) (backend.Status, error) {
		rejected := backend.Rejections{Records: 1, Exact: true, Letters: []string{"1-ab-3"}, Reasons: []string{"no"}, Reason: "no"}
		return backend.Status{Receipt: r, State: backend.Rejected, Reason: "no", Records: 2, Rejected: rejected}, nil
	}
	got := serve(t, service).do("POST", "/v1/dead-letters"+settledQuery+"&after=1.2&limit=7", "", "Prefer: wait=1").want(t, 202)
	want := map[string]any{
		"dead_letters": 2.0, "records": 3.0, "state": "rejected", "reason": "no", "receipt": receiptOne.String(), "next": "1.7",
		"rejected": map[string]any{"count": 1.0, "exact": true, "dead_letters": []any{"1-ab-3"}, "reasons": []any{"no"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the answer is %v", got)
	}
}

func TestNoTimeIsLoggedThatNobodyHasNamed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	all := settles(t, drainmark.Discard, backend.LetterFilter{Log: "a"}, "", 100)
	serve(t, all, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) }).do("DELETE", "/v1/dead-letters?log=a", "").want(t, 202)
	if line := out.String(); !strings.Contains(line, "log=a") || strings.Contains(line, "before=") {
		t.Errorf("the log says %q", line)
	}
}

func TestWhereThereIsNothingToSettleNothingIsPublished(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{settle: func(drainmark.RecordKind, backend.LetterFilter, string, int) (backend.Settled, error) {
		return backend.Settled{}, nil
	}})
	if v := s.do("DELETE", "/v1/dead-letters?log=a", "").want(t, 200); v["state"] != "nothing" || v["receipt"] != nil || v["next"] != nil {
		t.Errorf("the answer is %v", v)
	}
}

func TestTheListOfDeadLettersIsFiltered(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{deadLetters: func(_ context.Context, f backend.LetterFilter, _ string, _ int) (backend.DeadLetters, error) {
		if f.Log != "guestbook" || f.Reason != "re" || f.Before.IsZero() {
			t.Errorf("asked for %+v", f)
		}
		return backend.DeadLetters{Letters: letters(), Next: "3.4"}, nil
	}})
	a := s.do("GET", "/v1/dead-letters?log=guestbook&reason=re&before=2026-03-01T10:00:00Z&body=false", "")
	for _, letter := range a.want(t, 200)["dead_letters"].([]any) {
		l := letter.(map[string]any)
		if _, ok := l["body"]; ok || l["body_base64"] != nil {
			t.Errorf("a letter has its body: %v", l)
		}
	}
	a.wantHeader(t, "Link", `</v1/dead-letters?after=3.4&before=2026-03-01T10%3A00%3A00Z&body=false&limit=100&log=guestbook&reason=re>; rel="next"`)
	s.do("GET", "/v1/dead-letters?body=no", "").wantProblem(t, drainmark.KindInvalid, "body")
}

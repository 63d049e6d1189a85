package client

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"
)

func stateOf(receipt string, state State) string {
	return `{"receipt":"` + receipt + `","state":"` + string(state) + `","reason":"why"}`
}

func TestWait(t *testing.T) {
	t.Parallel()
	for _, end := range []State{Persisted, Rejected} {
		t.Run("it asks until it is "+string(end), func(t *testing.T) {
			t.Parallel()
			s := startScript(t, says(200, stateOf("R1", Pending)), says(200, stateOf("R2", Stalled)), says(200, stateOf("R2", end)))
			status, err := newClient(t, Config{URL: s.URL, Retry: quick(1)}).Wait(t.Context(), "R0")
			got := s.got()
			if err != nil || !reflect.DeepEqual(status, Status{Receipt: "R2", State: end, Reason: "why"}) || len(got) != 3 {
				t.Fatalf("%+v after %d requests: %v", status, len(got), err)
			}
			if got[0].RequestURI != "/v1/receipts/R0" || got[2].RequestURI != "/v1/receipts/R2" || got[0].Header.Get("Prefer") != "wait=5" {
				t.Errorf("it asked %s, and last %s", got[0].RequestURI, got[2].RequestURI)
			}
		})
	}
	t.Run("when the context ends it says what was known last", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := startScript(t, says(200, stateOf("R1", Stalled)), func(w http.ResponseWriter, r *http.Request) { cancel(); hangs(w, r) })
		status, err := newClient(t, Config{URL: s.URL}).Wait(ctx, "R0")
		if !errors.Is(err, context.Canceled) || !reflect.DeepEqual(status, Status{Receipt: "R1", State: Stalled, Reason: "why"}) {
			t.Errorf("%+v: %v", status, err)
		}
	})
	t.Run("a server that answers at once is not asked all the time", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pending := says(200, stateOf("R1", Pending))
		s := startScript(t, pending, pending, pending, pending, pending, pending, func(w http.ResponseWriter, r *http.Request) { cancel(); hangs(w, r) })
		status, err := newClient(t, Config{URL: s.URL}).Wait(ctx, "R0")
		if !errors.Is(err, context.Canceled) || status.State != Pending {
			t.Errorf("%+v: %v", status, err)
		}
		// The pauses are 10, 20, 40, 80, 160 and 320 ms at least, without the first if an answer was late.
		if got := s.got(); len(got) != 7 || got[6].at.Sub(got[0].at) < 300*time.Millisecond {
			t.Errorf("%d requests in %v", len(got), got[len(got)-1].at.Sub(got[0].at))
		}
	})
	t.Run("an expired receipt is an error", func(t *testing.T) {
		t.Parallel()
		s := startScript(t, problem(410, ReceiptExpired))
		if _, err := newClient(t, Config{URL: s.URL, Retry: quick(9)}).Wait(t.Context(), "R0"); KindOf(err) != ReceiptExpired || len(s.got()) != 1 {
			t.Errorf("%v", err)
		}
	})
}

func TestWaitBarrier(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(202, stateOf("B1", Pending)), says(202, stateOf("B2", Stalled)), says(200, stateOf("B2", Reached)))
	status, err := newClient(t, Config{URL: s.URL, Retry: quick(1)}).WaitBarrier(t.Context(), "a", "b")
	if err != nil || !reflect.DeepEqual(status, Status{Receipt: "B2", State: Reached, Reason: "why"}) {
		t.Errorf("%+v: %v", status, err)
	}
	for i, want := range []string{"/v1/barriers?log=a&log=b", "/v1/barriers?receipt=B1", "/v1/barriers?receipt=B2"} {
		if got := s.got()[i]; got.RequestURI != want || got.Method != "POST" || got.Header.Get("Prefer") != "wait=5" {
			t.Errorf("request %d is %s %s", i, got.Method, got.RequestURI)
		}
	}
}
